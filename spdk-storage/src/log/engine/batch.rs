//! From pushes to the write of a log.
//!
//! A batch is written from the block on in which the last one ended, which is written again with what it had: whatever of
//! it a loss of power leaves, these bytes are the same. A segment is begun only when everything in the one before it is
//! durable, with its header and its first records in one write.

use super::{Action, Appended, End, Engine, LogState, Outcome, Pending, Sync, Use};
use crate::log::error::LogError;
use crate::log::format::{RECORD_HEADER, RecordHeader, SegmentHeader, record_extent};
use crate::log::segment::Segment;
use demikernel_runtime::buffer::{BufferMut, Sga};

/// The most bytes that a batch has, unless it is one record: the largest class of the pool.
const MOST: usize = 1 << 20;

/// What of a log's pushes goes into its next batch.
struct Plan {
    /// How many of what waits, barriers included.
    count: usize,
    /// Bytes of the records.
    bytes: usize,
    /// Whether they begin a segment.
    begins: bool,
}

impl<T> Engine<T> {
    /// Writes what waits in a log, or some of it.
    pub(super) fn write_batch(&mut self, index: usize) {
        loop {
            let Some(plan) = self.plan(index) else { return };
            if plan.count == 0 {
                // The first record does not fit anywhere: those behind it may.
                self.refuse_first(index, LogError::Full);
                continue;
            }
            if plan.bytes == 0 {
                return self.take_barriers(index, plan.count);
            }
            let block = self.superblock.block as usize;
            let log = &self.logs[index];
            let start = match &log.end {
                Some(end) if !plan.begins => end.offset - end.carry.len(),
                _ => 0,
            };
            let before = if plan.begins { block } else { log.carried() };
            match BufferMut::with_capacity((before + plan.bytes).next_multiple_of(block)) {
                Ok(buffer) => return self.write_plan(index, &plan, buffer, start),
                Err(error) => self.refuse_first(index, LogError::OutOfMemory { error: error.to_string() }),
            }
        }
    }

    /// `None` if there is nothing to write in this cycle.
    fn plan(&mut self, index: usize) -> Option<Plan> {
        let size = self.superblock.segment_size as usize;
        let block = self.superblock.block as usize;
        let log = &self.logs[index];
        let first = log.pending.iter().find_map(|pending| match pending {
            Pending::Record(data, ..) => Some(record_extent(data.len())),
            Pending::Barrier(_) => None,
        });
        let Some(first) = first else {
            let count = log.pending.len();
            return (count > 0).then_some(Plan { count, bytes: 0, begins: false });
        };
        let (begins, from) = match &log.end {
            Some(end) if end.offset + first <= size => (false, end.offset),
            Some(end) if end.durable != end.offset => {
                // The segment is full, and the next one is begun when it is durable.
                self.flushes = true;
                return None;
            }
            _ => (true, block),
        };
        if begins && !self.uses.contains(&Use::Free) {
            let count =
                log.pending.iter().take_while(|pending| matches!(pending, Pending::Barrier(_))).count();
            return Some(Plan { count, bytes: 0, begins: false });
        }
        let room = (size - from).min((MOST - block).max(first));
        let (mut count, mut bytes) = (0, 0);
        for pending in &log.pending {
            if let Pending::Record(data, ..) = pending {
                let extent = record_extent(data.len());
                if bytes + extent > room {
                    break;
                }
                bytes += extent;
            }
            count += 1;
        }
        Some(Plan { count, bytes, begins })
    }

    fn refuse_first(&mut self, index: usize, error: LogError) {
        if let Some(ticket) = self.logs[index].pending.pop_front().and_then(Pending::into_ticket) {
            self.events.push_back((ticket, Err(error)));
        }
    }

    /// Barriers with no record between them.
    fn take_barriers(&mut self, index: usize, count: usize) {
        let log = &mut self.logs[index];
        let durable = log.durable == log.next_number;
        for pending in log.pending.drain(..count) {
            let Some(ticket) = pending.into_ticket() else { continue };
            match durable {
                true => self.events.push_back((ticket, Ok(Outcome::Done))),
                false => log.written.push((ticket, Outcome::Done)),
            }
        }
        self.flushes |= !durable;
    }

