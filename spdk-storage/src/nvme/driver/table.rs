//! Operations and commands under way, by number.

use super::issue::What;
use std::io;

/// An operation, of one command or several.
#[derive(Debug)]
pub(super) struct Operation {
    tag: u32,
    /// Commands that the device has.
    pub(super) under_way: u32,
    pub(super) what: What,
    error: Option<io::Error>,
}

/// A command.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Whose it is: the number of an operation, or none.
    operation: Option<u16>,
    /// When it was issued, or its end was asked for: in periods of the clock.
    since: u32,
    /// Its end has been asked for.
    is_aborted: bool,
}

/// A command that takes too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overdue {
    pub(super) id: u16,
    /// For how many periods it has been under way, or aborted.
    pub(super) periods: u32,
    pub(super) is_aborted: bool,
}

/// Both tables. They have their size from the beginning, as there are never more operations than commands, save one.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u16>,
    operations: Vec<Option<Operation>>,
    free_operations: Vec<u16>,
}

impl Operation {
    pub(super) fn new(tag: u32, what: What) -> Operation {
        Operation { tag, under_way: 0, what, error: None }
    }
}

impl Table {
    pub(super) fn new(commands: usize) -> Table {
        let numbers = |count: usize| (0..count as u16).rev().collect();
        Table {
            slots: vec![Slot { operation: None, since: 0, is_aborted: false }; commands],
            free: numbers(commands),
            operations: (0..=commands).map(|_| None).collect(),
            free_operations: numbers(commands + 1),
        }
    }

    /// Whether there is room for a command.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Adds an operation, of which nothing has been issued.
    #[inline]
    pub(super) fn add(&mut self, operation: Operation) -> u16 {
        let index = self.free_operations.pop().expect("operations are not more than commands, save one");
        self.operations[usize::from(index)] = Some(operation);
        index
    }

    /// Takes a number for a command of an operation.
    #[inline]
    pub(super) fn begin_command(&mut self, operation: u16, now: u32) -> Option<u16> {
        let id = self.free.pop()?;
        self.operation(operation).under_way += 1;
        self.slots[usize::from(id)] = Slot { operation: Some(operation), since: now, is_aborted: false };
        Some(id)
    }

    /// The operation whose command has ended, and whether its end had been asked for; none if there is no such command.
    #[inline]
    pub(super) fn end_command(&mut self, id: u16) -> Option<(u16, bool)> {
        let slot = self.slots.get_mut(usize::from(id))?;
        let index = slot.operation.take()?;
        let is_aborted = slot.is_aborted;
        self.free.push(id);
        self.operation(index).under_way -= 1;
        Some((index, is_aborted))
    }

    #[inline]
    pub(super) fn operation(&mut self, index: u16) -> &mut Operation {
        self.operations[usize::from(index)]
            .as_mut()
            .expect("numbers of operations are of those that there are")
    }

    /// Notes an error, if it is the first.
    pub(super) fn fail(&mut self, index: u16, error: io::Error) {
        self.operation(index).error.get_or_insert(error);
    }

    /// Removes an operation, and says how it has ended.
    #[inline]
    pub(super) fn finish(&mut self, index: u16) -> (u32, io::Result<()>) {
        let operation = self.operations[usize::from(index)].take();
        let Operation { tag, under_way, error, .. } =
            operation.expect("numbers of operations are of those that there are");
        debug_assert_eq!(under_way, 0);
        self.free_operations.push(index);
        (tag, error.map_or(Ok(()), Err))
    }

    /// Removes everything: each operation ends with the error that it had already, or with this one.
    pub(super) fn drain(&mut self, mut error: impl FnMut() -> io::Error) -> Vec<(u32, io::Result<()>)> {
        let mut ended = Vec::new();
        for id in 0..self.slots.len() as u16 {
            self.end_command(id);
        }
        for index in 0..self.operations.len() as u16 {
            if self.operations[usize::from(index)].is_some() {
                self.fail(index, error());
                ended.push(self.finish(index));
            }
        }
        ended
    }

    /// Commands that have been under way, or aborted, for at least so many periods.
    pub(super) fn overdue(&self, now: u32, limit: u32) -> impl Iterator<Item = Overdue> {
        self.slots.iter().enumerate().filter_map(move |(id, slot)| {
            let periods = now.wrapping_sub(slot.since);
            (slot.operation.is_some() && periods >= limit).then_some(Overdue {
                id: id as u16,
                periods,
                is_aborted: slot.is_aborted,
            })
        })
    }

    /// What the operation is that a command under way belongs to.
    pub(super) fn what(&mut self, id: u16) -> What {
        let index = self.slots[usize::from(id)].operation.expect("the command is under way");
        self.operation(index).what
    }

    /// Notes that the end of a command has been asked for.
    pub(super) fn abort(&mut self, id: u16, now: u32) {
        let slot = &mut self.slots[usize::from(id)];
        slot.is_aborted = true;
        slot.since = now;
    }
}
