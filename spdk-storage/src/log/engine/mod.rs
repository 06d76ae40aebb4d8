//! The state of an open store: pushes become batches, batches become writes, and these are acknowledged when a flush has
//! made them durable. It does no I/O: it says what is to be done, and is told what came of it.
//!
//! Everything goes in cycles, one at a time: a batch of each log that has something is written, and what changes in the
//! superblock with it; when all writes are done there is one flush, if anybody needs it, or the only write is durable by
//! itself; when that is done, everything of the cycle is acknowledged. What is pushed meanwhile waits for the next cycle, and so shares its flush.
//!
//! - `batch`: from pushes to the write of a log.
//! - `catalogue`: logs that begin and end, truncation: changes of the superblock.

mod batch;
mod catalogue;

pub(crate) use self::catalogue::Change;

use self::catalogue::Rewrite;
use super::error::LogError;
use super::format::{RECORD_HEADER, Superblock};
use super::recovery::{Recovered, RecoveredLog};
use super::segment::Segment;
use super::ways::Way;
use crate::Geometry;
use demikernel_runtime::buffer::{Buffer, Sga};
use std::collections::VecDeque;

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Appended {
    /// Which of its log's records it is. The first one is 0, and none is left out.
    pub number: u64,
    /// Where it begins, for [`seek`](super::Log::seek): later records have greater positions.
    pub position: u64,
}

/// What is to be done on the device.
#[derive(Debug)]
pub(crate) enum Action {
    /// Write this there. Nothing else of the same range is under way.
    Write(u64, Buffer),
    /// Likewise, and it is durable when it is done: all others are so already.
    WriteDurable(u64, Buffer),
    /// Make durable all writes that are done.
    Flush,
}

/// What an operation came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Appended(Appended),
    /// A log is there, at this place of the table.
    Opened(usize),
    Done,
}

/// How the records of a push become known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// When they are durable.
    Durable,
    /// When they have been written.
    Written,
}

/// What waits in a log for its turn.
enum Pending<T> {
    Record(Sga, Sync, T),
    /// Whatever is before it is to be durable; somebody may wait for that.
    Barrier(Option<T>),
}

pub(crate) struct LogState<T> {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The first record that has not been truncated.
    pub(crate) head: u64,
    pub(crate) segments: VecDeque<Segment>,
    next_index: u64,
    /// The number of the next record that is written.
    next_number: u64,
    /// The number of the first record that has not been acknowledged: what is before it can be read.
    pub(crate) readable: u64,
    /// As that, for what is durable.
    durable: u64,
    end: Option<End>,
    pending: VecDeque<Pending<T>>,
    /// What the cycle writes.
    written: Vec<(T, Outcome)>,
    removed: bool,
}

/// The end of the segment that a log writes on.
struct End {
    /// Behind the last record.
    offset: usize,
    /// Behind the last record that is durable; 0 for a segment that may not be there.
    durable: usize,
    /// Behind the last record that has been acknowledged.
    readable: usize,
    /// What is before the end in its block.
    carry: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free,
    Used,
    /// Its header is damaged, so nobody knows what it is.
    Damaged,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// So many writes are under way.
    Writing(usize),
    Flushing,
}

/// An open store. `T` is what it gives back when an operation is over.
pub(crate) struct Engine<T> {
    pub(crate) superblock: Superblock,
    /// Whether the next superblock is written into the second place first.
    second_first: bool,
    /// The epoch of this opening.
    epoch: u32,
    serial: u64,
    /// Places are not used twice.
    pub(crate) logs: Vec<LogState<T>>,
    uses: Vec<Use>,
    /// Where the search for a free segment begins, so that all are used in turn.
    next_segment: u32,
    changes: VecDeque<(Change, T)>,
    rewrite: Option<Rewrite<T>>,
    phase: Phase,
    /// Whether the cycle ends with a flush.
    flushes: bool,
    /// Whether its only write is durable by itself.
    durably: bool,
    /// Whether something that was written in earlier cycles may not be durable.
    unflushed: bool,
    volatile_cache: bool,
    durable_writes: bool,
    /// Which way a batch that can go either becomes durable; and whether that of the cycle could.
    pub(crate) way: Way,
    has_choice: bool,
    read_only: bool,
    stopped: Option<LogError>,
    /// Nothing new is taken.
    closing: bool,
    actions: VecDeque<Action>,
    events: VecDeque<(T, Result<Outcome, LogError>)>,
    /// Pushes and syncs that were taken.
    come: u64,
    /// How many of them the last cycle has served.
    served: u64,
    pub(crate) count: Count,
}

/// Figures for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Count {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) cycles: u64,
    pub(crate) flushes: u64,
    pub(crate) segments: u64,
}

impl<T> Engine<T> {
    /// A store that is only read.
    pub(crate) fn read_only(recovered: Recovered) -> Engine<T> {
        Engine { read_only: true, ..Engine::new(recovered) }
    }

