//! Block devices for demikernel, and the log on them that loses nothing.
//!
//! A push is durable when its token is done, and pushes that are under way together share a flush:
//!
//! ```
//! use demikernel_runtime::buffer::Buffer;
//! use demikernel_spdk_storage::log::StoreOptions;
//! use demikernel_spdk_storage::memory::{Disk, Loss};
//! use demikernel_spdk_storage::{Geometry, Volume};
//!
//! # demikernel_runtime::Runtime::new()?.block_on(async {
//! let disk = Disk::new(Geometry::new(512, 1 << 20)); // in memory; `file::open` and `nvme::open` give others
//! let store = StoreOptions::new().create(true).open(Volume::attach(disk.device())).await?;
//! let log = store.log("orders").await?;
//! let (first, second) = (log.push(Buffer::from("first")), log.push(Buffer::from("second")));
//! first.await?;
//! second.await?;
//!
//! // The power goes, and all that was not flushed with it.
//! drop((log, store));
//! disk.crash(Loss::Everything);
//!
//! let store = StoreOptions::new().open(Volume::attach(disk.device())).await?;
//! let mut log = store.log("orders").await?;
//! let mut found = Vec::new();
//! while let Some(record) = log.next().await? {
//!     found.push(record.data);
//! }
//! assert_eq!(found, [&b"first"[..], b"second"]);
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! # What is where
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
//!
//! # Features
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `io-uring` (default) | `file`, and the program `demikernel-log`, which makes, verifies and dumps stores | Linux 5.15 |
//! | `nvme` | `nvme` | a drive behind an IOMMU that vfio-pci has |
//! | `spdk` | `spdk` | SPDK's libraries when it runs |
//! | `dpdk` | with `spdk`: one environment for both | libdpdk, the same that SPDK was built with |
//!
//! # Where to go next
//!
//! Programs use `demikernel::storage`, which opens the store that the configuration says. FORMAT.md specifies what is on the
//! medium, and argues why nothing is lost. Who writes a driver begins with [`Driver`].

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
