//! One socket: what is believed of it, and who waits for it.

use super::key::{CancelKey, SocketKey};
use crate::executor::Completion;
use crate::transport::readiness::{Push, Receive, Untaken};
use crate::transport::{Endpoint, Qd, SocketKind};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;

/// System calls for one socket within one turn of the runtime's loop; what comes later waits for the next
/// turn. Without a bound, one task that pops from a socket on which data arrives as fast as it is taken
/// would never wait, so no other task would run. Enough for what a pipelining client sends at once.
const CALLS_PER_TURN: u8 = 32;

/// Why an operation cannot be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The kernel will say when.
    NotReady,
    /// The socket has had its share of this turn.
    Turn,
    /// The buffer pool is exhausted: it has not even so many bytes.
    NoMemory(usize),
}

/// What came of trying: the result, an error of the kernel, or nothing yet.
pub(super) type Attempt<T> = Result<io::Result<T>, Stop>;

pub(super) struct Socket {
    pub(super) fd: ManuallyDrop<socket2::Socket>,
    pub(super) qd: Qd,
    /// Tells events for this socket from those for a former one of the same number.
    pub(super) generation: u32,
    pub(super) kind: SocketKind,
    /// Believed until the kernel says otherwise: a call is worth trying.
    pub(super) readable: Cell<bool>,
    pub(super) writable: Cell<bool>,
    /// The peer has ended, or there is an error: even a short read does not mean that nothing is left.
    pub(super) hung_up: Cell<bool>,
    pub(super) registered: Cell<bool>,
    /// It is in the device's list of sockets to go on with in the next turn.
    pub(super) deferred: Cell<bool>,
    /// It is in the list of those that are tried again when there is memory, or some time has passed.
    pub(super) retried: Cell<bool>,
    /// To close it waits for what the peer has not acknowledged (SO_LINGER).
    pub(super) lingers: Cell<bool>,
    /// The program has closed it, and pushes are under way.
    pub(super) closing: Cell<bool>,
    pub(super) size: SizeGuess,
    /// What was received for somebody who did not take it.
    pub(super) untaken: RefCell<VecDeque<(u32, Untaken)>>,
    /// From here on numbers are of operations of this socket: those before are of a former one of the same number. It
    /// follows the newest, as numbers of operations wrap around.
    since: Cell<u32>,
    pub(super) receives: RefCell<VecDeque<Queued<Receive>>>,
    pub(super) sends: RefCell<VecDeque<Queued<Send>>>,
    pub(super) connect: RefCell<Option<Queued<Connect>>>,
    turn: Cell<u32>,
    calls: Cell<u8>,
}

/// An operation that waits, by the number that its cancellation names.
pub(super) struct Queued<T> {
    pub(super) sequence: u32,
    pub(super) it: T,
}

pub(super) enum Send {
    Push(Push),
    /// The end of the sending direction, after what was pushed before it.
    Shutdown(Shutdown),
}

impl Send {
    pub(super) fn fail(self, error: io::Error) {
        if let Send::Push(push) = self {
            push.done.complete(Err(error));
        }
    }
}

pub(super) struct Connect {
    pub(super) peer: Endpoint,
    pub(super) done: Completion<io::Result<()>>,
}

impl Socket {
    pub(super) fn new(fd: socket2::Socket, qd: Qd, generation: u32, since: u32, kind: SocketKind) -> Socket {
        Socket {
            fd: ManuallyDrop::new(fd),
            qd,
            generation,
            kind,
            readable: Cell::new(true),
            writable: Cell::new(true),
            hung_up: Cell::new(false),
            registered: Cell::new(false),
            deferred: Cell::new(false),
            retried: Cell::new(false),
            lingers: Cell::new(false),
            closing: Cell::new(false),
            size: SizeGuess::new(kind),
            untaken: RefCell::default(),
            since: Cell::new(since),
            receives: RefCell::default(),
            sends: RefCell::default(),
            connect: RefCell::new(None),
            turn: Cell::new(0),
            calls: Cell::new(0),
        }
    }

    /// Its name in events and lists.
    pub(super) fn key(&self) -> SocketKey {
        SocketKey { qd: self.qd, generation: self.generation }
    }

    /// An operation of this number begins.
    pub(super) fn begins(&self, sequence: u32) {
        const KEPT: u32 = CancelKey::SEQUENCES / 4;
        if sequence.wrapping_sub(self.since.get()) & CancelKey::SEQUENCES > KEPT {
            self.since.set(sequence.wrapping_sub(KEPT) & CancelKey::SEQUENCES);
        }
    }

