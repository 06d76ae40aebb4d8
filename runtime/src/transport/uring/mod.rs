//! The transport on io_uring: sockets and files of the kernel through two queues in shared memory.
//!
//! What the program asks for is noted, and put into the submission queue when the runtime polls: so all
//! that one turn of the loop pushed on a connection goes out as one operation, and a receive that is
//! cancelled and asked for again in the same turn is left alone. Completions are read from memory; the
//! kernel is entered when there is something to submit or when it says that it has something to do, and
//! blocking is the same call as submitting. A runtime that spins makes no system call while nothing happens.
//!
//! Memory that the kernel uses is owned by an entry in one of the device's tables until the completion is
//! in, whatever happens to tokens, sockets and runtime meanwhile.
//!
//! In the order in which an operation passes through them:
//!
//! - `config`, `setup`: settings, and making a ring with what the kernel has.
//! - `network`, `file`: the calls of sockets and of files.
//! - `socket`: the table of sockets. `connection`: the state of one connection, with `connect`, `receive` and
//!   `send`. `listener` and `datagram`: the other kinds of sockets.
//! - `device`: what all of them share, and bringing the kernel up to date.
//! - `message`, `provided`, `regions`, `starving`: memory that the kernel uses, and those who wait for some.
//! - `ring`, `key`: the queues, the system call, and how completions find their way back.
//! - `untaken`: results that came a moment too late.
//! - `end`: shutting down.

mod config;
mod connect;
mod connection;
mod datagram;
mod device;
mod end;
mod file;
mod key;
mod listener;
mod message;
mod network;
mod provided;
mod receive;
mod regions;
mod ring;
mod send;
mod setup;
mod socket;
mod starving;
mod untaken;

#[cfg(test)]
mod tests;

pub use config::{Config, ReceiveMode};
pub use regions::RegisteredRegions;

use self::device::{Inner, Watch};
use self::key::{Key, Kind};
use self::ring::{Completed, Wait};
use self::socket::{Entry, Role};
use super::{Device, Interest, Parker, Qd, Turn, kernel};
use crate::executor::DeviceId;
use crate::inspect::Connection;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// How long the runtime blocks at most while clients wait for memory that other threads may give back.
const HUNGRY: Duration = Duration::from_millis(10);

/// The io_uring transport.
///
/// ```
/// use demikernel_runtime::transport::Transport;
/// use demikernel_runtime::transport::uring::{Config, Uring};
///
/// let runtime = demikernel_runtime::Runtime::new()?;
/// match Uring::new(Config::default()) {
///     Ok(uring) => runtime.attach(Transport::both(uring)),
///     Err(error) => eprintln!("{error}"), // says what would help
/// }
/// # std::io::Result::Ok(())
/// ```
pub struct Uring {
    inner: RefCell<Inner>,
    /// It blocks the thread for the runtime.
    parks: Cell<bool>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").finish_non_exhaustive()
    }
}

impl Uring {
    /// Sets up a ring for this thread.
    ///
    /// # Errors
    /// Says why the kernel or the sandbox does not let this process have one, and what would help.
    pub fn new(config: Config) -> io::Result<Rc<Uring>> {
        let inner = Inner::new(config)?;
        Ok(Rc::new(Uring { inner: RefCell::new(inner), parks: Cell::new(false) }))
    }

    /// Takes completions from the shared memory and delivers them. Returns whether there were any.
    #[inline]
    fn reap(&self) -> bool {
        self.inner.borrow_mut().io.ring.look();
        let mut any = false;
        loop {
            let next = self.inner.borrow_mut().io.ring.next();
            let Some(completed) = next else { break };
            self.dispatch(completed);
            any = true;
        }
        if any {
            self.reaped();
        }
        any
    }

    fn reaped(&self) {
        let io = &mut self.inner.borrow_mut().io;
        // The kernel can use their places again.
        io.ring.look();
        if let Some(provided) = &mut io.provided {
            provided.looked();
        }
    }

    #[inline]
    fn dispatch(&self, completed: Completed) {
        let key = completed.key;
        match key.kind() {
            Some(Kind::Receive) => self.on_receive(completed),
            Some(Kind::Send) => self.on_send(key, completed.result),
            Some(Kind::Accept) => self.on_accept(completed),
            Some(Kind::Connect) => self.on_connect(completed),
            Some(Kind::AcceptPause) => self.on_accept_pause(completed),
            Some(Kind::ReceiveDatagram) => self.on_receive_datagram(completed),
            Some(Kind::SendDatagram) => self.on_send_datagram(completed),
            Some(Kind::SendInPlace) => self.on_send_in_place(completed),
            Some(Kind::File) => self.on_file(completed),
            Some(Kind::Watch) => self.on_watch(completed),
            Some(Kind::Close | Kind::Cancel) => self.inner.borrow_mut().io.own_operations -= 1,
            None => tracing::error!(?key, "a completion of nothing that was submitted"),
        }
    }

