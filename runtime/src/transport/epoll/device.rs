//! The device as the runtime's loop sees it.

use super::key::{CancelKey, Queue, WATCHED};
use super::{Entry, Epoll, ended};
use crate::executor::DeviceId;
use crate::inspect::Connection;
use crate::time::Instant;
use crate::transport::{Device, Interest, Parker, Turn, kernel};
use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

impl Device for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn attached(&self, id: DeviceId) {
        self.id.set(Some(id));
    }

    fn poll(&self, turn: Turn) -> bool {
        self.turn.set(self.turn.get().wrapping_add(1));
        let mut any = self.jobs.has_finished() && self.finish_jobs();
        if !self.deferred.borrow().is_empty() {
            any |= self.progress_each(&self.deferred, |socket| &socket.deferred);
        }
        if !self.retried.borrow().is_empty() {
            any |= self.progress_retried();
        }
        // If another device blocks for us, it sees our descriptor readable until all events are taken.
        let look = match turn {
            Turn::Busy => self.waiting.get() > 0,
            Turn::Idle => self.waiting.get() > 0 || !self.parks.get(),
            Turn::BeforeParking => !self.parks.get(),
        };
        if look {
            any |= self.collect(Some(Duration::ZERO)).unwrap_or_else(|error| {
                tracing::error!(%error, "epoll_wait failed");
                false
            });
        }
        any
    }

    fn interest(&self) -> Interest {
        if !self.deferred.borrow().is_empty() {
            Interest::Polling
        } else if self.waiting.get() == 0 {
            Interest::None
        } else if self.parks.get() {
            Interest::Parker
        } else {
            Interest::Descriptor(self.poller.as_raw_fd())
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.retry_at.get()
    }

    fn parker(&self) -> Option<&dyn Parker> {
        Some(self)
    }

    fn cancel(&self, key: u64) {
        self.cancel_operation(CancelKey::from(key));
    }

    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>) {
        self.take_back(CancelKey::from(key), number, result);
    }

    fn shutdown(&self, grace: Duration) {
        self.finish_sends(grace);
        self.ended.set(true);
        let entries = self.entries.take();
        for (_, entry) in entries {
            match entry {
                Entry::Socket(socket) => self.abandon(&socket, ended),
                Entry::File(file) => self.start_close(file),
            }
        }
        self.finish_all_jobs();
        self.memory.take();
    }

    fn describe(&self, key: u64) -> Option<String> {
        let CancelKey { qd, queue, .. } = CancelKey::from(key);
        let what = match queue {
            Queue::Receives => "receive",
            Queue::Sends => "send",
            Queue::Connect => "connect",
        };
        Some(format!("{what} of socket {}", qd.0))
    }

    fn connections(&self, most: usize) -> Vec<Connection> {
        let entries = self.entries.borrow();
        let sockets = entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Socket(socket) => Some(socket),
            Entry::File(_) => None,
        });
        sockets.take(most).map(|socket| kernel::connection(self.name(), socket.qd, &socket.fd)).collect()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let count = &self.count;
        vec![
            ("sockets and files open", self.entries.borrow().len() as u64),
            ("operations waiting", self.waiting.get() as u64),
            ("epoll_wait calls", count.waits.get()),
            ("events", count.events.get()),
            ("receive calls", count.receives.get()),
            ("send calls", count.sends.get()),
            ("accept calls", count.accepts.get()),
            ("waits for the next turn", count.deferred.get()),
            ("waits for memory", count.no_memory.get()),
            ("file jobs on threads", count.jobs.get()),
        ]
    }
}

impl Parker for Epoll {
    fn watch(&self, fd: RawFd) -> io::Result<()> {
        self.parks.set(true);
        // Not edge-triggered: what nobody has cleared ends the next park, too.
        self.poller.add(fd, libc::EPOLLIN, WATCHED)
    }

    fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.parks.set(true);
        let timeout = if self.deferred.borrow().is_empty() { timeout } else { Some(Duration::ZERO) };
        self.collect(timeout).map(|_| ())
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // Threads may still use memory of jobs, if the device was never shut down.
        self.finish_all_jobs();
    }
}
