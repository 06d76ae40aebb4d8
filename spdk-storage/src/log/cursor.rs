//! Reading a log from some place on, without I/O of its own: it says what it wants to have read.
//!
//! Records are slices of what was read. Only those are given whose checksum is right; where one is not, the hole is told
//! once, and reading goes on behind it.

use super::engine::Engine;
use super::error::{Damage, LogError};
use super::format::{LIMIT, RECORD_HEADER, RecordHeader, find_record};
use super::recovery::Range;
use super::segment::{self, Segment};
use demikernel_runtime::buffer::Buffer;

/// How much is read at once, if no record needs more.
const CHUNK: usize = 64 << 10;

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
    read: Option<Read>,
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

/// What was read of a segment.
#[derive(Clone, Debug)]
struct Read {
    serial: u64,
    range: Range,
    start: usize,
    /// Up to where the segment had been written when the read began: behind it, what was read is out of date.
    limit: usize,
    data: Buffer,
}

impl Cursor {
    /// At the first record of a log.
    pub(crate) fn new(log: usize) -> Cursor {
        Cursor { log, number: 0, place: None, read: None }
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
        if let Some(read) = self.read.as_mut().filter(|read| read.range == range) {
            read.data = data;
        }
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
            if known && self.number >= log.readable {
                return Next::End;
            }
            let Some((segment, end)) = self.segment(engine) else {
                match self.enter(engine) {
                    Ok(()) => continue,
                    Err(next) => return next,
                }
            };
            if self.place.as_ref().is_some_and(|place| place.number == Some(end)) {
                self.place = None;
                self.number = self.number.max(end);
                continue;
            }
            if let Some(next) = self.walk(engine, &segment, end) {
                return next;
            }
        }
    }

    /// The segment of the place, and the number that its records end at; `None` if the log has it no more.
    fn segment<T>(&self, engine: &Engine<T>) -> Option<(Segment, u64)> {
        let (log, place) = (&engine.logs[self.log], self.place.as_ref()?);
        let at = segment::by_index(&log.segments, place.index).ok()?;
        let segment = log.segments[at];
        let end = log.segments.get(at + 1).map_or(log.readable, |next| next.header.first.min(log.readable));
        (segment.header.serial == place.serial).then_some((segment, end))
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
    fn walk<T>(&mut self, engine: &Engine<T>, segment: &Segment, end: u64) -> Option<Next> {
        let place = self.place?;
        let size = engine.superblock.segment_size as usize;
        let limit = self.limit(engine, segment);
        if place.offset + RECORD_HEADER > limit {
            return self.hole(engine, segment, end);
        }
        let Some(bytes) = self.view(place.offset, RECORD_HEADER, segment) else {
            return Some(self.want(engine, segment, place.offset, RECORD_HEADER));
        };
        let header = RecordHeader::read(&bytes, segment.seed);
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
        if !header.verify(&bytes, segment.seed) {
            return self.hole(engine, segment, end);
        }
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
        Some(Next::Record(Record { number: header.number, position, data: bytes.slice(RECORD_HEADER..) }))
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
        let found = find_record(&bytes, 0, segment.seed, number + 1..end.min(LIMIT), place.epoch);
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
    fn view(&self, offset: usize, length: usize, segment: &Segment) -> Option<Buffer> {
        let read = self.read.as_ref().filter(|read| read.serial == segment.header.serial)?;
        let from = offset.checked_sub(read.start)?;
        let end = from + length;
        (end <= read.data.len() && offset + length <= read.limit).then(|| read.data.slice(from..end))
    }

    /// Asks for a range of a segment, and some more.
    fn want<T>(&mut self, engine: &Engine<T>, segment: &Segment, offset: usize, length: usize) -> Next {
        let block = engine.superblock.block as usize;
        let size = engine.superblock.segment_size as usize;
        let start = offset - offset % block;
        let end = (offset + length).max(start + CHUNK).next_multiple_of(block).min(size);
        let limit = self.limit(engine, segment);
        let range = Range { at: engine.superblock.place(segment.number) + start as u64, length: end - start };
        self.read = Some(Read { serial: segment.header.serial, range, start, limit, data: Buffer::new() });
        Next::Read(range)
    }

    /// Up to where a segment has been written.
    fn limit<T>(&self, engine: &Engine<T>, segment: &Segment) -> usize {
        let log = &engine.logs[self.log];
        let is_last = log.segments.back().is_some_and(|last| last.header.serial == segment.header.serial);
        let size = engine.superblock.segment_size as usize;
        if is_last { log.readable_offset().unwrap_or(size) } else { size }
    }
}
