//! The state behind the device. Before the kernel is entered, each socket of which anything changed is
//! brought up to date with it.

use super::config::{Config, ReceiveMode};
use super::datagram::Outgoing;
use super::file::Files;
use super::key::{Key, Kind};
use super::message::Messages;
use super::provided::Provided;
use super::regions::RegisteredRegions;
use super::ring::Ring;
use super::send::InPlace;
use super::socket::{Entry, Head, Role, Sockets, Target};
use super::starving::Starving;
use crate::executor::DeviceId;
use io_uring::{opcode, squeue, types};
use slab::Slab;
use socket2::Socket;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// From so many sockets on that are brought up to date together, receives are [put off](Io::put_off).
const BATCH: usize = 4;

/// Everything of the device that changes. It is borrowed for moments only: never while a completion is
/// delivered, which may run foreign code.
pub(super) struct Inner {
    // The ring is dropped before the memory that the kernel was told of.
    pub(super) io: Io,
    pub(super) sockets: Sockets,
    pub(super) outgoing: Slab<Outgoing>,
    pub(super) files: Files,
    pub(super) regions: RegisteredRegions,
    pub(super) watches: Vec<Watch>,
}

/// What the operations of all sockets and files share.
pub(super) struct Io {
    pub(super) ring: Ring,
    pub(super) config: Config,
    pub(super) id: DeviceId,
    pub(super) provided: Option<Provided>,
    pub(super) starving: Starving,
    pub(super) messages: Messages,
    pub(super) in_place: Slab<InPlace>,
    pub(super) fixed: FixedTable,
    pub(super) counters: Counters,
    /// Sockets to look at before the kernel is entered.
    pub(super) dirty: Vec<u32>,
    /// Receives behind a send wait for the next time that the sockets are looked at: see [`Io::put_off`].
    puts_off: bool,
    later: Vec<u32>,
    /// Operations of the device itself under way: watches, cancellations, closes.
    pub(super) own_operations: usize,
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) connected: u64,
    pub(super) cancelled: u64,
    pub(super) starved: u64,
}

/// A descriptor that ends the wait of a blocked runtime.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) fd: RawFd,
    pub(super) armed: bool,
}

/// What is left to do with a socket that was brought up to date.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Updated {
    InUse,
    /// The program has given it up, and the kernel has nothing of it any more.
    Over,
}

impl Inner {
    /// A ring with everything that the settings want and the kernel has.
    ///
    /// # Errors
    /// As [`Uring::new`](super::Uring::new).
    pub(super) fn new(config: Config) -> io::Result<Inner> {
        let ring = Ring::new(&config)?;
        let mut provided = None;
        if config.receive != ReceiveMode::Own {
            match Provided::new(&ring, config.posted_buffers, config.receive_buffer) {
                Ok(new) => provided = Some(new),
                Err(error) => tracing::debug!(%error, "no ring of buffers: each receive has its own"),
            }
        }
        let fixed = FixedTable::new(&ring, config.fixed_files);
        let regions = RegisteredRegions::new(ring.submitter(), config.fixed_buffers);
        let io = Io {
            ring,
            config,
            id: DeviceId::NONE,
            provided,
            starving: Starving::new(),
            messages: Messages::default(),
            in_place: Slab::new(),
            fixed,
            counters: Counters::default(),
            dirty: Vec::new(),
            puts_off: false,
            later: Vec::new(),
            own_operations: 0,
        };
        Ok(Inner {
            io,
            sockets: Sockets::default(),
            outgoing: Slab::new(),
            files: Files::default(),
            regions,
            watches: Vec::new(),
        })
    }

    /// Makes a socket known.
    pub(super) fn add_socket(&mut self, socket: Socket, role: Role) -> u32 {
        let entry = self.sockets.insert(socket, role);
        entry.head.target = self.io.target(entry.head.socket.as_raw_fd());
        entry.head.index()
    }

    /// Brings the kernel up to date with everything that was asked for, except for entering it.
    #[inline]
    pub(super) fn flush(&mut self) {
        if !self.io.dirty.is_empty() {
            self.flush_sockets();
        }
        if self.regions.have_changed() {
            self.regions.follow(self.io.ring.submitter());
        }
        if !self.io.starving.is_empty() {
            self.feed();
        }
        if let Some(provided) = &mut self.io.provided {
            provided.refill(0);
        }
    }

    /// Brings the kernel up to date before the thread is blocked, with what was [put off](Io::put_off), too.
    pub(super) fn flush_all(&mut self) {
        self.flush();
        // What was put off once is not again.
        if self.has_put_off() {
            self.flush();
        }
    }

    /// Whether receives were [put off](Io::put_off).
    #[inline]
    pub(super) fn has_put_off(&self) -> bool {
        // All others were brought up to date.
        !self.io.dirty.is_empty()
    }

    fn flush_sockets(&mut self) {
        let mut dirty = std::mem::take(&mut self.io.dirty);
        self.io.puts_off = dirty.len() >= BATCH;
        for &index in &dirty {
            let Entry { head, role } = self.sockets.at(index);
            head.dirty = false;
            let updated = match role {
                Role::Stream(connection) => connection.update(head, &mut self.io),
                Role::Listener(listener) => listener.update(head, &mut self.io),
                Role::Datagram(datagrams) => datagrams.update(head, &mut self.io),
            };
            if updated == Updated::Over {
                self.finish_close(index);
            }
        }
        dirty.clear();
        debug_assert!(self.io.dirty.is_empty(), "updating marks no socket");
        dirty.append(&mut self.io.later);
        self.io.dirty = dirty;
        // For sockets that are brought up to date one by one.
        self.io.puts_off = false;
    }

