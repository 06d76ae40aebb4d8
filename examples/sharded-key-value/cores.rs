//! Messages between cores: what one asks of another's keys, and the answers.
//!
//! Questions and answers have channels of their own, so that a core which asks nothing any longer still answers: the
//! channel of its questions ends when no core asks, and so each knows when it may go. Neither has a limit of its own, as there is
//! at most one question under way for each client and core, and a client's is as long as what it may send at once.

use super::batch::Batch;
use super::shard::{Answer, Op, Shard};
use demikernel::channel::cross::{Receiver, Sender, unbounded};
use demikernel::net::TcpStream;
use demikernel::{Completion, JoinHandle, QToken, core_index, operation, spawn};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Mutex;

/// What a core asks of another.
struct Question {
    from: usize,
    ticket: usize,
    batch: Box<Batch>,
}

/// The question of this ticket, answered.
type Answers = (usize, Box<Batch>);

/// What a client asks of all cores together, and the answers. It is used again and again.
pub(crate) struct Asking {
    /// One for each core; away while another core has it.
    parts: Vec<Option<Box<Batch>>>,
    /// Which core each question is for; all, if it has no key.
    places: Vec<Option<usize>>,
    /// How many answers have been taken.
    taken: usize,
    under_way: Vec<(usize, QToken<Box<Batch>>)>,
}

impl Asking {
    pub(crate) fn new(core: &Core) -> Asking {
        let parts = (0..core.count).map(|_| Some(Box::default())).collect();
        Asking { parts, places: Vec::new(), taken: 0, under_way: Vec::new() }
    }

    /// Adds a question. What has no key is asked of all cores, and answered by the sum.
    pub(crate) fn push(&mut self, core: &Core, op: Op<'_>) {
        let place = op.key().map(|key| core.of(key));
        self.places.push(place);
        match place {
            Some(place) => self.part(place).push(op),
            None => (0..self.parts.len()).for_each(|place| self.part(place).push(op)),
        }
    }

    /// The next answer, in the order of the questions.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn next(&mut self) -> Answer<'_> {
        self.taken += 1;
        if let Some(place) = self.places[self.taken - 1] {
            return self.part(place).next();
        }
        (0..self.parts.len()).fold(Answer::Integer(0), |sum, place| match (sum, self.part(place).next()) {
            (Answer::Integer(sum), Answer::Integer(more)) => Answer::Integer(sum + more),
            _ => Answer::NotAnInteger,
        })
    }

    pub(crate) fn clear(&mut self) {
        (0..self.parts.len()).for_each(|place| self.part(place).clear());
        self.places.clear();
        self.taken = 0;
    }

    fn part(&mut self, place: usize) -> &mut Batch {
        self.parts[place].as_mut().expect("it is back before anything else is asked")
    }
}

/// The ends of one core's channels.
struct Ends {
    questions: Receiver<Question>,
    answers: Receiver<Answers>,
}

/// The ways from one core to all, and its own ends.
struct Wires {
    ask: Vec<Sender<Question>>,
    answer: Vec<Sender<Answers>>,
    ends: Ends,
}

/// All channels, before the cores run.
pub(crate) struct Wiring {
    hash: ahash::RandomState,
    /// Taken by each core: what is left here would keep the channels open.
    cores: Vec<Mutex<Option<Wires>>>,
}

thread_local! {
    /// This thread's core, for what others spawn on it.
    static HERE: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
}

impl Wiring {
    pub(crate) fn new(cores: usize) -> Wiring {
        let (ask, questions): (Vec<_>, Vec<_>) = (0..cores).map(|_| unbounded()).unzip();
        let (answer, answers): (Vec<_>, Vec<_>) = (0..cores).map(|_| unbounded()).unzip();
        let ends = questions.into_iter().zip(answers).map(|(questions, answers)| Ends { questions, answers });
        let core = |ends| Mutex::new(Some(Wires { ask: ask.clone(), answer: answer.clone(), ends }));
        Wiring { hash: ahash::RandomState::new(), cores: ends.map(core).collect() }
    }

