//! Initial sequence numbers (RFC 6528).

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use demikernel_runtime::time::Instant;

use crate::key::Key;
use crate::wire::tcp::SequenceNumber;

/// The two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// The address here.
    pub local: IpAddr,
    /// The port here.
    pub local_port: u16,
    /// The address of the peer.
    pub remote: IpAddr,
    /// The port of the peer.
    pub remote_port: u16,
}

/// The first number of a connection, and what is added to its timestamps.
///
/// ```
/// use demikernel_net::tcp::{Key, Tuple};
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let key = Key::new([7; 16]);
/// let (local, remote) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
/// let tuple = Tuple { local, local_port: 40_000, remote, remote_port: 80 };
/// let now = Instant::from_nanos(1_000_000_000);
/// let (first, next) =
///     (key.initial_numbers(now, &tuple), key.initial_numbers(now + Duration::from_millis(4), &tuple));
/// assert_eq!(next.sequence - first.sequence, 1000, "for the same ends it goes on, by one each 4 us");
/// // From one port nobody can tell the number of another.
/// let other = key.initial_numbers(now, &Tuple { local_port: 40_001, ..tuple });
/// assert!(other.sequence - first.sequence > 1000);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InitialNumbers {
    /// ISS: of the SYN.
    pub sequence: SequenceNumber,
    /// Added to the timestamp clock. [rfc7323 5.4]
    pub timestamp_offset: u32,
}

impl Key {
    /// Hash of the four, and of what `purpose` it is for.
    pub(crate) fn of_flow(&self, tuple: &Tuple, purpose: u64) -> u64 {
        let mut hasher = self.build_hasher();
        match (tuple.local, tuple.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                hasher.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => [local, remote].into_iter().for_each(|address| match address {
                IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
                IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
            }),
        }
        hasher.write_u32(u32::from(tuple.local_port) << 16 | u32::from(tuple.remote_port));
        hasher.write_u64(purpose);
        hasher.finish()
    }

    /// A number that follows from another, for those who have the key.
    pub(crate) fn number(&self, from: u64) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write_u64(from);
        hasher.finish()
    }

    /// The numbers for a connection that begins now: a clock of four microseconds, and a hash of the four that only
    /// this key gives. [rfc6528 3] [rfc9293 MUST-8] [rfc9293 MUST-9]
    /// [rfc9293 SHLD-1]
    ///
    /// Timestamps of connections between the same hosts are on one clock: so a new one of the same four has later
    /// stamps than the old. [rfc6191 2]
    pub fn initial_numbers(&self, now: Instant, tuple: &Tuple) -> InitialNumbers {
        let timestamp_offset = self.timestamp_offset(tuple);
        InitialNumbers { sequence: self.initial_sequence(now, tuple), timestamp_offset }
    }

    pub(crate) fn initial_sequence(&self, now: Instant, tuple: &Tuple) -> SequenceNumber {
        let hash = self.of_flow(tuple, 1);
        let ticks = (now.as_nanos() / 4000) as u32;
        SequenceNumber::new((hash as u32).wrapping_add(ticks))
    }

    /// The same for all connections between two hosts.
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        self.of_flow(&Tuple { local_port: 0, remote_port: 0, ..*tuple }, 2) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use demikernel_runtime::time::Duration;

    fn tuple(remote_port: u16) -> Tuple {
        let address = IpAddr::from([10, 0, 0, 1]);
        Tuple { local: address, local_port: 80, remote: IpAddr::from([10, 0, 0, 2]), remote_port }
    }

    /// [rfc6528 3], [rfc9293 MUST-8]: one more each four microseconds for the same four.
    #[test]
    fn numbers_of_a_tuple_follow_the_clock() {
        let key = Key::new([7; 16]);
        let now = Instant::from_nanos(1 << 50);
        let first = key.initial_numbers(now, &tuple(1)).sequence;
        for micros in [0, 4, 400, 4_000_000_000] {
            let later = key.initial_numbers(now + Duration::from_micros(micros), &tuple(1)).sequence;
            assert_eq!(later - first, (micros / 4) as u32);
        }
    }

    /// [rfc7323 5.4]: the stamps of two hosts are on one clock, which others do not know.
    #[test]
    fn stamps_between_two_hosts_are_on_one_clock() {
        let now = Instant::from_nanos(1 << 50);
        let offset = |key, port| Key::new([key; 16]).initial_numbers(now, &tuple(port)).timestamp_offset;
        assert_eq!(offset(1, 5), offset(1, 6));
        assert_ne!(offset(1, 5), offset(2, 5));
    }

    /// [rfc6528 3], [rfc9293 SHLD-1], [rfc9293 MUST-9]: others, and other keys, have others.
    #[test]
    fn numbers_of_others_tell_nothing() {
        let now = Instant::from_nanos(1 << 50);
        let mut all: Vec<u32> = Vec::new();
        for key in 0..8 {
            let key = Key::new([key; 16]);
            all.extend((0..512).map(|port| key.initial_numbers(now, &tuple(port)).sequence.value()));
        }
        let high = all.iter().filter(|number| **number > u32::MAX / 2).count();
        assert!((1850..2250).contains(&high), "{high}");
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 4090);
    }
}
