//! The device on a disk in memory.

use super::disk::{Disk, State};
use crate::Geometry;
use crate::queue::{Command, Driver, Finished, Piece, Submitted};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Interest, Turn};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// How many operations are under way at most.
const DEPTH: usize = 128;

/// The driver of a [`Disk`].
///
/// What an operation does, it does when it is submitted; what takes time is that anybody learns of it.
#[derive(Debug)]
pub struct MemoryDriver {
    disk: Disk,
    geometry: Geometry,
    /// In the order in which they are over.
    under_way: VecDeque<Pending>,
    done: u64,
}

#[derive(Debug)]
struct Pending {
    /// `None`: by the next poll.
    due: Option<Instant>,
    tag: u32,
    result: io::Result<()>,
}

impl MemoryDriver {
    /// A driver of this disk; [`Disk::device`] is a device with it.
    pub fn on(disk: &Disk) -> MemoryDriver {
        MemoryDriver {
            geometry: disk.geometry(),
            disk: disk.clone(),
            under_way: VecDeque::with_capacity(DEPTH),
            done: 0,
        }
    }
}

/// # Safety
/// As [`Driver::submit`], for the memory of the command.
unsafe fn perform(state: &mut State, command: Command<'_>) -> io::Result<()> {
    let durable = matches!(command, Command::WriteDurable(..));
    match command {
        Command::Read(at, pieces) => {
            let total: usize = pieces.iter().map(|piece| piece.length).sum();
            let mut content = state.read(at, total as u64)?;
            for piece in pieces {
                let (now, rest) = content.split_at(piece.length);
                // SAFETY: the caller's: the memory is valid, and nobody else's.
                unsafe { piece.address.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
                content = rest;
            }
            Ok(())
        }
        Command::Write(at, pieces) | Command::WriteDurable(at, pieces) => {
            let total: usize = pieces.iter().map(|piece| piece.length).sum();
            let allowed = state.may_write(at, total as u64);
            let is_fault = matches!(&allowed, Err(error) if error.raw_os_error() == Some(libc::EIO));
            if allowed.is_err() && !is_fault {
                return allowed;
            }
            // A write that fails has been made in part.
            let block = u64::from(state.geometry.logical_block);
            let mut left = match is_fault {
                true => (state.random.below(total as u64 / block + 1) * block) as usize,
                false => total,
            };
            let mut at = at;
            for &Piece { address, length, .. } in pieces {
                // SAFETY: the caller's: the memory is valid, and nobody writes it.
                let data = unsafe { std::slice::from_raw_parts(address, length.min(left)) };
                state.put(at, data, durable);
                at += data.len() as u64;
                left -= data.len();
            }
            allowed
        }
        Command::Flush => state.flush(),
        Command::Discard(at, length) | Command::WriteZeroes(at, length) => {
            state.may_write(at, length)?;
            const ZEROS: [u8; 4096] = [0; 4096];
            let end = at + length;
            for at in (at..end).step_by(ZEROS.len()) {
                state.put(at, &ZEROS[..ZEROS.len().min((end - at) as usize)], false);
            }
            Ok(())
        }
    }
}

// SAFETY: memory is only used within `submit`; a read without an error has gone through all pieces.
unsafe impl Driver for MemoryDriver {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        if self.under_way.len() == DEPTH {
            return Submitted::Full;
        }
        let (result, takes) = self.disk.with(|state| {
            // SAFETY: the caller keeps the command's memory until the tag is finished; it is only used in here.
            let result = unsafe { perform(state, command) };
            let jitter = state.faults.jitter;
            (result, state.faults.latency + state.random.up_to(jitter))
        });
        if takes.is_zero() {
            self.under_way.push_back(Pending { due: None, tag, result });
            return Submitted::Taken;
        }
        let due = Instant::now() + takes;
        let later = |pending: &Pending| pending.due.is_some_and(|other| other > due);
        let place = self.under_way.iter().position(later).unwrap_or(self.under_way.len());
        self.under_way.insert(place, Pending { due: Some(due), tag, result });
        Submitted::Taken
    }

    #[inline]
    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        let mut now = None;
        while let Some(pending) = self.under_way.front() {
            if pending.due.is_some_and(|due| due > *now.get_or_insert_with(Instant::now)) {
                break;
            }
            if let Some(Pending { tag, result, .. }) = self.under_way.pop_front() {
                self.done += 1;
                finished.push((tag, result));
            }
        }
    }

    fn interest(&mut self) -> Interest {
        match self.under_way.front() {
            None => Interest::None,
            Some(Pending { due: None, .. }) => Interest::Polling,
            // The deadline ends the wait.
            Some(_) => Interest::None,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.under_way.front().and_then(|pending| pending.due)
    }

    fn shut_down(&mut self, _grace: Duration, finished: &mut Finished) {
        finished.extend(self.under_way.drain(..).map(|pending| (pending.tag, pending.result)));
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("done", self.done)]
    }
}
