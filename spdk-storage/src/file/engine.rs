//! Commands become operations of the rings, and go on until they are done.

use super::dialect::{Dialect, Handle, Outcome};
use super::rings::{Lane, Rings};
use super::transfer::Transfer;
use crate::Geometry;
use crate::queue::{Command, Finished, Piece, Submitted};
use demikernel_runtime::transport::Interest;
use demikernel_runtime::transport::uring::RegisteredRegions;
use io_uring::{squeue, types};
use squeue::EntryMarker;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// When so many operations are waiting to be submitted they are, as the disk could be at work: what is handed to it in one
/// piece, many a disk gives back in one piece, and does nothing in between.
const EARLY: usize = 2;

/// How long the end waits for operations at least, as nothing can be done instead.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the first read of a polled ring may take.
const PROBE: Duration = Duration::from_secs(5);

/// How rings are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) depth: u32,
    pub(super) polls: bool,
    pub(super) fixed: bool,
}

pub(super) struct Engine<D: Dialect> {
    // Rings go before what they were told of.
    rings: Rings<D::Entry, D::Completed>,
    regions: RegisteredRegions,
    file: File,
    dialect: D,
    pub(super) geometry: Geometry,
    depth: usize,
    under_way: usize,
    /// Whether operations name regions. Not where the kernel has refused that.
    names_regions: bool,
    /// By tag.
    transfers: Vec<Transfer>,
    /// Those that were over before they began.
    early: Finished,
    count: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    fixed: u64,
    again: u64,
    polled: u64,
    unpolled: u64,
}

impl<D: Dialect> Engine<D> {
    pub(super) fn new(file: File, geometry: Geometry, dialect: D, setup: Setup) -> io::Result<Engine<D>> {
        let rings = Rings::new(setup.depth.next_power_of_two(), file.as_raw_fd(), setup.polls)?;
        let regions = RegisteredRegions::new(&rings.data().submitter(), setup.fixed);
        Ok(Engine {
            rings,
            regions,
            file,
            dialect,
            geometry,
            depth: setup.depth as usize,
            under_way: 0,
            names_regions: setup.fixed,
            transfers: Vec::new(),
            early: Vec::new(),
            count: Count::default(),
        })
    }

    /// Gives the file back, with what else there is.
    pub(super) fn into_parts(self) -> (File, D) {
        (self.file, self.dialect)
    }

    /// # Safety
    /// As [`Driver::submit`](crate::Driver::submit), for the memory of the transfer.
    unsafe fn push(&mut self, tag: u32) {
        let transfer = &mut self.transfers[tag as usize];
        let lane = transfer.lane();
        // Regions are known to the ring of reads and writes.
        let region = match (lane, transfer.region) {
            (Lane::Data, region @ Some(_)) if self.names_regions => {
                self.regions.number(&self.rings.data().submitter(), region)
            }
            _ => None,
        };
        transfer.named = region.is_some();
        let ring = self.rings.of(lane);
        let (fd, flags) = match ring.holds() {
            true => (0, squeue::Flags::FIXED_FILE),
            false => (self.file.as_raw_fd(), squeue::Flags::empty()),
        };
        self.count.fixed += u64::from(region.is_some());
        self.count.polled += u64::from(ring.is_polled());
        let mut entry = self.dialect.entry(transfer, Handle { file: types::Fd(fd), flags }, region);
        entry.set_user_data(u64::from(tag));
        // SAFETY: the caller keeps the transfer's memory until the tag is finished; lists stay in the transfer,
        // untouched, until the completion.
        unsafe { self.rings.push(lane, &entry) };
    }