    /// Gives the descriptor back and forgets the socket, of which the kernel has nothing any more.
    fn finish_close(&mut self, index: u32) {
        let Entry { head: Head { socket, target, lingers, .. }, role } = self.sockets.remove(index);
        self.io.release(target);
        match role {
            Role::Stream(_) => self.io.close(socket.into_raw_fd(), lingers),
            // At once, as the program may want to bind to the address again.
            Role::Listener(_) | Role::Datagram(_) => drop(socket),
        }
    }

    /// Arms the watches that have fired, or are new.
    pub(super) fn arm_watches(&mut self) {
        for (index, watch) in self.watches.iter_mut().enumerate().filter(|(_, watch)| !watch.armed) {
            watch.armed = true;
            self.io.own_operations += 1;
            let poll = opcode::PollAdd::new(types::Fd(watch.fd), libc::POLLIN as u32).build();
            // SAFETY: the operation names no memory.
            unsafe { self.io.ring.submit(&poll.user_data(Key::new(Kind::Watch, 0, index as u32).bits())) };
        }
    }

    /// Starts the receives again for which there was no memory, as many as there is memory for.
    #[cold]
    fn feed(&mut self) {
        let io = &mut self.io;
        if !io.starving.take_hope() {
            return;
        }
        let mut tries = io.starving.len();
        if let Some(provided) = &mut io.provided {
            provided.exhausted = false;
            provided.refill(tries);
            if provided.exhausted {
                io.starving.wait_for(provided.size());
                tries = tries.min(provided.posted());
            }
        }
        for _ in 0..tries {
            let Some(key) = io.starving.next() else { break };
            match self.sockets.of(key) {
                Some(Entry { head, role: Role::Stream(connection) }) => connection.feed(head, io),
                Some(Entry { head, role: Role::Datagram(datagrams) }) => {
                    datagrams.update(head, io);
                }
                _ => {}
            }
        }
    }

    /// Whether anything of the program is under way.
    pub(super) fn is_busy(&self) -> bool {
        let io = &self.io;
        io.ring.outstanding() > io.own_operations || !io.dirty.is_empty() || !io.starving.is_empty()
    }

    /// Gives up, without freeing it, everything that the kernel may still use.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sockets));
        std::mem::forget(std::mem::take(&mut self.outgoing));
        std::mem::forget(std::mem::take(&mut self.io.in_place));
        self.files.leak();
        if let Some(provided) = &mut self.io.provided {
            provided.leak();
        }
    }
}

impl Io {
    /// Puts the receive of a socket off, once, if it would be submitted together with a send of the same socket: whether
    /// that is so.
    ///
    /// Who is sent a response sends its next request after that, so that a receive along with the response finds nothing
    /// and has to be armed; by the next batch the request may be there. It is the next time that the sockets are looked
    /// at, not when the send is over: a peer may read nothing until it has been read from. With few sockets no time
    /// passes until then, and another system call is all that there would be of it.
    #[inline]
    pub(super) fn put_off(&mut self, head: &mut Head) -> bool {
        if !self.puts_off || head.put_off {
            head.put_off = false;
            return false;
        }
        head.put_off = true;
        head.dirty = true;
        self.later.push(head.index());
        true
    }

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&mut self, key: Key) {
        self.own_operations += 1;
        self.counters.cancelled += 1;
        self.ring.cancel(key);
    }

    /// Closes a descriptor along with the next submission; by a thread of the kernel if that may take long.
    pub(super) fn close(&mut self, fd: RawFd, slowly: bool) {
        let mut close = opcode::Close::new(types::Fd(fd)).build();
        if slowly {
            close = close.flags(squeue::Flags::ASYNC);
        }
        self.own_operations += 1;
        // SAFETY: the operation names no memory. The descriptor is the caller's to give away.
        unsafe { self.ring.submit(&close.user_data(Key::new(Kind::Close, 0, 0).bits())) };
    }

    /// How operations are to name a descriptor: by a place in the ring's own table, if there is room.
    pub(super) fn target(&mut self, fd: RawFd) -> Target {
        match self.fixed.add(&self.ring, fd) {
            Some(number) => Target { number: number as RawFd, fixed: true },
            None => Target::descriptor(fd),
        }
    }

    /// Gives a place in the ring's own table back.
    pub(super) fn release(&mut self, target: Target) {
        if target.fixed {
            self.fixed.remove(&self.ring, target.number as u32);
        }
    }

    /// How receives are done.
    #[inline]
    pub(super) fn receive_mode(&self) -> ReceiveMode {
        if self.provided.is_none() { ReceiveMode::Own } else { self.config.receive }
    }
}

/// The ring's own table of descriptors.
#[derive(Debug, Default)]
pub(super) struct FixedTable {
    free: Vec<u32>,
}

impl FixedTable {
    fn new(ring: &Ring, entries: u32) -> FixedTable {
        if entries == 0 {
            return FixedTable::default();
        }
        match ring.submitter().register_files_sparse(entries) {
            Ok(()) => FixedTable { free: (0..entries).rev().collect() },
            Err(error) => {
                tracing::debug!(%error, entries, "no table of registered files");
                FixedTable::default()
            }
        }
    }

    /// Puts a descriptor in the table, if there is room.
    fn add(&mut self, ring: &Ring, fd: RawFd) -> Option<u32> {
        let number = self.free.pop()?;
        match ring.submitter().register_files_update(number, &[fd]) {
            Ok(_) => Some(number),
            Err(error) => {
                tracing::debug!(%error, "a descriptor could not be registered");
                self.free.push(number);
                None
            }
        }
    }

    fn remove(&mut self, ring: &Ring, number: u32) {
        match ring.submitter().register_files_update(number, &[-1]) {
            Ok(_) => self.free.push(number),
            Err(error) => tracing::debug!(%error, "a registered descriptor could not be taken back"),
        }
    }
}
