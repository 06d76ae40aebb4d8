//! The sections `[udp]`, `[limits]` and `[capture]`.

use demikernel_config::values;
use serde::Deserialize;
use std::path::PathBuf;

/// UDP.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UdpConfig {
    /// How much may wait to be received by a socket, in bytes.
    #[serde(deserialize_with = "values::size")]
    pub receive_buffer: u32,
}

impl Default for UdpConfig {
    fn default() -> UdpConfig {
        UdpConfig { receive_buffer: 208 << 10 }
    }
}

/// What is limited, so that nothing that comes from outside grows without end.
///
/// ```
/// use demikernel_net::config::NetConfig;
///
/// let config: NetConfig = "[limits]\nsockets = 10000\nhalf-open = 256".parse()?;
/// assert_eq!((config.limits.sockets, config.limits.half_open), (10_000, 256));
/// assert_eq!(config.limits.backlog, 4096, "as it is without");
/// # Ok::<(), demikernel_net::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsConfig {
    /// Sockets and connections, those in TIME-WAIT included.
    pub sockets: u32,
    /// Connections in TIME-WAIT: further ones end at once.
    pub time_wait: u32,
    /// Connections of one listener that are not complete, before SYN cookies take their place.
    pub half_open: u32,
    /// Connections of one listener that wait to be accepted, whatever it asks for.
    pub backlog: u32,
    /// Neighbours whose Ethernet addresses are known or asked for.
    pub neighbours: u32,
    /// Packets that wait for such an answer.
    pub neighbour_packets: u32,
    /// Packets that are incomplete.
    pub fragmented_packets: u32,
    /// Fragments of one packet.
    pub fragments: u32,
    /// Memory for all fragments, in bytes.
    #[serde(deserialize_with = "values::size")]
    pub fragment_memory: u32,
    /// Resets in a second, for segments of no connection.
    pub resets: u32,
    /// ICMP errors in a second.
    pub icmp_errors: u32,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            sockets: 1 << 20,
            time_wait: 1 << 17,
            half_open: 1024,
            backlog: 4096,
            neighbours: 512,
            neighbour_packets: 128,
            fragmented_packets: 64,
            fragments: 128,
            fragment_memory: 1 << 20,
            resets: 10_000,
            icmp_errors: 1000,
        }
    }
}

/// What is written of the traffic.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaptureConfig {
    /// Where frames are written, in the format pcapng; nowhere without it.
    pub file: Option<PathBuf>,
    /// Bytes of each frame that are kept.
    pub snap_length: u32,
}

impl Default for CaptureConfig {
    fn default() -> CaptureConfig {
        CaptureConfig { file: None, snap_length: 1 << 18 }
    }
}
