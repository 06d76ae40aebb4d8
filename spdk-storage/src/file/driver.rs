//! Commands become operations of the ring.

use super::regions::Regions;
use super::ring::Ring;
use crate::Geometry;
use crate::queue::{Command, Driver, Finished, Piece, Submitted};
use demikernel_runtime::transport::{Interest, Turn};
use io_uring::{opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The most that one operation moves: the kernel cuts longer ones.
const MOST: usize = 0x7fff_f000;

/// When so many operations are waiting to be submitted they are, as the disk could be at work: what is handed to it in one
/// piece, many a disk gives back in one piece, and does nothing in between.
const EARLY: usize = 2;

/// The most pieces that one operation takes (IOV_MAX).
const PIECES: usize = 1024;

/// How long the end waits for operations at least, as nothing can be done instead.
const PATIENCE: Duration = Duration::from_secs(10);

/// The driver of a file or a block device of the kernel.
pub struct FileDriver {
    // The ring goes before what it was told of.
    ring: Ring,
    regions: Regions,
    file: File,
    geometry: Geometry,
    direct: bool,
    /// Whether the ring has the file as its first.
    held: bool,
    depth: usize,
    under_way: usize,
    /// By tag. Lists keep their memory.
    transfers: Vec<Transfer>,
    count: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    fixed: u64,
    again: u64,
}

/// What an operation has still to do.
#[derive(Default)]
struct Transfer {
    kind: Kind,
    at: u64,
    pieces: Vec<libc::iovec>,
    /// Pieces before this one are done.
    first: usize,
    /// The region of the only piece.
    region: Option<(u32, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Kind {
    Read,
    Write,
    /// As a write, and a flush of what it wrote.
    WriteDurable,
    /// With a length.
    Zero(u64),
    Discard(u64),
    #[default]
    Flush,
}

impl FileDriver {
    pub(super) fn new(
        file: File,
        geometry: Geometry,
        direct: bool,
        depth: u32,
        fixed: bool,
    ) -> io::Result<FileDriver> {
        let ring = Ring::new(depth.next_power_of_two())?;
        let regions = Regions::new(&ring, fixed);
        let held = ring.hold(file.as_raw_fd());
        let depth = depth as usize;
        let (transfers, count) = (Vec::new(), Count::default());
        Ok(FileDriver { ring, regions, file, geometry, direct, held, depth, under_way: 0, transfers, count })
    }

    /// The operation that does what is left of a transfer.
    fn entry(&mut self, tag: u32) -> squeue::Entry {
        let fd = types::Fd(if self.held { 0 } else { self.file.as_raw_fd() });
        let transfer = &self.transfers[tag as usize];
        let (kind, at, region) = (transfer.kind, transfer.at, transfer.region);
        let pieces = &transfer.pieces[transfer.first..];
        let sync = if kind == Kind::WriteDurable { libc::RWF_DSYNC } else { 0 };
        let entry = match (kind, pieces) {
            (Kind::Read | Kind::Write | Kind::WriteDurable, [piece]) => {
                let (address, length) = (piece.iov_base.cast::<u8>(), piece.iov_len.min(MOST) as u32);
                let number = self.regions.number(&self.ring, region);
                self.count.fixed += u64::from(number.is_some());
                match (kind, number) {
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
            (Kind::Zero(length), _) => opcode::Fallocate::new(fd, length)
                .offset(at)
                .mode(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE)
                .build(),
            (Kind::Discard(length), _) => opcode::Fallocate::new(fd, length)
                .offset(at)
                .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
                .build(),
        };
        let flags = if self.held { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() };
        entry.flags(flags).user_data(u64::from(tag))
    }

    /// # Safety
    /// As [`Driver::submit`], for the memory of the transfer.
    unsafe fn push(&mut self, tag: u32) {
        let entry = self.entry(tag);
        // SAFETY: the caller's; the list of pieces stays in the table, untouched, until the completion.
        while !unsafe { self.ring.push(&entry) } {
            // Operations that go on may find the queue full of those that were just submitted.
            self.ring.enter();
        }
    }

    /// What a completion means: `None` if the transfer goes on.
    fn completed(&mut self, tag: u32, result: i32) -> Option<io::Result<()>> {
        let transfer = &mut self.transfers[tag as usize];
        match result {
            ..0 if matches!(-result, libc::EINTR | libc::EAGAIN) => {}
            ..0 => return Some(Err(self.error(tag, -result))),
            _ if !matches!(transfer.kind, Kind::Read | Kind::Write | Kind::WriteDurable) => {
                return Some(Ok(()));
            }
            0 => {
                let kind = match transfer.kind {
                    Kind::Read => io::ErrorKind::UnexpectedEof,
                    _ => io::ErrorKind::WriteZero,
                };
                let text = format!("at {} there is nothing more: the file has been cut", transfer.at);
                return Some(Err(io::Error::new(kind, text)));
            }
            moved => {
                if transfer.advance(moved as usize) {
                    return Some(Ok(()));
                }
            }
        }
        self.count.again += 1;
        // SAFETY: the tag is not finished yet, so its memory is as it was.
        unsafe { self.push(tag) };
        None
    }

    fn error(&self, tag: u32, number: i32) -> io::Error {
        let kind = self.transfers[tag as usize].kind;
        match (number, kind) {
            (libc::EOPNOTSUPP, Kind::Zero(_) | Kind::Discard(_)) => {
                io::Error::new(io::ErrorKind::Unsupported, "the file system or device has no such thing")
            }
            _ => io::Error::from_raw_os_error(number),
        }
    }

    fn reap(&mut self, finished: &mut Finished) {
        while let Some((tag, result)) = self.ring.next() {
            let tag = tag as u32;
            if let Some(result) = self.completed(tag, result) {
                self.under_way -= 1;
                finished.push((tag, result));
            }
        }
    }
}

impl Transfer {
    fn set(&mut self, kind: Kind, at: u64, pieces: &[Piece]) {
        (self.kind, self.at, self.first) = (kind, at, 0);
        self.pieces.clear();
        let lists = pieces.iter().filter(|piece| piece.length > 0);
        self.pieces
            .extend(lists.map(|piece| libc::iovec { iov_base: piece.address.cast(), iov_len: piece.length }));
        self.region = match pieces {
            [piece] => piece.region,
            _ => None,
        };
    }

    /// So many bytes have been moved. Returns whether that was all.
    fn advance(&mut self, mut moved: usize) -> bool {
        self.at += moved as u64;
        while let Some(piece) = self.pieces.get_mut(self.first) {
            if moved < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(moved);
                piece.iov_len -= moved;
                return false;
            }
            moved -= piece.iov_len;
            self.first += 1;
        }
        true
    }
}

// SAFETY: a read is finished without an error when the kernel has told of all of its bytes, and a tag when the kernel has
// completed its operation, after which it uses the memory no more.
unsafe impl Driver for FileDriver {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        if self.under_way == self.depth {
            return Submitted::Full;
        }
        let index = tag as usize;
        if self.transfers.len() <= index {
            self.transfers.resize_with(index + 1, Transfer::default);
        }
        let (kind, at, pieces): (Kind, u64, &[Piece]) = match command {
            Command::Read(at, pieces) => (Kind::Read, at, pieces),
            Command::Write(at, pieces) => (Kind::Write, at, pieces),
            Command::WriteDurable(at, pieces) => (Kind::WriteDurable, at, pieces),
            Command::Flush => (Kind::Flush, 0, &[]),
            Command::Discard(at, length) => (Kind::Discard(length), at, &[]),
            Command::WriteZeroes(at, length) => (Kind::Zero(length), at, &[]),
        };
        self.transfers[index].set(kind, at, pieces);
        self.under_way += 1;
        // SAFETY: the caller's.
        unsafe { self.push(tag) };
        if self.ring.waiting() >= EARLY {
            self.ring.enter();
        }
        Submitted::Taken
    }

    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        self.reap(finished);
        if self.ring.wants_enter() {
            self.ring.enter();
            self.reap(finished);
        }
    }

    fn interest(&mut self) -> Interest {
        if self.ring.wants_enter() {
            self.ring.enter();
        }
        Interest::Descriptor(self.ring.as_raw_fd())
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        let end = Instant::now() + grace.max(PATIENCE);
        loop {
            self.reap(finished);
            let left = end.saturating_duration_since(Instant::now());
            if self.under_way == 0 || left.is_zero() {
                return;
            }
            self.ring.wait(left.min(Duration::from_millis(100)));
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("direct", u64::from(self.direct)),
            ("fixed", self.count.fixed),
            ("again", self.count.again),
            ("enters", self.ring.enters),
        ]
    }
}

impl std::fmt::Debug for FileDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileDriver")
            .field("file", &self.file)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}
