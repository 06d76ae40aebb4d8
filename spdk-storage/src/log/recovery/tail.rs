//! Where the segment that was written last ends.
//!
//! Writes that were not flushed may be there in part, so the log ends where the first record is not intact, unless
//! something proves that it had been durable: the superblock, or a record that was written later. Each record tells up to
//! where its segment was durable when it was written. Then what is not intact is a hole, and the log goes on behind it.

use crate::log::format::{Entry, LIMIT, RecordHeader, Superblock, find_record};
use crate::log::segment::Segment;

/// What was found in a segment.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The offset behind the last record.
    pub(super) end: usize,
    /// The number of the next record.
    pub(super) number: u64,
    pub(super) holes: Vec<Hole>,
    /// The offset behind the last thing that looks like a record and is behind the end; 0 if there is none.
    pub(super) leftover: usize,
}

/// Records that were durable and are not intact.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) at: usize,
    pub(super) first: u64,
    pub(super) next: u64,
}

impl Tail {
    /// Looks through a segment that has been read wholly.
    pub(super) fn scan(bytes: &[u8], segment: &Segment, entry: &Entry, superblock: &Superblock) -> Tail {
        let (seed, header) = (segment.seed, &segment.header);
        let proven = match entry.proven.index == header.index {
            true => (entry.proven.offset as usize).min(bytes.len()),
            false => 0,
        };
        let begin = superblock.block as usize;
        let mut tail = Tail { end: begin, number: header.first, ..Tail::default() };
        let mut epoch = header.epoch;
        loop {
            let rest = &bytes[tail.end..];
            let next = RecordHeader::read(rest, seed)
                .filter(|next| next.number == tail.number && next.epoch >= epoch && next.verify(rest, seed));
            if let Some(next) = next {
                tail.end += next.extent();
                tail.number += 1;
                epoch = next.epoch;
                continue;
            }
            if !is_durable(bytes, &tail, seed, epoch, proven) {
                tail.leftover = leftover(bytes, tail.end, seed, header.epoch);
                return tail;
            }
            // The next one that is intact; if there is none, what the superblock proves to be the end.
            let found = find_record(bytes, tail.end + 8, seed, tail.number + 1..LIMIT, epoch);
            let (at, next) = match found {
                Some((at, next)) if proven <= tail.end || at < proven => (at, next.number),
                _ => (proven, entry.proven.number.max(tail.number + 1)),
            };
            tail.holes.push(Hole { at: tail.end, first: tail.number, next });
            (tail.end, tail.number) = (at, next);
        }
    }
}

/// Whether what is at the end had been durable.
fn is_durable(bytes: &[u8], tail: &Tail, seed: u32, epoch: u32, proven: usize) -> bool {
    if tail.end < proven {
        return true;
    }
    let mut from = tail.end + 8;
    while let Some((at, header)) = find_record(bytes, from, seed, tail.number + 1..LIMIT, epoch) {
        if header.durable as usize > tail.end {
            return true;
        }
        from = at + header.extent();
    }
    false
}

/// The offset behind the last record at or behind `from`, of whatever number.
fn leftover(bytes: &[u8], mut from: usize, seed: u32, epoch: u32) -> usize {
    let mut end = 0;
    while let Some((at, header)) = find_record(bytes, from, seed, 0..LIMIT, epoch) {
        from = at + header.extent();
        end = from;
    }
    end
}
