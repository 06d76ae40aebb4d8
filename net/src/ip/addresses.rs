//! The addresses of an interface: which there are and in which state, what a destination is to us, and from which
//! one a packet is sent.
//!
//! At most [`MOST_ADDRESSES`]: a router that advertises ever new prefixes gets no further.

use demikernel_runtime::time::Instant;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many addresses an interface has at most.
pub const MOST_ADDRESSES: usize = 32;

/// The first bits of addresses.
///
/// ```
/// use demikernel_net::ip::addresses::Prefix;
///
/// let prefix = Prefix::new("192.0.2.77".parse().unwrap(), 24).unwrap();
/// assert!(prefix.contains("192.0.2.1".parse().unwrap()));
/// assert_eq!(prefix.to_string(), "192.0.2.0/24");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

impl Prefix {
    /// The first `length` bits of an address; none if it has not so many.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let network = match address {
            IpAddr::V4(address) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
            _ => return None,
        };
        Some(Prefix { network, length })
    }

    /// That of one address only.
    ///
    /// ```
    /// use demikernel_net::ip::addresses::Prefix;
    ///
    /// let prefix = Prefix::host("2001:db8::1".parse().unwrap());
    /// assert_eq!(prefix.to_string(), "2001:db8::1/128");
    /// assert!(!prefix.contains("2001:db8::2".parse().unwrap()));
    /// ```
    #[must_use]
    pub const fn host(address: IpAddr) -> Prefix {
        Prefix { network: address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether an address begins with it.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let different = network.to_bits() ^ address.to_bits();
                different.leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let different = network.to_bits() ^ address.to_bits();
                different.leading_zeros() >= u32::from(self.length)
            }
            _ => false,
        }
    }

    /// The lowest address.
    #[must_use]
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits it has.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The address of everybody in it: with fewer than 31 bits, all others of which are set [rfc1122 3.2.1.3-d].
    /// Prefixes of 31 bits are for two hosts and have none (RFC 3021).
    ///
    /// ```
    /// use demikernel_net::ip::addresses::Prefix;
    ///
    /// let broadcast = |address: &str, length| Prefix::new(address.parse().unwrap(), length)?.broadcast();
    /// assert_eq!(broadcast("192.0.2.77", 26), Some([192, 0, 2, 127].into()));
    /// assert_eq!(broadcast("192.0.2.77", 31), None, "two hosts have no use for it");
    /// assert_eq!(broadcast("2001:db8::1", 64), None, "IPv6 has groups instead");
    /// ```
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.network {
            IpAddr::V4(network) if self.length < 31 => {
                Some(Ipv4Addr::from_bits(network.to_bits() | u32::MAX >> self.length))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may be done with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It may be another's as well; nothing is sent from it nor taken for it [rfc4862 2-tentative].
    Tentative,
    /// Everything.
    Preferred,
    /// Nothing new begins with it if there is another [rfc4862 5.5.4-deprecated].
    Deprecated,
}

/// Who gave an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The configuration.
    Static,
    /// A DHCP server.
    Dhcp,
    /// A prefix that a router advertised.
    Slaac,
}

/// An address, and how long it is to be used.
///
/// ```
/// use demikernel_net::ip::addresses::{Address, Origin, State};
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let now = Instant::from_nanos(1);
/// let fixed = Address::fixed("192.0.2.1".parse().unwrap(), 24);
/// assert_eq!((fixed.state(now), fixed.prefix().to_string()), (State::Preferred, "192.0.2.0/24".to_owned()));
///
/// let hour = Duration::from_secs(3600);
/// let leased = Address { origin: Origin::Dhcp, unique: false, preferred_until: now + hour, ..fixed };
/// assert_eq!(leased.state(now), State::Tentative, "another may have it");
/// let confirmed = Address { unique: true, ..leased };
/// assert_eq!(confirmed.state(now + hour), State::Deprecated);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits those on the same link have too.
    pub prefix_length: u8,
    /// Who gave it.
    pub origin: Origin,
    /// Nobody else has it: duplicate address detection has passed.
    pub unique: bool,
    /// When it is deprecated; [`Instant::MAX`] never.
    pub preferred_until: Instant,
    /// When it is gone; [`Instant::MAX`] never.
    pub valid_until: Instant,
}

