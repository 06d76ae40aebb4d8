//! One ring; or two, where the device is polled.
//!
//! In a ring that is polled, the kernel takes nothing but reads and writes, and looks for what has ended only when it is
//! entered. Everything else goes through a ring of its own then.

use super::ring::Ring;
use demikernel_runtime::transport::Interest;
use io_uring::{cqueue, squeue};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Which ring an operation goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// That of reads and writes.
    Data,
    /// That of everything else, and of what cannot be polled. The same if nothing is polled.
    Control,
}

pub(super) struct Rings<S: squeue::EntryMarker, C: cqueue::EntryMarker> {
    data: Ring<S, C>,
    control: Option<Ring<S, C>>,
    /// How many operations are under way that nobody will tell of.
    polled: usize,
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Rings<S, C> {
    pub(super) fn new(entries: u32, file: RawFd, polls: bool) -> io::Result<Rings<S, C>> {
        let data = Ring::new(entries, file, polls)?;
        let control = if polls { Some(Ring::new(entries, file, false)?) } else { None };
        Ok(Rings { data, control, polled: 0 })
    }

    /// The ring that a lane is.
    pub(super) fn of(&mut self, lane: Lane) -> &mut Ring<S, C> {
        match (lane, &mut self.control) {
            (Lane::Control, Some(control)) => control,
            _ => &mut self.data,
        }
    }

    pub(super) fn data(&self) -> &Ring<S, C> {
        &self.data
    }

    pub(super) fn polls(&self) -> bool {
        self.control.is_some()
    }

    pub(super) fn enters(&self) -> u64 {
        self.data.enters + self.control.as_ref().map_or(0, |control| control.enters)
    }

    /// Hands an operation in.
    ///
    /// # Safety
    /// As [`Ring::push`].
    pub(super) unsafe fn push(&mut self, lane: Lane, entry: &S) {
        let ring = self.of(lane);
        let polled = usize::from(ring.is_polled());
        // SAFETY: the caller keeps the operation's memory until its completion, and lists until the kernel has been
        // entered.
        while !unsafe { ring.push(entry) } {
            // Operations that go on may find the queue full of those that were just submitted.
            ring.enter();
        }
        self.polled += polled;
    }

    /// How many operations are waiting to be submitted.
    pub(super) fn waiting(&mut self) -> usize {
        self.data.waiting() + self.control.as_mut().map_or(0, Ring::waiting)
    }

    /// Enters the kernel where something is waiting to be submitted, or it asks for that, or is to be asked. Returns
    /// whether it did.
    pub(super) fn enter(&mut self) -> bool {
        let asks = self.polled > 0 || self.data.wants_enter();
        if asks {
            self.data.enter();
        }
        let control = self.control.as_mut().and_then(|control| control.wants_enter().then_some(control));
        let tells = control.is_some();
        control.into_iter().for_each(Ring::enter);
        asks || tells
    }

    /// Takes the next completion: where it was, its `user_data` and result.
    pub(super) fn next(&mut self) -> Option<(Lane, u64, i32)> {
        if let Some((data, result)) = self.data.next() {
            self.polled -= usize::from(self.data.is_polled());
            return Some((Lane::Data, data, result));
        }
        let (data, result) = self.control.as_mut()?.next()?;
        Some((Lane::Control, data, result))
    }

    pub(super) fn interest(&mut self) -> Interest {
        self.enter();
        match (self.polled, &self.control) {
            (0, Some(control)) => Interest::Descriptor(control.as_raw_fd()),
            (0, None) => Interest::Descriptor(self.data.as_raw_fd()),
            _ => Interest::Polling,
        }
    }

    /// Submits, and waits for a completion, at most for so long.
    pub(super) fn wait(&mut self, most: Duration) {
        match &mut self.control {
            Some(control) if self.polled == 0 => control.wait(most),
            Some(control) => {
                control.enter();
                self.data.wait(most);
            }
            None => self.data.wait(most),
        }
    }
}
