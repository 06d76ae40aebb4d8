//! One-sided operations as queue tokens: memory of the peer is read, written and counted with, without its doing.
//!
//! The peer exports a [`MemoryWindow`](crate::MemoryWindow), whose [description](RemoteMemory) it sends by whatever way;
//! operations then name it. They are checked against its bounds on this side, and by the peer's device against what it has
//! granted: whoever goes beyond gets [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), and loses the connection.
//!
//! - [`OneSided`]: operations on the queue pairs of one completion queue. Streams of the transport have them by
//!   [`Remote`](crate::transport::Remote).
//! - `job`: one of them, as long as there is no room for it. `gate`: who else has a say in that.
//! - `slots`: who waits for what.

mod gate;
mod job;
mod slots;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;

use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::{QToken, operation};

use crate::verbs::{Completion, QueuePair, RemoteMemory};
pub(crate) use gate::{Gate, Open};
pub(crate) use job::{Job, What};
use slots::Slots;
pub(crate) use slots::{Finished, Pending};

/// Operations on queue pairs that complete on one queue.
///
/// Whoever takes completions from that queue gives each to [`complete`](OneSided::complete), which takes what is its own;
/// the tokens of all else are below [`OneSided::MARK`].
#[derive(Default)]
pub struct OneSided {
    slots: RefCell<Slots>,
    /// By the tags of queue pairs, those that have anything to do.
    queues: RefCell<HashMap<u64, Queue>>,
}

/// What a queue pair has to do.
#[derive(Default)]
struct Queue {
    /// What there was no room for, in order.
    waiting: VecDeque<(u64, Job)>,
    /// How many the device has.
    posted: u32,
}

/// What came of trying to post an operation.
enum Attempt {
    Posted,
    /// It is to be tried again.
    Waits(Job),
    /// It cannot be done.
    Failed(Option<Finished>),
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
        match Job::read(from, offset, len) {
            Ok(job) => self.start(pair, job, Pending::Read(done)),
            Err(error) => done.complete(Err(error)),
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
        self.write_with(pair, data, to, offset, None)
    }

    /// Writes to the peer's memory, and tells the peer a number, which takes one of its receives.
    pub fn write_imm(
        &self,
        pair: &QueuePair,
        data: Sga,
        to: RemoteMemory,
        offset: u64,
        immediate: u32,
    ) -> QToken<io::Result<()>> {
        self.write_with(pair, data, to, offset, Some(immediate))
    }

