//! The section `[rdma]` of the configuration.

use super::memory::SMALL;
use crate::link::{HEADER, LinkConfig};
use demikernel_config::{ConfigError, Invalid, Sections, values, within};
use serde::Deserialize;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// All that a user can say about the transport.
///
/// ```
/// use demikernel_rdma::transport::RdmaConfig;
///
/// let config: RdmaConfig = "[rdma]\nbuffers = 4096".parse().unwrap();
/// assert_eq!((config.buffers, config.buffer_size), (4096, 4096));
/// let error = "[rdma]\nbuffer-size = 5000".parse::<RdmaConfig>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "line 2: rdma.buffer-size: found 5000, expected 2048, 4096, 16384 or 65536"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RdmaConfig {
    /// The device, as `rdma link` shows it; without, the only one that there is.
    pub device: Option<String>,
    /// Its port.
    pub port: u8,
    /// Receive buffers of all connections of a core together.
    pub buffers: u32,
    /// Bytes of each: 2048, 4096, 16384 or 65536, as the sizes of the heap are.
    pub buffer_size: u32,
    /// Messages that an idle peer may send.
    pub credits: u16,
    /// Messages that an active peer may send before it hears of more.
    pub window: u16,
    /// Sends of a connection that the device may have at once.
    pub send_depth: u16,
    /// Reads and atomic operations on the peer's memory that a connection has under way at once, each way; with 0 there are
    /// none, and the device keeps nothing for them. What a peer may do is another question:
    /// [`Remote::export`](super::Remote::export) answers it.
    pub read_depth: u8,
    /// Connections.
    pub connections: u32,
    /// Connections that others are setting up, at once.
    pub half_open: u32,
    /// Connections that others may set up in a second.
    pub connection_rate: u32,
    /// How long setting up a connection may take.
    #[serde(deserialize_with = "values::text")]
    pub set_up_timeout: Duration,
}

impl Default for RdmaConfig {
    fn default() -> RdmaConfig {
        let link = LinkConfig::default();
        RdmaConfig {
            device: None,
            port: 1,
            buffers: link.buffers,
            buffer_size: link.buffer_size,
            credits: link.floor,
            window: link.window,
            send_depth: link.send_depth,
            read_depth: 4,
            connections: link.connections,
            half_open: link.half_open,
            connection_rate: link.rate,
            set_up_timeout: link.set_up,
        }
    }
}

/// The sections of this crate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    rdma: RdmaConfig,
}

impl Sections for File {
    const NAMES: &'static [&'static str] = &["rdma"];

    fn validate(&self) -> Result<(), Invalid> {
        self.rdma.validate()
    }
}

impl RdmaConfig {
    /// What the file says that the variable `DEMIKERNEL_CONFIG` names; the defaults without it.
    ///
    /// # Errors
    /// If it cannot be read or has a key that there is not, or a value is wrong.
    pub fn from_env() -> Result<RdmaConfig, ConfigError> {
        File::from_env().map(|file| file.rdma)
    }

    /// What this file says.
    ///
    /// # Errors
    /// As [`from_env`](RdmaConfig::from_env).
    pub fn from_file(path: impl AsRef<Path>) -> Result<RdmaConfig, ConfigError> {
        File::from_file(path).map(|file| file.rdma)
    }

    /// Whether all values can be, each and together.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<(), Invalid> {
        // They are taken from the heap, whose chunks have these sizes.
        if ![2048, 4096, 16_384, 65_536].contains(&self.buffer_size) {
            let expected = "2048, 4096, 16384 or 65536";
            return Err(Invalid::new("rdma.buffer-size", self.buffer_size.to_string(), expected));
        }
        within("rdma.port", self.port, 1..=u8::MAX)?;
        within("rdma.credits", self.credits, 1..=u16::MAX)?;
        within("rdma.window", self.window, self.credits..=u16::MAX)?;
        within("rdma.send-depth", self.send_depth, 4..=16_384)?;
        // A connection has a right to its credits, and to two more for control.
        within("rdma.buffers", self.buffers, u32::from(self.credits) + 2..=1 << 20)?;
        within("rdma.connections", self.connections, 1..=1 << 20)?;
        within("rdma.half-open", self.half_open, 1..=1 << 20)?;
        within("rdma.connection-rate", self.connection_rate, 1..=u32::MAX)?;
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(600));
        within("rdma.set-up-timeout", self.set_up_timeout, least..=most)
    }

    /// The same for the protocol; the device copies up to `inline` bytes.
    pub(super) fn link(&self, inline: u32, pieces: u16) -> LinkConfig {
        debug_assert!(self.buffer_size as usize > HEADER);
        LinkConfig {
            buffers: self.buffers,
            buffer_size: self.buffer_size,
            floor: self.credits,
            window: self.window,
            send_depth: self.send_depth,
            pieces,
            small: SMALL as u32,
            inline,
            connections: self.connections,
            half_open: self.half_open,
            rate: self.connection_rate,
            set_up: self.set_up_timeout,
            ..LinkConfig::default()
        }
    }
}

impl FromStr for RdmaConfig {
    type Err = ConfigError;

    /// What a file with this text would say.
    fn from_str(text: &str) -> Result<RdmaConfig, ConfigError> {
        File::from_text(text).map(|file| file.rdma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<RdmaConfig>().unwrap_err().to_string()
    }

    #[test]
    fn other_sections_are_left_to_others() {
        let text =
            "[network]\nmtu = 9000\n[rdma]\ndevice = \"rxe0\"\nwindow = 128\nset-up-timeout = \"500ms\"";
        let config: RdmaConfig = text.parse().unwrap();
        let expected = RdmaConfig {
            device: Some("rxe0".into()),
            window: 128,
            set_up_timeout: Duration::from_millis(500),
            ..RdmaConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!("".parse::<RdmaConfig>().unwrap(), RdmaConfig::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let unknown = refusal("[rdma]\n\nbuffer = 7");
        assert!(
            unknown.starts_with("line 3: rdma.buffer: found a key that there is not, expected"),
            "{unknown}"
        );
        assert!(refusal("[rdma]\nport = 300").starts_with("line 2: rdma.port: "));
        assert_eq!(refusal("[rdma]\nport = 0"), "line 2: rdma.port: found 0, expected a value from 1 to 255");
        assert_eq!(
            refusal("[rdma]\ncredits = 8\nwindow = 7"),
            "line 3: rdma.window: found 7, expected a value from 8 to 65535"
        );
        assert!(
            refusal("[rdma]\nbuffers = 3")
                .starts_with("line 2: rdma.buffers: found 3, expected a value from 4")
        );
    }
}
