//! Nodes talk to each other over streams: a request and its response, one after the other, on each connection.
//!
//! openraft asks for a [`Peer`] for each purpose (replication, heartbeats, a snapshot, a vote), each of which has a connection
//! of its own, so that none waits for another. Those of replication and of heartbeats outlive the requests on them, also
//! those that openraft gives up. [`serve`] is the other end.
//!
//! # What is trusted
//!
//! Bytes are not: whatever is sent, a node goes on, with the [`Limits`]. Members of the cluster are: who can speak the
//! protocol can vote, append and install snapshots, as Raft has no defence against members that lie. [`serve`] refuses requests
//! that no member that follows the protocol can send; a false term, though, is believed, and costs an election. So the
//! port is for a network that only members are on, or TLS with certificates of theirs.

mod client; // requests to others
mod frame; // messages as bytes
mod line; // a connection that outlives its requests
mod message; // requests and responses
mod server; // requests of others

#[cfg(test)]
mod tests;

pub use client::{Network, Peer};
pub use server::serve;

use std::time::Duration;

/// What peers may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a message. `max_payload_entries` of openraft's configuration, each of the longest that clients may write,
    /// have to fit. 64 MiB by default.
    pub message: usize,
    /// Bytes of a snapshot; 1 GiB by default.
    pub snapshot: usize,
    /// Connections at a time; further ones are closed. 64 by default.
    pub connections: usize,
    /// How long a peer may leave what it has begun to say unfinished, or not take what it is told; 10 s by default.
    pub stall: Duration,
    /// After how long a connection on which nothing is asked is closed; 2 minutes by default.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message: 64 << 20,
            snapshot: 1 << 30,
            connections: 64,
            stall: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}
