//! Choice of ephemeral ports (RFC 6056, algorithm 4: double-hash port selection).

use std::ops::RangeInclusive;

use super::isn::Tuple;
use crate::key::Key;

/// Counters: flows that fall on the same one take turns, others tell nothing of each other. [rfc6056 3.3.4]
const COUNTERS: usize = 1024;

/// Chooses the local ports of connections.
///
/// ```
/// use demikernel_net::tcp::{EphemeralPorts, Key, Tuple};
/// use std::collections::HashSet;
///
/// let mut ports = EphemeralPorts::new(Key::new([7; 16]), 50_000..=50_009);
/// let (local, remote) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
/// let tuple = Tuple { local, local_port: 0, remote, remote_port: 80 };
/// let mut used = HashSet::new();
/// while let Some(port) = ports.choose(&tuple, |port| !used.contains(&port)) {
///     used.insert(port);
/// }
/// assert_eq!(used.len(), 10, "each once");
/// ```
#[derive(Debug)]
pub struct EphemeralPorts {
    key: Key,
    first: u16,
    count: u32,
    counters: Box<[u16]>,
}

impl EphemeralPorts {
    /// What Linux uses. [rfc6056 3.2]
    pub const DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

    /// Chooses from `range`.
    ///
    /// # Panics
    /// If there are none in it.
    pub fn new(key: Key, range: RangeInclusive<u16>) -> EphemeralPorts {
        assert!(!range.is_empty(), "no ports in {range:?}");
        let count = u32::from(range.end() - range.start()) + 1;
        EphemeralPorts { key, first: *range.start(), count, counters: vec![0; COUNTERS].into() }
    }

    /// The first port for a connection with the other three of `tuple` (its local port means nothing) that `is_free`
    /// says can be used; `None` if none can.
    pub fn choose(&mut self, tuple: &Tuple, mut is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        let tuple = Tuple { local_port: 0, ..*tuple };
        // The two hashes of the algorithm are halves of one, which have nothing to do with each other either.
        let hash = self.key.of_flow(&tuple, 3);
        let (offset, place) = (hash as u32, (hash >> 32) as usize);
        let counter = &mut self.counters[place % COUNTERS];
        for _ in 0..self.count {
            let at = offset.wrapping_add(u32::from(*counter)) % self.count;
            *counter = counter.wrapping_add(1);
            let port = self.first + at as u16;
            if is_free(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn tuple(remote_port: u16) -> Tuple {
        let address = IpAddr::from([10, 0, 0, 1]);
        Tuple { local: address, local_port: 0, remote: address, remote_port }
    }

    /// [rfc6056 3.3.4]: towards the same peer a port is not used again soon; towards others it begins elsewhere.
    #[test]
    fn ports_take_turns() {
        let mut ports = EphemeralPorts::new(Key::new([3; 16]), 1000..=1099);
        let chosen: Vec<_> = (0..100).filter_map(|_| ports.choose(&tuple(80), |_| true)).collect();
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1000..=1099).collect::<Vec<_>>());
        let firsts: Vec<_> = (0..64).filter_map(|port| ports.choose(&tuple(port), |_| true)).collect();
        assert!(firsts.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 1).count() > 32);
    }

    /// [rfc6056 3.2]: of few that are free each is found, and of none is said so.
    #[test]
    fn the_only_free_port_is_found() {
        let mut ports = EphemeralPorts::new(Key::new([3; 16]), EphemeralPorts::DEFAULT);
        assert_eq!(ports.choose(&tuple(80), |port| port == 40_000), Some(40_000));
        assert_eq!(ports.choose(&tuple(80), |_| false), None);
        let mut one = EphemeralPorts::new(Key::new([3; 16]), 65_535..=65_535);
        assert_eq!(one.choose(&tuple(80), |_| true), Some(65_535));
    }
}
