//! Router discovery, redirects, and answers to solicitations: the host's part of RFC 4861 beside the neighbour cache.
//!
//! Limits: [`MOST_ROUTERS`], [`MOST_PREFIXES`] and [`MOST_DNS_SERVERS`]. What is known stays; a flood of
//! advertisements gets no further. What each says is believed only within the bounds of the link.

use super::addresses::{Addresses, Prefix};
use super::between;
use super::neighbours::Times;
use super::routes::{Origin, REDIRECT_LIFE, Route, Routes};
use crate::wire::ethernet::MacAddress;
use crate::wire::ipv6::MINIMUM_MTU;
use crate::wire::ndp::{NeighborAdvertisement, PrefixInformation, RouterAdvertisement};
use demikernel_runtime::time::{Duration, Instant};
use std::net::{IpAddr, Ipv6Addr};

/// Default routers that are remembered; two would do [rfc4861 6.3.4-two-routers].
pub const MOST_ROUTERS: usize = 8;

/// Prefixes on the link that are remembered.
pub const MOST_PREFIXES: usize = 32;

/// Servers of names that are remembered.
pub const MOST_DNS_SERVERS: usize = 4;

/// Where all listen.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Where solicitations of routers go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// RFC 4861 section 10.
const MAX_RTR_SOLICITATION_DELAY: Duration = Duration::from_secs(1);
const RTR_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 7559 section 2.
const MAX_RTR_SOLICITATION_INTERVAL: Duration = Duration::from_secs(3600);
/// Longer reachable times are misconfigured [rfc4861 6.2.1-reachable].
const LONGEST_REACHABLE: Duration = Duration::from_secs(3600);
/// Metric of a router's routes: those of the configuration come first.
const METRIC: u32 = 1024;

/// What a host has learnt from routers.
///
/// ```
/// use demikernel_net::ip::ndp::Discovery;
/// use demikernel_net::ip::routes::Routes;
/// use demikernel_net::wire::ndp::RouterAdvertisement;
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let now = Instant::from_nanos(0) + Duration::from_secs(1);
/// let mut discovery = Discovery::new(Instant::from_nanos(0), 1500, 7);
/// assert!(discovery.poll_solicitation(now, 7), "is there a router?");
///
/// let router = "fe80::1".parse().unwrap();
/// let advertisement = RouterAdvertisement { lifetime: 1800, mtu: Some(1400), ..Default::default() };
/// let changes = discovery.on_advertisement(now, router, &advertisement, 7);
/// assert!(changes.routes && changes.parameters && !changes.dns_servers);
/// assert_eq!((discovery.router(), discovery.mtu()), (Some(router), 1400));
///
/// let mut routes = Routes::new();
/// discovery.install(&mut routes);
/// let hop = routes.look_up(now, "2001:db8::1".parse().unwrap()).expect("a way out");
/// assert_eq!(hop.hop, router);
/// ```
#[derive(Debug)]
pub struct Discovery {
    /// The one in use first.
    routers: Vec<(Ipv6Addr, Instant)>,
    prefixes: Vec<(Prefix, Instant)>,
    dns_servers: Vec<(Ipv6Addr, Instant)>,
    link_mtu: u16,
    mtu: u16,
    hop_limit: u8,
    reachable: Duration,
    times: Times,
    /// When the next solicitation is due, and how long the one before waited; none once a router was heard.
    solicitation: Option<(Instant, Duration)>,
}

/// What has changed by an advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Routers or prefixes: see [`Discovery::install`].
    pub routes: bool,
    /// [`Discovery::times`].
    pub times: bool,
    /// [`Discovery::mtu`] or [`Discovery::hop_limit`].
    pub parameters: bool,
    /// [`Discovery::dns_servers`].
    pub dns_servers: bool,
}

impl Discovery {
    /// Begins on a link that carries `link_mtu`: the first solicitation waits for up to a second
    /// [rfc4861 6.3.7-delay].
    #[must_use]
    pub fn new(now: Instant, link_mtu: u16, random: u64) -> Discovery {
        let first = now + between(Duration::ZERO, MAX_RTR_SOLICITATION_DELAY, random);
        Discovery {
            routers: Vec::new(),
            prefixes: Vec::new(),
            dns_servers: Vec::new(),
            link_mtu,
            mtu: link_mtu,
            hop_limit: 64,
            reachable: Times::default().reachable,
            times: Times::default(),
            solicitation: Some((first, Duration::ZERO)),
        }
    }

