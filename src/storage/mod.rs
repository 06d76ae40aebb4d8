//! Storage: logs that lose nothing, block devices, and files.
//!
//! - [`open`] gives a [`Store`] of logs in a file or on a block device; [`Log`] is one of its logs.
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

use std::io;
use std::path::Path;

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
/// With the feature `nvme` the address of a drive that is bound to vfio-pci stands for one of its namespaces, all of it:
/// `"0000:5e:00.0/1"`. With the feature `spdk`, `"spdk:"` before such an address, or before one of SPDK's transports, has
/// SPDK drive it: `"spdk:trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:disk/1"`.
///
/// `FileOptions`, [`Volume::attach`] and [`StoreOptions`] are the long way, with choices.
///
/// # Errors
/// Those of opening the file: `ResourceBusy` if another process has it. A [`LogError`] within the error says what is there
/// instead of a store, or what is wrong with it. `Unsupported` without the feature `io-uring`.
pub async fn open(path: impl AsRef<Path>, bytes: u64) -> io::Result<Store> {
    let volume = open_volume(path.as_ref(), bytes)?;
    StoreOptions::new().create(true).open(volume).await
}

fn open_volume(path: &Path, bytes: u64) -> io::Result<Volume> {
    let text = path.to_str().unwrap_or_default();
    if let Some(address) = text.strip_prefix("spdk:") {
        return open_spdk(address);
    }
    #[cfg(feature = "nvme")]
    if let Ok(address) = text.parse() {
        return nvme::open(address, nvme::Options::default()).map(Volume::attach);
    }
    open_file(path, bytes)
}

/// The namespace behind the last slash, or the first one.
#[cfg(feature = "spdk")]
fn open_spdk(address: &str) -> io::Result<Volume> {
    let namespace =
        address.rsplit_once('/').and_then(|(address, number)| Some((address, number.parse().ok()?)));
    let (address, namespace) = namespace.unwrap_or((address, 1));
    let controller = spdk::Controller::connect(address, &spdk::SpdkConfig::default())?;
    Ok(Volume::attach(controller.open(namespace)?))
}

#[cfg(not(feature = "spdk"))]
fn open_spdk(address: &str) -> io::Result<Volume> {
    let text = format!("spdk:{address}: drives by SPDK need `--features spdk`");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

#[cfg(feature = "io-uring")]
fn open_file(path: &Path, bytes: u64) -> io::Result<Volume> {
    FileOptions::new().create(bytes).open(path).map(Volume::attach)
}

#[cfg(not(feature = "io-uring"))]
fn open_file(path: &Path, _bytes: u64) -> io::Result<Volume> {
    let text = format!("{}: stores in files need `--features io-uring`", path.display());
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

#[cfg(all(test, feature = "nvme"))]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_drive_and_a_path_is_a_file() {
        let error = open_volume(Path::new("ffff:ff:1f.7/1"), 0).unwrap_err();
        assert!(error.to_string().contains("no PCI device ffff:ff:1f.7"), "{error}");
        let error = open_volume(Path::new("./ffff:ff:1f.7/1"), 0).unwrap_err();
        assert!(!error.to_string().contains("PCI"), "{error}");
    }
}
