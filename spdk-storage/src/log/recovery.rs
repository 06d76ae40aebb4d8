//! Recovery: from what a device holds to what its logs are, without I/O of its own.
//!
//! It reads the two superblocks, the headers of all segments, and of each log the segment that was written last. What
//! lies before that segment is durable, since a segment is begun only when the one before it is; its records are
//! verified when they are read.

mod tail;

use self::tail::Tail;
use super::error::{Damage, LogError};
use super::foreign;
use super::format::{Entry, NoSegment, NoSuperblock, SLOT, SegmentHeader, Superblock};
use super::segment::Segment;
use crate::Geometry;
use std::collections::VecDeque;

/// How many ranges are wanted at once at most.
const AT_ONCE: u32 = 64;

/// A range of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) at: u64,
    pub(crate) length: usize,
}

/// What recovery wants next.
#[derive(Debug)]
pub(crate) enum Step {
    /// These ranges, in this order.
    Read(Vec<Range>),
    /// Nothing more.
    Done(Box<Recovered>),
}

/// What the device holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The newest superblock.
    pub(crate) superblock: Superblock,
    /// Whether it is the second one: the other may be torn, and is written first.
    pub(crate) second: bool,
    /// The highest epoch that was found anywhere.
    pub(crate) epoch: u32,
    /// The highest serial of a segment.
    pub(crate) serial: u64,
    /// In the order of the superblock's.
    pub(crate) logs: Vec<RecoveredLog>,
    /// Segments whose header is damaged.
    pub(crate) damaged: Vec<u32>,
    /// Whether one of them may be the last of a log that nothing else tells of.
    pub(crate) may_be_lost: bool,
    /// What is wrong, and can be lived with.
    pub(crate) notes: Vec<String>,
}

/// A log on the device.
#[derive(Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) segments: VecDeque<Segment>,
    /// The number of the next record, and the index of the next segment.
    pub(crate) next_number: u64,
    pub(crate) next_index: u64,
    /// The end of the last segment, if it can be written on: its offset, and the bytes of its block before that.
    pub(crate) end: Option<(usize, Vec<u8>)>,
    /// What lies behind the end and looks like records, to be wiped out.
    pub(crate) leftover: usize,
    /// Holes in the last segment.
    pub(crate) damages: Vec<Damage>,
}

/// The state machine: [`step`](Self::step) until it is done.
pub(crate) struct Recovery {
    geometry: Geometry,
    state: State,
}

enum State {
    Start,
    Superblocks,
    Foreign(NoSuperblock),
    Headers { found: Found, next: u32 },
    Tails { found: Found, logs: Vec<RecoveredLog>, at: usize },
    Over,
}

struct Found {
    superblock: Superblock,
    second: bool,
    segments: Vec<Segment>,
    damaged: Vec<u32>,
    notes: Vec<String>,
}

impl Recovery {
    pub(crate) fn new(geometry: Geometry) -> Recovery {
        Recovery { geometry, state: State::Start }
    }

    /// Goes on with what was read for the last step; for the first one nothing.
    ///
    /// # Errors
    /// Why there is nothing to recover here.
    pub(crate) fn step<B: AsRef<[u8]>>(&mut self, read: &[B]) -> Result<Step, LogError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start => {
                let slots = [false, true].map(|second| Range { at: Superblock::slot(second), length: SLOT });
                if self.geometry.capacity < 2 * SLOT as u64 {
                    return self.look_closer(NoSuperblock::Foreign);
                }
                self.state = State::Superblocks;
                Ok(Step::Read(slots.to_vec()))
            }
            State::Superblocks => self.superblocks(read[0].as_ref(), read[1].as_ref()),
            State::Foreign(why) => Err(match foreign::identify(read[0].as_ref()) {
                Some(_) if why == NoSuperblock::Damaged => LogError::NoSuperblock,
                Some(found) => LogError::Foreign { found },
                None => LogError::Blank,
            }),
            State::Headers { mut found, next } => {
                let count = read.len() as u32;
                for (number, block) in (next - count..next).zip(read) {
                    found.add(number, block.as_ref());
                }
                self.headers(found, next)
            }
            State::Tails { found, mut logs, at } => {
                let (superblock, entry) = (&found.superblock, &found.superblock.logs[at]);
                logs[at].read_tail(read[0].as_ref(), entry, superblock);
                self.tails(found, logs, at + 1)
            }
            State::Over => unreachable!("recovery is stepped until it is done"),
        }
    }

    fn look_closer(&mut self, why: NoSuperblock) -> Result<Step, LogError> {
        self.state = State::Foreign(why);
        let length = foreign::LOOK.min(usize::try_from(self.geometry.capacity).unwrap_or(usize::MAX));
        Ok(Step::Read(vec![Range { at: 0, length }]))
    }

    fn superblocks(&mut self, first: &[u8], second: &[u8]) -> Result<Step, LogError> {
        let mut notes = Vec::new();
        let (superblock, second) = match (Superblock::decode(first), Superblock::decode(second)) {
            (Ok(first), Ok(second)) => {
                // They are written one after the other, so that they differ after a crash.
                if first.generation >= second.generation { (first, false) } else { (second, true) }
            }
            (Err(NoSuperblock::Newer(version)), _) | (_, Err(NoSuperblock::Newer(version))) => {
                return Err(LogError::Newer { version });
            }
            (Ok(superblock), Err(_)) => {
                notes.push("the second superblock is damaged: the first one has been used".to_owned());
                (superblock, false)
            }
            (Err(_), Ok(superblock)) => {
                notes.push("the first superblock is damaged: the second one has been used".to_owned());
                (superblock, true)
            }
            (Err(first), Err(second)) => {
                let damaged = [first, second].contains(&NoSuperblock::Damaged);
                return self.look_closer(if damaged { NoSuperblock::Damaged } else { first });
            }
        };
        if !superblock.suits(&self.geometry) {
            let (log, device) = (superblock.block, self.geometry.logical_block);
            return Err(LogError::BlockSize { log, device });
        }
        if superblock.size() > self.geometry.capacity {
            return Err(LogError::Cut { store: superblock.size(), device: self.geometry.capacity });
        }
        self.headers(Found { superblock, second, segments: Vec::new(), damaged: Vec::new(), notes }, 0)
    }

    fn headers(&mut self, found: Found, next: u32) -> Result<Step, LogError> {
        let end = found.superblock.segments.min(next.saturating_add(AT_ONCE));
        if next == end {
            let logs = found.logs();
            return self.tails(found, logs, 0);
        }
        let length = found.superblock.block as usize;
        let ranges = (next..end).map(|number| Range { at: found.superblock.place(number), length }).collect();
        self.state = State::Headers { found, next: end };
        Ok(Step::Read(ranges))
    }

    fn tails(&mut self, found: Found, logs: Vec<RecoveredLog>, from: usize) -> Result<Step, LogError> {
        let superblock = &found.superblock;
        for (at, (log, entry)) in logs.iter().zip(&superblock.logs).enumerate().skip(from) {
            let Some(last) = log.segments.back().filter(|last| last.header.index >= entry.proven.index)
            else {
                continue;
            };
            let range = Range { at: superblock.place(last.number), length: superblock.segment_size as usize };
            self.state = State::Tails { found, logs, at };
            return Ok(Step::Read(vec![range]));
        }
        Ok(Step::Done(Box::new(found.finish(logs))))
    }
}

