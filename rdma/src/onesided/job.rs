//! An operation as long as it is not the device's.

use std::io;

use demikernel_runtime::buffer::{BufferMut, Sga};

use crate::verbs::{Flags, QueuePair, RemoteMemory};

pub(crate) struct Job {
    pub(crate) at: RemoteMemory,
    pub(crate) offset: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// So many bytes, to the beginning of a buffer.
    Read(BufferMut, usize),
    Write(Sga, Flags),
    FetchAdd(u64),
    CompareSwap(u64, u64),
}

impl Job {
    pub(crate) fn read(at: RemoteMemory, offset: u64, len: usize) -> io::Result<Job> {
        let what = What::Read(BufferMut::with_capacity(len)?, len);
        Ok(Job { at, offset, what })
    }

    pub(crate) fn write(at: RemoteMemory, offset: u64, data: Sga, immediate: Option<u32>) -> Job {
        let flags = Flags { immediate, solicited: immediate.is_some(), ..Flags::SIGNALLED };
        Job { at, offset, what: What::Write(data, flags) }
    }

    pub(super) fn notifies(&self) -> bool {
        matches!(self.what, What::Write(_, Flags { immediate: Some(_), .. }))
    }

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
}