    fn write_plan(&mut self, index: usize, plan: &Plan, mut buffer: BufferMut, start: usize) {
        let block = self.superblock.block as usize;
        if plan.begins {
            let header = self.begin_segment(index);
            buffer.extend_from_slice(&header);
            buffer.resize(block, 0);
        }
        let epoch = self.epoch;
        let log = &mut self.logs[index];
        let (Some(segment), Some(end)) = (log.segments.back().copied(), &mut log.end) else { return };
        let place = self.superblock.place(segment.number);
        let base = segment.header.index * u64::from(self.superblock.segment_size);
        buffer.extend_from_slice(&end.carry);
        for pending in log.pending.drain(..plan.count) {
            let (data, sync, ticket) = match pending {
                Pending::Record(data, sync, ticket) => (data, sync, ticket),
                Pending::Barrier(ticket) => {
                    self.flushes = true;
                    log.written.extend(ticket.map(|ticket| (ticket, Outcome::Done)));
                    continue;
                }
            };
            self.flushes |= sync == Sync::Durable;
            let position = base + end.offset as u64;
            let header = RecordHeader {
                length: data.len() as u32,
                number: log.next_number,
                epoch,
                durable: end.durable as u32,
            };
            put_record(&mut buffer, header, segment.seed, &data);
            end.offset += header.extent();
            log.next_number += 1;
            let outcome = Outcome::Appended(Appended { number: header.number, position });
            log.written.push((ticket, outcome));
            self.count.records += 1;
            self.count.bytes += data.len() as u64;
        }
        end.carry.clear();
        let used = buffer.len();
        end.carry.extend_from_slice(&buffer[used - used % block..]);
        debug_assert_eq!(end.carry.len(), end.offset % block);
        buffer.resize(used.next_multiple_of(block), 0);
        self.actions.push_back(Action::Write(place + start as u64, buffer.freeze()));
    }

    /// Takes a free segment, which there is, and gives its header.
    fn begin_segment(&mut self, index: usize) -> Vec<u8> {
        let count = self.uses.len();
        let from = self.next_segment as usize;
        let free = (from..from + count).map(|at| at % count).find(|at| self.uses[*at] == Use::Free);
        let number = free.expect("the plan has seen a free segment");
        self.uses[number] = Use::Used;
        self.next_segment = ((number + 1) % count) as u32;
        self.serial += 1;
        self.count.segments += 1;
        let log = &mut self.logs[index];
        let header = SegmentHeader {
            log: log.id,
            index: log.next_index,
            serial: self.serial,
            first: log.next_number,
            epoch: self.epoch,
        };
        log.next_index += 1;
        log.segments.push_back(Segment::new(number as u32, header, &self.superblock));
        let carry = log.end.take().map(|end| end.carry).unwrap_or_default();
        log.end = Some(End { offset: self.superblock.block as usize, durable: 0, readable: 0, carry });
        log.end.iter_mut().for_each(|end| end.carry.clear());
        header.encode(&self.superblock.uuid).to_vec()
    }

    /// Overwrites what looks like records behind the end of a log. It was never acknowledged, and must not be found once
    /// the log has grown that far.
    pub(super) fn wipe(&mut self, index: usize, leftover: usize) {
        let block = self.superblock.block as usize;
        let log = &self.logs[index];
        let (Some(segment), Some(end)) = (log.segments.back(), &log.end) else { return };
        let start = end.offset - end.carry.len();
        let stop = leftover.next_multiple_of(block);
        let place = self.superblock.place(segment.number);
        for at in (start..stop).step_by(MOST) {
            let length = MOST.min(stop - at);
            let carry: &[u8] = if at == start { &end.carry } else { &[] };
            let mut bytes = carry.to_vec();
            bytes.resize(length, 0);
            self.actions.push_back(Action::Write(place + at as u64, bytes.into()));
        }
    }
}

impl<T> LogState<T> {
    fn carried(&self) -> usize {
        self.end.as_ref().map_or(0, |end| end.carry.len())
    }
}

fn put_record(buffer: &mut BufferMut, header: RecordHeader, seed: u32, data: &Sga) {
    let end = buffer.len() + header.extent();
    let header = header.encode(seed, data.iter().map(|piece| piece.as_slice()));
    debug_assert_eq!(header.len(), RECORD_HEADER);
    buffer.extend_from_slice(&header);
    data.iter().for_each(|piece| buffer.extend_from_slice(piece));
    buffer.resize(end, 0);
}