    /// A store as it was recovered, to be written. It begins with a flush, as what was found may be in a volatile cache,
    /// and then a new epoch, which `ticket` waits for: before that is durable nothing else is written.
    pub(crate) fn open(recovered: Recovered, device: &Geometry, ticket: T) -> Engine<T> {
        let leftovers: Vec<usize> = recovered.logs.iter().map(|log| log.leftover).collect();
        let mut engine = Engine::new(recovered);
        (engine.volatile_cache, engine.durable_writes) = (device.volatile_cache, device.durable_writes);
        engine.unflushed = true;
        for (log, leftover) in leftovers.into_iter().enumerate() {
            engine.wipe(log, leftover);
        }
        engine.changes.push_back((Change::Mount, ticket));
        engine.flushes = true;
        engine.start_cycle();
        engine
    }

    fn new(recovered: Recovered) -> Engine<T> {
        let Recovered { superblock, second, epoch, serial, logs, damaged, .. } = recovered;
        let mut uses = vec![Use::Free; superblock.segments as usize];
        damaged.iter().for_each(|number| uses[*number as usize] = Use::Damaged);
        let entries = superblock.logs.iter().zip(logs);
        let logs: Vec<_> = entries.map(|(entry, log)| LogState::new(entry, log)).collect();
        let used = logs.iter().flat_map(|log| &log.segments);
        used.for_each(|segment| uses[segment.number as usize] = Use::Used);
        Engine {
            superblock,
            second_first: !second,
            epoch: epoch + 1,
            serial,
            logs,
            uses,
            next_segment: 0,
            changes: VecDeque::new(),
            rewrite: None,
            phase: Phase::Idle,
            flushes: false,
            durably: false,
            unflushed: false,
            volatile_cache: false,
            durable_writes: false,
            way: Way::DurableWrite,
            has_choice: false,
            read_only: false,
            stopped: None,
            closing: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            come: 0,
            served: 0,
            count: Count::default(),
        }
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, log: usize, data: Sga, sync: Sync, ticket: T) {
        let length = data.len();
        let most = self.longest_record();
        let error = match self.refusal(log) {
            Some(error) => error,
            None if length > most => LogError::TooLong { length, most },
            None => {
                self.come += 1;
                return self.logs[log].pending.push_back(Pending::Record(data, sync, ticket));
            }
        };
        self.events.push_back((ticket, Err(error)));
    }

    /// Makes durable what was pushed before.
    pub(crate) fn sync(&mut self, log: usize, ticket: T) {
        match self.refusal(log) {
            Some(error) => self.events.push_back((ticket, Err(error))),
            None => {
                self.come += 1;
                self.logs[log].pending.push_back(Pending::Barrier(Some(ticket)));
            }
        }
    }

    fn refusal(&self, log: usize) -> Option<LogError> {
        if self.read_only {
            return Some(LogError::ReadOnly);
        }
        if self.closing && self.stopped.is_none() {
            return Some(LogError::Closed);
        }
        let log = &self.logs[log];
        self.stopped.clone().or_else(|| log.removed.then(|| LogError::NoLog { name: log.name.clone() }))
    }

