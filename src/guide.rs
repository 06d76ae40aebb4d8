//! Guides: one subject each, from the beginning.
//!
//! - [`porting`]: from tokio, glommio, monoio and Microsoft's Demikernel, code beside code.
//! - `simulation` (with the feature `sim`): testing a server against partitions and power cuts, in virtual time.
//! - [`tuning`]: what to look at first; cores, idling, memory, and the settings of each transport.
//! - [`security`]: what is trusted, what has limits, and what is not protected.

#[doc = include_str!("../docs/porting.md")]
pub mod porting {}

#[cfg(feature = "sim")]
#[doc = include_str!("../docs/simulation.md")]
pub mod simulation {}

#[doc = include_str!("../docs/tuning.md")]
pub mod tuning {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}
