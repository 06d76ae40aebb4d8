//! What the specifications of NVM Express lay out, for our driver and for the kernel's, which passes commands through.
//!
//! - `command`: entries of queues. `status`: how commands end. `identify`: what a drive says of itself.

pub(crate) mod command;
pub(crate) mod identify;
pub(crate) mod status;
