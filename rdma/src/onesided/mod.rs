//! One-sided operations as queue tokens: memory of the peer is read, written and counted with, without its doing.
//!
//! The peer exports a [`MemoryWindow`](crate::MemoryWindow), whose [description](RemoteMemory) it sends by whatever way;
//! operations then name it. They are checked against its bounds on this side, and by the peer's device against what it has
//! granted: whoever goes beyond gets [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), and loses the connection.
//!
//! - [`OneSided`]: operations on the queue pairs of one completion queue.
//! - `job`: one of them, as long as there is no room for it.
//! - `slots`: who waits for what.

mod job;
mod slots;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::{QToken, operation};

use crate::verbs::{Completion, Flags, Outcome, QueuePair, RemoteMemory, Work};
use job::{Job, What};
use slots::{Pending, Slots};

/// Operations on queue pairs that complete on one queue.
///
/// Whoever takes completions from that queue gives each to [`complete`](OneSided::complete), which takes what is its own;
/// the tokens of all else are below [`OneSided::MARK`].
#[derive(Default)]
pub struct OneSided {
    slots: RefCell<Slots>,
    /// What there was no room for, in order.
    waiting: RefCell<VecDeque<Waiting>>,
}

struct Waiting {
    tag: u64,
    token: u64,
    job: Job,
}

impl OneSided {
    /// The bit of a request's token that says that it is of these.
    pub const MARK: u64 = 1 << 63;

    /// Nothing is under way.
    pub fn new() -> OneSided {
        OneSided::default()
    }

    /// Reads bytes of the peer's memory.
    ///
    /// # Panics
    /// Outside of a runtime, as all of these.
    pub fn read(
        &self,
        pair: &QueuePair,
        from: RemoteMemory,
        offset: u64,
        len: usize,
    ) -> QToken<io::Result<Buffer>> {
        let (token, done) = operation();
        match BufferMut::with_capacity(len) {
            Ok(into) => {
                let job = Job { at: from, offset, what: What::Read(into, len) };
                self.start(pair, job, Pending::Read(done));
            }
            Err(error) => done.complete(Err(error.into())),
        }
        token
    }

    /// Writes to the peer's memory. When it is done, the bytes are there.
    pub fn write(
        &self,
        pair: &QueuePair,
        data: Sga,
        to: RemoteMemory,
        offset: u64,
    ) -> QToken<io::Result<()>> {
        self.write_with(pair, data, to, offset, Flags::SIGNALLED)
    }

    /// Writes to the peer's memory, and tells the peer a number.
    pub fn write_imm(
        &self,
        pair: &QueuePair,
        data: Sga,
        to: RemoteMemory,
        offset: u64,
        immediate: u32,
    ) -> QToken<io::Result<()>> {
        let flags = Flags { immediate: Some(immediate), solicited: true, ..Flags::SIGNALLED };
        self.write_with(pair, data, to, offset, flags)
    }

