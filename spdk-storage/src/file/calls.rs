//! The operations of files and block devices: as system calls have them.

use super::dialect::{Dialect, Handle, Outcome};
use super::transfer::{Kind, Transfer};
use io_uring::{cqueue, opcode, squeue, types};
use std::io;

/// The most that one operation moves: the kernel cuts longer ones.
const MOST: usize = 0x7fff_f000;

/// The most pieces that one operation takes (IOV_MAX).
const PIECES: usize = 1024;

/// A file or a block device.
pub(super) struct Calls {
    /// What of it can be polled.
    pub(super) polled: Option<Polled>,
}

/// What the kernel does in one piece: on Linux 6.1 the end of a polled operation that it has divided is never heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Polled {
    /// Bytes.
    pub(super) most: u64,
    /// The distance of boundaries in bytes, if there are any, and how far behind one the device begins.
    pub(super) boundary: Option<u64>,
    pub(super) begin: u64,
    /// Writes that are durable by themselves are a write, and no flush behind it.
    pub(super) durable: bool,
}

impl Polled {
    fn has(&self, transfer: &Transfer) -> bool {
        let Polled { most, boundary, begin, durable } = *self;
        let (first, last) = (begin + transfer.at, begin + transfer.at + transfer.left.max(1) - 1);
        // A piece may end where the next one cannot go on.
        transfer.pieces().len() == 1
            && transfer.left <= most
            && boundary.is_none_or(|boundary| first / boundary == last / boundary)
            && (durable || transfer.kind != Kind::WriteDurable)
    }
}

impl Dialect for Calls {
    type Entry = squeue::Entry;
    type Completed = cqueue::Entry;

    const NAME: &'static str = "io_uring";

    #[inline]
    fn can_poll(&self, transfer: &Transfer) -> bool {
        self.polled.is_some_and(|polled| polled.has(transfer))
    }

    #[inline]
    fn entry(&self, transfer: &mut Transfer, handle: Handle, region: Option<u16>) -> squeue::Entry {
        let Handle { file: fd, flags } = handle;
        let (kind, at, left) = (transfer.kind, transfer.at, transfer.left);
        transfer.issued = left;
        let sync = if kind == Kind::WriteDurable { libc::RWF_DSYNC } else { 0 };
        let entry = match (kind, transfer.pieces()) {
            (Kind::Read | Kind::Write | Kind::WriteDurable, [piece]) => {
                let (address, length) = (piece.iov_base.cast::<u8>(), piece.iov_len.min(MOST) as u32);
                match (kind, region) {
                    (Kind::Read, Some(number)) => {
                        opcode::ReadFixed::new(fd, address, length, number).offset(at).build()
                    }
                    (Kind::Read, None) => opcode::Read::new(fd, address, length).offset(at).build(),
                    (_, Some(number)) => {
                        opcode::WriteFixed::new(fd, address, length, number).offset(at).rw_flags(sync).build()
                    }
                    (_, None) => opcode::Write::new(fd, address, length).offset(at).rw_flags(sync).build(),
                }
            }
            (Kind::Read, pieces) => {
                opcode::Readv::new(fd, pieces.as_ptr(), pieces.len().min(PIECES) as u32).offset(at).build()
            }
            (Kind::Write | Kind::WriteDurable, pieces) => {
                let writev = opcode::Writev::new(fd, pieces.as_ptr(), pieces.len().min(PIECES) as u32);
                writev.offset(at).rw_flags(sync).build()
            }
            (Kind::Flush, _) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            (Kind::Zero, _) => opcode::Fallocate::new(fd, left)
                .offset(at)
                .mode(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE)
                .build(),
            (Kind::Discard, _) => opcode::Fallocate::new(fd, left)
                .offset(at)
                .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
                .build(),
        };
        entry.flags(flags)
    }

    #[inline]
    fn outcome(&self, transfer: &Transfer, result: i32) -> Outcome {
        match (result, transfer.kind) {
            (..0, kind) => failure(kind, -result),
            (_, Kind::Zero | Kind::Discard | Kind::Flush) => Outcome::Done(transfer.left),
            (0, kind) => {
                let kind = match kind {
                    Kind::Read => io::ErrorKind::UnexpectedEof,
                    _ => io::ErrorKind::WriteZero,
                };
                let text = format!(
                    "at {} there is nothing more: the file has been cut, or the device is gone",
                    transfer.at
                );
                Outcome::Failed(io::Error::new(kind, text))
            }
            (moved, _) => Outcome::Done(moved as u64),
        }
    }
}

#[cold]
fn failure(kind: Kind, number: i32) -> Outcome {
    match (number, kind) {
        (libc::EINTR | libc::EAGAIN, _) => Outcome::Again,
        (libc::EOPNOTSUPP, Kind::Zero | Kind::Discard) => {
            let text = "the file system or device has no such thing";
            Outcome::Failed(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        (libc::EOPNOTSUPP, _) => Outcome::Unpolled(io::Error::from_raw_os_error(number)),
        _ => Outcome::Failed(io::Error::from_raw_os_error(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Command, Piece};

    #[test]
    fn what_the_kernel_divides_is_not_polled() {
        let polled = Polled { most: 8192, boundary: Some(65536), begin: 4096, durable: false };
        let piece = |length| Piece { address: std::ptr::null_mut(), length, region: None };
        let has = |command: Command<'_>| {
            let mut transfer = Transfer::default();
            transfer.set(command);
            polled.has(&transfer)
        };
        assert!(has(Command::Read(0, &[piece(8192)])) && has(Command::Write(61440, &[piece(8192)])));
        assert!(!has(Command::Read(0, &[piece(8704)])));
        assert!(!has(Command::Read(0, &[piece(512), piece(512)])));
        assert!(has(Command::Read(57344, &[piece(4096)])) && !has(Command::Read(57344, &[piece(8192)])));
        assert!(!has(Command::WriteDurable(0, &[piece(512)])));
    }
}
