//! The section `[storage]` of the configuration.

use super::StorageDevice;
use demikernel_config::{ConfigError, Invalid, Sections, values, within};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// All that a user can say about where logs are: the section `[storage]` of `demikernel.toml`.
///
/// ```
/// use demikernel::storage::{StorageConfig, StorageDevice};
///
/// let config: StorageConfig = "[storage]\ndevice = \"orders.log\"\nsize = \"1GiB\"".parse().unwrap();
/// assert_eq!(config.device, [StorageDevice::File("orders.log".into())]);
/// let error = "[storage]\ndevice = \"memory:lots\"".parse::<StorageConfig>().unwrap_err().to_string();
/// assert!(error.starts_with("line 2: storage.device: found string \"memory:lots\", expected a path, "));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StorageConfig {
    /// The device; or a list of one for each core, as none is shared between cores.
    #[serde(deserialize_with = "values::texts")]
    pub device: Vec<StorageDevice>,
    /// How many bytes a file is made with, if it is not there.
    #[serde(deserialize_with = "values::large_size")]
    pub size: u64,
    /// When a new store is made.
    #[serde(deserialize_with = "values::text")]
    pub format: Format,
    /// How many bytes the segments of a new store have: what a record has at most, and what a truncation frees. A part of
    /// the device's size unless set.
    #[serde(deserialize_with = "values::optional_size")]
    pub segment: Option<u32>,
    /// Whether nothing is written.
    pub read_only: bool,
    /// Whether the store is opened though records may be lost that were acknowledged
    /// ([`StoreOptions::accept_loss`](super::StoreOptions::accept_loss)).
    pub accept_loss: bool,
    /// How many operations the device may have under way; less if it takes less.
    pub depth: u32,
    /// How long an operation of an NVMe drive may take before it is aborted.
    #[serde(deserialize_with = "values::text")]
    pub timeout: Duration,
    /// Whether a file is read and written past the page cache.
    pub direct: bool,
    /// Whether the kernel is told of the heap's memory once rather than with each operation on a file. It is locked then.
    pub fixed_buffers: bool,
    /// Whether reads and writes of a block device or an NVMe namespace of the kernel are polled: if it can be, unless set
    /// (`FileOptions::poll`).
    pub poll: Option<bool>,
    /// How long to wait for a file that another process is letting go of.
    #[serde(deserialize_with = "values::text")]
    pub lock_patience: Duration,
    /// What SPDK is started with.
    pub spdk: SpdkSection,
}

/// When a store is made on a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Format {
    /// Never: one has to be there, and so has a file.
    Never,
    /// Where there is nothing.
    #[default]
    Blank,
    /// Also where there is something else: **all of that is lost**. A store that is there is kept.
    Foreign,
}

demikernel_config::named!(Format, "\"never\", \"blank\" or \"foreign\"", {
    Never => "never",
    Blank => "blank",
    Foreign => "foreign",
});

/// What SPDK is started with, if it drives the device: `[storage.spdk]`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct SpdkSection {
    /// Where its libraries are, and DPDK's; the system's places unless set.
    pub libraries: Option<PathBuf>,
    /// Whether memory is of huge pages, which drives on PCI need and targets on networks do not.
    pub huge_pages: bool,
    /// PCI addresses that may be touched, besides that of the device.
    pub allow: Vec<String>,
    /// Further arguments of EAL.
    pub arguments: Vec<String>,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            device: Vec::new(),
            size: 256 << 20,
            format: Format::default(),
            segment: None,
            read_only: false,
            accept_loss: false,
            depth: 128,
            timeout: Duration::from_secs(30),
            direct: true,
            fixed_buffers: true,
            poll: None,
            lock_patience: Duration::from_secs(1),
            spdk: SpdkSection::default(),
        }
    }
}

impl Default for SpdkSection {
    fn default() -> SpdkSection {
        SpdkSection { libraries: None, huge_pages: true, allow: Vec::new(), arguments: Vec::new() }
    }
}

#[cfg(feature = "spdk")]
impl SpdkSection {
    pub(super) fn config(&self) -> super::spdk::SpdkConfig {
        let mut config = super::spdk::SpdkConfig::default();
        config.libraries.clone_from(&self.libraries);
        config.huge_pages = self.huge_pages;
        config.allow.clone_from(&self.allow);
        config.arguments.clone_from(&self.arguments);
        config
    }
}

/// The sections of this crate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    storage: StorageConfig,
}

impl Sections for File {
    const NAMES: &'static [&'static str] = &["storage"];

    fn validate(&self) -> Result<(), Invalid> {
        self.storage.validate()
    }
}