impl Address {
    /// One for ever, of which the configuration vouches that nobody else has it.
    #[must_use]
    pub const fn fixed(address: IpAddr, prefix_length: u8) -> Address {
        Address {
            address,
            prefix_length,
            origin: Origin::Static,
            unique: true,
            preferred_until: Instant::MAX,
            valid_until: Instant::MAX,
        }
    }

    /// The state at a time.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match (self.unique, now < self.preferred_until) {
            (false, _) => State::Tentative,
            (true, true) => State::Preferred,
            (true, false) => State::Deprecated,
        }
    }

    /// Its prefix.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        Prefix::new(self.address, self.prefix_length).unwrap_or(Prefix::host(self.address))
    }
}

/// What a destination is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One of our addresses, or loopback.
    Local,
    /// Everybody on the link.
    Broadcast,
    /// A group.
    Multicast,
    /// Another host.
    Other,
}

/// Why an address was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// There are [`MOST_ADDRESSES`].
    #[error("the interface has {MOST_ADDRESSES} addresses")]
    Full,
    /// It names no single host, or its prefix has more bits than it.
    #[error("not the address of a host")]
    NoHost,
}

/// The addresses of an interface.
///
/// ```
/// use demikernel_net::ip::addresses::{AddError, Address, Addresses};
///
/// let mut addresses = Addresses::new();
/// addresses.add(Address::fixed("192.0.2.1".parse().unwrap(), 24))?;
/// assert!(addresses.is_local("192.0.2.1".parse().unwrap()));
/// assert!(addresses.is_local("127.0.0.1".parse().unwrap()), "ever");
/// assert!(addresses.is_on_link("192.0.2.99".parse().unwrap()));
/// let of_all = Address::fixed("192.0.2.255".parse().unwrap(), 24);
/// assert_eq!(addresses.add(of_all), Err(AddError::NoHost));
/// # Ok::<(), AddError>(())
/// ```
#[derive(Debug, Default)]
pub struct Addresses {
    list: Vec<Address>,
}

impl FromIterator<Address> for Addresses {
    /// Those that there is room for.
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Addresses {
        let mut list = Addresses::new();
        for address in addresses {
            let _ = list.add(address);
        }
        list
    }
}

impl Addresses {
    /// None yet.
    #[must_use]
    pub const fn new() -> Addresses {
        Addresses { list: Vec::new() }
    }

    /// Adds an address, or replaces what was said of it.
    ///
    /// # Errors
    /// If there is no room, or it cannot be the address of a host.
    pub fn add(&mut self, address: Address) -> Result<(), AddError> {
        let ip = address.address;
        let prefix = Prefix::new(ip, address.prefix_length).ok_or(AddError::NoHost)?;
        if ip.is_multicast() || ip.is_unspecified() || prefix.broadcast().is_some_and(|all| ip == all) {
            return Err(AddError::NoHost);
        }
        if let Some(known) = self.find_mut(ip) {
            *known = address;
        } else if self.list.len() < MOST_ADDRESSES {
            self.list.push(address);
        } else {
            return Err(AddError::Full);
        }
        Ok(())
    }

    /// Removes an address, if it is there.
    pub fn remove(&mut self, address: IpAddr) -> Option<Address> {
        let place = self.list.iter().position(|known| known.address == address)?;
        Some(self.list.remove(place))
    }

