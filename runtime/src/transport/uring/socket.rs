//! The table of sockets.

use super::connection::Connection;
use super::datagram::Datagrams;
use super::device::Io;
use super::key::{Key, Kind};
use super::listener::Listener;
use io_uring::{squeue, types};
use slab::Slab;
use socket2::Socket;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// A socket.
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) role: Role,
}

/// What a socket is for; it may change until something is under way.
pub(super) enum Role {
    Stream(Connection),
    Listener(Listener),
    Datagram(Datagrams),
}

/// What all kinds of sockets have.
pub(super) struct Head {
    pub(super) socket: Socket,
    /// How operations name it.
    pub(super) target: Target,
    index: u32,
    /// Tells the users of one number apart.
    generation: u32,
    /// Operations in the kernel that will give another completion.
    pub(super) in_kernel: u32,
    /// It is in the list of those to look at before the kernel is entered.
    pub(super) dirty: bool,
    /// Its receive was put off the last time.
    pub(super) put_off: bool,
    /// The program has given it up.
    pub(super) closing: bool,
    /// close(2) may take long.
    pub(super) lingers: bool,
}

impl Head {
    /// The number by which the program names it.
    #[inline(always)]
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    #[inline(always)]
    pub(super) fn key(&self, kind: Kind) -> Key {
        Key::new(kind, self.generation, self.index)
    }

    /// Has the socket looked at before the kernel is entered.
    #[inline(always)]
    pub(super) fn mark(&mut self, io: &mut Io) {
        if !self.dirty {
            self.dirty = true;
            io.dirty.push(self.index);
        }
    }

    /// Hands in an operation that was built on the socket's [`Target::fd`].
    ///
    /// # Safety
    /// The memory that the operation names stays valid, and untouched as far as the kernel writes it, until
    /// its last completion, which is also the time until when the socket's entry stays.
    #[inline(always)]
    pub(super) unsafe fn submit(&mut self, io: &mut Io, kind: Kind, operation: squeue::Entry) {
        self.in_kernel += 1;
        let operation = self.target.apply(operation).user_data(self.key(kind).bits());
        // SAFETY: the caller keeps the memory that the operation names until its last completion.
        unsafe { io.ring.submit(&operation) };
    }

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&self, io: &mut Io, kind: Kind) {
        io.cancel(self.key(kind));
    }
}

/// A descriptor, or a number in the ring's own table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) number: RawFd,
    pub(super) fixed: bool,
}

impl Target {
    pub(super) fn descriptor(fd: RawFd) -> Target {
        Target { number: fd, fixed: false }
    }

    #[inline(always)]
    pub(super) fn fd(self) -> types::Fd {
        types::Fd(self.number)
    }

    /// Completes an operation that was built on [`fd`](Self::fd).
    #[inline(always)]
    pub(super) fn apply(self, entry: squeue::Entry) -> squeue::Entry {
        if self.fixed { entry.flags(squeue::Flags::FIXED_FILE) } else { entry }
    }
}

/// All sockets, by number.
#[derive(Default)]
pub(super) struct Sockets {
    entries: Slab<Entry>,
    generation: u32,
}

impl Sockets {
    pub(super) fn insert(&mut self, socket: Socket, role: Role) -> &mut Entry {
        self.generation = (self.generation + 1) & Key::STAMPS;
        let place = self.entries.vacant_entry();
        let head = Head {
            target: Target::descriptor(socket.as_raw_fd()),
            socket,
            index: place.key() as u32,
            generation: self.generation,
            in_kernel: 0,
            dirty: false,
            put_off: false,
            closing: false,
            lingers: false,
        };
        place.insert(Entry { head, role })
    }

    pub(super) fn remove(&mut self, index: u32) -> Entry {
        let entry = self.entries.remove(index as usize);
        debug_assert!(entry.head.in_kernel == 0 && !entry.head.dirty);
        entry
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = &Head> {
        self.entries.iter().map(|(_, entry)| &entry.head)
    }

    pub(super) fn indices(&self) -> Vec<u32> {
        self.entries.iter().map(|(index, _)| index as u32).collect()
    }

    /// An entry that exists.
    #[inline(always)]
    pub(super) fn at(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// The entry of an operation in the kernel, or of a promise.
    #[inline(always)]
    pub(super) fn of(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.index()).filter(|entry| entry.head.generation == key.stamp())
    }

    /// The entry of a connection's operation.
    #[inline(always)]
    pub(super) fn connection(&mut self, key: Key) -> Option<(&mut Head, &mut Connection)> {
        match self.of(key)? {
            Entry { head, role: Role::Stream(connection) } => Some((head, connection)),
            _ => None,
        }
    }

    /// A socket that the program names.
    ///
    /// # Errors
    /// EBADF if there is none.
    #[inline]
    pub(super) fn open(&mut self, index: u32) -> io::Result<&mut Entry> {
        match self.entries.get_mut(index as usize) {
            Some(entry) if !entry.head.closing => Ok(entry),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }
}

/// The error of operations on a socket that the program gives up.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the socket was closed")
}

/// The error of an operation that this kind of socket does not have.
pub(super) fn unsuited() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}
