//! The protocol of a connection: frames, credits and its states, without I/O, clock or randomness.
//!
//! A reliable connection of RDMA delivers each send whole and in order, into a receive buffer that the receiver has
//! posted before; a send that finds none fails, or is tried again until the hardware gives up. All connections of a
//! device and core take their receive buffers from one shared queue. So each side tells the other how many frames it
//! may send, its *credits*, and never promises more than is posted, whatever all peers do at once.
//!
//! - **A data frame takes a credit.** Credits come with every frame that the other side sends anyway.
//! - **A control frame needs none**: for one of each side there is always a buffer. When a peer runs low of credits and
//!   nothing is sent to it, a control frame brings some. The next one may be sent when the peer has acknowledged the
//!   last, which it does with any frame, or with one that says nothing else, for which there is a buffer, too. No
//!   acknowledgment is acknowledged, so silence is a state, and there is no order of events in which both sides wait.
//! - **Each connection has a right to few credits**, its floor. Who uses them up gets more while there are some, twice
//!   as many each time; who does not use what it has is asked for it when others wait, and gives back what it has not
//!   used meanwhile.
//! - **A write with a number takes a credit, too**: it is no frame and has no header, but takes a receive buffer.
//! - **What the program has not read counts**: a peer cannot fill the memory of a program that does not receive.
//!
//! The end of a direction is a flag of a data frame. A connection that ends without one was reset, or its peer has died.
//! `WIRE.md` has every field.
//!
//! - [`Header`]: frames; [`Hello`], [`Refusal`]: the private data of the connection manager.
//! - `pool`: the shared receive buffers. `connection`, `sending`: one connection.
//! - [`Link`]: all of them; `listener`: setting up, within limits; `notices`: numbers that come with writes; `keepalive`:
//!   peers that are silent.
//! - [`datagram_header`], `Peers`: datagrams, which know no credits, and whom they are for.
//! - [`Failure`], [`Violation`]: what may go wrong.

mod config;
mod connection;
#[cfg_attr(not(feature = "verbs"), allow(dead_code))]
mod datagram;
mod engine;
mod error;
mod frame;
mod hello;
mod keepalive;
mod listener;
mod notices;
mod pool;
mod sending;
#[cfg_attr(not(feature = "verbs"), allow(dead_code))]
mod slots;

#[cfg(test)]
mod tests;

pub use config::LinkConfig;
pub use datagram::{DATAGRAM_HEADER, datagram_header, datagram_source};
#[cfg_attr(not(feature = "verbs"), allow(unused_imports))]
pub(crate) use datagram::{Look, Peers};
pub use engine::{Counters, Event, Link, Post};
pub use error::{Failure, Violation};
pub use frame::{Flags, HEADER, Header, Kind, VERSION};
pub use hello::{HELLO, Hello, MAGIC, REFUSAL, Refusal};
pub use keepalive::Keepalive;
pub use notices::Notice;
pub use slots::Id;
#[cfg_attr(not(feature = "verbs"), allow(unused_imports))]
pub(crate) use slots::Slots;
