//! Changes of the superblock: logs that begin and end, truncation, opening and closing.
//!
//! A superblock is written into one place, and when that is durable into the other; when that is, its changes are
//! made and acknowledged. So one of them is intact at any time, and both are the same when nothing is under way. A crash
//! may have torn one of them: the first one that is written after recovery goes there. Segments
//! that a truncation frees are used again only after that, or a log would have lost its beginning in a crash.

use super::{Action, Engine, LogState, Outcome, Pending, Use};
use crate::log::error::LogError;
use crate::log::format::{Entry, LONGEST_NAME, MOST_LOGS, Proven, Superblock};
use crate::log::recovery::RecoveredLog;
use crate::log::segment;
use demikernel_runtime::buffer::Buffer;
use std::collections::VecDeque;

/// A change that somebody waits for.
#[derive(Debug)]
pub(crate) enum Change {
    /// The store has been opened for writing.
    Mount,
    /// The log of this name is to be there.
    Create(String),
    /// The log at this place of the table is not needed any more.
    Remove(usize),
    /// Records of the log before this one are not needed any more.
    Truncate(usize, u64),
    /// Nothing will be written any more.
    Close,
}

/// A superblock that is being written.
pub(super) struct Rewrite<T> {
    next: Superblock,
    bytes: Buffer,
    /// Whether it is in one place already.
    again: bool,
    changes: Vec<(Change, T)>,
}

impl<T> Rewrite<T> {
    pub(super) fn into_tickets(self) -> impl Iterator<Item = T> {
        self.changes.into_iter().map(|(_, ticket)| ticket)
    }
}

impl<T> Engine<T> {
    /// Asks for a change.
    pub(crate) fn change(&mut self, change: Change, ticket: T) {
        match self.check(&change) {
            Ok(None) => {
                if matches!(change, Change::Close) {
                    self.closing = true;
                    self.logs.iter_mut().for_each(|log| log.pending.push_back(Pending::Barrier(None)));
                }
                self.changes.push_back((change, ticket));
            }
            Ok(Some(outcome)) => self.events.push_back((ticket, Ok(outcome))),
            Err(error) => self.events.push_back((ticket, Err(error))),
        }
    }

    /// Whether a change is possible, or made already.
    fn check(&self, change: &Change) -> Result<Option<Outcome>, LogError> {
        if let Change::Create(name) = change
            && let Some(place) = self.find(name)
        {
            return Ok(Some(Outcome::Opened(place)));
        }
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        if self.read_only {
            return match change {
                Change::Close => Ok(Some(Outcome::Done)),
                Change::Create(name) => Err(LogError::NoLog { name: name.clone() }),
                _ => Err(LogError::ReadOnly),
            };
        }
        match change {
            _ if self.closing => Err(LogError::Closed),
            Change::Create(name) if name.is_empty() || name.len() > LONGEST_NAME => {
                Err(LogError::BadName { name: name.clone() })
            }
            Change::Truncate(log, number) if *number <= self.logs[*log].head => Ok(Some(Outcome::Done)),
            _ => Ok(None),
        }
    }

