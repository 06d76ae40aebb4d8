//! What a storage device is, as it is written, and opening it.

use super::StorageConfig;
use demikernel_config::values::{self, Text};
use demikernel_spdk_storage::memory::Disk;
use demikernel_spdk_storage::{Geometry, Volume};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a store of logs is.
///
/// ```
/// use demikernel::storage::StorageDevice;
///
/// assert_eq!("memory:64MiB".parse(), Ok(StorageDevice::Memory(64 << 20)));
/// assert_eq!("0000:5e:00.0/1".parse(), Ok(StorageDevice::Nvme("0000:5e:00.0/1".to_owned())));
/// assert_eq!("orders.log".parse(), Ok(StorageDevice::File("orders.log".into())));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StorageDevice {
    /// A file, or a block device or an NVMe namespace of the kernel: any path. Through io_uring.
    File(PathBuf),
    /// A namespace of an NVMe drive, by our own driver: `0000:5e:00.0/1`.
    Nvme(String),
    /// The same by SPDK, or a namespace of a target that it reaches: `spdk:` and its address.
    Spdk(String),
    /// So many bytes of memory, which are gone with the runtime: `memory:64MiB`.
    Memory(u64),
}

/// That a text names no device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseDeviceError(String);

impl FromStr for StorageDevice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<StorageDevice, ParseDeviceError> {
        <StorageDevice as Text>::parse(text).ok_or_else(|| ParseDeviceError(text.to_owned()))
    }
}

impl Text for StorageDevice {
    const EXPECTED: &'static str = "a path, the address of an NVMe drive as \"0000:5e:00.0/1\", \"spdk:ADDRESS\", or \
                                    \"memory:SIZE\" with a size as 64MiB";

    fn parse(text: &str) -> Option<StorageDevice> {
        if let Some(size) = text.strip_prefix("memory:") {
            // Two slots of a superblock and a segment, or there is nothing that a store could be on.
            return values::bytes(size).filter(|size| *size >= 64 << 10).map(StorageDevice::Memory);
        }
        if let Some(address) = text.strip_prefix("spdk:") {
            return (!address.is_empty()).then(|| StorageDevice::Spdk(address.to_owned()));
        }
        if is_like_pci(text) {
            return is_pci(text).then(|| StorageDevice::Nvme(text.to_owned()));
        }
        (!text.is_empty()).then(|| StorageDevice::File(text.into()))
    }
}

/// Whether whoever has written this can only have meant the address of a PCI device.
fn is_like_pci(text: &str) -> bool {
    let function = text.split('/').next().unwrap_or_default();
    function.contains(':')
        && function.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
}

/// `0000:5e:00.0`, the domain may be absent, then perhaps a namespace. What it means is the driver's to say.
fn is_pci(text: &str) -> bool {
    let (function, namespace) =
        text.split_once('/').map_or((text, None), |(function, number)| (function, Some(number)));
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|n| n > 0)
    };
    let parts: Vec<&str> = function.split([':', '.']).collect();
    let has_form = function.rfind(':') < function.find('.')
        && (3..=4).contains(&parts.len())
        && parts.iter().all(|part| (1..=8).contains(&part.len()));
    has_form && function.matches('.').count() == 1 && namespace.is_none_or(number)
}

impl fmt::Display for StorageDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageDevice::File(path) => path.display().fmt(f),
            StorageDevice::Nvme(address) => f.write_str(address),
            StorageDevice::Spdk(address) => write!(f, "spdk:{address}"),
            StorageDevice::Memory(bytes) => write!(f, "memory:{bytes}"),
        }
    }
}

impl fmt::Display for ParseDeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no storage device, which is {}", self.0, StorageDevice::EXPECTED)
    }
}

impl std::error::Error for ParseDeviceError {}