    fn write_with(
        &self,
        pair: &QueuePair,
        data: Sga,
        to: RemoteMemory,
        offset: u64,
        flags: Flags,
    ) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.start(pair, Job { at: to, offset, what: What::Write(data, flags) }, Pending::Write(done));
        token
    }

    /// Adds to a number of 8 bytes in the peer's memory, and gives what it was before.
    pub fn fetch_add(
        &self,
        pair: &QueuePair,
        at: RemoteMemory,
        offset: u64,
        add: u64,
    ) -> QToken<io::Result<u64>> {
        let (token, done) = operation();
        self.start(pair, Job { at, offset, what: What::FetchAdd(add) }, Pending::Fetch(done));
        token
    }

    /// Replaces a number of 8 bytes in the peer's memory if it is as expected, and gives what it was before.
    pub fn compare_swap(
        &self,
        pair: &QueuePair,
        at: RemoteMemory,
        offset: u64,
        expected: u64,
        new: u64,
    ) -> QToken<io::Result<u64>> {
        let (token, done) = operation();
        self.start(pair, Job { at, offset, what: What::CompareSwap(expected, new) }, Pending::Fetch(done));
        token
    }

    /// Posts a job, or has it wait behind others of its queue pair.
    fn start(&self, pair: &QueuePair, job: Job, pending: Pending) {
        let tag = pair.tag();
        let token = self.slots.borrow_mut().insert(tag, pending);
        let others_wait = self.waiting.borrow().iter().any(|waiting| waiting.tag == tag);
        if others_wait {
            self.waiting.borrow_mut().push_back(Waiting { tag, token, job });
        } else if let Err(job) = self.attempt(pair, token, job) {
            self.waiting.borrow_mut().push_back(Waiting { tag, token, job });
        }
    }

    /// Posts a job, which comes back if there is no room. One that cannot be done is done with.
    fn attempt(&self, pair: &QueuePair, token: u64, job: Job) -> Result<(), Job> {
        match job.post(pair, token) {
            Ok(()) => Ok(()),
            Err((error, Some(job))) if error.kind() == io::ErrorKind::WouldBlock => Err(job),
            Err((error, _)) => {
                let pending = self.slots.borrow_mut().remove(token);
                if let Some(pending) = pending {
                    pending.fail(error);
                }
                Ok(())
            }
        }
    }

    /// Posts what waits for room on a queue pair, as far as there is some.
    pub fn resume(&self, pair: &QueuePair) {
        let tag = pair.tag();
        loop {
            let next = {
                let mut waiting = self.waiting.borrow_mut();
                let at = waiting.iter().position(|waiting| waiting.tag == tag);
                at.and_then(|at| Some((at, waiting.remove(at)?)))
            };
            let Some((at, Waiting { token, job, .. })) = next else { return };
            if !self.slots.borrow().is_wanted(token) {
                // Nobody waits for it, and the peer has not heard of it.
                drop(self.slots.borrow_mut().remove(token));
                continue;
            }
            if let Err(job) = self.attempt(pair, token, job) {
                // What others have put there meanwhile is behind it.
                let mut waiting = self.waiting.borrow_mut();
                let at = at.min(waiting.len());
                return waiting.insert(at, Waiting { tag, token, job });
            }
        }
    }

    /// Takes a completion that is of an operation of these, and gives back others. After it there may be room for what
    /// [waits](OneSided::resume).
    pub fn complete(&self, completion: Completion) -> Option<Completion> {
        if completion.token & OneSided::MARK == 0 {
            return Some(completion);
        }
        let pending = self.slots.borrow_mut().remove(completion.token)?;
        match (pending, completion.outcome) {
            (Pending::Read(done), Outcome::Read(data)) => done.complete(Ok(data.freeze())),
            (Pending::Write(done), Outcome::Sent(data)) => {
                drop(data);
                done.complete(Ok(()));
            }
            (Pending::Fetch(done), Outcome::Fetched(value)) => done.complete(Ok(value)),
            (pending, Outcome::Failed { error, work }) => {
                match work {
                    Work::Send(data) => drop(data),
                    Work::Read(buffer) | Work::Receive(buffer) => drop(buffer),
                    Work::Atomic => {}
                }
                pending.fail(error.into());
            }
            (pending, _) => pending.fail(io::ErrorKind::InvalidData.into()),
        }
        None
    }

    /// The queue pair with this tag is gone: what was asked of it fails.
    pub fn abort(&self, tag: u64) {
        let mut dropped = Vec::new();
        self.waiting.borrow_mut().retain_mut(|waiting| {
            let is_its = waiting.tag == tag;
            if is_its {
                dropped.push(waiting.job.take());
            }
            !is_its
        });
        drop(dropped);
        loop {
            let pending = self.slots.borrow_mut().remove_of(tag);
            let Some(pending) = pending else { return };
            pending.fail(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is gone"));
        }
    }

    /// How many operations are not done.
    pub fn pending(&self) -> usize {
        self.slots.borrow().len()
    }
}

impl Drop for OneSided {
    fn drop(&mut self) {
        // A promise that nobody keeps would be a panic for who waits.
        let mut slots = std::mem::take(&mut *self.slots.borrow_mut());
        while let Some(pending) = slots.remove_any() {
            pending.fail(io::Error::new(io::ErrorKind::ConnectionAborted, "the device's queues are gone"));
        }
    }
}