    /// The place of the log of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.logs.iter().position(|log| log.name == name && !log.removed)
    }

    /// Puts the write of a superblock among the actions, if one is under way or needed.
    pub(super) fn write_superblock(&mut self) {
        let quiet = |log: &LogState<T>| log.pending.is_empty() && log.durable == log.next_number;
        if self.rewrite.is_none()
            && !self.changes.is_empty()
            // The last superblock tells where everything ends.
            && (!self.closing || self.logs.iter().all(quiet))
        {
            self.rewrite = self.prepare();
        }
        let Some(rewrite) = &self.rewrite else { return };
        self.flushes = true;
        let place = Superblock::slot(self.second_first != rewrite.again);
        self.actions.push_back(Action::Write(place, rewrite.bytes.clone()));
    }

    /// The next superblock, with all changes that wait; `None` if none of them changes anything.
    fn prepare(&mut self) -> Option<Rewrite<T>> {
        let mut next = self.superblock.clone();
        next.generation += 1;
        next.clean = false;
        for entry in &mut next.logs {
            if let Some(log) = self.logs.iter().find(|log| log.id == entry.id) {
                entry.proven = log.proven();
            }
        }
        let mut changes = Vec::new();
        for (change, ticket) in std::mem::take(&mut self.changes) {
            match self.apply(&mut next, &change) {
                Ok(()) => changes.push((change, ticket)),
                Err(error) => self.events.push_back((ticket, Err(error))),
            }
        }
        let bytes = Buffer::from(next.encode());
        (!changes.is_empty()).then_some(Rewrite { next, bytes, again: false, changes })
    }

    fn apply(&self, next: &mut Superblock, change: &Change) -> Result<(), LogError> {
        match change {
            Change::Mount => next.epoch = self.epoch,
            Change::Close => next.clean = true,
            Change::Create(name) => {
                if next.logs.iter().any(|entry| entry.name == *name) {
                    return Ok(());
                }
                if next.logs.len() == MOST_LOGS {
                    return Err(LogError::TooManyLogs);
                }
                let id = next.next_log;
                next.next_log += 1;
                let (name, proven) = (name.clone(), Proven::default());
                next.logs.push(Entry { id, name, head: 0, first: 0, proven });
            }
            Change::Remove(log) => {
                let log = &self.logs[*log];
                if log.removed {
                    return Err(LogError::NoLog { name: log.name.clone() });
                }
                next.logs.retain(|entry| entry.id != log.id);
            }
            Change::Truncate(log, number) => {
                let log = &self.logs[*log];
                let Some(entry) = next.logs.iter_mut().find(|entry| entry.id == log.id) else {
                    return Err(LogError::NoLog { name: log.name.clone() });
                };
                // What is not durable yet is not truncated: its number may be given once more after a crash.
                entry.head = entry.head.max((*number).min(log.durable));
                if let Some(place) = segment::by_number(&log.segments, entry.head) {
                    entry.first = entry.first.max(log.segments[place].header.index);
                }
            }
        }
        Ok(())
    }

    /// A superblock is durable: it goes to the other place next, or is in both.
    pub(super) fn superblock_written(&mut self) {
        match &mut self.rewrite {
            Some(rewrite) if !rewrite.again => rewrite.again = true,
            Some(_) => {
                if let Some(rewrite) = self.rewrite.take() {
                    self.adopt(rewrite);
                }
            }
            None => {}
        }
    }

    /// The changes of a superblock come into effect.
    fn adopt(&mut self, rewrite: Rewrite<T>) {
        let Rewrite { next, changes, .. } = rewrite;
        let removed = |log: &LogState<T>| !next.logs.iter().any(|entry| entry.id == log.id);
        for log in &mut self.logs {
            if removed(log) && !log.removed {
                log.removed = true;
                log.end = None;
                log.segments.drain(..).for_each(|gone| self.uses[gone.number as usize] = Use::Free);
            }
        }
        for entry in &next.logs {
            match self.logs.iter_mut().find(|log| log.id == entry.id) {
                Some(log) => {
                    log.head = entry.head;
                    while log.segments.front().is_some_and(|segment| segment.header.index < entry.first)
                        && let Some(gone) = log.segments.pop_front()
                    {
                        self.uses[gone.number as usize] = Use::Free;
                    }
                }
                None => self.logs.push(LogState::new(entry, RecoveredLog::empty())),
            }
        }
        self.superblock = next;
        for (change, ticket) in changes {
            let outcome = match change {
                Change::Create(name) => match self.find(&name) {
                    Some(place) => Ok(Outcome::Opened(place)),
                    None => Err(LogError::NoLog { name }),
                },
                Change::Close => {
                    self.end_all(&LogError::Closed);
                    self.stopped = Some(LogError::Closed);
                    Ok(Outcome::Done)
                }
                _ => Ok(Outcome::Done),
            };
            self.events.push_back((ticket, outcome));
        }
        self.refuse_removed();
    }

    /// What waits in logs that are gone.
    fn refuse_removed(&mut self) {
        for log in self.logs.iter_mut().filter(|log| log.removed) {
            for ticket in log.pending.drain(..).filter_map(Pending::into_ticket) {
                self.events.push_back((ticket, Err(LogError::NoLog { name: log.name.clone() })));
            }
        }
    }
}

impl<T> LogState<T> {
    /// Up to where it is durable.
    fn proven(&self) -> Proven {
        match (&self.end, self.segments.back()) {
            (Some(end), Some(segment)) => {
                Proven { index: segment.header.index, offset: end.durable as u32, number: self.durable }
            }
            _ => Proven { index: self.next_index, offset: 0, number: self.durable },
        }
    }
}

impl RecoveredLog {
    /// A log that has just been made.
    pub(crate) fn empty() -> RecoveredLog {
        RecoveredLog {
            segments: VecDeque::new(),
            next_number: 0,
            next_index: 0,
            end: None,
            leftover: 0,
            damages: Vec::new(),
        }
    }
}
