//! Accepting connections.

use super::Uring;
use super::connection::Connection;
use super::device::Inner;
use super::key::{Key, Kind};
use super::ring::Completed;
use super::socket::{Role, key};
use crate::executor::Completion;
use crate::transport::stream::Fifo;
use crate::transport::{Accepted, Qd, kernel};
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
    pub(super) untaken: VecDeque<Accepted>,
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

impl Inner {
    /// Starts or ends the accept of a listening socket, as those who wait require.
    pub(super) fn update_listener(&mut self, index: u32) {
        let multishot = self.config.multishot_accept && self.ring.features.release_5_19;
        let entry = self.sockets.at(index);
        let Role::Listener(listener) = &mut entry.role else { return };
        if entry.closing {
            // Those who come now find nobody.
            listener.ready.clear();
            if entry.in_kernel == 0 {
                return self.finish_close(index);
            }
        }
        let wanted = !entry.closing && listener.is_awaited();
        if !listener.accepting {
            if wanted && !listener.paused && listener.ready.is_empty() && listener.untaken.is_empty() {
                self.start_accept(index, multishot);
            }
        } else if !wanted && !listener.cancelling {
            let full = listener.ready.len() >= UNCLAIMED;
            if listener.unwanted || entry.closing || full {
                listener.cancelling = true;
                let key = key(Kind::Accept, entry, index);
                self.cancel(key);
            }
        }
        let Role::Listener(listener) = &mut self.sockets.at(index).role else { return };
        listener.unwanted = false;
        if listener.paused && self.sockets.at(index).closing {
            let key = key(Kind::AcceptPause, self.sockets.at(index), index);
            self.cancel(key);
        }
    }

    fn start_accept(&mut self, index: u32, multishot: bool) {
        let entry = self.sockets.at(index);
        let target = entry.target();
        let bits = key(Kind::Accept, entry, index).bits();
        let Role::Listener(listener) = &mut entry.role else { return };
        listener.accepting = true;
        entry.in_kernel += 1;
        // The kernel does not say who it is in one mode, so the socket is asked in both.
        let operation = match multishot {
            true => opcode::AcceptMulti::new(target.fd()).flags(libc::SOCK_CLOEXEC).build(),
            false => opcode::Accept::new(target.fd(), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build(),
        };
        // SAFETY: the operation names no memory.
        unsafe { self.ring.submit(&target.apply(operation).user_data(bits)) };
    }

    /// A connection has come, or an error. Returns who is to be told of an error.
    fn accepted(&mut self, completed: Completed) -> Option<(AcceptDone, io::Error)> {
        let index = completed.key.index() as u32;
        let Some(entry) = self.sockets.of(completed.key) else {
            debug_assert!(false, "entries outlive their operations");
            return None;
        };
        let Role::Listener(listener) = &mut entry.role else { return None };
        if !completed.more() {
            entry.in_kernel -= 1;
            listener.accepting = false;
            listener.cancelling = false;
        }
        let mut failed = None;
        match completed.result {
            fd @ 0.. => {
                self.counters.accepted += 1;
                // SAFETY: the kernel has just given us this descriptor.
                let socket = unsafe { Socket::from_raw_fd(fd) };
                if !entry.closing {
                    listener.ready.push_back(socket);
                }
            }
            error => match -error {
                // Nobody's, or of a connection that is gone already: the next one is waited for.
                libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ECONNABORTED | libc::EPROTO => {}
                error => {
                    let shortage =
                        matches!(error, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
                    if listener.is_awaited() {
                        failed = listener
                            .waiters
                            .pop_front()
                            .map(|done| (done, kernel::accept_error(io::Error::from_raw_os_error(error))));
                    }
                    if shortage && !entry.closing {
                        self.pause(completed.key);
                    }
                }
            },
        }
        self.sockets.mark(index);
        failed
    }

    /// Lets a socket rest whose connections cannot be accepted.
    fn pause(&mut self, key: Key) {
        let Some(entry) = self.sockets.of(key) else { return };
        let Role::Listener(listener) = &mut entry.role else { return };
        if std::mem::replace(&mut listener.paused, true) {
            return;
        }
        entry.in_kernel += 1;
        let bits = Key::new(Kind::AcceptPause, key.stamp(), key.index() as u32).bits();
        // SAFETY: the time is a constant.
        unsafe { self.ring.submit(&opcode::Timeout::new(&raw const PAUSE).build().user_data(bits)) };
    }

    /// The next connection for somebody who waits.
    pub(super) fn next_accepted(&mut self, key: Key) -> Option<(AcceptDone, Accepted)> {
        loop {
            let entry = self.sockets.of(key)?;
            let lingers = entry.lingers;
            let Role::Listener(listener) = &mut entry.role else { return None };
            if (listener.ready.is_empty() && listener.untaken.is_empty()) || !listener.is_awaited() {
                return None;
            }
            if let Some(accepted) = listener.untaken.pop_front() {
                return Some((listener.waiters.pop_front()?, accepted));
            }
            let socket = listener.ready.pop_front()?;
            // One that was reset before it could be claimed has no peer any more, and brings nothing.
            let Ok(peer) = kernel::peer(&socket) else { continue };
            let done = listener.waiters.pop_front()?;
            let index = self.add_socket(socket, Role::Stream(Connection::new(true)));
            if let Ok(entry) = self.sockets.open(index) {
                // Options are inherited.
                entry.lingers = lingers;
            }
            return Some((done, Accepted { qd: Qd(index), peer }));
        }
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
        let mut inner = self.inner.borrow_mut();
        let Some(entry) = inner.sockets.of(completed.key) else { return };
        entry.in_kernel -= 1;
        if let Role::Listener(listener) = &mut entry.role {
            listener.paused = false;
        }
        inner.sockets.mark(completed.key.index() as u32);
    }
}
