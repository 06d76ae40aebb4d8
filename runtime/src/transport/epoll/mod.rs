//! Kernel sockets through non-blocking calls and epoll(7), and files through a pool of threads: the
//! transport for kernels and containers that have no io_uring.
//!
//! An operation is tried at once, so one that is ready completes inside the call that starts it. What is not
//! ready waits in its socket's queue. Sockets are registered once, when something first waits, and
//! edge-triggered: from then on the kernel tells of changes only, and what it told is kept with the socket.
//! So an idle connection costs no system call and holds no buffer.
//!
//! - `device`: the runtime's turns, blocking, and the end.
//! - `poller`: epoll itself. `key`: what it and the runtime call a socket or an operation.
//! - `socket`: one socket, and who waits for it.
//! - `network`: operations on sockets; `receive` and `send` move the data.
//! - `files`: operations on files; `jobs` runs them on threads and brings back the results.
//!
//! Nothing is borrowed while an operation is completed or a buffer dropped, since that may run foreign code
//! (wakers, destructors), which may come back here.

mod device;
mod files;
mod jobs;
mod key;
mod network;
mod poller;
mod receive;
mod send;
mod socket;

use self::files::{File, Job};
use self::jobs::Jobs;
use self::key::{CancelKey, JOBS, Queue, SocketKey, WATCHED};
use self::poller::{Events, Poller};
use self::socket::{Queued, Send, Socket, Stop};
use crate::buffer::pool;
use crate::executor::DeviceId;
use crate::time::Instant;
use crate::transport::{Device, Qd, SocketKind, Transport};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// How long until a connection is tried again to a Unix socket whose queue is full, of which the kernel
/// tells nothing.
const RETRY: Duration = Duration::from_millis(1);

/// What a number stands for.
enum Entry {
    Socket(Rc<Socket>),
    File(Rc<File>),
}

/// The transport. See the [module](self).
pub struct Epoll {
    poller: Poller,
    id: Cell<Option<DeviceId>>,
    /// The runtime blocks in this device.
    parks: Cell<bool>,
    ended: Cell<bool>,
    turn: Cell<u32>,
    /// Operations in queues and on threads.
    waiting: Cell<usize>,
    entries: RefCell<Slab<Entry>>,
    generation: Cell<u32>,
    sequence: Cell<u32>,
    /// Keys of sockets that have had their share of a turn, and go on in the next.
    deferred: RefCell<VecDeque<SocketKey>>,
    /// Keys of sockets that are tried again when there is memory, or at `retry_at`.
    retried: RefCell<VecDeque<SocketKey>>,
    retry_at: Cell<Option<Instant>>,
    /// Our place among those who wait for the pool.
    memory: RefCell<Option<pool::Waiting>>,
    /// Pushes that are being completed; kept for its memory.
    finished: Cell<Vec<Queued<Send>>>,
    /// What of a datagram is beyond the buffer for it.
    overflow: RefCell<Vec<u8>>,
    events: Cell<Option<Events>>,
    jobs: Jobs<Job>,
    /// Turn, and how many reads of files were tried at once in it.
    reads: Cell<(u32, u32)>,
    count: Counters,
}

#[derive(Default)]
struct Counters {
    waits: Cell<u64>,
    events: Cell<u64>,
    receives: Cell<u64>,
    sends: Cell<u64>,
    accepts: Cell<u64>,
    deferred: Cell<u64>,
    no_memory: Cell<u64>,
    jobs: Cell<u64>,
}

fn add(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get() + by);
}

impl Epoll {
    /// The transport, for one runtime.
    ///
    /// # Errors
    /// If the kernel gives no descriptors.
    pub fn new() -> io::Result<Rc<Epoll>> {
        let poller = Poller::new()?;
        let jobs = Jobs::new()?;
        poller.add(jobs.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, JOBS)?;
        tracing::debug!(exact_timeouts = poller.is_exact(), "epoll transport");
        Ok(Rc::new(Epoll {
            poller,
            id: Cell::new(None),
            parks: Cell::new(false),
            ended: Cell::new(false),
            turn: Cell::new(0),
            waiting: Cell::new(0),
            entries: RefCell::default(),
            generation: Cell::new(0),
            sequence: Cell::new(0),
            deferred: RefCell::default(),
            retried: RefCell::default(),
            retry_at: Cell::new(None),
            memory: RefCell::new(None),
            finished: Cell::default(),
            overflow: RefCell::default(),
            events: Cell::new(Some(Events::new())),
            jobs,
            reads: Cell::new((0, 0)),
            count: Counters::default(),
        }))
    }

    /// The same as a [`Transport`] for sockets and files.
    ///
    /// ```
    /// let runtime = demikernel_runtime::Runtime::new()?;
    /// runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Epoll::new).
    pub fn transport() -> io::Result<Transport> {
        Ok(Transport::both(Epoll::new()?))
    }
}

/// The table of sockets and files.
impl Epoll {
    fn check_running(&self) -> io::Result<()> {
        if self.ended.get() { Err(ended()) } else { Ok(()) }
    }

    fn insert_socket(&self, fd: socket2::Socket, kind: SocketKind) -> io::Result<Rc<Socket>> {
        self.check_running()?;
        let generation = self.generation.get();
        self.generation.set(generation.wrapping_add(1));
        let mut entries = self.entries.borrow_mut();
        let entry = entries.vacant_entry();
        let socket = Rc::new(Socket::new(fd, Qd(entry.key() as u32), generation, self.sequence.get(), kind));
        entry.insert(Entry::Socket(socket.clone()));
        Ok(socket)
    }

