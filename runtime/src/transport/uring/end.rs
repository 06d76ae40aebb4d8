//! Shutting down: nothing that the kernel may still write to is freed.

use super::Uring;
use super::connection::Send;
use super::key::{Key, Kind};
use super::ring::Wait;
use super::socket::{Entry, Role};
use std::io;
use std::time::{Duration, Instant};

/// How long to wait for the kernel to give back what it was asked to. Sockets do at once; disks may be slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that the thread blocks at a time.
const STEP: Duration = Duration::from_millis(20);

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the runtime has ended")
}

impl Uring {
    /// Lets sends finish within `grace`, cancels everything else, and waits for the kernel.
    pub(super) fn end(&self, grace: Duration) {
        let sockets = self.inner.borrow().sockets.indices();
        for index in sockets {
            self.give_up(index, ended);
        }
        self.inner.borrow_mut().close_files();
        let start = Instant::now();
        self.advance_until(start + grace, |uring| !uring.is_sending());
        self.cancel_all();
        self.advance_until(Instant::now() + PATIENCE, |uring| {
            let inner = uring.inner.borrow();
            inner.io.ring.outstanding() == 0 && inner.sockets.len() == 0
        });
        let mut inner = self.inner.borrow_mut();
        let outstanding = inner.io.ring.outstanding();
        if outstanding == 0 {
            let io = &mut inner.io;
            if let Some(mut provided) = io.provided.take() {
                provided.unregister(&io.ring);
            }
            return;
        }
        tracing::error!(outstanding, "the kernel has not given memory back; it stays allocated for good");
        inner.leak();
    }

    /// Goes on until `done`, but not after `deadline`.
    fn advance_until(&self, deadline: Instant, done: impl Fn(&Uring) -> bool) {
        loop {
            self.reap();
            self.inner.borrow_mut().flush();
            if done(self) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let wait = Wait { timeout: Some(left.min(STEP)) };
            let result = self.inner.borrow_mut().io.ring.enter(Some(wait));
            if let Err(error) = result {
                tracing::error!(%error, "io_uring_enter failed");
                return;
            }
        }
    }

    /// Whether anything that was pushed, or is to be written, has not been handed over.
    fn is_sending(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let indices = inner.sockets.indices();
        let mut stream = |index| match &inner.sockets.at(index).role {
            Role::Stream(connection) => !connection.outbound.is_empty(),
            _ => false,
        };
        indices.into_iter().any(&mut stream) || !inner.outgoing.is_empty() || inner.files.are_busy()
    }

    /// Asks the kernel to end everything, and drops what was not sent.
    fn cancel_all(&self) {
        let mut unsent = Vec::new();
        {
            let inner = &mut *self.inner.borrow_mut();
            for index in inner.sockets.indices() {
                let Entry { head, role } = inner.sockets.at(index);
                if let Role::Stream(connection) = role {
                    if !connection.outbound.is_empty() {
                        unsent.push(head.key(Kind::Send));
                    }
                    if connection.send != Send::None {
                        head.cancel(&mut inner.io, Kind::Send);
                    }
                }
                head.mark(&mut inner.io);
            }
            let datagrams =
                inner.outgoing.iter().map(|(number, _)| Key::new(Kind::SendDatagram, 0, number as u32));
            let watches = inner.watches.iter().enumerate().filter(|(_, watch)| watch.armed);
            let watches = watches.map(|(number, _)| Key::new(Kind::Watch, 0, number as u32));
            for key in inner.files.keys().into_iter().chain(datagrams).chain(watches) {
                inner.io.cancel(key);
            }
        }
        // The data of sends that the kernel has stays until their completions are in.
        self.advance_until(Instant::now() + PATIENCE, |uring| {
            let mut inner = uring.inner.borrow_mut();
            let idle = |&key| match inner.sockets.connection(key) {
                Some((_, connection)) => connection.send == Send::None,
                None => true,
            };
            unsent.iter().all(idle)
        });
        for key in unsent {
            self.abandon_pushes(key);
        }
    }
}
