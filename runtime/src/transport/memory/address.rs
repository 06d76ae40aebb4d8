//! Addresses: who may have which, and who is meant by one.

use crate::random::mix;
use crate::transport::{Domain, Endpoint, Qd};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address, with IPv4 in its own form also where an IPv6 socket uses it, and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

impl Address {
    /// What a socket that has no address says.
    pub(super) fn unspecified(domain: Domain) -> Address {
        let ip = match domain {
            Domain::V6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        Address { ip, port: 0 }
    }

    /// As a socket of a family shows it.
    pub(super) fn shown(self, domain: Domain) -> SocketAddr {
        let ip = match (domain, self.ip) {
            (Domain::V6, IpAddr::V4(ip)) => ip.to_ipv6_mapped().into(),
            (_, ip) => ip,
        };
        SocketAddr::new(ip, self.port)
    }

    /// As the destination of something: to no particular address is to the loopback.
    pub(super) fn as_destination(self) -> Address {
        let ip = match self.ip {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Address { ip, ..self }
    }
}

/// The address that a socket of a family is given.
///
/// # Errors
/// EAFNOSUPPORT if it is of another family.
pub(super) fn of_family(domain: Domain, address: SocketAddr) -> io::Result<Address> {
    match (domain, address) {
        (Domain::V4, SocketAddr::V4(_)) | (Domain::V6, SocketAddr::V6(_)) => {
            Ok(Address { ip: address.ip().to_canonical(), port: address.port() })
        }
        _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    }
}

/// The same for an endpoint.
///
/// # Errors
/// As [`of_family`].
pub(super) fn inet_of_family(domain: Domain, endpoint: &Endpoint) -> io::Result<Address> {
    match endpoint {
        Endpoint::Inet(address) => of_family(domain, *address),
        Endpoint::Unix(_) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    }
}

/// A socket's hold on an address.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) qd: Qd,
    pub(super) address: Address,
    /// It is for all addresses, but not for those of IPv4.
    pub(super) v6_only: bool,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
    pub(super) listening: bool,
    /// The only one from whom it takes datagrams.
    pub(super) peer: Option<Address>,
}

impl Binding {
    /// Whether what is sent to `ip` is for it, and how exactly so.
    fn covers(&self, ip: IpAddr) -> Option<u8> {
        match (self.address.ip, ip) {
            (own, ip) if own == ip => Some(2),
            (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => Some(1),
            (IpAddr::V6(own), IpAddr::V6(_)) if own.is_unspecified() => Some(1),
            (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() && !self.v6_only => Some(0),
            _ => None,
        }
    }

    fn overlaps(&self, other: &Binding) -> bool {
        self.covers(other.address.ip).is_some() || other.covers(self.address.ip).is_some()
    }
}

/// Who has which ports, for one kind of socket.
#[derive(Debug)]
pub(super) struct Ports {
    bindings: BTreeMap<u16, Vec<Binding>>,
    /// With SO_REUSEADDR on both, datagram sockets share an address; streams as long as the one that has it
    /// does not listen.
    datagrams: bool,
    /// Where the search for a free port begins.
    next: u16,
}

/// The ports that are given to sockets which ask for none, as Linux has them.
const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;

impl Ports {
    pub(super) fn new(datagrams: bool, seed: u64) -> Ports {
        let count = u64::from(EPHEMERAL.end - EPHEMERAL.start);
        let next = EPHEMERAL.start + (mix(seed) % count) as u16;
        Ports { bindings: BTreeMap::new(), datagrams, next }
    }

    /// Takes an address; for port 0 any that is free. Returns the address that it has become.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(super) fn bind(&mut self, mut binding: Binding) -> io::Result<Address> {
        if binding.address.port == 0 {
            binding.address.port = self.free_port(&binding)?;
        } else if !self.is_free(&binding) {
            return Err(in_use());
        }
        let address = binding.address;
        self.bindings.entry(address.port).or_default().push(binding);
        Ok(address)
    }

    fn is_free(&self, wanted: &Binding) -> bool {
        let others = self.bindings.get(&wanted.address.port);
        others.into_iter().flatten().all(|other| {
            other.qd == wanted.qd
                || !wanted.overlaps(other)
                || (wanted.reuse_port && other.reuse_port)
                || (wanted.reuse_address && other.reuse_address && (self.datagrams || !other.listening))
        })
    }

    fn free_port(&mut self, wanted: &Binding) -> io::Result<u16> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = if port + 1 == EPHEMERAL.end { EPHEMERAL.start } else { port + 1 };
            let overlaps = |other: &Binding| wanted.overlaps(other);
            // A port of its own, even if it could be shared.
            if !self.bindings.get(&port).is_some_and(|others| others.iter().any(overlaps)) {
                return Ok(port);
            }
        }
        Err(in_use())
    }

