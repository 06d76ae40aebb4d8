//! Who waits for what, by a number with a generation.

use std::io;

use demikernel_runtime::Completion;
use demikernel_runtime::buffer::Buffer;

use super::OneSided;
use crate::verbs::Outcome;

/// A promise.
pub(crate) enum Pending {
    Read(Completion<io::Result<Buffer>>),
    Write(Completion<io::Result<()>>),
    Fetch(Completion<io::Result<u64>>),
}

impl Pending {
    fn fail(self, error: io::Error) {
        match self {
            Pending::Read(done) => done.complete(Err(error)),
            Pending::Write(done) => done.complete(Err(error)),
            Pending::Fetch(done) => done.complete(Err(error)),
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Pending::Read(done) => done.is_cancelled(),
            Pending::Write(done) => done.is_cancelled(),
            Pending::Fetch(done) => done.is_cancelled(),
        }
    }
}

impl From<Completion<io::Result<Buffer>>> for Pending {
    fn from(done: Completion<io::Result<Buffer>>) -> Pending {
        Pending::Read(done)
    }
}

impl From<Completion<io::Result<()>>> for Pending {
    fn from(done: Completion<io::Result<()>>) -> Pending {
        Pending::Write(done)
    }
}

impl From<Completion<io::Result<u64>>> for Pending {
    fn from(done: Completion<io::Result<u64>>) -> Pending {
        Pending::Fetch(done)
    }
}

/// A promise, and what came of it.
pub(crate) struct Finished {
    pending: Pending,
    result: Result<Outcome, io::Error>,
}

impl Finished {
    pub(super) fn new(pending: Pending, outcome: Outcome) -> Finished {
        Finished { pending, result: Ok(outcome) }
    }

    pub(crate) fn failed(pending: Pending, error: io::Error) -> Finished {
        Finished { pending, result: Err(error) }
    }

    /// Keeps the promise, which may run anybody's code.
    pub(crate) fn tell(self) {
        match (self.pending, self.result) {
            (Pending::Read(done), Ok(Outcome::Read(data))) => done.complete(Ok(data.freeze())),
            (Pending::Write(done), Ok(Outcome::Sent(data))) => {
                drop(data);
                done.complete(Ok(()));
            }
            (Pending::Fetch(done), Ok(Outcome::Fetched(value))) => done.complete(Ok(value)),
            (pending, Ok(Outcome::Failed { error, work })) => {
                drop(work);
                pending.fail(error.into());
            }
            (pending, Ok(_)) => pending.fail(io::ErrorKind::InvalidData.into()),
            (pending, Err(error)) => pending.fail(error),
        }
    }
}

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    /// Below the mark: 31 bits.
    generation: u32,
    tag: u64,
    pending: Option<Pending>,
}

impl Slots {
    /// Gives the token of the request.
    pub(super) fn insert(&mut self, tag: u64, pending: Pending) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, tag: 0, pending: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 32 bits count")
        });
        let slot = &mut self.slots[index as usize];
        (slot.tag, slot.pending) = (tag, Some(pending));
        OneSided::MARK | u64::from(slot.generation) << 32 | u64::from(index)
    }

    fn find(&self, token: u64) -> Option<usize> {
        let index = token as u32 as usize;
        let slot = self.slots.get(index)?;
        let is_it = u64::from(slot.generation) == (token & !OneSided::MARK) >> 32;
        (is_it && slot.pending.is_some()).then_some(index)
    }

    pub(super) fn is_wanted(&self, token: u64) -> bool {
        let pending = self.find(token).and_then(|index| self.slots[index].pending.as_ref());
        pending.is_some_and(|pending| !pending.is_cancelled())
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Pending> {
        self.find(token).and_then(|index| self.take(index))
    }

    /// All of a queue pair.
    pub(super) fn remove_of(&mut self, tag: u64) -> Vec<Pending> {
        let indices = 0..self.slots.len();
        indices
            .filter_map(|index| if self.slots[index].tag == tag { self.take(index) } else { None })
            .collect()
    }

    pub(super) fn remove_any(&mut self) -> Option<Pending> {
        let index = self.slots.iter().position(|slot| slot.pending.is_some())?;
        self.take(index)
    }

    fn take(&mut self, index: usize) -> Option<Pending> {
        let slot = &mut self.slots[index];
        slot.pending.as_ref()?;
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        self.free.push(index as u32);
        slot.pending.take()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