    fn write_with(
        &self,
        pair: &QueuePair,
        data: Sga,
        to: RemoteMemory,
        offset: u64,
        immediate: Option<u32>,
    ) -> QToken<io::Result<()>> {
        let (token, done) = operation();
        self.start(pair, Job::write(to, offset, data, immediate), Pending::Write(done));
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

    fn start(&self, pair: &QueuePair, job: Job, pending: Pending) {
        if let Some(finished) = self.begin(pair, &mut Open, job, pending) {
            finished.tell();
        }
    }

    /// Posts an operation, or has it wait behind others of its queue pair. If it cannot be done it is finished.
    pub(crate) fn begin(
        &self,
        pair: &QueuePair,
        gate: &mut dyn Gate,
        job: Job,
        pending: impl Into<Pending>,
    ) -> Option<Finished> {
        let tag = pair.tag();
        let token = self.slots.borrow_mut().insert(tag, pending.into());
        let others_wait = self.queues.borrow().get(&tag).is_some_and(|queue| !queue.waiting.is_empty());
        let attempt = if others_wait { Attempt::Waits(job) } else { self.attempt(pair, gate, token, job) };
        match attempt {
            Attempt::Posted => None,
            Attempt::Waits(job) => {
                self.queues.borrow_mut().entry(tag).or_default().waiting.push_back((token, job));
                None
            }
            Attempt::Failed(finished) => finished,
        }
    }

    /// Posts an operation if there is room, which the gate is asked for first.
    fn attempt(&self, pair: &QueuePair, gate: &mut dyn Gate, token: u64, job: Job) -> Attempt {
        let (tag, notifies) = (pair.tag(), job.notifies());
        let posted = self.queues.borrow().get(&tag).map_or(0, |queue| queue.posted);
        match gate.admit(posted, notifies) {
            Ok(true) => {}
            Ok(false) => return Attempt::Waits(job),
            Err(error) => return self.failed(token, error),
        }
        match job.post(pair, token) {
            Ok(()) => {
                self.queues.borrow_mut().entry(tag).or_default().posted += 1;
                Attempt::Posted
            }
            Err((error, job)) => {
                gate.take_back(notifies);
                match job {
                    Some(job) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Waits(job),
                    _ => self.failed(token, error),
                }
            }
        }
    }

    fn failed(&self, token: u64, error: io::Error) -> Attempt {
        let pending = self.slots.borrow_mut().remove(token);
        Attempt::Failed(pending.map(|pending| Finished::failed(pending, error)))
    }

    /// Posts what waits for room on a queue pair, as far as there is some.
    pub fn resume(&self, pair: &QueuePair) {
        let mut finished = Vec::new();
        self.go_on(pair, &mut Open, &mut finished);
        finished.into_iter().for_each(Finished::tell);
    }

    /// The same through a gate: whether all is posted.
    pub(crate) fn go_on(&self, pair: &QueuePair, gate: &mut dyn Gate, finished: &mut Vec<Finished>) -> bool {
        let tag = pair.tag();
        loop {
            let next = self.queues.borrow_mut().get_mut(&tag).and_then(|queue| queue.waiting.pop_front());
            let Some((token, job)) = next else { break };
            if !self.slots.borrow().is_wanted(token) {
                // Nobody waits for it, and the peer has not heard of it.
                drop(self.slots.borrow_mut().remove(token));
                continue;
            }
            match self.attempt(pair, gate, token, job) {
                Attempt::Posted => {}
                Attempt::Failed(one) => finished.extend(one),
                Attempt::Waits(job) => {
                    // What others have put there meanwhile is behind it.
                    self.queues.borrow_mut().entry(tag).or_default().waiting.push_front((token, job));
                    return false;
                }
            }
        }
        self.forget_if_idle(tag);
        true
    }

    fn forget_if_idle(&self, tag: u64) {
        let mut queues = self.queues.borrow_mut();
        if queues.get(&tag).is_some_and(|queue| queue.posted == 0 && queue.waiting.is_empty()) {
            queues.remove(&tag);
        }
    }

    /// Takes a completion that is of an operation of these, and gives back others. After it there may be room for what
    /// [waits](OneSided::resume).
    pub fn complete(&self, completion: Completion) -> Option<Completion> {
        match self.take(completion) {
            Ok(finished) => {
                if let Some(finished) = finished {
                    finished.tell();
                }
                None
            }
            Err(other) => Some(other),
        }
    }

    /// The same without telling anybody yet.
    pub(crate) fn take(&self, completion: Completion) -> Result<Option<Finished>, Completion> {
        if completion.token & OneSided::MARK == 0 {
            return Err(completion);
        }
        if let Some(queue) = self.queues.borrow_mut().get_mut(&completion.tag) {
            queue.posted = queue.posted.saturating_sub(1);
        }
        self.forget_if_idle(completion.tag);
        let pending = self.slots.borrow_mut().remove(completion.token);
        Ok(pending.map(|pending| Finished::new(pending, completion.outcome)))
    }

    /// Whether operations wait for room on the queue pair with this tag.
    pub(crate) fn has_waiting(&self, tag: u64) -> bool {
        self.queues.borrow().get(&tag).is_some_and(|queue| !queue.waiting.is_empty())
    }

    /// The queue pair with this tag is gone: what was asked of it fails.
    pub fn abort(&self, tag: u64) {
        let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is gone");
        self.give_up(tag, gone).into_iter().for_each(Finished::tell);
    }

    /// The same without telling anybody yet, with another reason.
    pub(crate) fn give_up(&self, tag: u64, reason: impl Fn() -> io::Error) -> Vec<Finished> {
        if self.slots.borrow().len() == 0 {
            return Vec::new();
        }
        // What it has is let go of when nothing is borrowed.
        let queue = self.queues.borrow_mut().remove(&tag);
        drop(queue);
        let pending = self.slots.borrow_mut().remove_of(tag);
        pending.into_iter().map(|pending| Finished::failed(pending, reason())).collect()
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
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the device's queues are gone");
            Finished::failed(pending, error).tell();
        }
    }
}
