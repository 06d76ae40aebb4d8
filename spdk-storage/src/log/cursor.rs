//! Reading a log from some place on, without I/O of its own: it says what it wants to have read.
//!
//! Records are slices of what was read. Only those are given whose checksum is right; where one is not, the hole is told
//! once, and reading goes on behind it.

use super::engine::Engine;
use super::error::{Damage, LogError};
use super::format::{LIMIT, RECORD_HEADER, RecordHeader, SegmentHeader, find_record};
use super::recovery::Range;
use super::segment::{self, Segment};
use demikernel_runtime::buffer::Buffer;
use std::collections::VecDeque;

/// How much is read at least, where there is so much, and what the ends of reads are multiples of.
const CHUNK: usize = 64 << 10;

/// What they are multiples of where reading goes on.
const LARGE_CHUNK: usize = 256 << 10;

/// A record of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which of the log's records it is.
    pub number: u64,
    /// Where it begins, for [`seek`](super::Log::seek).
    pub position: u64,
    /// Its bytes: a part of what was read from the device.
    pub data: Buffer,
}

/// What comes next of a log.
#[derive(Debug)]
pub(crate) enum Next {
    Record(Record),
    /// This is to be read and [supplied](Cursor::supply).
    Read(Range),
    /// Everything has been read.
    End,
    Failed(LogError),
}

/// A place in a log.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    log: usize,
    /// The next record that is wanted.
    number: u64,
    /// Where the walk through a segment is.
    place: Option<Place>,
    /// The segment of the place, as it was when it was looked up.
    run: Option<Run>,
    /// The last one, and the one before it.
    reads: VecDeque<Read>,
}

/// Records of a segment that can be read, now and later: only truncation takes them.
#[derive(Clone, Copy, Debug)]
struct Run {
    segment: Segment,
    /// The number that they end at.
    end: u64,
    /// Up to where the segment had been written.
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: u64,
    serial: u64,
    offset: usize,
    /// The number of the record there; `None` if nobody knows.
    number: Option<u64>,
    /// Records of earlier epochs do not follow.
    epoch: u32,
}

/// What was read of a segment, or is to be.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    index: u64,
    serial: u64,
    pub(crate) range: Range,
    start: usize,
    /// Up to where the segment had been written when the read began: behind it, what was read is out of date.
    limit: usize,
    data: Buffer,
}

impl Read {
    /// Where it ends in its segment.
    fn end(&self) -> usize {
        self.start + self.range.length
    }

    /// Whether it reads the same, which nothing has changed or will.
    pub(crate) fn is_same(&self, other: &Read) -> bool {
        (self.serial, self.range) == (other.serial, other.range)
    }

    /// What there is of so many bytes from an offset on.
    fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        let from = offset.checked_sub(self.start)?;
        self.data.get(from..from + length).filter(|_| offset + length <= self.limit)
    }
}

impl Cursor {
    /// At the first record of a log.
    pub(crate) fn new(log: usize) -> Cursor {
        Cursor { log, number: 0, place: None, run: None, reads: VecDeque::new() }
    }

    /// Goes to a record.
    pub(crate) fn seek_number(&mut self, number: u64) {
        self.number = number;
        self.place = None;
    }

    /// Goes to the record that begins at a position.
    pub(crate) fn seek_position<T>(&mut self, position: u64, engine: &Engine<T>) -> Result<(), LogError> {
        let size = u64::from(engine.superblock.segment_size);
        let (index, offset) = (position / size, (position % size) as usize);
        let segments = &engine.logs[self.log].segments;
        let begins = offset >= engine.superblock.block as usize && offset.is_multiple_of(8);
        match segment::by_index(segments, index) {
            Ok(place) if begins => {
                let header = &segments[place].header;
                self.place =
                    Some(Place { index, serial: header.serial, offset, number: None, epoch: header.epoch });
                self.number = 0;
                Ok(())
            }
            _ => Err(LogError::NoRecord { position }),
        }
    }

