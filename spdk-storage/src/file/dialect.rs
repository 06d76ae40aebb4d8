//! How operations are told to the kernel: as those of files, or as commands of NVMe.

use super::transfer::{Kind, Transfer};
use io_uring::{cqueue, squeue, types};
use std::io;

/// What differs between the two.
pub(super) trait Dialect: 'static {
    /// Entries of the submission and of the completion queue.
    type Entry: squeue::EntryMarker;
    type Completed: cqueue::EntryMarker;

    const NAME: &'static str;

    /// Why there is no such thing.
    #[inline]
    fn refusal(&self, _kind: Kind) -> Option<io::Error> {
        None
    }

    /// Whether the kernel can be asked for the end of a read or write, if it has queues for that.
    fn can_poll(&self, transfer: &Transfer) -> bool;

    /// The operation that does what is left of a transfer, or as much of it as goes at once, with the file and the region
    /// of the only piece as the ring knows them. Notes in the transfer how much it is.
    fn entry(&self, transfer: &mut Transfer, file: Handle, region: Option<u16>) -> Self::Entry;

    /// What has come of it, by the result of its completion.
    fn outcome(&self, transfer: &Transfer, result: i32) -> Outcome;
}

/// What operations name the file by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    pub(super) file: types::Fd,
    pub(super) flags: squeue::Flags,
}

/// What has come of an operation.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So many bytes are done, or what has no length.
    Done(u64),
    /// It is to be tried again as it was.
    Again,
    /// It is to be tried without naming a region, if it was tried with that.
    Unnamed(io::Error),
    /// It is to be tried without being polled, if it was tried with that.
    Unpolled(io::Error),
    Failed(io::Error),
}
