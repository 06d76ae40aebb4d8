//! What has passed, in one number.

use demikernel_runtime::time::Instant;
use std::fmt;

/// Every packet that was sent and that arrived, when and where, folded into one number: two runs that did the same have
/// the same trace, and two that differ in a bit or a nanosecond have not, but by a chance of one in 2^64.
///
/// ```
/// use demikernel_net::sim::Simulation;
/// use demikernel_runtime::net::TcpStream;
///
/// let run = |seed| {
///     let simulation = Simulation::new(seed).unwrap();
///     simulation.host("server", async || {});
///     simulation.block_on("client", async { TcpStream::connect("server:7").await.unwrap_err() });
///     simulation.trace()
/// };
/// assert_eq!(run(1), run(1));
/// assert_ne!(run(1), run(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: 0x243f_6a88_85a3_08d3, events: 0 }
    }

    /// How many packets were sent and arrived.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn add(&mut self, now: Instant, from: usize, to: usize, packet: &[u8]) {
        self.events += 1;
        for word in [now.as_nanos(), from as u64, to as u64, packet.len() as u64] {
            self.fold(word);
        }
        let mut words = packet.chunks_exact(8);
        for word in &mut words {
            self.fold(word.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        self.fold(words.remainder().iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }

    /// A bijection of the hash for each word, so that a difference is never lost again by what follows.
    fn fold(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ mixed >> 29;
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} of {} packets", self.hash, self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_packet_counts() {
        let trace = |now, from, to, packet: &[u8]| {
            let mut trace = Trace::new();
            trace.add(Instant::from_nanos(now), from, to, packet);
            trace.hash()
        };
        let all = [
            trace(1, 2, 3, b"packet of some length"),
            trace(2, 2, 3, b"packet of some length"),
            trace(1, 3, 2, b"packet of some length"),
            trace(1, 2, 3, b"packet of some lengtH"),
            trace(1, 2, 3, b"Packet of some length"),
            trace(1, 2, 3, b"packet of some length\0"),
            trace(1, 2, 3, b""),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
    }
}
