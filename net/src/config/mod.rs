//! The configuration of a stack, in a program or in the file `demikernel.toml`.
//!
//! - [`NetConfig`]: all of it; a structure for each section. Whoever builds one in a program sets the fields that
//!   differ from the defaults, and has it [validated](Sections::validate).
//! - [`Sections`]: reading the file. Sections of others, such as those for storage, are passed over.
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
mod faults;
mod limits;
mod network;
mod tcp;
mod validate;
mod values;
mod xdp;

pub use demikernel_config::{ConfigError, Invalid, Place, Sections, VARIABLE};
pub use dpdk::DpdkConfig;
pub use faults::FaultsConfig;
pub use limits::{CaptureConfig, LimitsConfig, UdpConfig};
pub use network::{Addressing, Cidr, Device, NetworkConfig, NotCidr, RouteConfig};
pub use tcp::{BufferSizes, CongestionControl, Ecn, KeepaliveConfig, TcpConfig};
pub use xdp::{XdpConfig, XdpMode};

use serde::Deserialize;
use std::str::FromStr;

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

impl FromStr for NetConfig {
    type Err = ConfigError;

    /// What a file with this text would say.
    fn from_str(text: &str) -> Result<NetConfig, ConfigError> {
        NetConfig::from_text(text)
    }
}

#[cfg(test)]
mod tests;
