//! A TCP/UDP/IP stack in user space for one core, its devices, and a simulated network.
//!
//! The protocols are state machines that take bytes and a time and give bytes, events and the next deadline. They
//! read no clock, own no socket, and draw randomness from a key they are given.
//!
//! - [`config`]: the file `demikernel.toml`.
//!
//! In the order in which a packet that arrives passes through them:
//!
//! - [`device`]: bursts of [`Frame`](device::Frame)s in and out.
//! - [`cores`]: several cores on one port, if there are.
//! - [`wire`]: checked views of bytes, and small valid values, one module per protocol.
//! - [`sim`]: links in virtual time that delay, lose and alter what they carry, and hosts and whole machines between them.
//! - [`ip`]: addresses, routes, neighbours, fragments, ICMP, and what configures them.
//! - `table`: whose packet it is. `slots`: what sockets are kept in; `pooled`: in huge pages, if they are many.
//! - `key`: numbers that nobody can foresee.
//! - [`tcp`](mod@tcp), [`udp`]: the transports.
//! - [`stack`]: sockets, from frames and back to frames.
//! - [`transport`]: the stack as a device of the runtime.

pub mod config;
pub mod cores;
mod counters;
pub mod device;
pub mod ip;
mod key;
mod pooled;
mod prefetch;
pub mod sim;
mod slots;
pub mod stack;
mod table;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod wire;
