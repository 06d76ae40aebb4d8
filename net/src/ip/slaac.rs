//! Addresses that a host makes itself of prefixes that routers advertise (RFC 4862), with interface identifiers that
//! are stable on a network but say nothing elsewhere (RFC 7217).
//!
//! Limit: [`MOST_PREFIXES`] prefixes have an address; a flood of others gets none.

use super::Key;
use super::addresses::{Address, Addresses, Origin, Prefix};
use super::ndp::lifetime;
use crate::wire::ndp::PrefixInformation;
use demikernel_runtime::time::{Duration, Instant};
use std::net::{IpAddr, Ipv6Addr};

/// Of how many prefixes addresses are made.
pub const MOST_PREFIXES: usize = 16;

/// How many identifiers are tried until the prefix is given up [rfc7217 6-retries].
const IDGEN_RETRIES: u8 = 3;

/// Unauthenticated advertisements cannot shorten a lifetime to less [rfc4862 5.5.3-e2].
const TWO_HOURS: Duration = Duration::from_secs(2 * 3600);

const PURPOSE: u64 = 0x736c_6161;

/// Makes addresses for one interface.
///
/// ```
/// use demikernel_net::ip::{Key, addresses::Addresses, slaac::Slaac};
/// use demikernel_net::wire::ndp::PrefixInformation;
/// use demikernel_runtime::time::Instant;
///
/// let information = PrefixInformation {
///     prefix: "2001:db8:1::".parse().unwrap(),
///     length: 64,
///     on_link: true,
///     autonomous: true,
///     valid_lifetime: 86_400,
///     preferred_lifetime: 14_400,
/// };
/// let (now, mut addresses) = (Instant::from_nanos(1), Addresses::new());
/// let mut slaac = Slaac::new(Key::new([7; 16]), 1);
/// let address = slaac.on_prefix(now, &information, &mut addresses).expect("an address is made of it");
/// assert!(address.to_string().starts_with("2001:db8:1:"));
/// assert!(!addresses.is_local(address), "not before nobody else is known to have it");
/// assert_eq!(slaac.on_prefix(now, &information, &mut addresses), None, "it has one");
/// // With the same key it is the same again, after every start.
/// let mut again = Slaac::new(Key::new([7; 16]), 1);
/// assert_eq!(again.on_prefix(now, &information, &mut Addresses::new()), Some(address));
/// ```
#[derive(Debug)]
pub struct Slaac {
    key: Key,
    /// Tells the interfaces of a host apart, and does not change when the hardware does.
    interface: u64,
    /// Prefixes that have an address, with the number of identifiers that others had already; the link-local one
    /// is among them.
    prefixes: Vec<(Prefix, u8)>,
}

impl Slaac {
    /// For the interface of that number; the key is to stay the same for as long as addresses are to
    /// [rfc7217 5-secret].
    #[must_use]
    pub const fn new(key: Key, interface: u64) -> Slaac {
        Slaac { key, interface, prefixes: Vec::new() }
    }

    /// The link-local address, tentative, which an interface has for ever [rfc4862 5.3].
    pub fn link_local(&mut self) -> Address {
        let prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        let prefix = Prefix::new(prefix.into(), 64).unwrap_or(Prefix::host(prefix.into()));
        let conflicts = self.remember(prefix).unwrap_or(0);
        tentative(self.address(prefix, conflicts), Instant::MAX, Instant::MAX)
    }

    /// Takes a prefix of an advertisement; gives the address that it makes, if it makes one: it is in `addresses`,
    /// tentative, and duplicate address detection is to begin.
    pub fn on_prefix(
        &mut self,
        now: Instant,
        information: &PrefixInformation,
        addresses: &mut Addresses,
    ) -> Option<IpAddr> {
        let (valid, preferred) = (information.valid_lifetime, information.preferred_lifetime);
        // [rfc4862 5.5.3-a] [rfc4862 5.5.3-b] [rfc4862 5.5.3-c]; identifiers have 64 bits [rfc4862 5.5.3-length].
        let is_usable = information.autonomous
            && !information.prefix.is_unicast_link_local()
            && !information.prefix.is_multicast()
            && preferred <= valid
            && information.length == 64;
        let prefix = Prefix::new(information.prefix.into(), 64).filter(|_| is_usable)?;
        let (preferred_until, valid_until) = (lifetime(now, preferred), lifetime(now, valid));
        if let Some(known) = find(addresses, prefix) {
            known.preferred_until = preferred_until;
            known.valid_until = prolonged(now, known.valid_until, valid_until);
            return None;
        }
        // [rfc4862 5.5.3-d]
        if valid == 0 {
            return None;
        }
        self.forget_unused(addresses);
        let conflicts = self.remember(prefix).filter(|conflicts| *conflicts <= IDGEN_RETRIES)?;
        let address = tentative(self.address(prefix, conflicts), preferred_until, valid_until);
        addresses.add(address).ok().map(|()| address.address)
    }

