//! The runtime.

pub mod time;
