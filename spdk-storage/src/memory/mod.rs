//! A disk in memory, with faults from a seed: for tests, and to run without a disk.
//!
//! [`Disk`] is the medium: it outlives devices, runtimes, and crashes, which [`Disk::crash`] makes. [`Disk::device`] is a
//! block device on it.

mod crash; // what is left of writes that were not flushed
mod disk; // the medium
mod driver; // the device

pub use crash::Loss;
pub use disk::{Disk, Faults};
pub use driver::MemoryDriver;
