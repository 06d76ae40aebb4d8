//! The state behind the device, and the turn of its crank: completions are dispatched by kind and index, and
//! before the kernel is entered, each socket of which anything changed is brought up to date with it.

use super::connection::Receive;
use super::datagram::Outgoing;
use super::file::Files;
use super::key::{Key, Kind};
use super::message::Messages;
use super::provided::Provided;
use super::regions::Regions;
use super::ring::Ring;
use super::send::InPlace;
use super::socket::{Role, Sockets};
use super::starving::Starving;
use super::{Config, ReceiveMode};
use crate::executor::DeviceId;
use io_uring::{opcode, squeue, types};
use slab::Slab;
use socket2::Socket;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// Everything of the device that changes. It is borrowed for moments only: never while a completion is
/// delivered, which may run foreign code.
pub(super) struct Inner {
    // The ring is dropped before the memory that the kernel was told of.
    pub(super) ring: Ring,
    pub(super) config: Config,
    pub(super) id: DeviceId,
    pub(super) sockets: Sockets,
    pub(super) provided: Option<Provided>,
    pub(super) starving: Starving,
    pub(super) regions: Regions,
    pub(super) messages: Messages,
    pub(super) outgoing: Slab<Outgoing>,
    pub(super) in_place: Slab<InPlace>,
    pub(super) files: Files,
    pub(super) watches: Vec<Watch>,
    pub(super) fixed: FixedTable,
    pub(super) counters: Counters,
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

/// The ring's own table of descriptors.
#[derive(Debug, Default)]
pub(super) struct FixedTable {
    free: Vec<u32>,
}

impl FixedTable {
    pub(super) fn new(ring: &Ring, entries: u32) -> FixedTable {
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
    pub(super) fn add(&mut self, ring: &Ring, fd: RawFd) -> Option<u32> {
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

    pub(super) fn remove(&mut self, ring: &Ring, number: u32) {
        match ring.submitter().register_files_update(number, &[-1]) {
            Ok(_) => self.free.push(number),
            Err(error) => tracing::debug!(%error, "a registered descriptor could not be taken back"),
        }
    }
}

impl Inner {
    /// Makes a socket known.
    pub(super) fn add_socket(&mut self, socket: Socket, role: Role) -> u32 {
        let index = self.sockets.insert(socket, role);
        let entry = self.sockets.at(index);
        entry.fixed = self.fixed.add(&self.ring, entry.socket.as_raw_fd());
        index
    }

    /// Brings the kernel up to date with everything that was asked for, except for entering it.
    #[inline]
    pub(super) fn flush(&mut self) {
        if !self.sockets.dirty.is_empty() {
            self.flush_sockets();
        }
        if self.regions.have_changed() {
            self.regions.follow(&self.ring);
        }
        if !self.starving.is_empty() {
            self.feed();
        }
        if let Some(provided) = &mut self.provided {
            provided.refill(0);
        }
    }

    fn flush_sockets(&mut self) {
        let mut dirty = std::mem::take(&mut self.sockets.dirty);
        for &index in &dirty {
            let entry = self.sockets.at(index);
            entry.dirty = false;
            match entry.role {
                Role::Stream(_) => self.update_connection(index),
                Role::Listener(_) => self.update_listener(index),
                Role::Datagram(_) => self.update_datagrams(index),
            }
        }
        dirty.clear();
        // Nothing above marks a socket.
        debug_assert!(self.sockets.dirty.is_empty());
        self.sockets.dirty = dirty;
    }

    fn update_connection(&mut self, index: u32) {
        self.update_connect(index);
        self.update_send(index);
        self.update_receive(index);
        let entry = self.sockets.at(index);
        let Role::Stream(connection) = &entry.role else { return };
        if entry.closing && entry.in_kernel == 0 && connection.outbound.is_empty() {
            self.finish_close(index);
        }
    }

    /// Gives the descriptor back and forgets the socket, of which the kernel has nothing any more.
    pub(super) fn finish_close(&mut self, index: u32) {
        let entry = self.sockets.remove(index);
        if let Some(number) = entry.fixed {
            self.fixed.remove(&self.ring, number);
        }
        let in_ring = matches!(entry.role, Role::Stream(_));
        let (lingers, socket) = (entry.lingers, entry.socket);
        if in_ring {
            self.close(socket.into_raw_fd(), lingers);
        } else {
            drop(socket);
        }
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

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&mut self, key: Key) {
        self.own_operations += 1;
        self.counters.cancelled += 1;
        self.ring.cancel(key);
    }

    /// Arms the watches that have fired, or are new.
    pub(super) fn arm_watches(&mut self) {
        for index in 0..self.watches.len() {
            let watch = &mut self.watches[index];
            if watch.armed {
                continue;
            }
            watch.armed = true;
            self.own_operations += 1;
            let poll = opcode::PollAdd::new(types::Fd(watch.fd), libc::POLLIN as u32).build();
            // SAFETY: the operation names no memory.
            unsafe { self.ring.submit(&poll.user_data(Key::new(Kind::Watch, 0, index as u32).bits())) };
        }
    }

    /// Starts the receives again for which there was no memory, as many as there is memory for.
    #[cold]
    fn feed(&mut self) {
        if !self.starving.take_hope() {
            return;
        }
        let mut tries = self.starving.len();
        if let Some(provided) = &mut self.provided {
            provided.exhausted = false;
            provided.refill(tries);
            if provided.exhausted {
                self.starving.wait_for(provided.size());
                tries = tries.min(provided.posted());
            }
        }
        for _ in 0..tries {
            let Some(key) = self.starving.next() else { break };
            let Some(entry) = self.sockets.of(key) else { continue };
            let index = key.index() as u32;
            match &mut entry.role {
                Role::Stream(connection) => {
                    if matches!(connection.receive, Receive::Starved) {
                        connection.receive = Receive::None;
                        self.update_receive(index);
                    }
                }
                Role::Datagram(_) => self.update_datagrams(index),
                Role::Listener(_) => {}
            }
        }
    }

    /// How receives are done.
    pub(super) fn receive_mode(&self) -> ReceiveMode {
        match self.provided {
            None => ReceiveMode::Own,
            Some(_) => self.config.receive,
        }
    }

    /// What of the program is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.ring.outstanding() > self.own_operations
            || !self.sockets.dirty.is_empty()
            || !self.starving.is_empty()
    }

    /// Gives up, without freeing it, everything that the kernel may still use.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sockets));
        std::mem::forget(std::mem::take(&mut self.outgoing));
        std::mem::forget(std::mem::take(&mut self.in_place));
        self.files.leak();
        if let Some(provided) = &mut self.provided {
            provided.leak();
        }
    }
}