    fn find(&mut self, qd: Qd, address: Address) -> Option<&mut Binding> {
        self.bindings.get_mut(&address.port)?.iter_mut().find(|binding| binding.qd == qd)
    }

    /// A socket begins to listen.
    ///
    /// # Errors
    /// EADDRINUSE if one that has the same address does so already.
    pub(super) fn listen(&mut self, qd: Qd, address: Address) -> io::Result<()> {
        let Some(binding) = self.find(qd, address) else { return Ok(()) };
        let wanted = Binding { listening: true, ..binding.clone() };
        if !self.is_free(&wanted) {
            return Err(in_use());
        }
        if let Some(binding) = self.find(qd, address) {
            binding.listening = true;
        }
        Ok(())
    }

    /// From now on a socket takes datagrams from nobody else.
    pub(super) fn set_peer(&mut self, qd: Qd, address: Address, peer: Address) {
        if let Some(binding) = self.find(qd, address) {
            binding.peer = Some(peer);
        }
    }

    pub(super) fn release(&mut self, qd: Qd, address: Address) {
        if let Some(bindings) = self.bindings.get_mut(&address.port) {
            bindings.retain(|binding| binding.qd != qd);
            if bindings.is_empty() {
                self.bindings.remove(&address.port);
            }
        }
    }

    /// Who gets what is sent: the one whose address and peer say so most exactly. Among those who share an
    /// address the sender decides, so that whatever comes from one goes to one.
    pub(super) fn find_receiver(&self, to: Address, from: Address) -> Option<Qd> {
        let rank = |binding: &Binding| {
            let exact = binding.covers(to.ip)?;
            let takes = match binding.peer {
                Some(peer) => peer == from,
                None => self.datagrams || binding.listening,
            };
            takes.then_some((binding.peer.is_some(), exact))
        };
        let bindings = self.bindings.get(&to.port)?;
        let best = bindings.iter().filter_map(rank).max()?;
        let shared: Vec<Qd> = bindings
            .iter()
            .filter(|&binding| rank(binding) == Some(best))
            .map(|binding| binding.qd)
            .collect();
        let sender = match from.ip {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip) as u64 ^ (u128::from(ip) >> 64) as u64,
        };
        let choice = mix(sender ^ u64::from(from.port) << 48) % shared.len() as u64;
        shared.get(choice as usize).copied()
    }
}

