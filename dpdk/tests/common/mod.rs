//! What the tests begin with.

use demikernel_dpdk::{Eal, EalConfig};
use demikernel_runtime::buffer::pool;

/// EAL on ordinary pages, from which buffers of this thread come from here on.
pub(crate) fn eal() -> &'static Eal {
    let mut config = EalConfig::default();
    config.huge_pages = false;
    let eal = Eal::start(&config).unwrap_or_else(|error| panic!("{error}"));
    pool::set_source(eal.memory());
    eal
}
