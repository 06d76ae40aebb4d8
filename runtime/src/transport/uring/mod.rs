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

// In the order in which an operation passes through them.
mod config; // settings
mod key;
mod ring; // the queues, and the system call
mod setup; // making a ring with what the kernel has // how completions find their way back

mod connect; // its beginning
mod connection; // one connection: its state
mod datagram; // datagram sockets
mod file;
mod listener; // accepting
mod network; // the calls of sockets
mod receive; // its receives
mod send; // its sends
mod socket; // the table of sockets // files

mod message; // arguments of system calls that stay in place
mod provided; // the ring of buffers for receives
mod regions; // the pool's memory, registered
mod starving;
mod untaken; // receives that wait for memory

mod device; // the state of the device
mod end; // shutting down

#[cfg(test)]
mod tests;

pub use config::{Config, ReceiveMode};

use self::device::{Counters, FixedTable, Inner, Watch};
use self::file::Files;
use self::key::{Key, Kind};
use self::message::Messages;
use self::provided::Provided;
use self::regions::Regions;
use self::ring::{BATCH, Completed, Ring, Wait};
use self::socket::{Role, Sockets};
use self::starving::Starving;
use super::{Device, Interest, Parker, Turn};
use crate::executor::DeviceId;
use slab::Slab;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// How long the runtime blocks at most while clients wait for memory that other threads may give back.
const HUNGRY: Duration = Duration::from_millis(10);

/// The io_uring transport.
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
        let ring = Ring::new(&config)?;
        let mut provided = None;
        if config.receive != ReceiveMode::Own {
            match Provided::new(&ring, config.posted_buffers, config.receive_buffer) {
                Ok(new) => provided = Some(new),
                Err(error) => tracing::debug!(%error, "no ring of buffers: each receive has its own"),
            }
        }
        let fixed = FixedTable::new(&ring, config.fixed_files);
        let regions = Regions::new(&ring, config.fixed_buffers);
        let inner = Inner {
            ring,
            id: DeviceId(u8::MAX),
            sockets: Sockets::default(),
            provided,
            starving: Starving::new(),
            regions,
            messages: Messages::default(),
            outgoing: Slab::new(),
            in_place: Slab::new(),
            files: Files::default(),
            watches: Vec::new(),
            fixed,
            counters: Counters::default(),
            own_operations: 0,
            config,
        };
        Ok(Rc::new(Uring { inner: RefCell::new(inner), parks: Cell::new(false) }))
    }

    /// Takes completions from the shared memory and delivers them. Returns whether there were any.
    #[inline]
    fn reap(&self) -> bool {
        let mut any = false;
        loop {
            let mut batch = [const { MaybeUninit::uninit() }; BATCH];
            let count = self.inner.borrow_mut().ring.reap(&mut batch);
            for completed in &batch[..count] {
                // SAFETY: so many have been written.
                self.dispatch(unsafe { completed.assume_init() });
            }
            any |= count > 0;
            if count < BATCH {
                break;
            }
        }
        if any && let Some(provided) = &mut self.inner.borrow_mut().provided {
            provided.looked();
        }
        any
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
            Some(Kind::Close | Kind::Cancel) => self.inner.borrow_mut().own_operations -= 1,
            None => tracing::error!(?key, "a completion of nothing that was submitted"),
        }
    }

    fn on_watch(&self, completed: Completed) {
        let mut inner = self.inner.borrow_mut();
        inner.own_operations -= 1;
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
        if !inner.ring.wants_enter() {
            return false;
        }
        if let Err(error) = inner.ring.enter(None) {
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
        self.inner.borrow_mut().id = id;
    }

    #[inline]
    fn poll(&self, turn: Turn) -> bool {
        let mut any = self.reap();
        self.inner.borrow_mut().flush();
        if turn == Turn::BeforeParking && self.parks.get() {
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
        self.inner.borrow_mut().flush();
        self.submit();
        let inner = self.inner.borrow();
        match inner.starving.is_empty() {
            true => Interest::Descriptor(inner.ring.as_raw_fd()),
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
            Some(Kind::SendDatagram) => self.inner.borrow_mut().cancel(key),
            _ => {
                let mut inner = self.inner.borrow_mut();
                let Some(entry) = inner.sockets.of(key) else { return };
                match &mut entry.role {
                    Role::Stream(connection) => connection.unwanted_receive = true,
                    Role::Listener(listener) => listener.unwanted = true,
                    Role::Datagram(datagrams) => datagrams.unwanted = true,
                }
                inner.sockets.mark(key.index() as u32);
            }
        }
    }

    fn give_back(&self, key: u64, number: u32, result: Box<dyn Any>) {
        self.take_back(Key::from_bits(key), number, result);
    }

    fn shutdown(&self, grace: Duration) {
        self.end(grace);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner.borrow();
        let (ring, device) = (inner.ring.counters, inner.counters);
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
            ("sqpoll", u64::from(inner.ring.features.sqpoll)),
            ("in_kernel", (inner.ring.outstanding() - inner.own_operations) as u64),
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
        inner.flush();
        inner.arm_watches();
        let timeout = match inner.starving.is_empty() {
            true => timeout,
            false => Some(timeout.map_or(HUNGRY, |timeout| timeout.min(HUNGRY))),
        };
        inner.ring.enter(Some(Wait { timeout }))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
