//! From an operation to commands.
//!
//! An operation is one command if it can be. One that is longer than a command may be, or whose memory one command cannot
//! describe, is divided. If there is no room for all of its commands, it goes on when others have ended, and operations
//! behind it wait: they are issued in the order in which they came.

use super::super::command::{self, Blocks, Opcode, Submission};
use super::super::data::{List, Segment};
use super::table::Operation;
use super::{Lists, NvmeDriver};
use crate::queue::{Command, Piece};
use std::fmt;
use std::io;

/// Blocks of Dataset Management or Write Zeroes in one command.
const MOST_DEALLOCATED: u64 = 1 << 31;
const MOST_ZEROED: u64 = 1 << 16;

/// What an operation is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct What {
    opcode: Opcode,
    at: u64,
    length: u64,
    durable: bool,
}

/// What is left of an operation that is being issued.
#[derive(Debug, Default)]
pub(super) struct Partial {
    operation: Option<u16>,
    /// The rest of the range, in blocks.
    next: u64,
    left: u64,
    /// The memory of all of it, and how much of that has been issued.
    segments: Vec<Segment>,
    done: usize,
}

impl What {
    pub(super) fn of(command: &Command<'_>) -> What {
        let total = |pieces: &[Piece]| pieces.iter().map(|piece| piece.length as u64).sum();
        let (opcode, at, length) = match *command {
            Command::Read(at, pieces) => (Opcode::Read, at, total(pieces)),
            Command::Write(at, pieces) | Command::WriteDurable(at, pieces) => {
                (Opcode::Write, at, total(pieces))
            }
            Command::Flush => (Opcode::Flush, 0, 0),
            Command::Discard(at, length) => (Opcode::DatasetManagement, at, length),
            Command::WriteZeroes(at, length) => (Opcode::WriteZeroes, at, length),
        };
        What { opcode, at, length, durable: matches!(command, Command::WriteDurable(..)) }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.opcode {
            Opcode::Flush => return f.write_str("a flush"),
            Opcode::Read => "a read",
            Opcode::Write => "a write",
            Opcode::WriteZeroes => "a write of zeros",
            Opcode::DatasetManagement => "a discard",
        };
        write!(f, "{verb} of {} bytes at {}", self.length, self.at)
    }
}

impl Partial {
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.operation.is_some()
    }

    #[inline]
    pub(super) fn is_of(&self, index: u16) -> bool {
        self.operation == Some(index)
    }

    /// The rest of this operation is not issued.
    pub(super) fn give_up(&mut self, index: u16) {
        if self.is_of(index) {
            self.operation = None;
        }
    }

    pub(super) fn clear(&mut self) {
        self.operation = None;
    }
}

impl NvmeDriver {
    /// Looks up where the device has this memory. False if it does not reach all of it.
    fn translate(&mut self, pieces: &[Piece]) -> bool {
        self.partial.segments.clear();
        for piece in pieces {
            let Some(address) = self.reach.address(piece) else { return false };
            self.partial.push(address, piece.length);
        }
        true
    }

    /// Whether what is to be written wholly or not at all is one command.
    #[cold]
    pub(super) fn keeps_atomic(&self, pieces: &[Piece]) -> bool {
        let total: usize = pieces.iter().map(|piece| piece.length).sum();
        if total > self.geometry.atomic_write as usize || total <= self.geometry.logical_block as usize {
            return true;
        }
        let mut joined = Partial::default();
        for piece in pieces {
            joined.push(self.reach.address(piece).unwrap_or_default(), piece.length);
        }
        self.format.fitting(&joined.segments, self.lists.entries) == joined.segments.len()
    }

    /// Issues an operation that is one command, as most are. There is room for it.
    #[inline]
    pub(super) fn start_one(&mut self, tag: u32, opcode: Opcode, at: u64, segment: Segment) {
        let length = u64::from(segment.length);
        let index = self.table.add(Operation::new(tag, What { opcode, at, length, durable: false }));
        let Some(id) = self.table.begin_command(index, self.clock.period()) else { return };
        let data = self.format.of_pages(segment).unwrap_or_else(|| {
            self.count.lists += 1;
            self.format.describe(&[segment], self.lists.of(id))
        });
        let shift = self.namespace.shift;
        let blocks = Blocks { first: at >> shift, count: segment.length >> shift };
        self.pair.push(Submission::transfer(opcode, id, self.namespace.number, blocks, data));
        self.count.commands += 1;
    }

    /// Begins an operation of any kind.
    #[inline(never)]
    pub(super) fn start_any(&mut self, tag: u32, command: Command<'_>) {
        if let Command::Read(_, pieces) | Command::Write(_, pieces) | Command::WriteDurable(_, pieces) =
            command
            && !self.translate(pieces)
        {
            self.early.push((tag, Err(self.reach.failure())));
            return;
        }
        self.start(Operation::new(tag, What::of(&command)));
    }