    /// The open socket of a number.
    fn socket_of(&self, qd: Qd) -> io::Result<Rc<Socket>> {
        match self.entries.borrow().get(qd.0 as usize) {
            Some(Entry::Socket(socket)) if !socket.closing.get() => Ok(socket.clone()),
            _ if self.ended.get() => Err(ended()),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// The socket that an event or a list means, unless it is gone.
    fn socket_by_key(&self, key: SocketKey) -> Option<Rc<Socket>> {
        match self.entries.borrow().get(key.qd.0 as usize) {
            Some(Entry::Socket(socket)) if socket.key() == key => Some(socket.clone()),
            _ => None,
        }
    }

    /// Takes a socket out of the table. It closes when the last who is busy with it lets it go.
    fn remove_socket(&self, socket: &Socket) {
        if self.socket_by_key(socket.key()).is_some() {
            let entry = self.entries.borrow_mut().remove(socket.qd.0 as usize);
            drop(entry);
        }
    }
}

/// Waiting.
impl Epoll {
    fn next_sequence(&self) -> u32 {
        let sequence = self.sequence.get();
        self.sequence.set((sequence + 1) & CancelKey::SEQUENCES);
        sequence
    }

    fn waits_more(&self, operations: usize) {
        self.waiting.set(self.waiting.get() + operations);
    }

    fn waits_less(&self, operations: usize) {
        self.waiting.set(self.waiting.get() - operations);
    }

    /// Sees to it that the socket is tried again when the reason has gone away.
    fn wake_when_gone(&self, socket: &Socket, stop: Stop) -> io::Result<()> {
        match stop {
            Stop::NotReady => self.register(socket)?,
            Stop::Turn => {
                add(&self.count.deferred, 1);
                if !socket.deferred.replace(true) {
                    self.deferred.borrow_mut().push_back(socket.key());
                }
            }
            Stop::NoMemory(bytes) => {
                add(&self.count.no_memory, 1);
                self.retry(socket);
                self.want_memory(bytes);
            }
        }
        Ok(())
    }

    fn register(&self, socket: &Socket) -> io::Result<()> {
        if !socket.registered.get() {
            let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
            self.poller.add(socket.fd.as_raw_fd(), flags, socket.key().into())?;
            socket.registered.set(true);
        }
        Ok(())
    }

    fn retry(&self, socket: &Socket) {
        if !socket.retried.replace(true) {
            self.retried.borrow_mut().push_back(socket.key());
        }
    }

    /// Asks the pool to tell when it has memory again. One place in its queue does for all sockets: those
    /// that get nothing ask anew.
    fn want_memory(&self, bytes: usize) {
        if self.memory.borrow().as_ref().is_some_and(pool::Waiting::is_pending) {
            return;
        }
        let place = pool::on_available(bytes, self.jobs.memory_waker());
        let former = self.memory.replace(Some(place));
        drop(former);
    }
}

/// Progress.
impl Epoll {
    /// Does for a socket what can be done now.
    fn progress(&self, socket: &Rc<Socket>) {
        self.progress_connect(socket);
        self.progress_receives(socket);
        self.progress_sends(socket);
    }

    /// Goes on with the sockets that are in a list now, not with those that come to it meanwhile.
    fn progress_each(&self, list: &RefCell<VecDeque<SocketKey>>, flag: fn(&Socket) -> &Cell<bool>) -> bool {
        let count = list.borrow().len();
        for _ in 0..count {
            let Some(key) = list.borrow_mut().pop_front() else { break };
            if let Some(socket) = self.socket_by_key(key) {
                flag(&socket).set(false);
                self.progress(&socket);
            }
        }
        count > 0
    }

    fn progress_retried(&self) -> bool {
        let due = self.retry_at.get().is_some_and(|at| at <= Instant::now());
        if !(self.jobs.take_memory_back() || due) {
            return false;
        }
        self.retry_at.set(None);
        let any = self.progress_each(&self.retried, |socket| &socket.retried);
        if self.retried.borrow().is_empty() {
            // Others may wait for the pool behind us.
            let place = self.memory.take();
            drop(place);
        }
        any
    }

    /// Takes events from the kernel, waiting for at most `timeout`, and does what they make possible.
    fn collect(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut events = self.events.take().unwrap_or_else(Events::new);
        add(&self.count.waits, 1);
        let result = self.poller.wait(&mut events, timeout);
        let mut any = false;
        for index in 0..*result.as_ref().unwrap_or(&0) {
            let (key, flags) = events.get(index);
            any |= self.event(key, flags);
        }
        self.events.set(Some(events));
        result.map(|_| any)
    }

    fn event(&self, key: u64, flags: u32) -> bool {
        add(&self.count.events, 1);
        match key {
            WATCHED => false,
            JOBS => self.finish_jobs() | self.progress_retried(),
            // Without a socket it is for one that was closed after the kernel had reported it.
            _ => self.socket_by_key(key.into()).is_some_and(|socket| {
                socket.event(flags);
                self.progress(&socket);
                true
            }),
        }
    }
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

/// An error once more, for another operation.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Why operations end when the runtime does.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the runtime of the socket or file has ended")
}

#[cfg(test)]
mod tests;
