//! TCP: connections as state machines without I/O, clock or randomness of their own.

#[allow(dead_code, reason = "the connection that uses it comes after it")]
pub(crate) mod congestion;
#[allow(dead_code, reason = "the connection that uses it comes after it")]
pub(crate) mod recovery;

pub use congestion::{CongestionControl, UnknownCongestionControl};
pub use recovery::CongestionState;
