//! Block devices for demikernel, and the log on them that loses nothing.
//!
//! In the order in which data flows:
//!
//! - [`Volume`]: a block device in the hands of a program: reads and writes of blocks, as queue tokens.
//! - [`BlockDevice`], [`Geometry`]: what the runtime and its users see of a device.
//! - [`Queue`], [`Driver`]: everything that devices have in common, and what is left for a driver to do.
//! - [`log`]: named, append-only logs on a block device: [`Store`](log::Store) and [`Log`](log::Log).
//! - [`memory`]: a disk in memory, with faults from a seed.
//! - `file` (with the feature `io-uring`): files, block devices and NVMe namespaces of the kernel.
//! - `nvme` (with the feature `nvme`): NVMe drives without the kernel, over VFIO.
//! - `spdk` (with the feature `spdk`): NVMe controllers by SPDK's driver.

mod device;
#[cfg(feature = "io-uring")]
pub mod file;
mod geometry;
pub mod log;
pub mod memory;
#[cfg(feature = "nvme")]
pub mod nvme;
mod queue;
#[cfg(feature = "spdk")]
pub mod spdk;
#[cfg(any(feature = "io-uring", feature = "nvme"))]
#[cfg_attr(not(feature = "nvme"), expect(dead_code, reason = "the kernel's driver does without much of it"))]
mod specification;
mod volume;

pub use device::BlockDevice;
pub use geometry::Geometry;
pub use queue::{Command, Driver, Finished, Piece, Queue, Submitted};
pub use volume::Volume;
