//! What can be chosen when a simulated device is made.

use std::time::Duration;

/// Settings of [`Memory::with_config`](super::Memory::with_config). Probabilities are from 0 (never) to 1 (always).
///
/// Without faults switched on, connections behave as real ones do on a good day: bytes take some time, come
/// in pieces that have nothing to do with how they were pushed, and nothing is lost.
///
/// ```
/// use demikernel_runtime::transport::memory::{Memory, MemoryConfig};
///
/// let mut config = MemoryConfig::default();
/// config.seed = 7;
/// config.loss = 0.1;
/// let memory = Memory::with_config(config);
/// assert_eq!(memory.seed(), 7);
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// What every delay, cut and fault is drawn from.
    pub seed: u64,
    /// How long anything takes to the other side, at least.
    pub latency: Duration,
    /// How much longer it may take. Streams and, unless [`reorders`](Self::reorders) says otherwise,
    /// datagrams keep their order all the same.
    pub jitter: Duration,
    /// How many bytes a stream's receiver takes before anybody pops them, unless it sets
    /// [`ReceiveBuffer`](crate::transport::SocketOption::ReceiveBuffer). A push waits for room.
    pub window: u32,
    /// The most bytes of a stream that travel, and so are popped, as one piece.
    pub segment: usize,
    /// How often a piece is cut at random before its end.
    pub splits: f64,
    /// How often a pop gets bytes of several pieces that have arrived, instead of those of the first.
    pub joins: f64,
    /// After how long without an answer a connection, or an attempt to make one, is given up.
    pub timeout: Duration,
    /// How often a datagram is lost.
    pub loss: f64,
    /// How often a datagram arrives twice.
    pub duplicates: f64,
    /// How often a datagram is late, so that those behind it overtake it.
    pub reorders: f64,
    /// How often a piece of a stream resets its connection instead of arriving.
    pub resets: f64,
    /// How long an operation on a file takes, at least.
    pub storage_latency: Duration,
    /// How much longer it may take.
    pub storage_jitter: Duration,
    /// How often an operation on an open file fails as if the medium were damaged (EIO). Of a write that
    /// fails, some may have been written.
    pub storage_errors: f64,
    /// Keeps [`Memory::trace`](super::Memory::trace).
    pub trace: bool,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            seed: 0,
            latency: Duration::from_micros(10),
            jitter: Duration::from_micros(40),
            window: 64 << 10,
            segment: 8 << 10,
            splits: 0.25,
            joins: 0.25,
            timeout: Duration::from_secs(120),
            loss: 0.0,
            duplicates: 0.0,
            reorders: 0.0,
            resets: 0.0,
            storage_latency: Duration::from_micros(20),
            storage_jitter: Duration::from_micros(80),
            storage_errors: 0.0,
            trace: false,
        }
    }
}