    /// What is to be done next on the device.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && self.phase == Phase::Idle {
            self.begin_cycle();
        }
        self.actions.pop_front()
    }

    /// What is over.
    pub(crate) fn poll_event(&mut self) -> Option<(T, Result<Outcome, LogError>)> {
        self.events.pop_front()
    }

    /// A write is done.
    pub(crate) fn write_done(&mut self, result: std::io::Result<()>) {
        let Phase::Writing(left) = self.phase else { return };
        if let Err(error) = result {
            return self.stop(error.to_string());
        }
        self.phase = Phase::Writing(left - 1);
        if left == 1 {
            self.all_written();
        }
    }

    /// The flush is done.
    pub(crate) fn flush_done(&mut self, result: std::io::Result<()>) {
        if self.phase != Phase::Flushing {
            return;
        }
        match result {
            Ok(()) => self.end_cycle(true),
            Err(error) => self.stop(error.to_string()),
        }
    }

    /// How many pushes and syncs have come, and how many of them the last cycle has served.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.come, self.served)
    }

    /// Which way the batch of the last cycle became durable, if it could go either.
    pub(crate) fn way_chosen(&self) -> Option<Way> {
        self.has_choice.then_some(self.way)
    }

    /// Whether no cycle is under way.
    pub(crate) fn is_between_cycles(&self) -> bool {
        self.phase == Phase::Idle && self.actions.is_empty()
    }

    /// Whether the next cycle may wait for more: it has pushes and syncs only.
    pub(crate) fn may_wait(&self) -> bool {
        self.is_between_cycles()
            && self.changes.is_empty()
            && self.rewrite.is_none()
            && !self.closing
            && self.logs.iter().any(|log| !log.pending.is_empty())
    }

    /// Whether nothing is under way or waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
            && self.actions.is_empty()
            && self.events.is_empty()
            && self.changes.is_empty()
            && self.logs.iter().all(|log| log.pending.is_empty())
    }

    fn begin_cycle(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.flushes = false;
        if self.superblock.epoch == self.epoch {
            for log in 0..self.logs.len() {
                self.write_batch(log);
            }
        }
        self.write_superblock();
        if !self.actions.is_empty() || self.flushes {
            self.start_cycle();
        }
    }

    fn start_cycle(&mut self) {
        self.count.cycles += 1;
        let writes = self.actions.len();
        self.phase = Phase::Writing(writes);
        self.durably = false;
        let is_alone = writes == 1 && self.flushes && !self.unflushed;
        self.has_choice = is_alone && self.volatile_cache && self.durable_writes;
        if self.has_choice
            && self.way == Way::DurableWrite
            && let Some(Action::Write(at, data)) = self.actions.pop_front()
        {
            self.actions.push_front(Action::WriteDurable(at, data));
            self.count.flushes += 1;
            self.durably = true;
        }
        if writes == 0 {
            self.all_written();
        }
    }

    fn all_written(&mut self) {
        if self.flushes && self.volatile_cache && !self.durably {
            self.count.flushes += 1;
            self.phase = Phase::Flushing;
            self.actions.push_back(Action::Flush);
        } else {
            self.end_cycle(!self.volatile_cache || self.durably);
        }
    }

    fn end_cycle(&mut self, durable: bool) {
        self.phase = Phase::Idle;
        self.unflushed = !durable;
        self.served = 0;
        for log in &mut self.logs {
            log.readable = log.next_number;
            if let Some(end) = &mut log.end {
                end.readable = end.offset;
            }
            if durable {
                log.durable = log.next_number;
                if let Some(end) = &mut log.end {
                    end.durable = end.offset;
                }
            }
            self.served += log.written.len() as u64;
            self.events.extend(log.written.drain(..).map(|(ticket, outcome)| (ticket, Ok(outcome))));
        }
        self.superblock_written();
    }

    /// Nothing is known of what was under way, and a second attempt may claim what is not so: everything ends.
    fn stop(&mut self, error: String) {
        let error = LogError::Stopped { error };
        self.stopped = Some(error.clone());
        self.end_all(&error);
    }

    fn end_all(&mut self, error: &LogError) {
        self.phase = Phase::Idle;
        self.actions.clear();
        let mut tickets: Vec<T> = Vec::new();
        for log in &mut self.logs {
            tickets.extend(log.written.drain(..).map(|(ticket, _)| ticket));
            tickets.extend(log.pending.drain(..).filter_map(Pending::into_ticket));
        }
        if let Some(rewrite) = self.rewrite.take() {
            tickets.extend(rewrite.into_tickets());
        }
        tickets.extend(self.changes.drain(..).map(|(_, ticket)| ticket));
        self.events.extend(tickets.into_iter().map(|ticket| (ticket, Err(error.clone()))));
    }

    /// Bytes of the longest record that fits into a segment.
    pub(crate) fn longest_record(&self) -> usize {
        (self.superblock.segment_size - self.superblock.block) as usize - RECORD_HEADER
    }

    /// Segments that nobody has, and all of them.
    pub(crate) fn free_segments(&self) -> (usize, usize) {
        (self.uses.iter().filter(|used| **used == Use::Free).count(), self.uses.len())
    }

    /// Whether nothing is ever written.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Why the store has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<&LogError> {
        self.stopped.as_ref()
    }
}

impl<T> Pending<T> {
    fn into_ticket(self) -> Option<T> {
        match self {
            Pending::Record(_, _, ticket) => Some(ticket),
            Pending::Barrier(ticket) => ticket,
        }
    }
}

impl<T> LogState<T> {
    fn new(entry: &super::format::Entry, log: RecoveredLog) -> LogState<T> {
        let RecoveredLog { segments, next_number, next_index, end, .. } = log;
        LogState {
            id: entry.id,
            name: entry.name.clone(),
            head: entry.head.min(next_number),
            segments,
            next_index,
            next_number,
            readable: next_number,
            durable: next_number,
            // What was found may have been in a volatile cache: the flush of the mount makes it durable.
            end: end.map(|(offset, carry)| End { offset, durable: offset, readable: offset, carry }),
            pending: VecDeque::new(),
            written: Vec::new(),
            removed: false,
        }
    }

    /// Whether it was removed, and nothing of it is left.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// The offset in the last segment behind the last record that can be read, if the segment is being written on.
    pub(crate) fn readable_offset(&self) -> Option<usize> {
        self.end.as_ref().map(|end| end.readable)
    }
}