impl StorageConfig {
    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    pub fn from_env() -> Result<StorageConfig, ConfigError> {
        File::from_env().map(|file| file.storage)
    }

    /// What this file says.
    ///
    /// # Errors
    /// As [`from_env`](StorageConfig::from_env).
    pub fn from_file(path: impl AsRef<Path>) -> Result<StorageConfig, ConfigError> {
        File::from_file(path).map(|file| file.storage)
    }

    /// Whether all values can be, each and together.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<(), Invalid> {
        within("storage.size", self.size, 64 << 10..=1 << 60)?;
        if let Some(segment) = self.segment {
            within("storage.segment", segment, 1 << 10..=1 << 30)?;
        }
        within("storage.depth", self.depth, 1..=4095)?;
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
        within("storage.timeout", self.timeout, least..=most)?;
        within("storage.lock-patience", self.lock_patience, Duration::ZERO..=most)?;
        if self.read_only && self.format == Format::Foreign {
            let expected = "\"never\" or \"blank\", as storage.read-only is true";
            return Err(Invalid::new("storage.format", "\"foreign\"", expected));
        }
        Ok(())
    }
}

impl FromStr for StorageConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<StorageConfig, ConfigError> {
        File::from_text(text).map(|file| file.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<StorageConfig>().expect_err(text).to_string()
    }

    #[test]
    fn every_key_is_read() {
        let text = "[network]\ndevice = \"tap\"\n[storage]\ndevice = [\"a.log\", \"0000:5e:00.0/2\"]\nsize = \"2TiB\"\n\
                    format = \"foreign\"\nsegment = \"1MiB\"\nread-only = false\naccept-loss = true\ndepth = 64\n\
                    timeout = \"5s\"\ndirect = false\nfixed-buffers = false\npoll = true\nlock-patience = \"10s\"\n\
                    [storage.spdk]\nlibraries = \"/opt/spdk\"\nhuge-pages = false\nallow = [\"5f:00.0\"]\n\
                    arguments = [\"--no-pci\"]\n";
        let config: StorageConfig = text.parse().unwrap();
        let expected = StorageConfig {
            device: vec![StorageDevice::File("a.log".into()), StorageDevice::Nvme("0000:5e:00.0/2".into())],
            size: 2 << 40,
            format: Format::Foreign,
            segment: Some(1 << 20),
            read_only: false,
            accept_loss: true,
            depth: 64,
            timeout: Duration::from_secs(5),
            direct: false,
            fixed_buffers: false,
            poll: Some(true),
            lock_patience: Duration::from_secs(10),
            spdk: SpdkSection {
                libraries: Some("/opt/spdk".into()),
                huge_pages: false,
                allow: vec!["5f:00.0".to_owned()],
                arguments: vec!["--no-pci".to_owned()],
            },
        };
        assert_eq!(config, expected);
        assert_eq!("".parse::<StorageConfig>().unwrap(), StorageConfig::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let cases = [
            ("device = 7", "storage.device: found integer `7`, expected a list, of each a path"),
            (
                "device = [\"a\", \"memory:1\"]",
                "storage.device[1]: found string \"memory:1\", expected a path",
            ),
            ("size = \"lots\"", "storage.size: found string \"lots\", expected bytes, such as"),
            ("size = 1000", "storage.size: found 1000, expected a value from 65536 to"),
            ("segment = 12", "storage.segment: found 12, expected a value from 1024 to"),
            (
                "format = \"always\"",
                "storage.format: found string \"always\", expected \"never\", \"blank\" or",
            ),
            ("depth = 0", "storage.depth: found 0, expected a value from 1 to 4095"),
            ("timeout = 30", "storage.timeout: found integer `30`, expected a time with a unit"),
            ("read-only = 1", "storage.read-only: found integer `1`, expected true or false"),
            ("poll = \"auto\"", "storage.poll: found string \"auto\", expected true or false"),
            ("disk = \"a\"", "storage.disk: found a key that there is not, expected one of `device`, `size`"),
            (
                "spdk = { numa = 1 }",
                "storage.spdk.numa: found a key that there is not, expected one of `libraries`",
            ),
        ];
        for (line, expected) in cases {
            let error = error(&format!("[storage]\n{line}\n"));
            assert!(error.starts_with(&format!("line 2: {expected}")), "{line}: {error}");
        }
        let contradiction = error("[storage]\nread-only = true\nformat = \"foreign\"\n");
        assert!(
            contradiction.starts_with("line 3: storage.format: found \"foreign\", expected"),
            "{contradiction}"
        );
    }
}