    /// Whether an operation of this number is one of this socket.
    pub(super) fn began(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.since.get()) & CancelKey::SEQUENCES <= CancelKey::SEQUENCES / 2
    }

    /// What the kernel has told.
    pub(super) fn event(&self, flags: u32) {
        let has = |wanted: i32| flags & wanted as u32 != 0;
        if has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) {
            self.hung_up.set(true);
        }
        if has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) {
            self.readable.set(true);
        }
        if has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) {
            self.writable.set(true);
        }
    }

    /// A receive found nothing, or took the last of what there was.
    pub(super) fn drained(&self) {
        self.readable.set(false);
        self.hung_up.set(false);
    }

    /// Whether a call on it may be made in turn number `turn`; if so, it counts.
    pub(super) fn may_call(&self, turn: u32) -> Result<(), Stop> {
        if self.turn.replace(turn) != turn {
            self.calls.set(0);
        }
        if self.calls.get() == CALLS_PER_TURN {
            return Err(Stop::Turn);
        }
        self.calls.set(self.calls.get() + 1);
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if self.lingers.get() {
            // The kernel makes even non-blocking sockets wait.
            crate::blocking::unblock(move || drop(fd)).detach();
        }
    }
}

/// How large a buffer to receive into, learnt from what came before. A buffer is taken from the pool only
/// once there is data, but how much the kernel does not say.
pub(super) struct SizeGuess {
    class: Cell<u8>,
    /// Receives in a row that a smaller buffer would have done for.
    small: Cell<u8>,
}

impl SizeGuess {
    /// Sizes for which the pool has a class.
    const SIZES: [usize; 4] = [2 << 10, 4 << 10, 16 << 10, 64 << 10];
    /// After so many small ones it shrinks.
    const PATIENCE: u8 = 8;

    fn new(kind: SocketKind) -> SizeGuess {
        let class = match kind {
            SocketKind::Stream => 1,
            SocketKind::Datagram => 0,
        };
        SizeGuess { class: Cell::new(class), small: Cell::new(0) }
    }

    /// Sizes to try, the best first.
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> + use<> {
        Self::SIZES[..=usize::from(self.class.get())].iter().rev().copied()
    }

    /// Learns that `received` bytes came where `asked` could have.
    pub(super) fn learn(&self, received: usize, asked: usize) {
        let class = usize::from(self.class.get());
        if received >= asked.max(Self::SIZES[class]) {
            self.class.set(class.saturating_add(1).min(Self::SIZES.len() - 1) as u8);
            self.small.set(0);
        } else if class > 0 && received <= Self::SIZES[class - 1] / 2 {
            self.small.set(self.small.get() + 1);
            if self.small.get() == Self::PATIENCE {
                self.class.set(class as u8 - 1);
                self.small.set(0);
            }
        } else {
            self.small.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(guess: &SizeGuess) -> usize {
        guess.sizes().next().unwrap()
    }

    #[test]
    fn the_guess_grows_at_once_and_shrinks_with_patience() {
        let guess = SizeGuess::new(SocketKind::Stream);
        assert_eq!(guess.sizes().collect::<Vec<_>>(), [4096, 2048]);
        guess.learn(4096, 4096);
        guess.learn(16384, 16384);
        assert_eq!(best(&guess), 65536);
        guess.learn(65536, 65536);
        assert_eq!(best(&guess), 65536);
        for _ in 0..100 {
            guess.learn(16384, 65536);
        }
        assert_eq!(best(&guess), 65536, "a quarter of it is not small");
        for _ in 0..SizeGuess::PATIENCE {
            guess.learn(64, best(&guess));
        }
        assert_eq!(best(&guess), 16384);
        for _ in 0..100 {
            guess.learn(64, best(&guess));
        }
        assert_eq!(best(&guess), 2048);
    }

    #[test]
    fn what_the_limit_cut_is_no_reason_to_grow() {
        let guess = SizeGuess::new(SocketKind::Stream);
        for _ in 0..10 {
            guess.learn(1000, 1000);
        }
        assert!(best(&guess) <= 4096);
    }

    fn socket(since: u32) -> Socket {
        let fd = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        Socket::new(fd, Qd(3), 5, since, SocketKind::Datagram)
    }

    #[test]
    fn operations_are_the_sockets_own_however_long_it_is_open() {
        for since in [0, 7, CancelKey::SEQUENCES] {
            let socket = socket(since);
            let mut sequence = since;
            for _ in 0..1000 {
                socket.begins(sequence);
                assert!(socket.began(sequence), "{sequence} of a socket since {since}");
                let recent = sequence.wrapping_sub(100) & CancelKey::SEQUENCES;
                assert_eq!(socket.began(recent), sequence != since, "of a former socket only at first");
                // Other sockets have operations, too.
                sequence = (sequence + (1 << 22)) & CancelKey::SEQUENCES;
                if sequence == since {
                    break;
                }
            }
        }
    }

    #[test]
    fn calls_are_bounded_within_a_turn() {
        let socket = socket(0);
        for turn in [1, 2, u32::MAX, 0] {
            for _ in 0..CALLS_PER_TURN {
                assert_eq!(socket.may_call(turn), Ok(()));
            }
            assert_eq!(socket.may_call(turn), Err(Stop::Turn));
        }
        assert_eq!(socket.key(), SocketKey { qd: Qd(3), generation: 5 });
    }
}