    /// Whether a solicitation is to be sent to [`ALL_ROUTERS`] now. They go on until a router answers, ever more
    /// seldom [rfc7559 2]: RFC 4861's three might all be lost.
    pub fn poll_solicitation(&mut self, now: Instant, random: u64) -> bool {
        let Some((due, waited)) = self.solicitation.filter(|(due, _)| *due <= now) else { return false };
        let interval = if waited.is_zero() { RTR_SOLICITATION_INTERVAL } else { waited * 2 };
        let interval = interval.min(MAX_RTR_SOLICITATION_INTERVAL);
        let jittered = between(interval * 9 / 10, interval * 11 / 10, random);
        self.solicitation = Some((due.max(now) + jittered, interval));
        true
    }

    /// Takes an advertisement, which the parser has found valid [rfc4861 6.1.2].
    pub fn on_advertisement(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        router: &RouterAdvertisement,
        random: u64,
    ) -> Changes {
        // [rfc4861 6.3.7-stop]: only one that offers itself ends the search.
        if router.lifetime > 0 {
            self.solicitation = None;
        }
        let mut changes =
            Changes { routes: self.take_router(now, source, router.lifetime), ..Changes::default() };
        for prefix in router.prefixes.iter().flatten() {
            changes.routes |= self.take_prefix(now, prefix);
        }
        // [rfc8106 5.1-lifetime]
        for server in router.dns_servers.iter().flatten() {
            let until = lifetime(now, server.lifetime);
            changes.dns_servers |= take(&mut self.dns_servers, MOST_DNS_SERVERS, server.address, now, until);
        }
        changes.times = self.take_times(router, random);
        changes.parameters = self.take_parameters(router);
        changes
    }

    /// [rfc4861 6.3.4-router] One with a lifetime of 0 is none any more.
    fn take_router(&mut self, now: Instant, source: Ipv6Addr, seconds: u16) -> bool {
        let until = now.saturating_add(Duration::from_secs(seconds.into()));
        take(&mut self.routers, MOST_ROUTERS, source, now, until)
    }

    /// [rfc4861 6.3.4-prefix] Link-local prefixes are not for routers to say, nor is what is not on the link.
    fn take_prefix(&mut self, now: Instant, information: &PrefixInformation) -> bool {
        let Some(prefix) = Prefix::new(information.prefix.into(), information.length) else { return false };
        let is_usable = information.on_link
            && !information.prefix.is_unicast_link_local()
            && !information.prefix.is_multicast()
            // All addresses on the link: every packet would stay here.
            && information.length > 0;
        let until = lifetime(now, information.valid_lifetime);
        is_usable && take(&mut self.prefixes, MOST_PREFIXES, prefix, now, until)
    }

    /// [rfc4861 6.3.4-times] The reachable time is random around the base [rfc4861 6.3.2-reachable].
    fn take_times(&mut self, router: &RouterAdvertisement, random: u64) -> bool {
        let before = self.times;
        let reachable = Duration::from_millis(router.reachable_time.into());
        if !reachable.is_zero() && reachable <= LONGEST_REACHABLE && reachable != self.reachable {
            self.reachable = reachable;
            self.times.reachable = between(reachable / 2, reachable * 3 / 2, random);
        }
        if router.retransmit_time != 0 {
            // Not so short that questions flood the link.
            let asked = Duration::from_millis(router.retransmit_time.into());
            self.times.retransmit = asked.clamp(Duration::from_millis(100), Duration::from_secs(60));
        }
        self.times != before
    }

    /// [rfc4861 6.3.4-hop-limit] [rfc4861 6.3.4-mtu]
    fn take_parameters(&mut self, router: &RouterAdvertisement) -> bool {
        let before = (self.hop_limit, self.mtu);
        if router.hop_limit != 0 {
            self.hop_limit = router.hop_limit;
        }
        let mtu = router.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        if let Some(mtu) = mtu.filter(|mtu| usize::from(*mtu) >= MINIMUM_MTU && *mtu <= self.link_mtu) {
            self.mtu = mtu;
        }
        (self.hop_limit, self.mtu) != before
    }