impl Found {
    fn add(&mut self, number: u32, block: &[u8]) {
        match SegmentHeader::decode(block, &self.superblock.uuid) {
            Ok(header) => self.segments.push(Segment::new(number, header, &self.superblock)),
            Err(NoSegment::Blank | NoSegment::Former) => {}
            Err(NoSegment::Damaged) => {
                let place = self.superblock.place(number);
                self.notes.push(format!("the header of the segment at {place} is damaged"));
                self.damaged.push(number);
            }
        }
    }

    /// The segments of each log in order. What belongs to none is free.
    fn logs(&self) -> Vec<RecoveredLog> {
        let of = |entry: &Entry| {
            let is_of =
                |segment: &&Segment| segment.header.log == entry.id && segment.header.index >= entry.first;
            let mut segments: Vec<Segment> = self.segments.iter().filter(is_of).copied().collect();
            // Two with one index there are only if somebody has consented to lose one.
            segments.sort_by_key(|segment| (segment.header.index, u64::MAX - segment.header.serial));
            segments.dedup_by_key(|segment| segment.header.index);
            // Numbers rise with indices, unless somebody has forged a checksum.
            let mut first = 0;
            segments.retain(|segment| {
                let rises = segment.header.first >= first;
                first = first.max(segment.header.first);
                rises
            });
            RecoveredLog::new(segments.into(), entry)
        };
        self.superblock.logs.iter().map(of).collect()
    }

    fn finish(self, logs: Vec<RecoveredLog>) -> Recovered {
        let Found { superblock, second, segments, damaged, mut notes } = self;
        let epochs = segments.iter().map(|segment| segment.header.epoch);
        let epoch = epochs.max().unwrap_or(0).max(superblock.epoch);
        if epoch > superblock.epoch {
            notes.push(
                "the newest superblock is lost: names and truncations may be older than their logs".into(),
            );
        }
        let missing: u64 = logs.iter().zip(&superblock.logs).map(|(log, entry)| log.missing(entry)).sum();
        Recovered {
            epoch,
            serial: segments.iter().map(|segment| segment.header.serial).max().unwrap_or(0),
            may_be_lost: !superblock.clean && damaged.len() as u64 > missing,
            logs,
            damaged,
            notes,
            superblock,
            second,
        }
    }
}

impl RecoveredLog {
    /// Of these segments, the last of which has not been read yet.
    fn new(segments: VecDeque<Segment>, entry: &Entry) -> RecoveredLog {
        let last = segments.back().map(|segment| segment.header.index);
        let proven = &entry.proven;
        // A segment that is proven and not there has a number all the same.
        let begun = if proven.offset > 0 { proven.index + 1 } else { proven.index };
        RecoveredLog {
            segments,
            next_number: proven.number,
            next_index: last.map_or(begun, |last| begun.max(last + 1)),
            end: None,
            leftover: 0,
            damages: Vec::new(),
        }
    }

    fn read_tail(&mut self, bytes: &[u8], entry: &Entry, superblock: &Superblock) {
        let Some(segment) = self.segments.back() else { return };
        let block = superblock.block as usize;
        let tail = Tail::scan(bytes, segment, entry, superblock);
        let place = superblock.place(segment.number);
        self.next_number = tail.number;
        self.leftover = tail.leftover;
        self.end = Some((tail.end, bytes[tail.end - tail.end % block..tail.end].to_vec()));
        self.damages = tail
            .holes
            .into_iter()
            .map(|hole| Damage {
                log: entry.name.clone(),
                first: hole.first,
                next: hole.next,
                place: place + hole.at as u64,
            })
            .collect();
    }

    /// How many segments are known to have been there before the last one, and are not.
    fn missing(&self, entry: &Entry) -> u64 {
        let last = self.segments.back().map_or(entry.first, |last| last.header.index + 1);
        (last - entry.first.min(last)).saturating_sub(self.segments.len() as u64)
    }
}
