//! The descriptors and tokens of a runtime.
//!
//! A descriptor is a place in a table and, above that, how often the place was used before. A token is a
//! place and a number of 44 bits that no other operation of the process has: numbers are taken in blocks
//! from one count, so that a token of another runtime is known as such.

use super::memory::Item;
use super::next::Watch;
use super::operation::{Action, Outcome};
use super::pipes::{End, Offered};
use super::types::{Opcode, QResult, Qd, Qt, Value, errno};
use crate::executor::layer;
use crate::fs::Handle;
use crate::net::Socket;
use crate::queue;
use crate::transport::{LogQueue, SocketKind};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bits of a descriptor and a token that are its place in a table.
const PLACE_BITS: u32 = 20;
/// How many descriptors, and how many operations, there can be at once.
const PLACES: usize = 1 << PLACE_BITS;
const GENERATIONS: u32 = (1 << (u32::BITS - PLACE_BITS)) - 1;

/// Numbers of operations that a table takes at once.
const BLOCK: u64 = 1 << 16;

static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

/// What a descriptor stands for.
pub(super) enum Queue {
    Socket(Rc<Socket>, SocketKind),
    Memory(queue::Queue<Item>),
    Pipe(Rc<End>),
    /// A file that is being opened.
    Opening,
    File(Handle, Rc<Cell<u64>>),
    Log(Rc<dyn LogQueue>, Access),
}

/// What a log was opened for.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
}

struct Operation {
    number: u64,
    qd: Qd,
    opcode: Opcode,
    state: State,
    /// Somebody waits for it by its token.
    claimed: bool,
}

enum State {
    Pending(Action),
    Ended(Outcome),
}

#[derive(Default)]
pub(super) struct Table {
    queues: RefCell<Slab<Rc<Queue>>>,
    /// How often each place of `queues` was used before.
    generations: RefCell<Vec<u32>>,
    operations: RefCell<Slab<Operation>>,
    numbers: RefCell<Range<u64>>,
    pub(super) pipes: RefCell<Offered>,
    pub(super) watch: Watch,
}

/// The table of this thread's runtime.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub(super) fn table() -> Rc<Table> {
    layer()
}

impl Qd {
    fn place(self) -> usize {
        self.0 as usize & (PLACES - 1)
    }
}

impl Qt {
    pub(super) fn place(self) -> usize {
        self.0 as usize & (PLACES - 1)
    }

    fn number(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

/// Descriptors.
impl Table {
    /// A descriptor for a queue.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(super) fn add(&self, queue: Queue) -> io::Result<Qd> {
        let mut queues = self.queues.borrow_mut();
        if queues.len() >= PLACES {
            drop(queues);
            drop(queue);
            return Err(errno(libc::EMFILE));
        }
        let place = queues.insert(Rc::new(queue));
        let mut generations = self.generations.borrow_mut();
        if place == generations.len() {
            generations.push(0);
        }
        Ok(Qd(generations[place] << PLACE_BITS | place as u32))
    }

    fn is_valid(&self, qd: Qd) -> bool {
        self.generations.borrow().get(qd.place()).is_some_and(|generation| *generation == qd.0 >> PLACE_BITS)
    }

    /// The queue of a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub(super) fn queue(&self, qd: Qd) -> io::Result<Rc<Queue>> {
        let queues = self.queues.borrow();
        let queue = queues.get(qd.place()).filter(|_| self.is_valid(qd));
        queue.cloned().ok_or_else(|| errno(libc::EBADF))
    }

    /// The socket of a descriptor.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub(super) fn socket(&self, qd: Qd) -> io::Result<(Rc<Socket>, SocketKind)> {
        match &*self.queue(qd)? {
            Queue::Socket(socket, kind) => Ok((socket.clone(), *kind)),
            _ => Err(errno(libc::ENOTSOCK)),
        }
    }

    /// Gives a descriptor up.
    ///
    /// # Errors
    /// `EBADF`.
    pub(super) fn remove(&self, qd: Qd) -> io::Result<Rc<Queue>> {
        self.queue(qd)?;
        let generation = &mut self.generations.borrow_mut()[qd.place()];
        *generation = (*generation + 1) & GENERATIONS;
        Ok(self.queues.borrow_mut().remove(qd.place()))
    }

    /// Puts the file or log in place of one that was being opened.
    fn opened(&self, qd: Qd, opened: Queue) -> Value {
        let mut queues = self.queues.borrow_mut();
        match queues.get_mut(qd.place()).filter(|_| self.is_valid(qd)) {
            Some(queue) => {
                *queue = Rc::new(opened);
                Value::None
            }
            None => {
                drop(queues);
                drop(opened);
                Value::Failed(errno(libc::ECANCELED))
            }
        }
    }
}

