//! What an operation has still to do.

use super::rings::Lane;
use crate::queue::{Command, Piece};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kind {
    Read,
    Write,
    /// As a write, and a flush of what it wrote.
    WriteDurable,
    Zero,
    Discard,
    #[default]
    Flush,
}

#[derive(Default)]
pub(super) struct Transfer {
    pub(super) kind: Kind,
    /// The range that is left, in bytes.
    pub(super) at: u64,
    pub(super) left: u64,
    /// How much of it the kernel has been told of.
    pub(super) issued: u64,
    /// The region of the only piece.
    pub(super) region: Option<(u32, usize)>,
    /// Whether the kernel has been told of the region.
    pub(super) named: bool,
    /// It cannot be polled.
    pub(super) unpolled: bool,
    pieces: Vec<libc::iovec>,
    /// Pieces before this one are done.
    first: usize,
    /// What the kernel reads while the operation is under way, so that it stays in its place when the table grows.
    pub(super) list: Vec<libc::iovec>,
    pub(super) range: Option<Box<[u64; 2]>>,
}

impl Transfer {
    /// Begins another one. Lists keep their memory.
    pub(super) fn set(&mut self, command: Command<'_>) {
        let (kind, at, length, pieces): (Kind, u64, u64, &[Piece]) = match command {
            Command::Read(at, pieces) => (Kind::Read, at, 0, pieces),
            Command::Write(at, pieces) => (Kind::Write, at, 0, pieces),
            Command::WriteDurable(at, pieces) => (Kind::WriteDurable, at, 0, pieces),
            Command::Flush => (Kind::Flush, 0, 0, &[]),
            Command::Discard(at, length) => (Kind::Discard, at, length, &[]),
            Command::WriteZeroes(at, length) => (Kind::Zero, at, length, &[]),
        };
        (self.kind, self.at, self.first) = (kind, at, 0);
        self.left = length + pieces.iter().map(|piece| piece.length as u64).sum::<u64>();
        self.pieces.clear();
        let lists = pieces.iter().filter(|piece| piece.length > 0);
        self.pieces
            .extend(lists.map(|piece| libc::iovec { iov_base: piece.address.cast(), iov_len: piece.length }));
        self.region = match pieces {
            [piece] => piece.region,
            _ => None,
        };
    }

    /// Whether it moves data between memory and the device.
    pub(super) fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Write | Kind::WriteDurable)
    }

    /// Whether there is nothing to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0 && self.kind != Kind::Flush
    }

    pub(super) fn lane(&self) -> Lane {
        if self.is_data() && !self.unpolled { Lane::Data } else { Lane::Control }
    }

    /// The memory that is left.
    pub(super) fn pieces(&self) -> &[libc::iovec] {
        &self.pieces[self.first..]
    }

    /// So many bytes are done. Returns whether that was all.
    pub(super) fn advance(&mut self, moved: u64) -> bool {
        self.at += moved;
        self.left = self.left.saturating_sub(moved);
        let mut moved = moved as usize;
        while let Some(piece) = self.pieces.get_mut(self.first) {
            if moved < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(moved);
                piece.iov_len -= moved;
                break;
            }
            moved -= piece.iov_len;
            self.first += 1;
        }
        self.left == 0
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            Kind::Flush => return f.write_str("a flush"),
            Kind::Read => "a read",
            Kind::Write | Kind::WriteDurable => "a write",
            Kind::Zero => "a write of zeros",
            Kind::Discard => "a discard",
        };
        write!(f, "{verb} of {} bytes at {}", self.issued, self.at)
    }
}
