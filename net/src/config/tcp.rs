//! The section `[tcp]`.

use demikernel_config::{named, values};
use serde::Deserialize;
use std::time::Duration;

/// TCP.
///
/// ```
/// use demikernel_net::config::{CongestionControl, NetConfig};
///
/// let config: NetConfig = "[tcp]\ncongestion-control = \"bbr\"\nno-delay = true".parse()?;
/// assert_eq!(config.tcp.congestion_control, CongestionControl::Bbr);
/// assert!(config.tcp.no_delay && config.tcp.sack);
/// # Ok::<(), demikernel_net::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TcpConfig {
    /// Who decides how much is in flight.
    #[serde(deserialize_with = "values::text")]
    pub congestion_control: CongestionControl,
    /// Segments that are sent before the first acknowledgment.
    pub initial_window: u32,
    /// Whether segments are spread over the round trip.
    pub pacing: bool,
    /// The shortest retransmission time-out.
    #[serde(deserialize_with = "values::text")]
    pub min_rto: Duration,
    /// The longest retransmission time-out.
    #[serde(deserialize_with = "values::text")]
    pub max_rto: Duration,
    /// Timestamps (RFC 7323).
    pub timestamps: bool,
    /// Window scale (RFC 7323).
    pub window_scaling: bool,
    /// Selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Explicit congestion notification (RFC 3168).
    #[serde(deserialize_with = "values::text")]
    pub ecn: Ecn,
    /// Whether a larger path MTU is looked for than is known (RFC 8899).
    pub mtu_probing: bool,
    /// How much may wait to be received.
    pub receive_buffer: BufferSizes,
    /// How much may be sent and not acknowledged.
    pub send_buffer: BufferSizes,
    /// Times that a SYN is retransmitted.
    pub syn_retries: u32,
    /// Times that a SYN-ACK is retransmitted.
    pub syn_ack_retries: u32,
    /// Times that data are retransmitted.
    pub retries: u32,
    /// The same, once the user has closed.
    pub orphan_retries: u32,
    /// The longest that an acknowledgment waits for something to travel with.
    #[serde(deserialize_with = "values::text")]
    pub acknowledgment_delay: Duration,
    /// Whether small segments are sent at once, without Nagle's algorithm, unless a socket says otherwise.
    pub no_delay: bool,
    /// How long data may be unacknowledged (RFC 5482); without it, until [`retries`](TcpConfig::retries).
    #[serde(deserialize_with = "values::optional_text")]
    pub user_timeout: Option<Duration>,
    /// Whether the peer is told of a user timeout, and heeded if it tells its own (RFC 5482).
    pub user_timeout_option: bool,
    /// The peer's own counts as this at least.
    #[serde(deserialize_with = "values::text")]
    pub user_timeout_least: Duration,
    /// And as this at most.
    #[serde(deserialize_with = "values::text")]
    pub user_timeout_most: Duration,
    /// The longest that a closed connection waits for the peer to close.
    #[serde(deserialize_with = "values::text")]
    pub fin_wait: Duration,
    /// How long TIME-WAIT lasts.
    #[serde(deserialize_with = "values::text")]
    pub time_wait: Duration,
    /// Whether a listener answers a flood of SYNs with cookies.
    pub syn_cookies: bool,
    /// Challenge ACKs in a second, of all connections together (RFC 5961).
    pub challenge_acks: u32,
    /// Whether silent peers are asked if they are still there, unless a socket says otherwise.
    pub keepalive: KeepaliveConfig,
}

impl Default for TcpConfig {
    fn default() -> TcpConfig {
        let buffer = |maximum| BufferSizes { initial: 128 << 10, maximum };
        TcpConfig {
            congestion_control: CongestionControl::Cubic,
            initial_window: 10,
            pacing: false,
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            timestamps: true,
            window_scaling: true,
            sack: true,
            ecn: Ecn::Accept,
            mtu_probing: true,
            receive_buffer: buffer(6 << 20),
            send_buffer: buffer(4 << 20),
            syn_retries: 7,
            syn_ack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            acknowledgment_delay: Duration::from_millis(40),
            no_delay: false,
            user_timeout: None,
            user_timeout_option: false,
            user_timeout_least: Duration::from_secs(100),
            user_timeout_most: Duration::from_secs(3600),
            fin_wait: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            syn_cookies: true,
            challenge_acks: 1000,
            keepalive: KeepaliveConfig::default(),
        }
    }
}

/// Who decides how much is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CongestionControl {
    /// CUBIC (RFC 9438).
    Cubic,
    /// Reno (RFC 5681).
    Reno,
    /// BBR: from a model of the path instead of from its losses.
    Bbr,
    /// DCTCP (RFC 8257): for data centres whose switches mark early.
    Dctcp,
}

named!(CongestionControl, "\"cubic\", \"reno\", \"bbr\" or \"dctcp\"", {
    Cubic => "cubic",
    Reno => "reno",
    Bbr => "bbr",
    Dctcp => "dctcp",
});

/// Whether connections use explicit congestion notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ecn {
    /// Never.
    Off,
    /// When the peer asks for it.
    Accept,
    /// Ask for it, too.
    Request,
    /// Ask for it, and echo each mark exactly as it comes, as DCTCP wants.
    Exact,
}

named!(Ecn, "\"off\", \"accept\", \"request\" or \"exact\"", {
    Off => "off",
    Accept => "accept",
    Request => "request",
    Exact => "exact",
});

/// How large a buffer is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BufferSizes {
    /// At first.
    #[serde(deserialize_with = "values::size")]
    pub initial: u32,
    /// As the connection turns out to need it.
    #[serde(deserialize_with = "values::size")]
    pub maximum: u32,
}

/// When silent peers are asked if they are still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepaliveConfig {
    /// Whether they are.
    pub enabled: bool,
    /// After how much silence.
    #[serde(deserialize_with = "values::text")]
    pub idle: Duration,
    /// How long an answer is waited for.
    #[serde(deserialize_with = "values::text")]
    pub interval: Duration,
    /// After how many questions without an answer the connection ends.
    pub count: u32,
}

impl Default for KeepaliveConfig {
    fn default() -> KeepaliveConfig {
        let (idle, interval) = (Duration::from_secs(7200), Duration::from_secs(75));
        KeepaliveConfig { enabled: false, idle, interval, count: 9 }
    }
}
