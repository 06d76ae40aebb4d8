//! Messages between cores: what one asks of another's keys, and the answers.
//!
//! Questions and answers have channels of their own, so that a core which asks nothing any longer still answers: the
//! channel of its questions ends when no core asks, and so each knows when it may go. Neither has a limit of its own, as there is
//! at most one question under way for each client and core, and a client's is as long as what it may send at once.

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
    ops: Vec<Op>,
}

/// The answers to the question of this ticket.
type Answers = (usize, Vec<Answer>);

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
    waiting: RefCell<Slab<Completion<Vec<Answer>>>>,
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

    /// Asks what a client has sent together of all cores at once; the answers in the order of the questions. What has no key is
    /// asked of all cores, and answered by the sum.
    pub(crate) async fn ask(&self, ops: Vec<Op>) -> Vec<Answer> {
        add(&self.counters.requests, ops.len());
        let mut parts: Vec<Vec<Op>> = vec![Vec::new(); self.count];
        // Which core has which; all have one that is for all.
        let places: Vec<Option<usize>> = ops
            .into_iter()
            .map(|op| {
                let core = op.key().map(|key| self.of(key));
                match core {
                    Some(core) => parts[core].push(op),
                    None => parts.iter_mut().for_each(|part| part.push(op.clone())),
                }
                core
            })
            .collect();
        let mut tokens: Vec<Option<QToken<Vec<Answer>>>> =
            parts.iter_mut().enumerate().map(|(core, part)| self.send(core, std::mem::take(part))).collect();
        let mut answers = Vec::with_capacity(self.count);
        for token in &mut tokens {
            let all = match token.take() {
                Some(token) => token.await,
                None => Vec::new(),
            };
            answers.push(all.into_iter());
        }
        let mut next = |core: usize| answers[core].next().expect("as many answers as questions");
        let whole = |place: Option<usize>| match place {
            Some(core) => next(core),
            None => (0..self.count).fold(Answer::Integer(0), |sum, core| match (sum, next(core)) {
                (Answer::Integer(sum), Answer::Integer(more)) => Answer::Integer(sum + more),
                (_, other) => other,
            }),
        };
        places.into_iter().map(whole).collect()
    }

    /// Asks a core, if there is anything to ask. What is this core's own is answered at once.
    fn send(&self, core: usize, ops: Vec<Op>) -> Option<QToken<Vec<Answer>>> {
        if ops.is_empty() {
            return None;
        }
        let (token, completion) = operation();
        if core == self.own {
            add(&self.counters.own, ops.len());
            completion.complete(self.apply(ops));
        } else {
            let ticket = self.waiting.borrow_mut().insert(completion);
            let question = Question { from: self.own, ticket, ops };
            let asked = self.ask.borrow().get(core).map(|other| other.try_send(question));
            assert!(matches!(asked, Some(Ok(()))), "cores answer for as long as anybody asks");
        }
        Some(token)
    }

    fn apply(&self, ops: Vec<Op>) -> Vec<Answer> {
        let mut shard = self.shard.borrow_mut();
        ops.into_iter().map(|op| shard.apply(op)).collect()
    }

    /// Answers what other cores ask, until none does, and takes what they answer.
    pub(crate) fn serve_others(self: Rc<Core>) -> JoinHandle<()> {
        let core = self.clone();
        spawn(async move {
            while let Ok((ticket, answers)) = core.ends.answers.recv().await {
                let completion = core.waiting.borrow_mut().remove(ticket);
                completion.complete(answers);
            }
        })
        .detach();
        spawn(async move {
            while let Ok(Question { from, ticket, ops }) = self.ends.questions.recv().await {
                add(&self.counters.of_others, ops.len());
                // One whose core was stopped by force takes none.
                let _ = self.answer[from].try_send((ticket, self.apply(ops)));
            }
        })
    }

    /// From now on this core asks nothing.
    pub(crate) fn ask_no_more(&self) {
        self.ask.borrow_mut().clear();
    }
}
