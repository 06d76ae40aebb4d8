//! What an interface finds out and does by itself: addresses, routers, groups. The state machines are those of
//! [`ip`](crate::ip); here they get what has come, and what they want is done.
//!
//! - `lease`: the DHCP client.
//! - `routers`: solicitations and advertisements of routers, redirects.
//! - `conflicts`: nobody else has our addresses.
//! - `groups`: reports of groups.

mod conflicts;
mod groups;
mod lease;
mod routers;
#[cfg(test)]
mod tests;

use super::config::StackConfig;
use super::interface::Interface;
use super::socket::Socket;
use super::{AUTOMATIC, Stack};
use crate::cores::Learned;
use crate::device::Medium;
use crate::ip::addresses::{Address, Origin};
use crate::ip::conflict::Detection;
use crate::ip::multicast::Groups;
use crate::ip::ndp::Discovery;
use crate::ip::routes::{self, Route};
use crate::ip::slaac::Slaac;
use crate::ip::{Key, addresses, dhcp};
use crate::wire::ndp::solicited_node;
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How an interface sees to it that nobody else has its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DuplicateDetection {
    /// Not at all: nothing is sent of itself. An address that another has too is counted.
    #[default]
    Off,
    /// All addresses are in use at once; meanwhile those of IPv6 are asked for (as in RFC 4429), those of IPv4 announced.
    Optimistic,
    /// As Linux does: addresses of IPv6 are in use once a question for them was not answered, within two seconds. Those
    /// of IPv4 that the configuration says are in use at once and announced; those of DHCP are probed for a moment.
    Standard,
    /// As that, but all addresses of IPv4 are probed as RFC 5227 wants it, for up to seven seconds.
    Strict,
}

/// What an interface still waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Awaited {
    /// A DHCP server is to give an address.
    pub lease: bool,
    /// A router is to advertise a prefix.
    pub prefix: bool,
    /// An address is known, but not yet that nobody else has it.
    pub detection: bool,
}

/// The state machines of one interface.
pub(crate) struct Automatic {
    key: Key,
    /// Random values drawn so far.
    drawn: u64,
    mode: DuplicateDetection,
    dhcp: Option<dhcp::Client>,
    slaac: Slaac,
    discovery: Option<Discovery>,
    /// Of addresses, each with its state.
    detections: Vec<(IpAddr, Detection)>,
    /// Addresses that others had.
    conflicts: u8,
    /// Those of the configuration among them.
    duplicates: Vec<IpAddr>,
    groups_v4: Groups<Ipv4Addr>,
    groups_v6: Groups<Ipv6Addr>,
    accepts_redirects: bool,
    /// Of a core that does not ask for them itself.
    dns_servers: Vec<IpAddr>,
    /// Addresses or sizes have changed: what sockets know of them is to be looked up again.
    is_stale: bool,
}

/// Scope of addresses of one link.
const LINK: u8 = 2;

const PURPOSE: u64 = 0x6175_746f;

impl Automatic {
    pub(crate) fn new(now: Instant, config: &StackConfig) -> Automatic {
        let key = Key::new(std::array::from_fn(|index| config.key[index + 7]));
        let random = |number: u64| key.hash(PURPOSE, &(number, true));
        let (ethernet, hardware) = match config.capabilities.medium {
            Medium::Ethernet(own) => (true, own),
            Medium::Ip => (false, Default::default()),
        };
        let [a, b, c, d, e, f] = hardware.0;
        let interface = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let mtu = config.capabilities.mtu.min(usize::from(u16::MAX)) as u16;
        Automatic {
            key,
            drawn: 0,
            mode: if ethernet { config.duplicate_detection } else { DuplicateDetection::Off },
            dhcp: (ethernet && config.dhcp).then(|| dhcp::Client::new(now, hardware, random(0))),
            slaac: Slaac::new(config.stable_secret.map_or(key, Key::new), interface),
            discovery: (ethernet && config.slaac).then(|| Discovery::new(now, mtu, random(1))),
            detections: Vec::new(),
            conflicts: 0,
            duplicates: Vec::new(),
            groups_v4: Groups::new(),
            groups_v6: Groups::new(),
            accepts_redirects: config.accept_redirects,
            dns_servers: Vec::new(),
            is_stale: false,
        }
    }

    fn random(&mut self) -> u64 {
        self.drawn += 1;
        self.key.hash(PURPOSE, &self.drawn)
    }

    fn deadline(&self) -> Option<Instant> {
        let dhcp = self.dhcp.as_ref().and_then(dhcp::Client::deadline);
        let discovery = self.discovery.as_ref().and_then(Discovery::deadline);
        let detections = self.detections.iter().filter_map(|(_, detection)| detection.deadline());
        let groups = [self.groups_v4.deadline(), self.groups_v6.deadline()];
        groups.into_iter().chain([dhcp, discovery]).flatten().chain(detections).min()
    }
}

impl Interface {
    /// The beginning: what the configuration says is detected or announced, and IPv6 gets its link-local address.
    pub(crate) fn begin(&mut self, now: Instant) {
        let v6 = |address: &Address| matches!(address.address, IpAddr::V6(it) if !it.is_unicast_link_local());
        let link_local =
            |address: &Address| matches!(address.address, IpAddr::V6(it) if it.is_unicast_link_local());
        let detects = self.automatic.mode != DuplicateDetection::Off;
        let wants = self.automatic.discovery.is_some() || detects && self.addresses.iter().any(v6);
        if wants && !self.addresses.iter().any(link_local) {
            let address = self.automatic.slaac.link_local();
            // No room: the configuration has as many addresses as there can be.
            let _ = self.addresses.add(address);
        }
        for address in self.addresses.iter().copied().collect::<Vec<_>>() {
            self.begin_detection(now, address.address);
        }
    }