    /// Nobody else has the address: it leaves the tentative state.
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses};
    ///
    /// let address = "2001:db8::1".parse().unwrap();
    /// let tentative = Address { unique: false, ..Address::fixed(address, 64) };
    /// let mut addresses: Addresses = [tentative].into_iter().collect();
    /// assert!(!addresses.is_local(address), "packets to it may be for another");
    /// addresses.confirm(address);
    /// assert!(addresses.is_local(address));
    /// ```
    pub fn confirm(&mut self, address: IpAddr) {
        if let Some(known) = self.find_mut(address) {
            known.unique = true;
        }
    }

    /// Changes an address in place.
    pub fn find_mut(&mut self, address: IpAddr) -> Option<&mut Address> {
        self.list.iter_mut().find(|known| known.address == address)
    }

    /// Removes those that are valid no longer [rfc4862 5.5.4-invalid] and returns them.
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses};
    /// use demikernel_runtime::time::{Duration, Instant};
    ///
    /// let now = Instant::from_nanos(1);
    /// let until = now + Duration::from_secs(60);
    /// let leased = Address { valid_until: until, ..Address::fixed("192.0.2.10".parse().unwrap(), 24) };
    /// let mut addresses: Addresses = [leased].into_iter().collect();
    /// assert_eq!(addresses.deadline(), Some(until));
    /// assert!(addresses.expire(now).is_empty());
    /// assert_eq!(addresses.expire(until), [leased]);
    /// assert_eq!(addresses.deadline(), None);
    /// ```
    pub fn expire(&mut self, now: Instant) -> Vec<Address> {
        self.list.extract_if(.., |address| address.valid_until <= now).collect()
    }

    /// When [`expire`](Addresses::expire) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let ends = self.list.iter().map(|address| address.valid_until);
        ends.min().filter(|end| *end != Instant::MAX)
    }

    /// All addresses.
    pub fn iter(&self) -> std::slice::Iter<'_, Address> {
        self.list.iter()
    }

    /// What is known of an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<&Address> {
        self.list.iter().find(|known| known.address == address)
    }

    /// Whether packets to an address are for this host: not while it is tentative [rfc4862 5.4-discard].
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.list.iter().any(|known| known.address == address && known.unique)
    }

    /// What a destination is to us [rfc1122 3.2.1.3].
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses, Kind};
    ///
    /// let own = Address::fixed("192.0.2.1".parse().unwrap(), 24);
    /// let addresses: Addresses = [own].into_iter().collect();
    /// let kind = |address: &str| addresses.kind(address.parse().unwrap());
    /// assert_eq!((kind("192.0.2.1"), kind("192.0.2.2")), (Kind::Local, Kind::Other));
    /// assert_eq!((kind("192.0.2.255"), kind("255.255.255.255")), (Kind::Broadcast, Kind::Broadcast));
    /// assert_eq!((kind("224.0.0.1"), kind("ff02::1")), (Kind::Multicast, Kind::Multicast));
    /// ```
    #[must_use]
    pub fn kind(&self, destination: IpAddr) -> Kind {
        if self.is_local(destination) {
            Kind::Local
        } else if destination.is_multicast() {
            Kind::Multicast
        } else if self.is_broadcast(destination) {
            Kind::Broadcast
        } else {
            Kind::Other
        }
    }

    /// Whether it is the limited broadcast address or that of one of our networks [rfc1122 3.3.6].
    #[must_use]
    pub fn is_broadcast(&self, destination: IpAddr) -> bool {
        let IpAddr::V4(destination) = destination else { return false };
        let directed = |known: &Address| known.prefix().broadcast() == Some(destination);
        destination.is_broadcast() || self.list.iter().any(directed)
    }

    /// Whether a packet may come from an address: not from a group, nor from everybody [rfc1122 3.2.1.3-source].
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses};
    ///
    /// let own = Address::fixed("192.0.2.1".parse().unwrap(), 24);
    /// let addresses: Addresses = [own].into_iter().collect();
    /// assert!(addresses.may_be_source("198.51.100.1".parse().unwrap()));
    /// assert!(!addresses.may_be_source("192.0.2.255".parse().unwrap()), "an answer would go to all");
    /// ```
    #[must_use]
    pub fn may_be_source(&self, source: IpAddr) -> bool {
        !source.is_multicast() && !self.is_broadcast(source)
    }

    /// Whether a destination is on the link of one of our addresses. Of IPv6 only link-local ones are: which others
    /// are, only routers say [rfc5942 4].
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses};
    ///
    /// let own = ["192.0.2.1", "2001:db8::1"].map(|own| Address::fixed(own.parse().unwrap(), 24));
    /// let addresses: Addresses = own.into_iter().collect();
    /// let is_on_link = |address: &str| addresses.is_on_link(address.parse().unwrap());
    /// assert!(is_on_link("192.0.2.2") && !is_on_link("198.51.100.1"));
    /// assert!(is_on_link("fe80::2") && !is_on_link("2001:db8::2"), "routers say it of the latter");
    /// ```
    #[must_use]
    pub fn is_on_link(&self, destination: IpAddr) -> bool {
        match destination {
            IpAddr::V6(destination) => destination.is_unicast_link_local() || destination.is_multicast(),
            IpAddr::V4(_) => self.list.iter().any(|known| known.prefix().contains(destination)),
        }
    }

    /// The address from which a packet to `destination` is sent, by the rules of RFC 6724 section 5 that matter to a
    /// host with one interface and no temporary or home addresses: 1 (the same address), 2 (appropriate scope), 3
    /// (not deprecated), 6 (matching label), 8 (longest matching prefix). What they leave equal, the order of adding
    /// decides. For IPv4 they are the same, with link-local addresses of smaller scope [rfc6724 3.2].
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses};
    /// use demikernel_runtime::time::Instant;
    ///
    /// let own = ["fe80::1", "2001:db8:1::1", "2001:db8:2::1"];
    /// let addresses: Addresses = own.map(|own| Address::fixed(own.parse().unwrap(), 64)).into_iter().collect();
    /// let source = |destination: &str| {
    ///     let destination = destination.parse().unwrap();
    ///     addresses.select_source(Instant::from_nanos(1), destination).map(|source| source.to_string())
    /// };
    /// assert_eq!(source("fe80::2").as_deref(), Some("fe80::1"), "within the link");
    /// assert_eq!(source("2001:db8:2::9").as_deref(), Some("2001:db8:2::1"), "the longest prefix in common");
    /// assert_eq!(source("192.0.2.1"), None);
    /// ```
    #[must_use]
    pub fn select_source(&self, now: Instant, destination: IpAddr) -> Option<IpAddr> {
        if destination.is_loopback() {
            return Some(destination);
        }
        // Candidates: unicast addresses of the version that are no longer tentative [rfc6724 4].
        let candidates = self.list.iter().filter(|known| {
            known.unique && known.valid_until > now && known.address.is_ipv4() == destination.is_ipv4()
        });
        candidates
            .reduce(|best, next| if better(now, destination, next, best) { next } else { best })
            .map(|best| best.address)
    }
}