/// Operations.
impl Table {
    /// Starts an operation, and gives its token.
    ///
    /// # Errors
    /// `ENOBUFS` if there are too many; those of `start`.
    pub(super) fn start(&self, qd: Qd, start: impl FnOnce() -> io::Result<Action>) -> io::Result<Qt> {
        if self.operations.borrow().len() >= PLACES {
            return Err(errno(libc::ENOBUFS));
        }
        let action = start()?;
        let number = self.number();
        let operation =
            Operation { number, qd, opcode: action.opcode(), state: State::Pending(action), claimed: false };
        let place = self.operations.borrow_mut().insert(operation);
        let qt = Qt(number << PLACE_BITS | place as u64);
        self.watch.add(qt);
        Ok(qt)
    }

    fn number(&self) -> u64 {
        let mut numbers = self.numbers.borrow_mut();
        numbers.next().unwrap_or_else(|| {
            let first = NEXT_BLOCK.fetch_add(BLOCK, Ordering::Relaxed);
            *numbers = first + 1..first + BLOCK;
            first
        })
    }

    /// How many operations have not been waited for.
    pub(super) fn under_way(&self) -> usize {
        self.operations.borrow().len()
    }

    /// The tokens of all operations.
    pub(super) fn tokens(&self) -> Vec<Qt> {
        let operations = self.operations.borrow();
        operations.iter().map(|(place, it)| Qt(it.number << PLACE_BITS | place as u64)).collect()
    }

    /// Whether the token is of an operation that nobody waits for by its token.
    pub(super) fn is_free(&self, qt: Qt) -> bool {
        let operations = self.operations.borrow();
        operations.get(qt.place()).is_some_and(|it| it.number == qt.number() && !it.claimed)
    }

    /// Marks an operation as one that somebody waits for.
    ///
    /// # Errors
    /// `EINVAL` if there is no such operation, `EBUSY` if somebody waits for it already.
    pub(super) fn claim(&self, qt: Qt) -> io::Result<()> {
        let mut operations = self.operations.borrow_mut();
        match operations.get_mut(qt.place()).filter(|it| it.number == qt.number()) {
            Some(operation) if operation.claimed => Err(errno(libc::EBUSY)),
            Some(operation) => {
                operation.claimed = true;
                Ok(())
            }
            None => Err(errno(libc::EINVAL)),
        }
    }

    /// Undoes [`claim`](Self::claim), unless the operation is gone.
    pub(super) fn release(&self, qt: Qt) {
        let mut operations = self.operations.borrow_mut();
        if let Some(operation) = operations.get_mut(qt.place()).filter(|it| it.number == qt.number()) {
            operation.claimed = false;
            self.watch.add(qt);
        }
    }

    /// Whether the operation has ended; if not, the waker is woken when it has.
    ///
    /// # Panics
    /// If there is no such operation: those who call this have claimed it, or know that it is free.
    pub(super) fn poll(&self, qt: Qt, cx: &mut Context<'_>) -> bool {
        let mut operations = self.operations.borrow_mut();
        let operation = &mut operations[qt.place()];
        assert_eq!(operation.number, qt.number(), "an operation has been taken by somebody else");
        if let State::Pending(action) = &mut operation.state
            && let Poll::Ready(outcome) = action.poll(cx)
        {
            operation.state = State::Ended(outcome);
        }
        matches!(operation.state, State::Ended(_))
    }

    /// Takes the result of an operation that has ended.
    pub(super) fn take(&self, qt: Qt) -> QResult {
        let Operation { qd, opcode, state, .. } = self.operations.borrow_mut().remove(qt.place());
        let State::Ended(outcome) = state else { unreachable!("only taken when it has ended") };
        let value = match outcome {
            Outcome::Done => Value::None,
            Outcome::Popped(sga, from) => Value::Popped { sga, from },
            Outcome::Accepted(socket, address) => {
                match self.add(Queue::Socket(Rc::new(socket), SocketKind::Stream)) {
                    Ok(qd) => Value::Accepted { qd, address },
                    Err(error) => Value::Failed(error),
                }
            }
            Outcome::Opened(opened) => self.opened(qd, opened),
            Outcome::Failed(error) => {
                if opcode == Opcode::Open {
                    // The descriptor was for the file alone. It may have been closed already.
                    drop(self.remove(qd));
                }
                Value::Failed(error)
            }
        };
        let opcode = if matches!(value, Value::Failed(_)) { Opcode::Failed } else { opcode };
        QResult { opcode, qd, qt, value }
    }
}