    /// Does what is due.
    fn run_automatic(&mut self, now: Instant) {
        let gone = self.addresses.expire(now);
        gone.iter().for_each(|address| self.forget_address(now, address));
        if self.routes.expire(now) > 0 {
            self.renew_paths();
        }
        self.run_routers(now);
        self.run_lease(now);
        self.run_detections(now);
        self.run_groups(now);
    }

    /// An address is no longer ours.
    fn forget_address(&mut self, now: Instant, address: &Address) {
        let ip = address.address;
        self.automatic.detections.retain(|(known, _)| *known != ip);
        if let (IpAddr::V6(ip), true) = (ip, self.is_ethernet()) {
            self.automatic.groups_v6.leave(now, solicited_node(ip));
        }
        let prefix = address.prefix();
        if !self.addresses.iter().any(|known| known.prefix() == prefix) {
            let is_its_own = |route: &Route| *route == Route::fixed(prefix, None);
            self.routes.remove(is_its_own);
        }
        self.renew_paths();
    }

    /// What another core has found out takes the place of what is known here, but for redirects, which each core gets
    /// for its own packets.
    pub(in crate::stack) fn learn(&mut self, learned: Learned) {
        let Learned { addresses, routes, mtu_v4, mtu_v6, hop_limit, dns_servers } = learned;
        self.addresses = addresses.into_iter().collect();
        self.routes.remove(|route| route.origin != routes::Origin::Redirect);
        for route in routes {
            // As many as the other core has room for, and redirects have a limit of their own.
            let _ = self.routes.add(route);
        }
        (self.mtu_v4, self.mtu_v6, self.hop_limit) = (mtu_v4, mtu_v6, hop_limit);
        self.automatic.dns_servers = dns_servers;
        self.renew_paths();
    }

    /// Where packets go, and from which address, is to be looked up again.
    pub(super) fn renew_paths(&mut self) {
        self.routes.invalidate();
        self.renew_generation();
        self.automatic.is_stale = true;
    }

    pub(super) fn is_ethernet(&self) -> bool {
        matches!(self.capabilities.medium, Medium::Ethernet(_))
    }

    fn awaits(&self) -> Awaited {
        let has = |origin| {
            let usable = |address: &&Address| {
                address.origin == origin && address.unique && addresses::scope(address.address) != LINK
            };
            self.addresses.iter().any(|address| usable(&address))
        };
        Awaited {
            lease: self.automatic.dhcp.is_some() && !has(Origin::Dhcp),
            prefix: self.automatic.discovery.is_some() && !has(Origin::Slaac),
            detection: self.addresses.iter().any(|address| {
                let counts = address.origin == Origin::Static || addresses::scope(address.address) != LINK;
                counts && !address.unique
            }),
        }
    }
}

impl Stack {
    /// What is still awaited before the interface has all that its configuration says.
    pub fn awaits(&self) -> Awaited {
        self.interface.awaits()
    }

    /// Addresses of the configuration that were given up, as another host has them.
    pub fn duplicates(&self) -> &[IpAddr] {
        &self.interface.automatic.duplicates
    }

    /// Servers of names that a DHCP server or routers have told of.
    pub fn dns_servers(&self) -> Vec<IpAddr> {
        let automatic = &self.interface.automatic;
        let lease = automatic.dhcp.as_ref().and_then(dhcp::Client::lease);
        let of_lease = lease.iter().flat_map(|lease| &lease.dns_servers).map(|server| IpAddr::V4(*server));
        let of_routers = automatic.discovery.iter().flat_map(Discovery::dns_servers).map(IpAddr::V6);
        of_lease.chain(of_routers).chain(automatic.dns_servers.iter().copied()).collect()
    }

    /// Gives back what a DHCP server has given: for the end, as its address is gone then.
    pub fn release_lease(&mut self, now: Instant) {
        self.interface.release_lease(now);
        self.settle_automatic();
    }

    /// Does what is due of all that.
    #[cold]
    pub(super) fn run_automatic(&mut self, now: Instant) {
        self.interface.run_automatic(now);
        self.settle_automatic();
    }

    /// The wheel follows what the state machines want, and sockets what has changed.
    #[cold]
    pub(super) fn settle_automatic(&mut self) {
        let interface = &mut self.interface;
        let ends =
            [interface.automatic.deadline(), interface.addresses.deadline(), interface.routes.deadline()];
        match ends.into_iter().flatten().min() {
            Some(at) => self.deadlines.set(AUTOMATIC, at),
            None => self.deadlines.clear(AUTOMATIC),
        }
        if std::mem::take(&mut interface.automatic.is_stale) {
            self.renew_targets();
        }
        self.tell_cores();
    }

    /// Datagrams are sent from where the addresses and the path of now say.
    fn renew_targets(&mut self) {
        let is_udp = |socket: &Socket| matches!(socket, Socket::Udp(_));
        let slots: Vec<u32> =
            self.sockets.iter().filter(|(_, socket)| is_udp(socket)).map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(Socket::Udp(udp)) = self.sockets.get_mut(slot) {
                udp.target = None;
            }
        }
    }
}