    /// A router does not answer, or is none any more: the next one is used [rfc4861 6.3.6].
    pub fn on_router_lost(&mut self, address: Ipv6Addr) -> bool {
        let in_use = self.routers.first().is_some_and(|(router, _)| *router == address);
        if in_use {
            self.routers.rotate_left(1);
        }
        in_use && self.routers.len() > 1
    }

    /// Puts what is known into the routes: prefixes on the link, and the router in use. Without one nothing leaves
    /// the link.
    pub fn install(&self, routes: &mut Routes) {
        routes.remove(|route| route.origin == Origin::Router);
        let on_link = self.prefixes.iter().map(|(prefix, until)| (*prefix, None, *until));
        let all = Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0).into_iter();
        let default =
            all.zip(self.routers.first()).map(|(all, (router, until))| (all, Some(*router), *until));
        for (prefix, gateway, until) in on_link.chain(default) {
            let gateway = gateway.map(IpAddr::from);
            // Full of what the configuration says: then that is what counts.
            let _ = routes.add(Route { prefix, gateway, metric: METRIC, origin: Origin::Router, until });
        }
    }

    /// Forgets what is over; whether the routes have changed [rfc4861 6.3.5].
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = (self.routers.len(), self.prefixes.len());
        self.routers.retain(|(_, until)| *until > now);
        self.prefixes.retain(|(_, until)| *until > now);
        self.dns_servers.retain(|(_, until)| *until > now);
        before != (self.routers.len(), self.prefixes.len())
    }

    /// When there is something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let routers = self.routers.iter().map(|(_, until)| *until);
        let prefixes = self.prefixes.iter().map(|(_, until)| *until);
        let dns_servers = self.dns_servers.iter().map(|(_, until)| *until);
        let solicitation = self.solicitation.iter().map(|(due, _)| *due);
        let all = routers.chain(prefixes).chain(dns_servers).chain(solicitation);
        all.min().filter(|due| *due != Instant::MAX)
    }

    /// The default router in use.
    #[must_use]
    pub fn router(&self) -> Option<Ipv6Addr> {
        self.routers.first().map(|(router, _)| *router)
    }

    /// Servers of names (RFC 8106).
    pub fn dns_servers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.dns_servers.iter().map(|(server, _)| *server)
    }

    /// The times for the neighbour cache.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times
    }

    /// What packets may be.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// What packets are sent with.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }
}

/// Adds something with a time, or changes its time, or removes it if that is over already; whether it is now there
/// or not, other than before.
fn take<T: PartialEq>(
    list: &mut Vec<(T, Instant)>,
    most: usize,
    value: T,
    now: Instant,
    until: Instant,
) -> bool {
    let known = list.iter().position(|(known, _)| *known == value);
    match known {
        Some(place) if until <= now => {
            list.remove(place);
            true
        }
        Some(place) => std::mem::replace(&mut list[place].1, until) != until,
        None if until <= now || list.len() >= most => false,
        None => {
            list.push((value, until));
            true
        }
    }
}

/// The end of a lifetime of this many seconds, of which the greatest number means for ever.
pub(super) fn lifetime(now: Instant, seconds: u32) -> Instant {
    if seconds == u32::MAX { Instant::MAX } else { now.saturating_add(Duration::from_secs(seconds.into())) }
}

/// A redirect, which the parser has found valid: the route that it makes. None if `current`, the hop in use for that
/// destination, is not who sends it [rfc4861 8.1-current]. Whether redirects are taken at all, the caller knows.
#[must_use]
pub fn on_redirect(
    now: Instant,
    source: Ipv6Addr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
    current: Option<IpAddr>,
) -> Option<Route> {
    if current != Some(source.into()) {
        return None;
    }
    // [rfc4861 8.3] If target and destination are the same, it is on the link.
    let gateway = (target != destination).then_some(target.into());
    let prefix = Prefix::host(destination.into());
    let until = now.saturating_add(REDIRECT_LIFE);
    Some(Route { prefix, gateway, metric: 0, origin: Origin::Redirect, until })
}

/// What a neighbour solicitation is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Solicited {
    /// Nothing.
    Nothing,
    /// Send this to the destination.
    Answer {
        /// Who asks, or all if that is not known.
        destination: Ipv6Addr,
        /// The answer.
        advertisement: NeighborAdvertisement,
    },
    /// Another tries to take an address that we try to take [rfc4862 5.4.3].
    Conflict,
}

