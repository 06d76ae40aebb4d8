//! The section `[dpdk]`.

use demikernel_config::values;
use serde::Deserialize;

/// The port, and the environment of DPDK.
///
/// ```
/// use demikernel_net::config::NetConfig;
///
/// let config: NetConfig = "[dpdk]\nport = \"net_memif0,role=server\"\nhuge-pages = false".parse()?;
/// assert!(!config.dpdk.huge_pages);
/// assert_eq!(config.dpdk.receive_descriptors, 512);
/// # Ok::<(), demikernel_net::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DpdkConfig {
    /// The PCI address of a device, a device in software with its arguments, or the name of a port.
    pub port: String,
    /// Further arguments of EAL.
    pub eal: Vec<String>,
    /// Whether memory is of huge pages.
    pub huge_pages: bool,
    /// Memory without huge pages, in bytes.
    #[serde(deserialize_with = "values::size")]
    pub memory: u32,
    /// Pairs of queues; `None` for as many as there are cores.
    pub queues: Option<u16>,
    /// Descriptors of each receive queue.
    pub receive_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub transmit_descriptors: u16,
    /// Whether frames for others are taken, too.
    pub promiscuous: bool,
}

impl Default for DpdkConfig {
    fn default() -> DpdkConfig {
        DpdkConfig {
            port: String::new(),
            eal: Vec::new(),
            huge_pages: true,
            memory: 512 << 20,
            queues: None,
            receive_descriptors: 512,
            transmit_descriptors: 512,
            promiscuous: false,
        }
    }
}
