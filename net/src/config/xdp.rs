//! The section `[xdp]`.

use demikernel_config::{named, values};
use serde::Deserialize;

/// The queues of an interface, and how they are used.
///
/// ```
/// use demikernel_net::config::{NetConfig, XdpMode};
///
/// let config: NetConfig = "[xdp]\nqueues = [0, 1]\nmode = \"zero-copy\"".parse()?;
/// assert_eq!(config.xdp.queues, [0, 1]);
/// assert_eq!(config.xdp.mode, XdpMode::ZeroCopy);
/// # Ok::<(), demikernel_net::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct XdpConfig {
    /// The queues whose frames come here. Frames are sent through the first.
    pub queues: Vec<u32>,
    /// Whether frames are copied.
    #[serde(deserialize_with = "values::text")]
    pub mode: XdpMode,
    /// Frames that can wait to be received from a queue, a power of two.
    pub receive_ring: u32,
    /// Frames that can wait to be sent, a power of two.
    pub transmit_ring: u32,
    /// How much of the heap the kernel can reach, in bytes.
    #[serde(deserialize_with = "values::size")]
    pub memory: u32,
    /// Whether the kernel says when it wants to be woken.
    pub need_wakeup: bool,
}

impl Default for XdpConfig {
    fn default() -> XdpConfig {
        XdpConfig {
            queues: vec![0],
            mode: XdpMode::Auto,
            receive_ring: 2048,
            transmit_ring: 2048,
            memory: 32 << 20,
            need_wakeup: true,
        }
    }
}

/// Whether frames are copied between the driver and the memory that is shared with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// They are not, if the driver can do without.
    Auto,
    /// They are not, or it is an error.
    ZeroCopy,
    /// They are.
    Copy,
}

named!(XdpMode, "\"auto\", \"zero-copy\" or \"copy\"", {
    Auto => "auto",
    ZeroCopy => "zero-copy",
    Copy => "copy",
});
