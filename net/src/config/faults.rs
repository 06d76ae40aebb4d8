//! The section `[faults]`.

use crate::device::Faults;
use demikernel_config::values;
use serde::Deserialize;
use std::time::Duration;

/// What goes wrong on the device, in both directions alike, for whoever wants to see how a program bears it.
///
/// ```
/// use demikernel_net::config::NetConfig;
///
/// let config: NetConfig = "[faults]\nseed = 7\ndrop = 0.01\ndelay = \"5ms\"".parse()?;
/// assert_eq!((config.faults.seed, config.faults.drop), (7, 0.01));
/// # Ok::<(), demikernel_net::config::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaultsConfig {
    /// All that happens by chance follows from it.
    pub seed: u64,
    /// The share of frames that are lost, from 0 to 1.
    pub drop: f64,
    /// The share of frames in which one bit is turned over.
    pub corrupt: f64,
    /// The share of frames that arrive twice.
    pub duplicate: f64,
    /// The share of frames that are overtaken: they arrive later by up to
    /// [`reorder_delay`](FaultsConfig::reorder_delay).
    pub reorder: f64,
    /// How much later those arrive at most.
    #[serde(deserialize_with = "values::text")]
    pub reorder_delay: Duration,
    /// How much later all frames arrive.
    #[serde(deserialize_with = "values::text")]
    pub delay: Duration,
    /// Longer frames are lost, in bytes.
    pub size_limit: Option<u32>,
    /// Frames that pass in a second; others are lost.
    pub rate_limit: Option<u32>,
}

impl FaultsConfig {
    /// The same for one direction of a device.
    pub fn faults(&self) -> Faults {
        let &FaultsConfig { drop, corrupt, duplicate, reorder, reorder_delay, delay, rate_limit, .. } = self;
        let size_limit = self.size_limit.map(|bytes| bytes as usize);
        Faults { drop, corrupt, duplicate, reorder, reorder_delay, delay, size_limit, rate_limit }
    }
}