    /// What is the core's that this runs on.
    ///
    /// # Panics
    /// When the core has it already.
    pub(crate) fn core(&self) -> Rc<Core> {
        let own = core_index();
        let taken = self.cores[own].lock().expect("nobody panics with it").take();
        let Wires { ask, answer, ends } = taken.expect("each core begins once");
        let core = Rc::new(Core {
            own,
            count: self.cores.len(),
            hash: self.hash.clone(),
            shard: RefCell::new(Shard::new(self.hash.clone())),
            ask: RefCell::new(ask),
            answer,
            ends,
            waiting: RefCell::default(),
            clients: RefCell::default(),
            counters: Counters::default(),
        });
        HERE.set(Rc::downgrade(&core));
        core
    }
}

/// What a core has counted.
#[derive(Default)]
struct Counters {
    /// Of clients of this core.
    requests: Cell<u64>,
    /// Of those, for keys of this core.
    own: Cell<u64>,
    /// For keys of this core, of other cores' clients.
    of_others: Cell<u64>,
}

fn add(counter: &Cell<u64>, count: usize) {
    counter.set(counter.get() + count as u64);
}

/// One core: its keys, its clients, and the way to the others.
pub(crate) struct Core {
    own: usize,
    count: usize,
    hash: ahash::RandomState,
    shard: RefCell<Shard>,
    ask: RefCell<Vec<Sender<Question>>>,
    answer: Vec<Sender<Answers>>,
    ends: Ends,
    /// The questions that are not answered.
    waiting: RefCell<Slab<Completion<Box<Batch>>>>,
    pub(crate) clients: RefCell<Slab<Rc<TcpStream>>>,
    counters: Counters,
}

impl Core {
    /// The core that this runs on.
    pub(crate) fn here() -> Option<Rc<Core>> {
        HERE.with_borrow(Weak::upgrade)
    }

    /// What it has counted.
    pub(crate) fn describe(&self) -> String {
        let Counters { requests, own, of_others } = &self.counters;
        let (keys, clients) = (self.shard.borrow().len(), self.clients.borrow().len());
        let (requests, own, of_others) = (requests.get(), own.get(), of_others.get());
        format!("keys:{keys} clients:{clients} requests:{requests} own:{own} of_others:{of_others}")
    }

    /// The core that has a key.
    fn of(&self, key: &[u8]) -> usize {
        // The high half of the hash: maps use the low one.
        ((self.hash.hash_one(key) >> 32) as usize * self.count) >> 32
    }

    /// Asks what a client has sent together of all cores at once.
    pub(crate) async fn ask(&self, asking: &mut Asking) {
        let Asking { parts, places, under_way, .. } = asking;
        add(&self.counters.requests, places.len());
        for (core, part) in parts.iter_mut().enumerate().filter(|(core, _)| *core != self.own) {
            if let Some(batch) = part.take_if(|batch| batch.len() > 0) {
                under_way.push((core, self.send(core, batch)));
            }
        }
        // While the others are at it.
        if let Some(batch) = &mut parts[self.own] {
            add(&self.counters.own, batch.len());
            batch.carry_out(&mut self.shard.borrow_mut());
        }
        for (core, token) in under_way.drain(..) {
            parts[core] = Some(token.await);
        }
    }

    fn send(&self, core: usize, batch: Box<Batch>) -> QToken<Box<Batch>> {
        let (token, completion) = operation();
        let ticket = self.waiting.borrow_mut().insert(completion);
        let question = Question { from: self.own, ticket, batch };
        let asked = self.ask.borrow().get(core).map(|other| other.try_send(question));
        assert!(matches!(asked, Some(Ok(()))), "cores answer for as long as anybody asks");
        token
    }

    /// Answers what other cores ask, until none does, and takes what they answer.
    pub(crate) fn serve_others(self: Rc<Core>) -> JoinHandle<()> {
        let core = self.clone();
        spawn(async move {
            while let Ok((ticket, batch)) = core.ends.answers.recv().await {
                let completion = core.waiting.borrow_mut().remove(ticket);
                completion.complete(batch);
            }
        })
        .detach();
        spawn(async move {
            while let Ok(Question { from, ticket, mut batch }) = self.ends.questions.recv().await {
                add(&self.counters.of_others, batch.len());
                batch.carry_out(&mut self.shard.borrow_mut());
                // One whose core was stopped by force takes none.
                let _ = self.answer[from].try_send((ticket, batch));
            }
        })
    }

    /// From now on this core asks nothing.
    pub(crate) fn ask_no_more(&self) {
        self.ask.borrow_mut().clear();
    }
}