    /// The number of the record that comes next, if that is known.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What was asked for has been read.
    pub(crate) fn supply(&mut self, range: Range, data: Buffer) {
        // Whoever has moved the cursor meanwhile needs something else.
        if let Some(read) = self.reads.back_mut().filter(|read| read.range == range) {
            read.data = data;
        }
    }

    /// What was asked for last.
    pub(crate) fn wanted(&self) -> Option<&Read> {
        self.reads.back()
    }

    /// Whether what was asked for last goes on where the one before has ended.
    pub(crate) fn is_sequential(&self) -> bool {
        match (self.reads.front(), self.reads.back()) {
            (Some(before), Some(last)) if before.index == last.index => before.end() == last.start,
            (Some(before), Some(last)) => before.index + 1 == last.index,
            _ => false,
        }
    }

    /// What is asked for after that if the reader goes on, as far as it will stay as it is.
    pub(crate) fn following<T>(&self, read: &Read, engine: &Engine<T>) -> Option<Read> {
        let block = engine.superblock.block as usize;
        let segments = &engine.logs[self.log].segments;
        let mut at = segment::by_index(segments, read.index).ok()?;
        let mut start = read.end();
        if start >= engine.superblock.segment_size as usize {
            (at, start) = (at + 1, block);
        }
        let segment = segments.get(at)?;
        let next = self.read_from(engine, segment, start, LARGE_CHUNK);
        (next.end() <= next.limit).then_some(next)
    }

    /// The next record, or what is needed for it.
    pub(crate) fn next<T>(&mut self, engine: &Engine<T>) -> Next {
        let log = &engine.logs[self.log];
        if log.is_removed() {
            return Next::Failed(LogError::NoLog { name: log.name.clone() });
        }
        loop {
            let known = self.place.as_ref().is_none_or(|place| place.number.is_some());
            if known && self.number < log.head {
                self.seek_number(log.head);
            }
            let Some(run) = self.known_run().or_else(|| self.run(engine)) else {
                if known && self.number >= log.readable {
                    return Next::End;
                }
                match self.enter(engine) {
                    Ok(()) => continue,
                    Err(next) => return next,
                }
            };
            if known && self.number >= run.end && self.number >= log.readable {
                return Next::End;
            }
            if self.place.as_ref().is_some_and(|place| place.number == Some(run.end)) {
                self.place = None;
                self.number = self.number.max(run.end);
                continue;
            }
            if let Some(next) = self.walk(engine, &run) {
                return next;
            }
        }
    }

    /// The run that the place is in, if it has been looked up and goes on.
    #[inline]
    fn known_run(&self) -> Option<Run> {
        let (run, place) = (self.run.as_ref()?, self.place.as_ref()?);
        let goes_on = place.number.is_some_and(|number| number < run.end);
        (goes_on && place.serial == run.segment.header.serial).then_some(*run)
    }

    /// Looks up the segment of the place; `None` if the log has it no more.
    fn run<T>(&mut self, engine: &Engine<T>) -> Option<Run> {
        let (log, place) = (&engine.logs[self.log], self.place.as_ref()?);
        let at = segment::by_index(&log.segments, place.index).ok()?;
        let segment = log.segments[at];
        let end = log.segments.get(at + 1).map_or(log.readable, |next| next.header.first.min(log.readable));
        self.run = (segment.header.serial == place.serial).then(|| Run {
            segment,
            end,
            limit: self.limit(engine, &segment),
        });
        self.run
    }

    /// Goes to the beginning of the segment that the wanted record is in.
    fn enter<T>(&mut self, engine: &Engine<T>) -> Result<(), Next> {
        let log = &engine.logs[self.log];
        if self.place.take().is_some_and(|place| place.number.is_none()) {
            let position = log.head;
            return Err(Next::Failed(LogError::NoRecord { position }));
        }
        let at = segment::by_number(&log.segments, self.number);
        // Where a segment is missing at the end, its records begin where nobody knows: behind the last one at most.
        let Some(segment) = at.map(|at| log.segments[at]) else {
            let next = log.segments.front().map_or(log.readable, |segment| segment.header.first);
            let place = engine.superblock.place(0);
            return Err(self.skip(engine, next, place));
        };
        self.place = Some(Place {
            index: segment.header.index,
            serial: segment.header.serial,
            offset: engine.superblock.block as usize,
            number: Some(segment.header.first),
            epoch: segment.header.epoch,
        });
        Ok(())
    }

