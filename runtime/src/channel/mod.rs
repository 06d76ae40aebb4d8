//! Channels: [`oneshot`] and [`mpsc`] between tasks of one core, [`cross`] between cores.
//!
//! The first two stay on their thread, use no atomics, and make no allocation per message, but for a oneshot
//! value of more than 40 bytes.

pub mod cross;
pub mod mpsc;
mod single;

pub use single::{Canceled, Receiver as OneshotReceiver, Sender as OneshotSender, oneshot};