impl StorageDevice {
    /// Whether this build can open such a device.
    ///
    /// # Errors
    /// What feature it lacks.
    pub(crate) fn check(&self) -> io::Result<()> {
        let (feature, is_there) = match self {
            StorageDevice::Memory(_) => return Ok(()),
            StorageDevice::File(_) => ("io-uring", cfg!(feature = "io-uring")),
            StorageDevice::Nvme(_) => ("nvme", cfg!(feature = "nvme")),
            StorageDevice::Spdk(_) => ("spdk", cfg!(feature = "spdk")),
        };
        match is_there {
            true => Ok(()),
            false => {
                let text = format!("storage {self} is not compiled in: build with `--features {feature}`");
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    /// Has the runtime of this thread poll it.
    pub(crate) fn open(&self, config: &StorageConfig) -> io::Result<Volume> {
        self.check()?;
        match self {
            StorageDevice::File(path) => open_file(path, config),
            StorageDevice::Nvme(address) => open_nvme(address, config),
            StorageDevice::Spdk(address) => open_spdk(address, config),
            StorageDevice::Memory(bytes) => {
                Ok(Volume::attach(Disk::new(Geometry::new(512, *bytes)).device()))
            }
        }
    }
}

#[cfg(feature = "io-uring")]
fn open_file(path: &Path, config: &StorageConfig) -> io::Result<Volume> {
    let options = super::FileOptions::new()
        .read_only(config.read_only)
        .direct(config.direct)
        .depth(config.depth)
        .fixed_buffers(config.fixed_buffers)
        .lock_patience(config.lock_patience);
    let options = config.poll.map_or(options, |yes| options.poll(yes));
    let makes = config.format != super::Format::Never && !config.read_only;
    let options = if makes { options.create(config.size) } else { options };
    options.open(path).map(Volume::attach)
}

#[cfg(not(feature = "io-uring"))]
fn open_file(_path: &Path, _config: &StorageConfig) -> io::Result<Volume> {
    unreachable!("refused before")
}

#[cfg(feature = "nvme")]
fn open_nvme(address: &str, config: &StorageConfig) -> io::Result<Volume> {
    let options = super::nvme::Options { depth: config.depth, timeout: config.timeout };
    super::nvme::open(address.parse()?, options).map(Volume::attach)
}

#[cfg(not(feature = "nvme"))]
fn open_nvme(_address: &str, _config: &StorageConfig) -> io::Result<Volume> {
    unreachable!("refused before")
}

/// The namespace behind the last slash, or the first one.
#[cfg(feature = "spdk")]
fn open_spdk(address: &str, config: &StorageConfig) -> io::Result<Volume> {
    let namespace =
        address.rsplit_once('/').and_then(|(address, number)| Some((address, number.parse().ok()?)));
    let (address, namespace) = namespace.unwrap_or((address, 1));
    let controller = super::spdk::Controller::connect(address, &config.spdk.config())?;
    Ok(Volume::attach(controller.open(namespace)?))
}

#[cfg(not(feature = "spdk"))]
fn open_spdk(_address: &str, _config: &StorageConfig) -> io::Result<Volume> {
    unreachable!("refused before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_says_what_it_is() {
        let nvme = ["0000:5e:00.0", "5e:00.0", "0000:5e:00.0/1", "10000:01:00.0/4294967294"];
        for text in nvme {
            assert_eq!(text.parse(), Ok(StorageDevice::Nvme(text.to_owned())));
        }
        let spdk =
            "spdk:trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:disk/1";
        assert_eq!(spdk.parse(), Ok(StorageDevice::Spdk(spdk["spdk:".len()..].to_owned())));
        for path in ["orders.log", "/dev/nvme0n1", "/dev/ng0n1", "./0000:5e:00.0/1", "data", "x:y", "c"] {
            assert_eq!(path.parse(), Ok(StorageDevice::File(path.into())));
        }
        for text in nvme.into_iter().chain([spdk, "orders.log"]) {
            assert_eq!(text.parse::<StorageDevice>().unwrap().to_string(), text);
        }
        assert_eq!("memory:65536".parse(), Ok(StorageDevice::Memory(65536)));
    }

    #[test]
    fn what_is_nothing_is_refused_with_what_there_is() {
        let wrong = [
            "",
            "spdk:",
            "memory:",
            "memory:64",
            "memory:64M",
            "memory:-1",
            "0000:5e:00.0/0",
            "0:5e:00.0/x",
            "a:b",
        ];
        for text in wrong {
            let error = text.parse::<StorageDevice>().expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("{text:?} is no storage device, which is a path, the address")),
                "{error}"
            );
        }
    }
}