    /// Tells of a hole from the wanted record up to `next`.
    fn skip<T>(&mut self, engine: &Engine<T>, next: u64, place: u64) -> Next {
        let log = engine.logs[self.log].name.clone();
        let damage = Damage { log, first: self.number, next, place };
        self.number = next;
        Next::Failed(LogError::Damaged(damage))
    }

    /// One step through a segment: a record, or something that ends the walk.
    fn walk<T>(&mut self, engine: &Engine<T>, run: &Run) -> Option<Next> {
        let Run { segment, end, limit } = run;
        let (place, end) = (self.place?, *end);
        let size = engine.superblock.segment_size as usize;
        if place.offset + RECORD_HEADER > *limit {
            return self.hole(engine, segment, end);
        }
        let Some(bytes) = self.view(place.offset, RECORD_HEADER, segment) else {
            return Some(self.want(engine, segment, place.offset, RECORD_HEADER));
        };
        // The checksum of the whole record covers the header, too.
        let header = RecordHeader::unverified(bytes.as_slice());
        let expected = place.number.map_or(segment.header.first..end, |number| number..number + 1);
        let plausible = header.filter(|header| {
            expected.contains(&header.number)
                && header.epoch >= place.epoch
                && header.length as usize <= limit - place.offset - RECORD_HEADER
        });
        let Some(header) = plausible else { return self.hole(engine, segment, end) };
        let length = RECORD_HEADER + header.length as usize;
        let Some(bytes) = self.view(place.offset, length, segment) else {
            return Some(self.want(engine, segment, place.offset, length));
        };
        if !header.verify(bytes.as_slice(), segment.seed) {
            return self.hole(engine, segment, end);
        }
        let data = bytes.slice(RECORD_HEADER);
        if place.number.is_none() {
            self.number = header.number;
        }
        self.place = Some(Place {
            offset: place.offset + header.extent(),
            number: Some(header.number + 1),
            epoch: header.epoch,
            ..place
        });
        if header.number < self.number {
            return None;
        }
        self.number = header.number + 1;
        let position = place.index * size as u64 + place.offset as u64;
        Some(Next::Record(Record { number: header.number, position, data }))
    }

    /// What is at the place is not the record that should be there.
    fn hole<T>(&mut self, engine: &Engine<T>, segment: &Segment, end: u64) -> Option<Next> {
        let place = self.place?;
        let size = engine.superblock.segment_size as usize;
        let device = engine.superblock.place(segment.number);
        let Some(number) = place.number else {
            self.place = None;
            let position = place.index * size as u64 + place.offset as u64;
            return Some(Next::Failed(LogError::NoRecord { position }));
        };
        let limit = self.limit(engine, segment);
        let rest = limit.saturating_sub(place.offset);
        let Some(bytes) = self.view(place.offset, rest, segment) else {
            return Some(self.want(engine, segment, place.offset, rest));
        };
        let found = find_record(bytes.as_slice(), 0, segment.seed, number + 1..end.min(LIMIT), place.epoch);
        drop(bytes);
        let next = match found {
            Some((at, header)) => {
                let offset = place.offset + at;
                self.place = Some(Place { offset, number: Some(header.number), ..place });
                header.number
            }
            None => {
                self.place = None;
                end
            }
        };
        // Nobody asked for those that were only on the way.
        match next <= self.number {
            true => None,
            false => Some(self.skip(engine, next, device + place.offset as u64)),
        }
    }

