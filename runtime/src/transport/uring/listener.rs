//! Accepting connections.

use super::Uring;
use super::connection::Connection;
use super::device::{Inner, Io, Updated};
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::{Entry, Head, Role};
use crate::executor::Completion;
use crate::transport::stream::Fifo;
use crate::transport::{Accepted, Endpoint, Qd, kernel};
use io_uring::{opcode, types};
use socket2::Socket;
use std::collections::VecDeque;
use std::io;
use std::os::fd::FromRawFd;

pub(super) type AcceptDone = Completion<io::Result<Accepted>>;

/// Connections that the program has not asked for yet are left to the kernel beyond this number.
const UNCLAIMED: usize = 128;

/// How long a socket does not accept when there are no descriptors or memory for its connections.
static PAUSE: types::Timespec = types::Timespec::new().nsec(100_000_000);

/// A listening socket.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) waiters: Fifo<AcceptDone>,
    /// Accepted, but not claimed.
    ready: VecDeque<Socket>,
    /// Claimed, but not taken.
    untaken: VecDeque<Accepted>,
    /// The kernel has an accept.
    accepting: bool,
    cancelling: bool,
    /// A token was dropped: the accept is to end early if it is for nobody.
    pub(super) unwanted: bool,
    /// There are no descriptors at the time.
    paused: bool,
}

impl Listener {
    /// A connection that nobody took comes back.
    pub(super) fn give_back(&mut self, accepted: Accepted) {
        self.untaken.push_back(accepted);
    }

    /// Connections that nobody took, and nobody will.
    pub(super) fn take_untaken(&mut self) -> VecDeque<Accepted> {
        std::mem::take(&mut self.untaken)
    }

    fn is_awaited(&mut self) -> bool {
        while let Some(done) = self.waiters.front() {
            if !done.is_cancelled() {
                return true;
            }
            drop(self.waiters.pop_front());
        }
        false
    }
}

impl Listener {
    /// Starts or ends the accept, as those who wait require.
    pub(super) fn update(&mut self, head: &mut Head, io: &mut Io) -> Updated {
        if head.closing {
            // Those who came find nobody.
            self.ready.clear();
            if head.in_kernel == 0 {
                return Updated::Over;
            }
            if self.paused {
                head.cancel(io, Kind::AcceptPause);
            }
        }
        let wanted = !head.closing && self.is_awaited();
        if !self.accepting {
            if wanted && !self.paused && self.ready.is_empty() && self.untaken.is_empty() {
                self.start_accept(head, io);
            }
        } else if !wanted && !self.cancelling {
            let full = self.ready.len() >= UNCLAIMED;
            if self.unwanted || head.closing || full {
                self.cancelling = true;
                head.cancel(io, Kind::Accept);
            }
        }
        self.unwanted = false;
        Updated::InUse
    }

    fn start_accept(&mut self, head: &mut Head, io: &mut Io) {
        self.accepting = true;
        let fd = head.target.fd();
        // The kernel does not say who it is in one mode, so the socket is asked in both.
        let operation = match io.config.multishot_accept && io.ring.features.release_5_19 {
            true => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            false => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build(),
        };
        // SAFETY: the operation names no memory.
        unsafe { head.submit(io, Kind::Accept, operation) };
    }

    /// A connection has come, or an error. Returns who is to be told of an error.
    fn accepted(
        &mut self,
        head: &mut Head,
        io: &mut Io,
        completed: Completed,
    ) -> Option<(AcceptDone, io::Error)> {
        if !completed.more() {
            head.in_kernel -= 1;
            self.accepting = false;
            self.cancelling = false;
        }
        head.mark(io);
        if completed.result < 0 {
            return self.accept_failed(head, io, -completed.result);
        }
        io.counters.accepted += 1;
        // SAFETY: the kernel has just given us this descriptor.
        let socket = unsafe { Socket::from_raw_fd(completed.result) };
        if !head.closing {
            self.ready.push_back(socket);
        }
        None
    }

    fn accept_failed(&mut self, head: &mut Head, io: &mut Io, error: i32) -> Option<(AcceptDone, io::Error)> {
        match error {
            // Nobody's, or of a connection that is gone already: the next one is waited for.
            libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ECONNABORTED | libc::EPROTO => None,
            error => {
                let shortage = matches!(error, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
                if shortage && !head.closing {
                    self.pause(head, io);
                }
                if !self.is_awaited() {
                    return None;
                }
                let error = kernel::accept_error(io::Error::from_raw_os_error(error));
                self.waiters.pop_front().map(|done| (done, error))
            }
        }
    }

    /// Rests, as the connections cannot be accepted at the time.
    fn pause(&mut self, head: &mut Head, io: &mut Io) {
        if std::mem::replace(&mut self.paused, true) {
            return;
        }
        let key = head.key(Kind::AcceptPause);
        head.in_kernel += 1;
        let pause = opcode::Timeout::new(&raw const PAUSE).build().user_data(key.bits());
        // SAFETY: the time is a constant.
        unsafe { io.ring.submit(&pause) };
    }

    /// A connection that somebody waits for, and who.
    fn next_claimed(&mut self) -> Option<(AcceptDone, Socket, Endpoint)> {
        while !self.ready.is_empty() && self.is_awaited() {
            let socket = self.ready.pop_front()?;
            // One that was reset before it could be claimed has no peer any more, and brings nothing.
            if let Ok(peer) = kernel::peer(&socket) {
                return Some((self.waiters.pop_front()?, socket, peer));
            }
        }
        None
    }
}

impl Inner {
    fn accepted(&mut self, completed: Completed) -> Option<(AcceptDone, io::Error)> {
        match self.sockets.of(completed.key)? {
            Entry { head, role: Role::Listener(listener) } => {
                listener.accepted(head, &mut self.io, completed)
            }
            _ => None,
        }
    }

    fn next_accepted(&mut self, key: Key) -> Option<(AcceptDone, Accepted)> {
        let Entry { head, role: Role::Listener(listener) } = self.sockets.of(key)? else { return None };
        if !listener.untaken.is_empty() && listener.is_awaited() {
            return Some((listener.waiters.pop_front()?, listener.untaken.pop_front()?));
        }
        let lingers = head.lingers;
        let (done, socket, peer) = listener.next_claimed()?;
        let index = self.add_socket(socket, Role::Stream(Connection::new(true)));
        // Options are inherited.
        self.sockets.at(index).head.lingers = lingers;
        Some((done, Accepted { qd: Qd(index), peer }))
    }
}

impl Uring {
    pub(super) fn on_accept(&self, completed: Completed) {
        let failed = self.inner.borrow_mut().accepted(completed);
        if let Some((done, error)) = failed {
            done.complete(Err(error));
        }
        self.tell_accepted(completed.key);
    }

    /// Hands out connections that are there.
    pub(super) fn tell_accepted(&self, key: Key) {
        loop {
            let accepted = self.inner.borrow_mut().next_accepted(key);
            let Some((done, accepted)) = accepted else { break };
            done.complete(Ok(accepted));
        }
    }

    pub(super) fn on_accept_pause(&self, completed: Completed) {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(Entry { head, role: Role::Listener(listener) }) = inner.sockets.of(completed.key) {
            head.in_kernel -= 1;
            listener.paused = false;
            head.mark(&mut inner.io);
        }
    }
}
