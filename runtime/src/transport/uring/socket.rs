//! The table of sockets.

use super::connection::Connection;
use super::datagram::Datagrams;
use super::key::{Key, Kind};
use super::listener::Listener;
use slab::Slab;
use socket2::Socket;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// What a socket is for; it may change until something is under way.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all sockets are streams, which are best without a detour"
)]
pub(super) enum Role {
    Stream(Connection),
    Listener(Listener),
    Datagram(Datagrams),
}

/// A socket.
pub(super) struct Entry {
    pub(super) socket: Socket,
    pub(super) role: Role,
    /// Its number in the ring's own table, if it is there.
    pub(super) fixed: Option<u32>,
    /// Tells the users of one number apart.
    pub(super) generation: u32,
    /// Operations in the kernel that will give another completion.
    pub(super) in_kernel: u32,
    /// It is in the list of those to look at before the kernel is entered.
    pub(super) dirty: bool,
    /// The program has given it up.
    pub(super) closing: bool,
    /// close(2) may take long.
    pub(super) lingers: bool,
}

impl Entry {
    /// How operations name it.
    #[inline(always)]
    pub(super) fn target(&self) -> Target {
        match self.fixed {
            Some(number) => Target { number: number as RawFd, fixed: true },
            None => Target { number: self.socket.as_raw_fd(), fixed: false },
        }
    }
}

/// A descriptor, or a number in the ring's own table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) number: RawFd,
    pub(super) fixed: bool,
}

impl Target {
    #[inline(always)]
    pub(super) fn fd(self) -> io_uring::types::Fd {
        io_uring::types::Fd(self.number)
    }

    /// Completes an operation that was built on [`fd`](Self::fd).
    #[inline(always)]
    pub(super) fn apply(self, entry: io_uring::squeue::Entry) -> io_uring::squeue::Entry {
        match self.fixed {
            true => entry.flags(io_uring::squeue::Flags::FIXED_FILE),
            false => entry,
        }
    }
}

/// All sockets, by number.
#[derive(Default)]
pub(super) struct Sockets {
    entries: Slab<Entry>,
    generation: u32,
    /// Those to look at before the kernel is entered.
    pub(super) dirty: Vec<u32>,
}

impl Sockets {
    pub(super) fn insert(&mut self, socket: Socket, role: Role) -> u32 {
        self.generation = (self.generation + 1) & Key::STAMPS;
        self.entries.insert(Entry {
            socket,
            role,
            fixed: None,
            generation: self.generation,
            in_kernel: 0,
            dirty: false,
            closing: false,
            lingers: false,
        }) as u32
    }

    pub(super) fn remove(&mut self, index: u32) -> Entry {
        let entry = self.entries.remove(index as usize);
        debug_assert!(entry.in_kernel == 0 && !entry.dirty);
        entry
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
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
        self.entries.get_mut(key.index()).filter(|entry| entry.generation == key.stamp())
    }

    /// A socket that the program names.
    ///
    /// # Errors
    /// EBADF if there is none.
    #[inline]
    pub(super) fn open(&mut self, index: u32) -> io::Result<&mut Entry> {
        match self.entries.get_mut(index as usize) {
            Some(entry) if !entry.closing => Ok(entry),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Has the socket looked at before the kernel is entered.
    #[inline]
    pub(super) fn mark(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(index);
        }
    }
}

/// The key of a socket's operation.
#[inline(always)]
pub(super) fn key(kind: Kind, entry: &Entry, index: u32) -> Key {
    Key::new(kind, entry.generation, index)
}

/// The error of operations on a socket that the program gives up.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the socket was closed")
}

/// The error of an operation that this kind of socket does not have.
pub(super) fn unsuited() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}