    /// Another has the address: it is removed, and another one made of its prefix, unless that was tried often
    /// enough [rfc7217 6] [rfc7217 6-retries].
    pub fn on_duplicate(&mut self, address: IpAddr, addresses: &mut Addresses) -> Option<IpAddr> {
        let old = addresses.remove(address).filter(|old| old.origin == Origin::Slaac)?;
        let prefix = old.prefix();
        let (_, conflicts) = self.prefixes.iter_mut().find(|(known, _)| *known == prefix)?;
        *conflicts = conflicts.saturating_add(1);
        let conflicts = *conflicts;
        if conflicts > IDGEN_RETRIES {
            return None;
        }
        let new = Address { address: self.address(prefix, conflicts), unique: false, ..old };
        addresses.add(new).ok().map(|()| new.address)
    }

    /// How many identifiers of this prefix others had; none if there are too many prefixes.
    fn remember(&mut self, prefix: Prefix) -> Option<u8> {
        if let Some((_, conflicts)) = self.prefixes.iter().find(|(known, _)| *known == prefix) {
            return Some(*conflicts);
        }
        if self.prefixes.len() >= MOST_PREFIXES {
            return None;
        }
        self.prefixes.push((prefix, 0));
        Some(0)
    }

    /// Prefixes whose address is gone leave room; those given up stay, or they would be tried for ever.
    fn forget_unused(&mut self, addresses: &mut Addresses) {
        self.prefixes.retain(|(prefix, conflicts)| {
            *conflicts > 0 || is_link_local(prefix) || find(addresses, *prefix).is_some()
        });
    }

    /// [rfc7217 5] A pseudo-random function of the prefix, the interface and the count of conflicts.
    fn address(&self, prefix: Prefix, conflicts: u8) -> IpAddr {
        let IpAddr::V6(network) = prefix.network() else { return prefix.network() };
        let identifiers = (0u8..)
            .map(|attempt| self.key.hash(PURPOSE, &(network.to_bits(), self.interface, conflicts, attempt)));
        // One of three in 2^64 is reserved, so the first or second will do.
        let identifier = identifiers.take(4).find(|identifier| !is_reserved(*identifier)).unwrap_or(1);
        Ipv6Addr::from_bits(network.to_bits() | u128::from(identifier)).into()
    }
}

/// Identifiers that mean something else (RFC 5453) [rfc7217 5-reserved].
fn is_reserved(identifier: u64) -> bool {
    const ROUTERS: u64 = 0;
    const ETHERNET: std::ops::RangeInclusive<u64> = 0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff;
    const ANYCAST: std::ops::RangeInclusive<u64> = 0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff;
    identifier == ROUTERS || ETHERNET.contains(&identifier) || ANYCAST.contains(&identifier)
}

fn is_link_local(prefix: &Prefix) -> bool {
    matches!(prefix.network(), IpAddr::V6(network) if network.is_unicast_link_local())
}

fn tentative(address: IpAddr, preferred_until: Instant, valid_until: Instant) -> Address {
    Address { address, prefix_length: 64, origin: Origin::Slaac, unique: false, preferred_until, valid_until }
}

/// The address that was made of a prefix.
fn find(addresses: &mut Addresses, prefix: Prefix) -> Option<&mut Address> {
    let made = addresses.iter().find(|known| known.origin == Origin::Slaac && known.prefix() == prefix);
    let address = made?.address;
    addresses.find_mut(address)
}

