//! The IP layer as state machines: they are given bytes, times and random values, and give values to be sent.
//!
//! - [`addresses`], [`routes`]: whose packet it is, from which address and to which hop one is sent.
//! - [`neighbours`], [`conflict`]: Ethernet addresses of hops, by ARP and NDP; nobody else has our addresses.
//! - [`reassembly`], [`fragmentation`], [`pmtu`]: packets larger than links.
//! - [`icmp`]: what is answered, and what errors mean to sockets.
//! - [`ndp`], [`slaac`], [`dhcp`]: what routers and servers say, and the addresses that come of it.
//! - [`multicast`]: groups that sockets have joined.
//!
//! Every table that a peer can make grow has a limit, which its module names.

pub mod addresses;
pub mod conflict;
pub mod dhcp;
pub mod fragmentation;
pub mod icmp;
pub mod multicast;
pub mod ndp;
pub mod neighbours;
pub mod pmtu;
pub mod reassembly;
pub mod routes;
pub mod slaac;

pub use crate::key::Key;

use demikernel_runtime::time::Duration;

/// A duration between two, chosen by a random value.
///
/// ```
/// use demikernel_net::ip::between;
/// use std::time::Duration;
///
/// let (low, high) = (Duration::from_secs(1), Duration::from_secs(3));
/// assert_eq!((between(low, high, 0), between(low, high, u64::MAX)), (low, high));
/// assert_eq!(between(low, high, 1 << 63), Duration::from_secs(2));
/// ```
#[must_use]
pub fn between(low: Duration, high: Duration, random: u64) -> Duration {
    let span = high.saturating_sub(low).as_nanos() as u64;
    low + Duration::from_nanos(((u128::from(random) * (u128::from(span) + 1)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_value_chooses_between_two_durations() {
        let (low, high) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(between(low, high, 0), low);
        assert_eq!(between(low, high, u64::MAX), high);
        assert_eq!(between(low, high, 1 << 63), Duration::from_millis(1500));
        assert_eq!(between(high, low, u64::MAX), high);
    }
}
