//! What the driver of a device has to do; the rest is [`Queue`](super::Queue)'s.

use crate::Geometry;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Interest, Turn};
use std::io;
use std::time::Duration;

/// A piece of memory that a device reads from or writes into.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its first byte, aligned as the geometry says.
    pub address: *mut u8,
    /// Whole blocks; where the geometry's `memory_alignment` is 1, only all pieces together are.
    pub length: usize,
    /// The region of the runtime's heap and the place in it, if it is there
    /// ([`Buffer::region`](demikernel_runtime::buffer::Buffer::region)).
    pub region: Option<(u32, usize)>,
}

/// One operation. Ranges are whole blocks within the device.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Fill all of the memory from this position on.
    Read(u64, &'a [Piece]),
    /// Write all of the memory at this position.
    Write(u64, &'a [Piece]),
    /// Likewise, so that it is durable when it is finished. Only of drivers whose geometry says so.
    WriteDurable(u64, &'a [Piece]),
    /// Make durable what was written.
    Flush,
    /// Forget a range: position and length.
    Discard(u64, u64),
    /// Zero a range: position and length.
    WriteZeroes(u64, u64),
}

/// What came of submitting a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a command that was not taken must be submitted again"]
pub enum Submitted {
    /// It will be in [`Finished`] once.
    Taken,
    /// There is no room now. It is submitted again when others have finished.
    Full,
}

/// Commands that are over, and how they ended: by the tag that they were submitted with.
pub type Finished = Vec<(u32, io::Result<()>)>;

/// The driver of a device: it submits commands, and finds out when they are over.
///
/// [`Queue`](super::Queue) makes a [`BlockDevice`](crate::BlockDevice) of it: it checks ranges, copies what is not
/// aligned, keeps memory until commands are over, lets commands wait when there is no room, and speaks with the runtime.
///
/// # Safety
/// A read that finishes without an error has written all of its memory. Nothing uses the memory of a command after its
/// tag has been put into [`Finished`], nor that of any after [`shut_down`](Self::shut_down), save of those that it left
/// unfinished.
pub unsafe trait Driver: 'static {
    /// Its name: `"memory"`, `"nvme"`, ...
    fn name(&self) -> &'static str;

    /// What the device is like. It stays the same.
    fn geometry(&self) -> Geometry;

    /// Whether the device can use all memory of the command as it lies. What it cannot is copied into memory of the pool,
    /// which is then submitted whatever this says of it.
    #[inline]
    fn reaches(&self, _command: &Command<'_>) -> bool {
        true
    }

    /// Hands a command in. It must not be finished within this call, but may be from the next poll on. What is longer
    /// than the device takes at once is the driver's to divide.
    ///
    /// # Safety
    /// The memory of the command's pieces (not the list of them) stays valid until the tag has been put into
    /// [`Finished`]; until then nobody else writes it, and of a read nobody else reads it. Tags of commands under way
    /// differ, and are below `u32::MAX`.
    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted;

    /// Moves things along, and tells what is over. Called whenever the runtime polls and something is under way, or it is
    /// time for it.
    fn poll(&mut self, turn: Turn, finished: &mut Finished);

    /// What to wait for while something is under way. What was submitted must be on its way to the device when this
    /// returns, as the thread may be blocked next.
    fn interest(&mut self) -> Interest;

    /// When it must be polled though nothing has happened outside: delays, time-outs, and with nothing under way what
    /// keeps a connection alive.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Ends: after at most `grace`, no memory of any command is used by anything outside. What could not be completed
    /// is finished with an error.
    fn shut_down(&mut self, grace: Duration, finished: &mut Finished);

    /// Counters for people, as name and value.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