    /// What was read of a segment, if that is enough.
    #[inline]
    fn view(&self, offset: usize, length: usize, segment: &Segment) -> Option<View<'_>> {
        let last = self.reads.back().filter(|read| read.serial == segment.header.serial)?;
        match last.bytes(offset, length) {
            Some(bytes) => Some(View::Part { read: last, from: offset - last.start, bytes }),
            None => self.view_before(last, offset, length),
        }
    }

    /// What the read before the last one has, or both together.
    #[cold]
    fn view_before(&self, last: &Read, offset: usize, length: usize) -> Option<View<'_>> {
        let before = self.reads.front().filter(|read| read.serial == last.serial)?;
        if let Some(bytes) = before.bytes(offset, length) {
            return Some(View::Part { read: before, from: offset - before.start, bytes });
        }
        let split = last.start.checked_sub(offset).filter(|split| *split < length)?;
        if before.end() != last.start {
            return None;
        }
        let (first, rest) = (before.bytes(offset, split)?, last.bytes(last.start, length - split)?);
        Some(View::Joined([first, rest].concat()))
    }

    /// Asks for a range of a segment, and some more.
    fn want<T>(&mut self, engine: &Engine<T>, segment: &Segment, offset: usize, length: usize) -> Next {
        let block = engine.superblock.block as usize;
        let start = offset - offset % block;
        let goes_on = self.reads.back().is_some_and(|last| {
            let behind = last.index + 1 == segment.header.index && start == block;
            if behind { last.end() >= engine.superblock.segment_size as usize } else { last.end() == start }
        });
        let last = self.reads.back().filter(|read| read.serial == segment.header.serial);
        // What is missing is behind what was read last, of which the beginning is.
        let follows =
            last.filter(|last| last.bytes(offset, last.end().saturating_sub(offset).max(1)).is_some());
        let mut read = match follows {
            // Two reads have all of a record that is not longer than one of them has at least.
            Some(last) if length <= CHUNK => self.read_from(engine, segment, last.end(), LARGE_CHUNK),
            _ => self.read_from(engine, segment, start, if goes_on { LARGE_CHUNK } else { CHUNK }),
        };
        if length > CHUNK {
            read.range.length = read.range.length.max((offset + length).next_multiple_of(block) - start);
        }
        let range = read.range;
        self.reads.push_back(read);
        if self.reads.len() > 2 {
            self.reads.pop_front();
        }
        Next::Read(range)
    }

    /// A read of a segment from an offset on, up to a multiple of `chunk` or to where the segment has been written.
    fn read_from<T>(&self, engine: &Engine<T>, segment: &Segment, start: usize, chunk: usize) -> Read {
        let block = engine.superblock.block as usize;
        let limit = self.limit(engine, segment);
        let end =
            (start + CHUNK).next_multiple_of(chunk).min(limit.next_multiple_of(block)).max(start + block);
        let range = Range { at: engine.superblock.place(segment.number) + start as u64, length: end - start };
        let SegmentHeader { index, serial, .. } = segment.header;
        Read { index, serial, range, start, limit, data: Buffer::new() }
    }

    /// Up to where a segment has been written.
    fn limit<T>(&self, engine: &Engine<T>, segment: &Segment) -> usize {
        let log = &engine.logs[self.log];
        let is_last = log.segments.back().is_some_and(|last| last.header.serial == segment.header.serial);
        let size = engine.superblock.segment_size as usize;
        if is_last { log.readable_offset().unwrap_or(size) } else { size }
    }
}

/// Bytes of what was read.
enum View<'a> {
    /// A part of one read.
    Part { read: &'a Read, from: usize, bytes: &'a [u8] },
    /// The end of one and the beginning of the next.
    Joined(Vec<u8>),
}

impl View<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            View::Part { bytes, .. } => bytes,
            View::Joined(bytes) => bytes,
        }
    }

    /// What is behind so many bytes, without a copy where it lies in one piece.
    fn slice(self, behind: usize) -> Buffer {
        match self {
            View::Part { read, from, bytes } => read.data.slice(from + behind..from + bytes.len()),
            View::Joined(bytes) => Buffer::from(bytes).slice(behind..),
        }
    }
}