/// Whether the first is to be preferred to the second.
fn better(now: Instant, destination: IpAddr, first: &Address, second: &Address) -> bool {
    let (a, b) = (first.address, second.address);
    // [rfc6724 5-rule-1]
    if (a == destination) != (b == destination) {
        return a == destination;
    }
    // The smallest scope that reaches the destination, else the largest [rfc6724 5-rule-2].
    let (scope_a, scope_b) = (scope(a), scope(b));
    if scope_a != scope_b {
        let reach = scope(destination);
        return if scope_a < scope_b { scope_a >= reach } else { scope_b < reach };
    }
    // [rfc6724 5-rule-3]
    let preferred = |address: &Address| address.state(now) == State::Preferred;
    if preferred(first) != preferred(second) {
        return preferred(first);
    }
    // [rfc6724 5-rule-6]
    let matches = |address| label(address) == label(destination);
    if matches(a) != matches(b) {
        return matches(a);
    }
    // [rfc6724 5-rule-8]
    common(a, destination, first.prefix_length) > common(b, destination, second.prefix_length)
}

/// Scopes as multicast addresses number them [rfc6724 3.1].
///
/// ```
/// use demikernel_net::ip::addresses::scope;
///
/// let scope = |address: &str| scope(address.parse().unwrap());
/// assert_eq!((scope("fe80::1"), scope("169.254.1.1")), (2, 2), "of a link");
/// assert_eq!((scope("2001:db8::1"), scope("10.0.0.1")), (14, 14), "global, though that is a private one");
/// assert_eq!(scope("ff05::1"), 5, "a group says its own");
/// ```
#[must_use]
pub fn scope(address: IpAddr) -> u8 {
    const LINK_LOCAL: u8 = 0x2;
    const SITE_LOCAL: u8 = 0x5;
    const GLOBAL: u8 = 0xe;
    match address {
        IpAddr::V4(address) if address.is_loopback() || address.is_link_local() => LINK_LOCAL,
        IpAddr::V4(_) => GLOBAL,
        IpAddr::V6(address) if address.is_multicast() => address.octets()[1] & 0x0f,
        IpAddr::V6(address) if address.is_loopback() || address.is_unicast_link_local() => LINK_LOCAL,
        IpAddr::V6(address) if address.segments()[0] & 0xffc0 == 0xfec0 => SITE_LOCAL,
        IpAddr::V6(_) => GLOBAL,
    }
}

