//! What one-sided operations ask of the device and the protocol.

use super::engine::{End, Engine, failure_of};
use super::errors;
use crate::link::{Id, Link};
use crate::onesided::{Finished, Gate, Job, Pending, What};
use crate::verbs::{Access, Completion, Outcome};
use demikernel_runtime::buffer::Sga;
use std::io;

/// The protocol's say: streams and one-sided operations share a send queue, and notices take credits.
struct Shared<'a> {
    link: &'a mut Link,
    id: Id,
}

impl Gate for Shared<'_> {
    fn admit(&mut self, posted: u32, notifies: bool) -> io::Result<bool> {
        if posted >= self.link.reserve(self.id).into() {
            return Ok(false);
        }
        if notifies { self.link.take_credit(self.id) } else { Ok(true) }
    }

    fn take_back(&mut self, notifies: bool) {
        if notifies {
            self.link.return_credit(self.id);
        }
    }
}

impl Engine {
    /// Has memory that the device does not reach copied to where it does.
    pub(super) fn make_reachable(&mut self, data: &mut Sga) -> io::Result<()> {
        if data.iter().all(|piece| self.domain().reaches(piece.region())) {
            return Ok(());
        }
        let mut reachable = Sga::new();
        for piece in data.iter() {
            reachable.push(self.memory.reachable(piece)?);
        }
        *data = reachable;
        Ok(())
    }

    pub(super) fn start_one_sided(&mut self, id: Id, job: Job, pending: Pending) -> Option<Finished> {
        if let Err(error) = self.is_possible(id, &job) {
            return Some(Finished::failed(pending, error));
        }
        let index = id.index() as usize;
        let Some(Some(End { pair: Some(pair), .. })) = self.ends.get(index) else {
            return Some(Finished::failed(pending, io::ErrorKind::NotConnected.into()));
        };
        let mut gate = Shared { link: &mut self.link, id };
        let finished = self.one_sided.begin(pair, &mut gate, job, pending);
        if self.one_sided.has_waiting(id.to_u64()) {
            self.stalled.insert(id);
        }
        finished
    }

    fn is_possible(&mut self, id: Id, job: &Job) -> io::Result<()> {
        self.link.connected(id)?;
        let end = self.end_of(id).ok_or(io::ErrorKind::NotConnected)?;
        if end.reads == 0 && !matches!(job.what, What::Write(..)) {
            let text = "the peer answers no reads and atomic operations, or this side asks none: `read-depth` under [rdma] \
                        of both must not be 0";
            return Err(errors::unsupported(text));
        }
        Ok(())
    }

    /// Lets the peer of a connection do more.
    pub(super) fn grant(&mut self, id: Id, access: Access) -> io::Result<()> {
        let end = self.end_of(id).ok_or(io::ErrorKind::NotConnected)?;
        let pair = end.pair.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if end.answers == 0 && (access.contains(Access::READ) || access.contains(Access::ATOMIC)) {
            let text = "the peer is answered no reads and atomic operations, or asks none: `read-depth` under [rdma] of \
                        both must not be 0";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match pair.access() {
            granted if granted.contains(access) => Ok(()),
            granted => pair.set_access(granted | access),
        }
    }

    /// Posts what waits, where there may be room for it.
    #[cold]
    pub(super) fn resume_one_sided(&mut self) {
        for id in std::mem::take(&mut self.stalled) {
            self.resume(id);
        }
    }

    fn resume(&mut self, id: Id) {
        let Some(Some(end)) = self.ends.get(id.index() as usize) else { return };
        let (true, Some(pair)) = (end.id == id, &end.pair) else { return };
        let mut gate = Shared { link: &mut self.link, id };
        if !self.one_sided.go_on(pair, &mut gate, &mut self.finished) {
            self.stalled.insert(id);
        }
    }

    /// An operation is done, which is told when nothing is borrowed.
    #[cold]
    pub(super) fn complete_one_sided(&mut self, completion: Completion) {
        let id = Id::from_u64(completion.tag);
        if let Outcome::Failed { error, .. } = &completion.outcome {
            self.link.broken(id, failure_of(error.status));
        }
        if let Ok(finished) = self.one_sided.take(completion) {
            self.finished.extend(finished);
        }
        if self.one_sided.has_waiting(id.to_u64()) {
            self.stalled.insert(id);
        }
    }

    /// The device is gone.
    pub(super) fn give_up_all_one_sided(&mut self, reason: &io::Error) {
        for id in self.ends.iter().flatten().map(|end| end.id) {
            self.finished.extend(self.one_sided.give_up(id.to_u64(), || errors::copy(reason)));
        }
    }

    /// The queue pair of a connection is gone.
    pub(super) fn give_up_one_sided(&mut self, id: Id) {
        self.stalled.remove(&id);
        let failure = self.link.failure(id);
        let reason = || match failure {
            Some(failure) => failure.into(),
            None => io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is gone"),
        };
        let given_up = self.one_sided.give_up(id.to_u64(), reason);
        self.finished.extend(given_up);
    }
}
