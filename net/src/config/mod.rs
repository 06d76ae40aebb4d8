//! The configuration of a stack, in a program or in the file `demikernel.toml`.
//!
//! - [`NetConfig`]: all of it; a structure for each section. Whoever builds one in a program sets the fields that
//!   differ from the defaults, and has it [validated](NetConfig::validate).
//! - [`ConfigError`], [`Invalid`]: which key is wrong, what was found and what was expected.
//!
//! The file is named by an argument of the program, or else by the variable `DEMIKERNEL_CONFIG`. What is not in it
//! is as here, where each key stands with its default, and in a comment if it has none:
//!
//! ```toml
#![doc = include_str!("demikernel.toml")]
//! ```
//!
//! Times are numbers with a unit: `ns`, `us`, `ms`, `s`, `min`, `h`, `d`. Amounts of memory are numbers of bytes, or
//! strings with a unit: `KiB`, `MiB`, `GiB`.

mod dpdk;
mod error;
mod faults;
mod limits;
mod network;
mod place;
mod tcp;
mod validate;
mod values;
mod xdp;

pub use dpdk::DpdkConfig;
pub use error::{ConfigError, Invalid, Place};
pub use faults::FaultsConfig;
pub use limits::{CaptureConfig, LimitsConfig, UdpConfig};
pub use network::{Addressing, Cidr, Device, NetworkConfig, NotCidr, RouteConfig};
pub use tcp::{BufferSizes, CongestionControl, Ecn, KeepaliveConfig, TcpConfig};
pub use xdp::{XdpConfig, XdpMode};

use place::Keys;
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;
use std::{env, fs};

/// Names the file, where no argument does.
pub const VARIABLE: &str = "DEMIKERNEL_CONFIG";

/// All that a user can say about a stack.
///
/// ```
/// use demikernel_net::config::NetConfig;
///
/// let text = r#"
/// [network]
/// addresses = ["10.0.0.2/24"]
/// gateways = ["10.0.1.1"]
/// "#;
/// let error = text.parse::<NetConfig>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "line 4: network.gateways[0]: found 10.0.1.1, expected an address in 10.0.0.0/24"
/// );
/// ```
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetConfig {
    /// The device, and what IP needs to know.
    pub network: NetworkConfig,
    /// The port of the device "dpdk".
    pub dpdk: DpdkConfig,
    /// The queues of the device "xdp".
    pub xdp: XdpConfig,
    /// TCP.
    pub tcp: TcpConfig,
    /// UDP.
    pub udp: UdpConfig,
    /// What is limited, so that nothing that comes from outside grows without end.
    pub limits: LimitsConfig,
    /// What is written of the traffic.
    pub capture: CaptureConfig,
    /// What goes wrong on the device.
    pub faults: FaultsConfig,
}

impl NetConfig {
    /// What the file says that is named by `argument`, or else by the variable `DEMIKERNEL_CONFIG`; the defaults if
    /// there is neither.
    ///
    /// # Errors
    /// Those of [`from_file`](NetConfig::from_file).
    pub fn load(argument: Option<&Path>) -> Result<NetConfig, ConfigError> {
        argument.map_or_else(NetConfig::from_env, NetConfig::from_file)
    }

    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// Those of [`from_file`](NetConfig::from_file).
    pub fn from_env() -> Result<NetConfig, ConfigError> {
        NetConfig::from_variable(env::var_os(VARIABLE).as_deref())
    }

    /// An empty variable is one that was unset by a shell that can do no better.
    fn from_variable(value: Option<&OsStr>) -> Result<NetConfig, ConfigError> {
        match value.filter(|value| !value.is_empty()) {
            Some(file) => NetConfig::from_file(file),
            None => Ok(NetConfig::default()),
        }
    }

    /// What this file says.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    pub fn from_file(path: impl AsRef<Path>) -> Result<NetConfig, ConfigError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_path_buf(), error })?;
        NetConfig::parse(&text, Some(path))
    }

    fn parse(text: &str, file: Option<&Path>) -> Result<NetConfig, ConfigError> {
        let keys = Keys::read(text, file)?;
        let config: NetConfig = toml::from_str(text).map_err(|error| keys.explain(&error))?;
        config.validate().map_err(|invalid| keys.locate(invalid))?;
        Ok(config)
    }
}

impl FromStr for NetConfig {
    type Err = ConfigError;

    /// What a file with this text would say.
    fn from_str(text: &str) -> Result<NetConfig, ConfigError> {
        NetConfig::parse(text, None)
    }
}

#[cfg(test)]
mod tests;