    /// Begins an operation, whose memory has been translated.
    fn start(&mut self, operation: Operation) {
        let What { opcode, at, length, .. } = operation.what;
        let is_possible = match opcode {
            Opcode::DatasetManagement => self.namespace.dataset_management,
            Opcode::WriteZeroes => self.namespace.write_zeroes,
            _ => true,
        };
        let index = self.table.add(operation);
        if !is_possible {
            let text = format!("the NVMe controller cannot do this: {}", self.table.operation(index).what);
            self.table.fail(index, io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if !is_possible || length == 0 && opcode != Opcode::Flush {
            let ended = self.table.finish(index);
            self.early.push(ended);
            return;
        }
        self.partial.operation = Some(index);
        self.partial.next = at >> self.namespace.shift;
        self.partial.left = length >> self.namespace.shift;
        self.partial.done = 0;
        self.issue();
        self.count.divided += u64::from(self.table.operation(index).under_way > 1 || self.partial.is_any());
    }

    /// Issues as many commands of the operation at hand as there is room for. A doorbell is yet to be rung.
    pub(super) fn issue(&mut self) {
        while let Some(index) = self.partial.operation
            && self.pair.has_room()
            && let Some(id) = self.table.begin_command(index, self.clock.period())
        {
            let command = self.next_command(id, index);
            self.pair.push(command);
            self.count.commands += 1;
            if self.partial.left == 0 {
                self.partial.operation = None;
            }
        }
    }

    fn next_command(&mut self, id: u16, index: u16) -> Submission {
        let namespace = self.namespace.number;
        let What { opcode, durable, .. } = self.table.operation(index).what;
        match opcode {
            Opcode::Flush => Submission::flush(id, namespace),
            Opcode::WriteZeroes => {
                let blocks = self.partial.take_blocks(MOST_ZEROED);
                Submission::write_zeroes(id, namespace, blocks, self.namespace.deallocates_to_zeros)
            }
            Opcode::DatasetManagement => {
                let blocks = self.partial.take_blocks(MOST_DEALLOCATED);
                let list = self.lists.of(id);
                list.entries[..2].copy_from_slice(&command::range(&blocks));
                Submission::deallocate(id, namespace, list.address)
            }
            opcode => self.next_transfer(opcode, id).durable_if(durable),
        }
    }

    fn next_transfer(&mut self, opcode: Opcode, id: u16) -> Submission {
        let list = self.lists.of(id);
        let rest = &mut self.partial.segments[self.partial.done..];
        let mut count = self.format.fitting(rest, list.entries.len());
        // As many segments as are not too much, and of the next one what still fits.
        let mut room = self.namespace.largest;
        let mut cut = None;
        for (place, segment) in rest[..count].iter().enumerate() {
            if segment.length > room {
                cut = Some((place, room));
                break;
            }
            room -= segment.length;
        }
        let behind = cut.map(|(place, length)| {
            let segment = &mut rest[place];
            let behind =
                Segment { address: segment.address + u64::from(length), length: segment.length - length };
            segment.length = length;
            count = place + usize::from(length > 0);
            (place, behind)
        });
        let total: u32 = rest[..count].iter().map(|segment| segment.length).sum();
        let list_address = list.address;
        let data = self.format.describe(&rest[..count], list);
        self.partial.done += count;
        if let Some((place, behind)) = behind {
            let place = self.partial.done - count + place;
            self.partial.segments[place] = behind;
            self.partial.done = place;
        }
        self.count.lists += u64::from(data.refers_to(list_address));
        let blocks = self.partial.take_blocks(u64::from(total >> self.namespace.shift));
        Submission::transfer(opcode, id, self.namespace.number, blocks, data)
    }
}

impl Partial {
    /// Adds memory, which lies where it lies in one region: longer than 32 bits can say, it is several segments.
    fn push(&mut self, mut address: u64, mut length: usize) {
        const MOST: usize = 1 << 30;
        while length > 0 {
            let now = length.min(MOST);
            self.segments.push(Segment { address, length: now as u32 });
            address += now as u64;
            length -= now;
        }
    }

    /// Takes blocks from the front of the range.
    fn take_blocks(&mut self, most: u64) -> Blocks {
        let count = self.left.min(most);
        let first = self.next;
        self.next += count;
        self.left -= count;
        Blocks { first, count: count as u32 }
    }
}

impl Lists {
    /// That of a command which the device does not have now.
    #[inline]
    fn of(&mut self, id: u16) -> List<'_> {
        let offset = usize::from(id) * self.entries * 8;
        assert!(offset + self.entries * 8 <= self.memory.len());
        // SAFETY: within the memory, as asserted, and aligned as the memory is to a page. It is borrowed from this once;
        // the device reads it only for the command of this number, which the caller is about to issue.
        let entries = unsafe {
            let first = self.memory.pointer().add(offset).cast::<u64>();
            std::slice::from_raw_parts_mut(first.as_ptr(), self.entries)
        };
        List { entries, address: self.memory.iova() + offset as u64 }
    }
}