    fn on_watch(&self, completed: Completed) {
        let mut inner = self.inner.borrow_mut();
        inner.io.own_operations -= 1;
        let Some(watch) = inner.watches.get_mut(completed.key.index()) else { return };
        watch.armed = false;
        if completed.result < 0 && -completed.result != libc::ECANCELED {
            let error = io::Error::from_raw_os_error(-completed.result);
            tracing::error!(%error, fd = watch.fd, "a descriptor cannot be watched");
        }
    }

    /// Submits what is waiting and lets the kernel work, if there is reason to.
    #[inline]
    fn submit(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        if !inner.io.ring.wants_enter() {
            return false;
        }
        if let Err(error) = inner.io.ring.enter(None) {
            tracing::error!(%error, "io_uring_enter failed");
        }
        true
    }
}

impl Device for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn attached(&self, id: DeviceId) {
        self.inner.borrow_mut().io.id = id;
    }

    #[inline]
    fn poll(&self, turn: Turn) -> bool {
        let mut any = self.reap();
        let put_off = {
            let mut inner = self.inner.borrow_mut();
            inner.flush();
            inner.has_put_off()
        };
        if turn == Turn::BeforeParking && self.parks.get() && !put_off {
            // To be submitted and waited for in one call.
            return any;
        }
        if self.submit() {
            any |= self.reap();
        }
        any
    }

    fn interest(&self) -> Interest {
        if !self.inner.borrow().is_busy() {
            return Interest::None;
        }
        if self.parks.get() {
            return Interest::Parker;
        }
        // Somebody else blocks the thread: everything must be with the kernel.
        self.inner.borrow_mut().flush_all();
        self.submit();
        let inner = self.inner.borrow();
        match inner.io.starving.is_empty() {
            true => Interest::Descriptor(inner.io.ring.as_raw_fd()),
            false => Interest::Polling,
        }
    }

    fn parker(&self) -> Option<&dyn Parker> {
        Some(self)
    }

    #[cold]
    fn cancel(&self, key: u64) {
        let key = Key::from_bits(key);
        match key.kind() {
            Some(Kind::Send) => self.cancel_push(key),
            Some(Kind::Connect) => self.cancel_connect(key),
            Some(Kind::File) => self.cancel_file(key),
            Some(Kind::SendDatagram) => self.inner.borrow_mut().io.cancel(key),
            _ => {
                let inner = &mut *self.inner.borrow_mut();
                let Some(Entry { head, role }) = inner.sockets.of(key) else { return };
                match role {
                    Role::Stream(connection) => connection.unwanted_receive = true,
                    Role::Listener(listener) => listener.unwanted = true,
                    Role::Datagram(datagrams) => datagrams.unwanted = true,
                }
                head.mark(&mut inner.io);
            }
        }
    }

    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>) {
        self.take_back(Key::from_bits(key), number, result);
    }

    fn shutdown(&self, grace: Duration) {
        self.end(grace);
    }

    fn describe(&self, key: u64) -> Option<String> {
        let key = Key::from_bits(key);
        let (what, of) = match key.kind()? {
            Kind::Receive | Kind::ReceiveDatagram => ("receive", "socket"),
            Kind::Send | Kind::SendInPlace => ("send", "socket"),
            Kind::Accept | Kind::AcceptPause => ("accept", "socket"),
            Kind::Connect => ("connect", "socket"),
            Kind::SendDatagram => ("send", "datagram"),
            Kind::File => ("operation on a file", "number"),
            Kind::Watch | Kind::Close | Kind::Cancel => return None,
        };
        Some(format!("{what} of {of} {}", key.index()))
    }

    fn connections(&self, most: usize) -> Vec<Connection> {
        let inner = self.inner.borrow();
        let heads = inner.sockets.heads().take(most);
        heads.map(|head| kernel::connection(self.name(), Qd(head.index()), &head.socket)).collect()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner.borrow();
        let (ring, device) = (inner.io.ring.counters, inner.io.counters);
        vec![
            ("enters", ring.enters),
            ("waits", ring.waits),
            ("submitted", ring.submitted),
            ("completed", ring.completed),
            ("postponed", ring.postponed),
            ("received", device.received),
            ("sent", device.sent),
            ("accepted", device.accepted),
            ("connected", device.connected),
            ("cancelled", device.cancelled),
            ("starved", device.starved),
            ("sockets", inner.sockets.len() as u64),
            ("sqpoll", u64::from(inner.io.ring.features.sqpoll)),
            ("in_kernel", (inner.io.ring.outstanding() - inner.io.own_operations) as u64),
        ]
    }
}

impl Parker for Uring {
    fn watch(&self, fd: RawFd) -> io::Result<()> {
        self.parks.set(true);
        self.inner.borrow_mut().watches.push(Watch { fd, armed: false });
        Ok(())
    }

    fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.flush_all();
        inner.arm_watches();
        let timeout = match inner.io.starving.is_empty() {
            true => timeout,
            false => Some(timeout.map_or(HUNGRY, |timeout| timeout.min(HUNGRY))),
        };
        inner.io.ring.enter(Some(Wait { timeout }))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