/// The answer to who asks for `target` from `source` [rfc4861 7.2.4]. A tentative address has none
/// [rfc4862 5.4.3-tentative].
///
/// ```
/// use demikernel_net::ip::addresses::{Address, Addresses};
/// use demikernel_net::ip::ndp::{Solicited, on_solicitation};
/// use demikernel_net::wire::ethernet::MacAddress;
/// use std::net::Ipv6Addr;
///
/// let own = MacAddress([2, 0, 0, 0, 0, 1]);
/// let (asker, target): (Ipv6Addr, Ipv6Addr) = ("fe80::2".parse().unwrap(), "fe80::1".parse().unwrap());
/// let tentative = Address { unique: false, ..Address::fixed(target.into(), 64) };
/// let mut addresses: Addresses = [tentative].into_iter().collect();
/// // Who asks from nowhere wants it for itself.
/// assert_eq!(on_solicitation(Ipv6Addr::UNSPECIFIED, target, &addresses, own), Solicited::Conflict);
/// assert_eq!(on_solicitation(asker, target, &addresses, own), Solicited::Nothing);
///
/// addresses.confirm(target.into());
/// let answer = on_solicitation(asker, target, &addresses, own);
/// let Solicited::Answer { destination, advertisement } = answer else { panic!("it is ours") };
/// assert_eq!((destination, advertisement.target_link_layer), (asker, Some(own)));
/// ```
#[must_use]
pub fn on_solicitation(
    source: Ipv6Addr,
    target: Ipv6Addr,
    addresses: &Addresses,
    own: MacAddress,
) -> Solicited {
    let Some(address) = addresses.find(target.into()) else { return Solicited::Nothing };
    match (address.unique, source.is_unspecified()) {
        (false, true) => Solicited::Conflict,
        (false, false) => Solicited::Nothing,
        (true, from_nobody) => Solicited::Answer {
            destination: if from_nobody { ALL_NODES } else { source },
            advertisement: NeighborAdvertisement {
                target,
                router: false,
                solicited: !from_nobody,
                replaces: true,
                target_link_layer: Some(own),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::addresses::Address;
    use crate::wire::ndp::DnsServer;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(0);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);
    const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);

    fn discovery() -> Discovery {
        Discovery::new(NOW, 1500, 0)
    }

    fn prefix(text: &str, length: u8, seconds: u32) -> PrefixInformation {
        PrefixInformation {
            prefix: text.parse().unwrap(),
            length,
            on_link: true,
            autonomous: true,
            valid_lifetime: seconds,
            preferred_lifetime: seconds,
        }
    }

    fn advertisement(prefixes: &[PrefixInformation]) -> RouterAdvertisement {
        let mut router = RouterAdvertisement { lifetime: 1800, ..RouterAdvertisement::default() };
        prefixes.iter().zip(&mut router.prefixes).for_each(|(prefix, place)| *place = Some(*prefix));
        router
    }

    fn hop(discovery: &Discovery, destination: Ipv6Addr) -> Option<IpAddr> {
        let mut routes = Routes::new();
        discovery.install(&mut routes);
        routes.look_up(NOW, destination.into()).map(|cached| cached.hop)
    }

    #[test]
    fn routers_are_solicited_ever_more_seldom_until_one_answers() {
        // [rfc4861 6.3.7-delay] [rfc7559 2] [rfc4861 6.3.7-stop]
        let mut discovery = Discovery::new(NOW, 1500, 1 << 63);
        let mut times = Vec::new();
        for _ in 0..14 {
            let due = discovery.deadline().unwrap();
            times.push(due.as_nanos() / 1_000_000_000);
            assert!(!discovery.poll_solicitation(due.saturating_sub(Duration::from_nanos(1)), 0));
            assert!(discovery.poll_solicitation(due, 1 << 63));
        }
        assert_eq!(times[..5], [0, 4, 12, 28, 60]);
        assert_eq!(times[13] - times[12], 3600);
        let none = RouterAdvertisement::default();
        discovery.on_advertisement(NOW, ROUTER, &none, 0);
        assert!(discovery.deadline().is_some(), "it is no default router");
        discovery.on_advertisement(NOW, ROUTER, &advertisement(&[]), 0);
        assert!(!discovery.poll_solicitation(Instant::MAX.saturating_sub(Duration::from_secs(9999)), 0));
    }

    #[test]
    fn routers_and_prefixes_make_routes_until_they_end() {
        // [rfc4861 6.3.4-router] [rfc4861 6.3.4-prefix] [rfc4861 6.3.5]
        let mut discovery = discovery();
        let near: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let router = advertisement(&[prefix("2001:db8::", 64, 3600)]);
        assert!(discovery.on_advertisement(NOW, ROUTER, &router, 0).routes);
        assert!(!discovery.on_advertisement(NOW, ROUTER, &router, 0).routes, "nothing new");
        assert_eq!((hop(&discovery, near), hop(&discovery, FAR)), (Some(near.into()), Some(ROUTER.into())));
        assert!(discovery.expire(NOW + Duration::from_secs(1800)));
        assert_eq!((hop(&discovery, near), hop(&discovery, FAR)), (Some(near.into()), None));
        assert_eq!(discovery.deadline(), Some(NOW + Duration::from_secs(3600)));
        // Both can be withdrawn.
        discovery.on_advertisement(NOW, ROUTER, &router, 0);
        let gone = RouterAdvertisement { lifetime: 0, ..advertisement(&[prefix("2001:db8::", 64, 0)]) };
        assert!(discovery.on_advertisement(NOW, ROUTER, &gone, 0).routes);
        assert_eq!((hop(&discovery, near), hop(&discovery, FAR)), (None, None));
        // For ever.
        discovery.on_advertisement(NOW, ROUTER, &advertisement(&[prefix("2001:db8::", 64, u32::MAX)]), 0);
        discovery.expire(NOW + Duration::from_secs(1 << 32));
        assert_eq!(hop(&discovery, near), Some(near.into()));
    }

    #[test]
    fn some_prefixes_are_not_believed() {
        let off_link = PrefixInformation { on_link: false, ..prefix("2001:db8::", 64, 100) };
        for prefix in [prefix("fe80::", 64, 100), prefix("ff00::", 8, 100), prefix("::", 0, 100), off_link] {
            let mut discovery = discovery();
            discovery.on_advertisement(NOW, ROUTER, &advertisement(&[prefix]), 0);
            assert_eq!(discovery.prefixes, []);
        }
    }

    #[test]
    fn another_router_is_used_when_one_is_lost() {
        // [rfc4861 6.3.6] [rfc4861 6.3.4-two-routers]
        let mut discovery = discovery();
        discovery.on_advertisement(NOW, ROUTER, &advertisement(&[]), 0);
        assert!(!discovery.on_router_lost(ROUTER), "there is no other");
        assert_eq!(discovery.router(), Some(ROUTER));
        discovery.on_advertisement(NOW, OTHER, &advertisement(&[]), 0);
        assert!(discovery.on_router_lost(ROUTER));
        assert_eq!(discovery.router(), Some(OTHER));
        assert!(!discovery.on_router_lost(ROUTER));
    }

    #[test]
    fn parameters_are_believed_within_bounds() {
        let mut discovery = discovery();
        let say = |hop_limit, mtu, reachable_time, retransmit_time| RouterAdvertisement {
            hop_limit,
            mtu: Some(mtu),
            reachable_time,
            retransmit_time,
            ..RouterAdvertisement::default()
        };
        // [rfc4861 6.3.4-hop-limit] [rfc4861 6.3.4-mtu] [rfc4861 6.3.4-times] [rfc4861 6.3.2-reachable]
        let changes = discovery.on_advertisement(NOW, ROUTER, &say(32, 1400, 10_000, 2000), 0);
        assert!(changes.parameters && changes.times);
        assert_eq!((discovery.hop_limit(), discovery.mtu()), (32, 1400));
        let times = Times { reachable: Duration::from_secs(5), retransmit: Duration::from_secs(2) };
        assert_eq!(discovery.times(), times);
        // Nothing said, too small, too large; [rfc4861 6.2.1-reachable].
        for (mtu, reachable) in [(1279, 0), (1501, 3_600_001), (70_000, 0)] {
            let changes = discovery.on_advertisement(NOW, ROUTER, &say(0, mtu, reachable, 0), 0);
            assert_eq!(changes, Changes::default(), "{mtu} {reachable}");
        }
        discovery.on_advertisement(NOW, ROUTER, &say(0, 0, 0, 1), 0);
        assert_eq!(discovery.times().retransmit, Duration::from_millis(100));
    }

    #[test]
    fn only_the_hop_in_use_redirects() {
        // [rfc4861 8.1-current] [rfc4861 8.3]
        let redirect = |source, target, current| on_redirect(NOW, source, target, FAR, current);
        let route = redirect(ROUTER, OTHER, Some(ROUTER.into())).unwrap();
        assert_eq!((route.prefix, route.gateway), (Prefix::host(FAR.into()), Some(OTHER.into())));
        assert_eq!(redirect(ROUTER, FAR, Some(ROUTER.into())).unwrap().gateway, None);
        assert_eq!(redirect(OTHER, ROUTER, Some(ROUTER.into())), None);
        assert_eq!(redirect(ROUTER, OTHER, None), None);
    }

    #[test]
    fn solicitations_are_answered() {
        let own = MacAddress([2, 0, 0, 0, 0, 1]);
        let ours: Ipv6Addr = "fe80::1".parse().unwrap();
        let mut addresses = Addresses::new();
        addresses.add(Address::fixed(ours.into(), 64)).unwrap();
        let answer = |source, solicited, destination| Solicited::Answer {
            destination,
            advertisement: NeighborAdvertisement {
                target: ours,
                router: false,
                solicited: source,
                replaces: solicited,
                target_link_layer: Some(own),
            },
        };
        // [rfc4861 7.2.4]
        assert_eq!(on_solicitation(OTHER, ours, &addresses, own), answer(true, true, OTHER));
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(on_solicitation(nobody, ours, &addresses, own), answer(false, true, ALL_NODES));
        assert_eq!(on_solicitation(OTHER, OTHER, &addresses, own), Solicited::Nothing);
        // [rfc4862 5.4.3] [rfc4862 5.4.3-tentative]
        addresses.find_mut(ours.into()).unwrap().unique = false;
        assert_eq!(on_solicitation(nobody, ours, &addresses, own), Solicited::Conflict);
        assert_eq!(on_solicitation(OTHER, ours, &addresses, own), Solicited::Nothing);
    }

    #[test]
    fn servers_of_names_come_and_go() {
        let mut discovery = discovery();
        let mut router = advertisement(&[]);
        router.dns_servers[0] = Some(DnsServer { address: FAR, lifetime: 60 });
        assert!(discovery.on_advertisement(NOW, ROUTER, &router, 0).dns_servers);
        assert_eq!(discovery.dns_servers().collect::<Vec<_>>(), [FAR]);
        discovery.expire(NOW + Duration::from_secs(60));
        assert_eq!(discovery.dns_servers().count(), 0);
    }

    #[test]
    fn a_flood_of_advertisements_meets_limits() {
        let mut discovery = discovery();
        for number in 0..10_000u128 {
            let base = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64);
            let mut router = advertisement(&[PrefixInformation { prefix: base, ..prefix("::", 64, 1000) }]);
            router.dns_servers[0] = Some(DnsServer { address: base, lifetime: 60 });
            discovery.on_advertisement(NOW, Ipv6Addr::from_bits(0xfe80 << 112 | number), &router, 0);
        }
        assert_eq!(discovery.routers.len(), MOST_ROUTERS);
        assert_eq!(discovery.prefixes.len(), MOST_PREFIXES);
        assert_eq!(discovery.dns_servers.len(), MOST_DNS_SERVERS);
        assert_eq!(discovery.router(), Some(Ipv6Addr::from_bits(0xfe80 << 112)), "the first one stays");
    }

    proptest! {
        #[test]
        fn whatever_routers_say_parameters_stay_sane(
            said in prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>()), 1..20),
        ) {
            let mut discovery = discovery();
            for (hop_limit, mtu, reachable_time, retransmit_time, random) in said {
                let router = RouterAdvertisement {
                    hop_limit, mtu: Some(mtu % 3000), reachable_time, retransmit_time, ..advertisement(&[])
                };
                discovery.on_advertisement(NOW, ROUTER, &router, random);
                prop_assert!(discovery.hop_limit() > 0 && (1280..=1500).contains(&discovery.mtu()));
                let times = discovery.times();
                prop_assert!(times.reachable <= LONGEST_REACHABLE * 3 / 2 && !times.retransmit.is_zero());
            }
        }
    }
}
