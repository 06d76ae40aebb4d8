//! Guides: one subject each, from the beginning.
//!
//! - [`porting`]: from tokio, glommio, monoio and Microsoft's Demikernel, code beside code.

#[doc = include_str!("../docs/porting.md")]
pub mod porting {}