    /// # Safety
    /// As [`Driver::submit`](crate::Driver::submit).
    pub(super) unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        if self.under_way == self.depth {
            return Submitted::Full;
        }
        let index = tag as usize;
        if self.transfers.len() <= index {
            self.transfers.resize_with(index + 1, Transfer::default);
        }
        let transfer = &mut self.transfers[index];
        transfer.set(command);
        transfer.unpolled = self.rings.polls() && !self.dialect.can_poll(transfer);
        let refusal = self.dialect.refusal(transfer.kind);
        if refusal.is_some() || transfer.is_empty() {
            self.early.push((tag, refusal.map_or(Ok(()), Err)));
            return Submitted::Taken;
        }
        self.under_way += 1;
        // SAFETY: the transfer's memory is the command's, which the caller keeps until the tag is finished.
        unsafe { self.push(tag) };
        if self.rings.waiting() >= EARLY {
            self.rings.enter();
        }
        Submitted::Taken
    }

    /// What a completion means: `None` if the transfer goes on.
    fn completed(&mut self, tag: u32, lane: Lane, result: i32) -> Option<io::Result<()>> {
        let transfer = &mut self.transfers[tag as usize];
        match self.dialect.outcome(transfer, result) {
            Outcome::Done(moved) => {
                if transfer.advance(moved) {
                    return Some(Ok(()));
                }
            }
            Outcome::Again => {}
            Outcome::Unnamed(_) if transfer.named => {
                tracing::debug!(
                    "the kernel does not take registered memory here: it looks memory up each time"
                );
                self.names_regions = false;
            }
            Outcome::Unpolled(_) if lane == Lane::Data && self.rings.polls() => {
                transfer.unpolled = true;
                self.count.unpolled += 1;
            }
            Outcome::Failed(error) | Outcome::Unnamed(error) | Outcome::Unpolled(error) => {
                return Some(Err(error));
            }
        }
        self.count.again += 1;
        // SAFETY: the tag is not finished yet, so its memory is as it was.
        unsafe { self.push(tag) };
        None
    }

    fn reap(&mut self, finished: &mut Finished) {
        finished.append(&mut self.early);
        while let Some((lane, tag, result)) = self.rings.next() {
            let tag = tag as u32;
            if let Some(result) = self.completed(tag, lane, result) {
                self.under_way -= 1;
                finished.push((tag, result));
            }
        }
    }

    pub(super) fn poll(&mut self, finished: &mut Finished) {
        self.reap(finished);
        if self.rings.enter() {
            self.reap(finished);
        }
    }

    pub(super) fn interest(&mut self) -> Interest {
        let interest = self.rings.interest();
        if self.early.is_empty() { interest } else { Interest::Polling }
    }

    pub(super) fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        let end = Instant::now() + grace.max(PATIENCE);
        loop {
            self.reap(finished);
            let left = end.saturating_duration_since(Instant::now());
            if self.under_way == 0 || left.is_zero() {
                return;
            }
            self.rings.wait(left.min(Duration::from_millis(100)));
        }
    }

    /// Reads a block, to see whether what was set up works.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        /// As large, and as aligned, as any block.
        #[repr(align(65536))]
        struct Block([u8; 65536]);
        let mut block = Box::new(Block([0; 65536]));
        let length = (self.geometry.logical_block as usize).min(block.0.len());
        let piece = Piece { address: block.0.as_mut_ptr(), length, region: None };
        let mut finished = Finished::new();
        let end = Instant::now() + PROBE;
        // SAFETY: the block stays until it is read, and for ever if it is not.
        let _ = unsafe { self.submit(0, Command::Read(0, &[piece])) };
        while finished.is_empty() {
            if Instant::now() > end {
                std::mem::forget(block);
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.rings.wait(Duration::from_millis(1));
            self.reap(&mut finished);
        }
        let was_polled = self.count.polled > 0 && self.count.unpolled == 0;
        self.count = Count::default();
        finished.remove(0).1?;
        if was_polled { Ok(()) } else { Err(io::Error::from(io::ErrorKind::Unsupported)) }
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let Count { fixed, again, polled, unpolled } = self.count;
        vec![
            ("fixed", fixed),
            ("again", again),
            ("polled", polled),
            ("unpolled", unpolled),
            ("enters", self.rings.enters()),
        ]
    }
}
