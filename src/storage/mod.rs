//! Storage: logs that lose nothing, block devices, and files.
//!
//! - [`store`] is the [`Store`] of logs that the runtime is configured with, and [`log`](log()) one of them, a [`Log`].
//!   [`StorageConfig`] is what can be said of it. [`open`] gives a store in a file or on a device that the program names.
//! - [`Volume`]: blocks of a device, without a log. [`BlockDevice`]: what the runtime asks of one.
//! - [`File`]: files as they are elsewhere ([`fs`](crate::fs)).
//! - `nvme` (with the feature `nvme`): drives past the kernel.
//! - [`memory`]: a disk in memory, with faults from a seed, for tests.
//!
//! ```no_run
//! use demikernel::{Buffer, storage};
//!
//! #[demikernel::main]
//! async fn main() -> std::io::Result<()> {
//!     let store = storage::open("orders.log", 64 << 20).await?;
//!     let mut orders = store.log("orders").await?;
//!     while let Some(record) = orders.next().await? {
//!         println!("{}: {} bytes", record.number, record.data.len());
//!     }
//!     // Durable when it is done; pushes under way together share one flush.
//!     orders.push(Buffer::from("one coffee")).await?;
//!     store.close().await
//! }
//! ```

mod config; // the section `[storage]`
mod configured; // the store that a runtime is configured with
mod device; // what a device is, and opening it

use std::io;
use std::path::Path;

pub use config::{Format, SpdkSection, StorageConfig};
pub(crate) use configured::{Configured, Named};
pub use configured::{log, set_default, store};
pub use device::{ParseDeviceError, StorageDevice};

pub use demikernel_runtime::fs::File;
#[cfg(feature = "io-uring")]
pub use demikernel_spdk_storage::file::FileOptions;
pub use demikernel_spdk_storage::log::{
    Appended, Damage, Log, LogError, Record, Seek, Store, StoreInfo, StoreOptions, log_error,
};
#[cfg(feature = "nvme")]
pub use demikernel_spdk_storage::nvme;
#[cfg(feature = "spdk")]
pub use demikernel_spdk_storage::spdk;
pub use demikernel_spdk_storage::{BlockDevice, Geometry, Volume, memory};

/// Opens the store of logs in a file or on a block device, through io_uring. A file that is not there is made with so many
/// bytes, and a store on what is blank.
///
/// The path may be any [`StorageDevice`] as it is written. With the feature `nvme` the address of a drive that is bound to vfio-pci stands for one of its namespaces, all of it:
/// `"0000:5e:00.0/1"`. With the feature `spdk`, `"spdk:"` before such an address, or before one of SPDK's transports, has
/// SPDK drive it: `"spdk:trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:disk/1"`.
///
/// `FileOptions`, [`Volume::attach`] and [`StoreOptions`] are the long way, with choices.
///
/// # Errors
/// Those of opening the file: `ResourceBusy` if another process has it. A [`LogError`] within the error says what is there
/// instead of a store, or what is wrong with it. `Unsupported` without the feature `io-uring`.
pub async fn open(path: impl AsRef<Path>, bytes: u64) -> io::Result<Store> {
    let path = path.as_ref();
    let device = match path.to_str() {
        Some(text) => text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        None => StorageDevice::File(path.into()),
    };
    let volume = device.open(&StorageConfig { size: bytes, ..StorageConfig::default() })?;
    StoreOptions::new().create(true).open(volume).await
}
