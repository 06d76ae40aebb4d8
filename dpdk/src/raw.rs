//! Frames without a stack: what the device and its driver take, to compare a stack with.
//!
//! These are loops in C over mbufs, with no buffer of the runtime and no protocol. Frames are zeros.

use std::sync::atomic::AtomicBool;

use crate::ffi;
use crate::queue::Queue;

impl Queue {
    /// Sends back whatever comes, until `stop` is set. Returns how many frames came.
    pub fn raw_echo(&mut self, stop: &AtomicBool) -> u64 {
        // SAFETY: the port runs, and this thread alone uses this queue of it.
        unsafe { ffi::dk_raw_echo(self.port().id(), self.index(), stop.as_ptr().cast()) }
    }

    /// Sends frames of `size` bytes, one at a time, each when something has come back for the one before, and gives the
    /// round trips in nanoseconds: fewer than `count` if one takes longer than a second.
    ///
    /// # Panics
    ///
    /// If a frame does not fit in a buffer, which is of 2 KiB at least.
    pub fn raw_ping(&mut self, size: u16, count: usize) -> Vec<u32> {
        assert!(size <= 1514, "frames of an ordinary MTU");
        let mut nanoseconds = vec![0; count];
        let pool = self.receive_mempool();
        // SAFETY: as in `raw_echo`, with a place for each; mbufs are taken from and given back to the queue's own pool.
        let done = unsafe {
            let (port, queue) = (self.port().id(), self.index());
            ffi::dk_raw_ping(port, queue, pool, size, nanoseconds.as_mut_ptr(), count as u32)
        };
        nanoseconds.truncate(done as usize);
        nanoseconds
    }

    /// Sends frames of `size` bytes as fast as they go, until `stop` is set. Returns how many.
    ///
    /// # Panics
    ///
    /// If a frame is longer than the MTU allows.
    pub fn raw_flood(&mut self, size: u16, stop: &AtomicBool) -> u64 {
        assert!(size <= self.port().mtu() + 14, "no longer than a frame of this MTU");
        let pool = self.receive_mempool();
        // SAFETY: as in `raw_ping`.
        unsafe { ffi::dk_raw_flood(self.port().id(), self.index(), pool, size, stop.as_ptr().cast()) }
    }

    /// Takes whatever comes, until `stop` is set. Returns how many bytes came.
    pub fn raw_sink(&mut self, stop: &AtomicBool) -> u64 {
        // SAFETY: as in `raw_echo`.
        unsafe { ffi::dk_raw_sink(self.port().id(), self.index(), stop.as_ptr().cast()) }
    }
}