fn in_use() -> io::Error {
    io::Error::from_raw_os_error(libc::EADDRINUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let address: SocketAddr = text.parse().unwrap();
        Address { ip: address.ip(), port: address.port() }
    }

    fn binding(qd: u32, text: &str) -> Binding {
        Binding {
            qd: Qd(qd),
            address: address(text),
            v6_only: false,
            reuse_address: false,
            reuse_port: false,
            listening: false,
            peer: None,
        }
    }

    fn conflict(one: Binding, other: Binding) -> bool {
        let mut ports = Ports::new(false, 0);
        ports.bind(one).unwrap();
        ports.bind(other).is_err()
    }

    #[test]
    fn addresses_that_overlap_are_in_use() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
        ] {
            assert_eq!(conflict(binding(1, one), binding(2, other)), expected, "{one} {other}");
        }
        let v6_only = Binding { v6_only: true, ..binding(1, "[::]:80") };
        assert!(!conflict(v6_only, binding(2, "0.0.0.0:80")));
    }

    #[test]
    fn addresses_are_shared_by_those_who_all_want_that() {
        let reusing = |qd, reuse_address, reuse_port, listening| Binding {
            reuse_address,
            reuse_port,
            listening,
            ..binding(qd, "127.0.0.1:80")
        };
        for (one, other, expected) in [
            (reusing(1, false, true, true), reusing(2, false, true, true), false),
            (reusing(1, false, true, true), reusing(2, false, false, true), true),
            (reusing(1, true, false, false), reusing(2, true, false, false), false),
            (reusing(1, true, false, false), reusing(2, false, false, false), true),
            (reusing(1, true, false, true), reusing(2, true, false, false), true),
        ] {
            assert_eq!(conflict(one.clone(), other.clone()), expected, "{one:?} {other:?}");
        }
        let mut datagrams = Ports::new(true, 0);
        datagrams.bind(reusing(1, true, false, false)).unwrap();
        datagrams.bind(reusing(2, true, false, false)).unwrap();
    }

    #[test]
    fn only_one_of_those_who_reuse_an_address_listens() {
        let mut ports = Ports::new(false, 0);
        for qd in [1, 2] {
            ports.bind(Binding { reuse_address: true, ..binding(qd, "0.0.0.0:80") }).unwrap();
        }
        let at = address("0.0.0.0:80");
        ports.listen(Qd(1), at).unwrap();
        assert_eq!(ports.listen(Qd(2), at).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        ports.listen(Qd(1), at).unwrap();
        ports.release(Qd(1), at);
        ports.listen(Qd(2), at).unwrap();
    }

    #[test]
    fn free_ports_are_found_until_there_are_none() {
        let mut ports = Ports::new(false, 5);
        let mut seen = Vec::new();
        for qd in 0..EPHEMERAL.len() as u32 {
            let port = ports.bind(binding(qd, "127.0.0.1:0")).unwrap().port;
            assert!(EPHEMERAL.contains(&port));
            seen.push(port);
        }
        let error = ports.bind(binding(99_999, "127.0.0.1:0")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        ports.bind(binding(99_999, "127.0.0.2:0")).unwrap();
        ports.release(Qd(3), address(&format!("127.0.0.1:{}", seen[3])));
        assert_eq!(ports.bind(binding(3, "127.0.0.1:0")).unwrap().port, seen[3]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), EPHEMERAL.len());
    }

    #[test]
    fn the_most_exact_address_receives() {
        let mut ports = Ports::new(true, 0);
        let client = address("127.0.0.1:5000");
        let receiver = |ports: &Ports, to: &str| ports.find_receiver(address(to), client).map(|qd| qd.0);
        let share = |qd, text| Binding { reuse_address: true, ..binding(qd, text) };
        ports.bind(share(1, "[::]:80")).unwrap();
        assert_eq!(receiver(&ports, "127.0.0.1:80"), Some(1));
        ports.bind(share(2, "0.0.0.0:80")).unwrap();
        assert_eq!(receiver(&ports, "127.0.0.1:80"), Some(2));
        ports.bind(share(3, "127.0.0.1:80")).unwrap();
        assert_eq!(receiver(&ports, "127.0.0.1:80"), Some(3));
        assert_eq!(receiver(&ports, "127.0.0.2:80"), Some(2));
        assert_eq!(receiver(&ports, "[::1]:80"), Some(1));
        assert_eq!(receiver(&ports, "127.0.0.1:81"), None);
        ports.set_peer(Qd(3), address("127.0.0.1:80"), address("127.0.0.1:9"));
        assert_eq!(receiver(&ports, "127.0.0.1:80"), Some(2), "it has another peer");
        ports.set_peer(Qd(2), address("0.0.0.0:80"), client);
        assert_eq!(receiver(&ports, "127.0.0.1:80"), Some(2));
    }

    #[test]
    fn those_who_share_a_port_share_the_load() {
        let mut ports = Ports::new(false, 0);
        for qd in 0..4 {
            let shared = Binding { reuse_port: true, listening: true, ..binding(qd, "0.0.0.0:80") };
            ports.bind(shared).unwrap();
        }
        let mut counts = [0; 4];
        for port in 0..1000 {
            let from = Address { port, ..address("127.0.0.1:1") };
            let receiver = ports.find_receiver(address("127.0.0.1:80"), from).unwrap();
            assert_eq!(ports.find_receiver(address("127.0.0.1:80"), from), Some(receiver));
            counts[receiver.0 as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
    }

    #[test]
    fn families_see_addresses_in_their_own_form() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7".parse().unwrap();
        let plain = address("10.0.0.1:7");
        assert_eq!(of_family(Domain::V6, mapped).unwrap(), plain);
        assert_eq!(plain.shown(Domain::V6), mapped);
        assert_eq!(plain.shown(Domain::V4).to_string(), "10.0.0.1:7");
        assert!(of_family(Domain::V4, mapped).is_err());
        assert!(inet_of_family(Domain::V4, &Endpoint::Unix(None)).is_err());
        assert_eq!(address("0.0.0.0:7").as_destination(), address("127.0.0.1:7"));
        assert_eq!(address("[::]:7").as_destination(), address("[::1]:7"));
    }
}
