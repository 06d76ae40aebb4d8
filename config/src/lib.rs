//! The file `demikernel.toml`.
//!
//! It has sections, which each belong to one crate: that implements [`Sections`] for what it reads. The others it does
//! not see, but a section that belongs to nobody is an error, as is a key that there is not.
//!
//! - [`Sections`] reads it.
//! - [`ConfigError`], [`Invalid`]: which key is wrong, where it stands, what was found and what was expected.
//! - [`values`]: times, amounts of memory, names and addresses as they are written.
//!
//! ```
//! use demikernel_config::{Invalid, Sections, within};
//! use serde::Deserialize;
//!
//! #[derive(Default, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     udp: Udp,
//! }
//!
//! #[derive(Default, Deserialize)]
//! #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
//! struct Udp {
//!     receive_buffer: u32,
//! }
//!
//! impl Sections for Config {
//!     const NAMES: &'static [&'static str] = &["udp"];
//!
//!     fn validate(&self) -> Result<(), Invalid> {
//!         within("udp.receive-buffer", self.udp.receive_buffer, 1..=1 << 20)
//!     }
//! }
//!
//! let error = Config::from_text("[tcp]\nsack = true\n[udp]\nreceive-buffer = 0\n").err().unwrap();
//! let expected = "line 4: udp.receive-buffer: found 0, expected a value from 1 to 1048576";
//! assert_eq!(error.to_string(), expected);
//! ```
//!
//! The crate has no features. What each section has stands with the crate it belongs to: `demikernel_net::config` (`[network]` to
//! `[faults]`), `demikernel_rdma::transport::RdmaConfig`, `demikernel::storage::StorageConfig`, and
//! `demikernel_inspect::InspectConfig`. A program names its file by the variable `DEMIKERNEL_CONFIG`.

mod error;
mod place;
pub mod values;

pub use error::{ConfigError, Invalid, Place};

use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::Path;
use std::{env, fs};

/// Names the file, where no argument does.
pub const VARIABLE: &str = "DEMIKERNEL_CONFIG";

/// All sections that there are, whether or not the crate of one is compiled in: one file does for several programs.
pub const SECTIONS: &[&str] =
    &["network", "dpdk", "xdp", "rdma", "tcp", "udp", "limits", "capture", "faults", "storage", "inspect"];

/// The sections of one crate: a structure with a field for each.
pub trait Sections: Default + DeserializeOwned {
    /// Their names, each one of [`SECTIONS`].
    const NAMES: &'static [&'static str];

    /// Whether all values can be, each and together.
    ///
    /// # Errors
    /// The first that cannot.
    fn validate(&self) -> Result<(), Invalid>;

    /// What the file says that is named by `argument`, or else by the variable `DEMIKERNEL_CONFIG`; the defaults if
    /// there is neither.
    ///
    /// # Errors
    /// Those of [`from_file`](Sections::from_file).
    fn load(argument: Option<&Path>) -> Result<Self, ConfigError> {
        argument.map_or_else(Self::from_env, Self::from_file)
    }

    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// Those of [`from_file`](Sections::from_file).
    fn from_env() -> Result<Self, ConfigError> {
        from_variable(env::var_os(VARIABLE).as_deref())
    }

    /// What this file says.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_path_buf(), error })?;
        place::read(&text, Some(path))
    }

    /// What a file with this text would say.
    ///
    /// # Errors
    /// If it has a key that there is not, or a value is wrong.
    fn from_text(text: &str) -> Result<Self, ConfigError> {
        place::read(text, None)
    }
}

/// An empty variable is one that was unset by a shell that can do no better.
fn from_variable<T: Sections>(value: Option<&OsStr>) -> Result<T, ConfigError> {
    match value.filter(|value| !value.is_empty()) {
        Some(file) => T::from_file(file),
        None => Ok(T::default()),
    }
}

/// Whether a value is in its range, as [`Sections::validate`] says it.
///
/// ```
/// use demikernel_config::within;
///
/// assert!(within("tcp.retries", 15, 1..=30).is_ok());
/// let error = within("tcp.retries", 0, 1..=30).unwrap_err();
/// assert_eq!(error.to_string(), "tcp.retries: found 0, expected a value from 1 to 30");
/// ```
///
/// # Errors
/// That it is not.
pub fn within<T: PartialOrd + Debug>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("a value from {:?} to {:?}", range.start(), range.end());
    Err(Invalid::new(key, format!("{value:?}"), expected))
}

#[cfg(test)]
mod tests;