/// [rfc4862 5.5.3-e1] [rfc4862 5.5.3-e2] [rfc4862 5.5.3-e3]
fn prolonged(now: Instant, known: Instant, said: Instant) -> Instant {
    let soon = now.saturating_add(TWO_HOURS);
    if said > soon || said > known { said } else { known.min(soon) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::addresses::State;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NOW: Instant = Instant::from_nanos(0);

    fn slaac() -> Slaac {
        Slaac::new(Key::new([6; 16]), 1)
    }

    fn prefix(number: u16, valid: u32, preferred: u32) -> PrefixInformation {
        PrefixInformation {
            prefix: Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 0),
            length: 64,
            on_link: true,
            autonomous: true,
            valid_lifetime: valid,
            preferred_lifetime: preferred,
        }
    }

    #[test]
    fn a_prefix_makes_a_tentative_address_with_lifetimes() {
        // [rfc4862 5.5.3-d]
        let (mut slaac, mut addresses) = (slaac(), Addresses::new());
        let made = slaac.on_prefix(NOW, &prefix(1, 100, 50), &mut addresses).unwrap();
        let address = *addresses.find(made).unwrap();
        assert_eq!(address.state(NOW), State::Tentative);
        assert_eq!(address.preferred_until, NOW + Duration::from_secs(50));
        assert_eq!(address.valid_until, NOW + Duration::from_secs(100));
        assert_eq!(address.prefix().to_string(), "2001:db8:0:1::/64");
        assert_eq!(slaac.on_prefix(NOW, &prefix(1, 100, 50), &mut addresses), None, "it is there");
        assert_eq!(slaac.on_prefix(NOW, &prefix(2, 0, 0), &mut addresses), None);
        // [rfc4862 5.3]
        let link_local = slaac.link_local();
        assert!(matches!(link_local.address, IpAddr::V6(address) if address.is_unicast_link_local()));
        assert_eq!((link_local.unique, link_local.valid_until), (false, Instant::MAX));
    }

    #[test]
    fn some_prefixes_make_none() {
        // [rfc4862 5.5.3-a] [rfc4862 5.5.3-b] [rfc4862 5.5.3-c] [rfc4862 5.5.3-length]
        let good = prefix(1, 100, 50);
        let table = [
            PrefixInformation { autonomous: false, ..good },
            PrefixInformation { prefix: "fe80::".parse().unwrap(), ..good },
            PrefixInformation { prefix: "ff02::".parse().unwrap(), ..good },
            PrefixInformation { preferred_lifetime: 101, ..good },
            PrefixInformation { length: 63, ..good },
        ];
        for information in table {
            let mut addresses = Addresses::new();
            assert_eq!(slaac().on_prefix(NOW, &information, &mut addresses), None, "{information:?}");
        }
    }

    #[test]
    fn lifetimes_are_not_shortened_below_two_hours() {
        // Remaining, said, then, in seconds. [rfc4862 5.5.3-e1] [rfc4862 5.5.3-e2] [rfc4862 5.5.3-e3]
        let table = [
            (10_000, 20_000, 20_000),
            (10_000, 7201, 7201),
            (10_000, 100, 7200),
            (10_000, 0, 7200),
            (5000, 100, 5000),
            (5000, 6000, 6000),
        ];
        for (remaining, said, then) in table {
            let (mut slaac, mut addresses) = (slaac(), Addresses::new());
            let made = slaac.on_prefix(NOW, &prefix(1, remaining, 10), &mut addresses).unwrap();
            slaac.on_prefix(NOW, &prefix(1, said, 0), &mut addresses);
            let address = addresses.find(made).unwrap();
            assert_eq!(address.valid_until, NOW + Duration::from_secs(then), "{remaining} {said}");
            assert_eq!(address.preferred_until, NOW, "that can always be shortened");
        }
    }

    #[test]
    fn identifiers_are_stable_on_a_network_and_differ_elsewhere() {
        // [rfc7217 5] [rfc7217 5-secret]
        let made = |key: u8, interface, number| {
            let mut slaac = Slaac::new(Key::new([key; 16]), interface);
            let made = slaac.on_prefix(NOW, &prefix(number, 100, 50), &mut Addresses::new()).unwrap();
            let IpAddr::V6(address) = made else { panic!("{made}") };
            address.to_bits() as u64
        };
        assert_eq!(made(1, 1, 1), made(1, 1, 1));
        let all: HashSet<u64> = [made(1, 1, 1), made(1, 1, 2), made(1, 2, 1), made(2, 1, 1)].into();
        assert_eq!(all.len(), 4);
        // [rfc7217 5-reserved]
        for reserved in [0, 0x0200_5eff_fe00_5213, 0xfdff_ffff_ffff_ff80, 0xfdff_ffff_ffff_ffff] {
            assert!(is_reserved(reserved) && !is_reserved(reserved ^ 1 << 40));
        }
    }

    #[test]
    fn duplicates_are_replaced_three_times() {
        // [rfc7217 6] [rfc7217 6-retries]
        let (mut slaac, mut addresses) = (slaac(), Addresses::new());
        let mut address = slaac.on_prefix(NOW, &prefix(1, 100, 50), &mut addresses).unwrap();
        let mut seen = HashSet::from([address]);
        for _ in 0..3 {
            address = slaac.on_duplicate(address, &mut addresses).unwrap();
            assert!(seen.insert(address) && !addresses.find(address).unwrap().unique);
            assert_eq!(addresses.iter().count(), 1);
        }
        assert_eq!(slaac.on_duplicate(address, &mut addresses), None);
        assert_eq!(slaac.on_prefix(NOW, &prefix(1, 100, 50), &mut addresses), None, "it was tried");
        assert_eq!(addresses.iter().count(), 0);
    }

    #[test]
    fn a_flood_of_prefixes_meets_the_limit_and_ends() {
        let (mut slaac, mut addresses) = (slaac(), Addresses::new());
        slaac.link_local();
        for number in 0..10_000 {
            slaac.on_prefix(NOW, &prefix(number, 100, 50), &mut addresses);
        }
        assert_eq!((addresses.iter().count(), slaac.prefixes.len()), (MOST_PREFIXES - 1, MOST_PREFIXES));
        let later = NOW + Duration::from_secs(100);
        addresses.expire(later);
        assert!(slaac.on_prefix(later, &prefix(20_000, 100, 50), &mut addresses).is_some());
    }

    proptest! {
        #[test]
        fn lifetimes_follow_the_rule(remaining in 1u32..30_000, said in 0u32..30_000) {
            let end = |seconds: u32| NOW + Duration::from_secs(seconds.into());
            let then = prolonged(NOW, end(remaining), end(said));
            let expected = if said > 7200 || said > remaining { said } else { remaining.min(7200) };
            prop_assert_eq!(then, end(expected));
        }
    }
}
