//! An operation as long as it is not the device's.

use std::io;
use std::mem;

use demikernel_runtime::buffer::{BufferMut, Sga};

use crate::verbs::{Flags, QueuePair, RemoteMemory};

pub(super) struct Job {
    pub(super) at: RemoteMemory,
    pub(super) offset: u64,
    pub(super) what: What,
}

pub(super) enum What {
    /// So many bytes, to the beginning of a buffer.
    Read(BufferMut, usize),
    Write(Sga, Flags),
    FetchAdd(u64),
    CompareSwap(u64, u64),
}

impl Job {
    /// Posts it, or gives it back with the reason, if there is anything to give.
    pub(super) fn post(self, pair: &QueuePair, token: u64) -> Result<(), (io::Error, Option<Job>)> {
        let Job { at, offset, what } = self;
        let back = |error, what| (error, Some(Job { at, offset, what }));
        match what {
            What::Read(into, len) => pair
                .read(into, &at, offset, len, Flags::SIGNALLED, token)
                .map_err(|refused| back(refused.error, What::Read(refused.work, len))),
            What::Write(data, flags) => pair
                .write(data, &at, offset, flags, token)
                .map_err(|refused| back(refused.error, What::Write(refused.work, flags))),
            What::FetchAdd(add) => pair
                .fetch_add(&at, offset, add, Flags::SIGNALLED, token)
                .map_err(|error| back(error, What::FetchAdd(add))),
            What::CompareSwap(expected, new) => pair
                .compare_swap(&at, offset, expected, new, Flags::SIGNALLED, token)
                .map_err(|error| back(error, What::CompareSwap(expected, new))),
        }
    }

    /// What it would do, which it then does not.
    pub(super) fn take(&mut self) -> What {
        mem::replace(&mut self.what, What::FetchAdd(0))
    }
}
