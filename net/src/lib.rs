//! A TCP/UDP/IP stack in user space for one core, its devices, and a simulated network.
//!
//! The protocols are state machines that take bytes and a time and give bytes, events and the next deadline. They
//! read no clock, own no socket, and draw randomness from a key they are given.
//!
//! In the order in which a packet that arrives passes through them:
//!
//! - [`device`]: bursts of [`Frame`](device::Frame)s in and out.
//! - [`wire`]: checked views of bytes, and small valid values, one module per protocol.
//! - [`ip`]: addresses, routes, neighbours, fragments, ICMP, and what configures them.
//! - [`tcp`]: connections, each a state machine.

pub mod device;
pub mod ip;
pub mod tcp;
pub mod wire;