/// Labels of the default policy table [rfc6724 2.1].
fn label(address: IpAddr) -> u8 {
    let IpAddr::V6(address) = address else { return 4 };
    match address.segments() {
        _ if address.is_loopback() => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 5,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [first, ..] if first & 0xfe00 == 0xfc00 => 13,
        [first, ..] if first & 0xffc0 == 0xfec0 => 11,
        _ => 1,
    }
}

/// How many first bits are the same, up to the length of the source's prefix [rfc6724 2.2].
fn common(source: IpAddr, destination: IpAddr, prefix_length: u8) -> u32 {
    let same = match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    same.min(prefix_length.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use demikernel_runtime::time::Duration;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn interface(addresses: &[&str]) -> Addresses {
        let mut interface = Addresses::new();
        for text in addresses {
            let (address, length) = text.split_once('/').unwrap();
            interface.add(Address::fixed(ip(address), length.parse().unwrap())).unwrap();
        }
        interface
    }

    #[test]
    fn prefixes_have_their_bits_and_a_broadcast_address() {
        // [rfc1122 3.2.1.3-d]
        let table = [
            ("10.1.2.3", 8, "10.0.0.0/8", Some("10.255.255.255")),
            ("10.1.2.3", 30, "10.1.2.0/30", Some("10.1.2.3")),
            ("10.1.2.3", 31, "10.1.2.2/31", None),
            ("10.1.2.3", 32, "10.1.2.3/32", None),
            ("10.1.2.3", 0, "0.0.0.0/0", Some("255.255.255.255")),
            ("2001:db8::1", 64, "2001:db8::/64", None),
            ("2001:db8::1", 0, "::/0", None),
        ];
        for (address, length, text, broadcast) in table {
            let prefix = Prefix::new(ip(address), length).unwrap();
            assert_eq!(prefix.to_string(), text);
            assert_eq!(prefix.broadcast().map(|all| all.to_string()).as_deref(), broadcast);
            assert!(prefix.contains(ip(address)));
        }
        assert_eq!(Prefix::new(ip("10.0.0.1"), 33), None);
        assert_eq!(Prefix::new(ip("::"), 129), None);
        assert!(!Prefix::new(ip("::"), 0).unwrap().contains(ip("10.0.0.1")));
    }

    #[test]
    fn a_destination_is_ours_everybodys_a_groups_or_anothers() {
        // [rfc1122 3.2.1.3] [rfc1122 3.3.6]
        let interface = interface(&["192.0.2.5/24", "2001:db8::5/64"]);
        let table = [
            ("192.0.2.5", Kind::Local),
            ("127.0.0.9", Kind::Local),
            ("::1", Kind::Local),
            ("2001:db8::5", Kind::Local),
            ("192.0.2.255", Kind::Broadcast),
            ("255.255.255.255", Kind::Broadcast),
            ("192.0.3.255", Kind::Other),
            ("224.0.0.1", Kind::Multicast),
            ("ff02::1", Kind::Multicast),
            ("192.0.2.6", Kind::Other),
            ("2001:db8::6", Kind::Other),
        ];
        for (destination, kind) in table {
            assert_eq!(interface.kind(ip(destination)), kind, "{destination}");
        }
        // [rfc1122 3.2.1.3-source]
        assert!(!interface.may_be_source(ip("192.0.2.255")) && !interface.may_be_source(ip("224.0.0.1")));
        assert!(interface.may_be_source(ip("192.0.2.6")));
        // [rfc5942 4]
        assert!(interface.is_on_link(ip("192.0.2.6")) && !interface.is_on_link(ip("192.0.3.6")));
        assert!(interface.is_on_link(ip("fe80::1")) && !interface.is_on_link(ip("2001:db8::6")));
    }

    #[test]
    fn a_tentative_address_neither_takes_nor_sends() {
        // [rfc6724 4] [rfc4862 2-tentative] [rfc4862 5.4-discard]
        let mut interface = Addresses::new();
        let address = Address { unique: false, ..Address::fixed(ip("fe80::1"), 64) };
        interface.add(address).unwrap();
        assert_eq!(interface.find(ip("fe80::1")).unwrap().state(NOW), State::Tentative);
        assert!(!interface.is_local(ip("fe80::1")));
        assert_eq!(interface.select_source(NOW, ip("fe80::2")), None);
        interface.confirm(ip("fe80::1"));
        assert_eq!(interface.select_source(NOW, ip("fe80::2")), Some(ip("fe80::1")));
    }

    #[test]
    fn lifetimes_end_first_preference_then_the_address() {
        // [rfc4862 5.5.4-deprecated] [rfc4862 5.5.4-invalid]
        let mut interface = interface(&["2001:db8::1/64"]);
        let address = Address {
            preferred_until: NOW + Duration::from_secs(10),
            valid_until: NOW + Duration::from_secs(20),
            ..Address::fixed(ip("2001:db8::2"), 64)
        };
        interface.add(address).unwrap();
        let to = ip("2001:db8::3");
        assert_eq!(interface.select_source(NOW, to), Some(ip("2001:db8::1")), "the older one if equal");
        interface.remove(ip("2001:db8::1"));
        let later = NOW + Duration::from_secs(10);
        assert_eq!(interface.find(ip("2001:db8::2")).unwrap().state(later), State::Deprecated);
        assert_eq!(interface.select_source(later, to), Some(ip("2001:db8::2")), "if there is no other");
        assert_eq!(interface.deadline(), Some(NOW + Duration::from_secs(20)));
        assert_eq!(interface.expire(later), []);
        assert_eq!(interface.expire(NOW + Duration::from_secs(20)), [address]);
        assert_eq!(interface.deadline(), None);
    }

    #[test]
    fn the_source_is_chosen_by_the_rules() {
        let table: [(&str, &[&str], &str); 12] = [
            // [rfc6724 5-rule-1]
            ("2001:db8:1::1", &["2001:db8:1::2/64", "2001:db8:1::1/64"], "2001:db8:1::1"),
            // [rfc6724 5-rule-2] [rfc6724 3.1]
            ("2001:db8:1::1", &["fe80::1/64", "2001:db8:2::1/64"], "2001:db8:2::1"),
            ("fe80::2", &["2001:db8:2::1/64", "fe80::1/64"], "fe80::1"),
            ("ff02::1", &["2001:db8:2::1/64", "fe80::1/64"], "fe80::1"),
            ("ff0e::1", &["fe80::1/64", "2001:db8:2::1/64"], "2001:db8:2::1"),
            ("ff05::1", &["fe80::1/64", "2001:db8:3::1/64"], "2001:db8:3::1"),
            // [rfc6724 3.2]
            ("192.0.2.9", &["169.254.1.1/16", "10.0.0.1/8"], "10.0.0.1"),
            ("169.254.7.7", &["10.0.0.1/8", "169.254.1.1/16"], "169.254.1.1"),
            // [rfc6724 5-rule-6] [rfc6724 2.1]
            ("2002:c633:6401::1", &["2001:db8:2::1/64", "2002:c633:6401::d5e3/64"], "2002:c633:6401::d5e3"),
            ("fd00::9", &["2001:db8::1/64", "fd11::1/64"], "fd11::1"),
            // [rfc6724 5-rule-8] [rfc6724 2.2]
            ("2001:db8:1::1", &["2001:db8:3::2/64", "2001:db8:1::2/64"], "2001:db8:1::2"),
            ("10.2.0.9", &["10.1.0.1/16", "10.2.0.1/16"], "10.2.0.1"),
        ];
        for (destination, addresses, expected) in table {
            let interface = interface(addresses);
            assert_eq!(interface.select_source(NOW, ip(destination)), Some(ip(expected)), "{destination}");
        }
        assert_eq!(interface(&["fe80::1/64"]).select_source(NOW, ip("10.0.0.1")), None);
        assert_eq!(Addresses::new().select_source(NOW, ip("127.0.0.3")), Some(ip("127.0.0.3")));
    }

    #[test]
    fn deprecated_addresses_come_last() {
        // [rfc6724 5-rule-3]
        let mut interface = Addresses::new();
        let old = Address { preferred_until: NOW, ..Address::fixed(ip("2001:db8:1::1"), 64) };
        interface.add(old).unwrap();
        interface.add(Address::fixed(ip("2001:db8:9::1"), 64)).unwrap();
        assert_eq!(interface.select_source(NOW, ip("2001:db8:1::9")), Some(ip("2001:db8:9::1")));
    }

    #[test]
    fn addresses_are_of_hosts_and_limited() {
        let mut interface = Addresses::new();
        for (address, length) in [("224.0.0.1", 4), ("0.0.0.0", 8), ("10.255.255.255", 8), ("10.0.0.1", 33)] {
            let address = Address::fixed(ip(address), length);
            assert_eq!(interface.add(address), Err(AddError::NoHost));
        }
        for last in 0..MOST_ADDRESSES as u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, last, 0, 0, 0, 0, 1);
            interface.add(Address::fixed(address.into(), 64)).unwrap();
        }
        assert_eq!(interface.add(Address::fixed(ip("10.0.0.1"), 8)), Err(AddError::Full));
        assert_eq!(interface.add(Address::fixed(ip("2001:db8::1"), 64)), Ok(()), "it is there");
        assert_eq!(interface.iter().count(), MOST_ADDRESSES);
    }

    proptest! {
        #[test]
        fn prefixes_agree_with_bit_by_bit_comparison(a: u32, b: u32, length in 0u8..33) {
            let prefix = Prefix::new(Ipv4Addr::from_bits(a).into(), length).unwrap();
            let same = (0..length).all(|bit| (a ^ b) >> (31 - bit) & 1 == 0);
            prop_assert_eq!(prefix.contains(Ipv4Addr::from_bits(b).into()), same);
        }

        #[test]
        fn whatever_is_chosen_is_ours(sources in prop::collection::vec(any::<u128>(), 0..6), destination: u128) {
            let mut interface = Addresses::new();
            for source in sources {
                let _ = interface.add(Address::fixed(Ipv6Addr::from_bits(source).into(), 64));
            }
            let destination = IpAddr::from(Ipv6Addr::from_bits(destination));
            match interface.select_source(NOW, destination) {
                Some(source) => prop_assert!(source == destination || interface.is_local(source)),
                None => prop_assert_eq!(interface.iter().count(), 0),
            }
        }
    }
}
