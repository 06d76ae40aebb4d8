//! Routes: to which hop on the link a packet goes.
//!
//! At most [`MOST_ROUTES`], and of those that redirects made [`MOST_REDIRECTS`], of which the oldest goes. They are
//! searched one by one, as a host has few; and a connection does so once: it keeps a [`CachedHop`], which is right
//! until the routes change.

use super::addresses::{Addresses, Kind, Prefix};
use demikernel_runtime::time::{Duration, Instant};
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

/// How many routes there are at most.
pub const MOST_ROUTES: usize = 256;

/// How many of them redirects may make.
pub const MOST_REDIRECTS: usize = 64;

/// How long what a redirect said stands.
pub(super) const REDIRECT_LIFE: Duration = Duration::from_secs(600);

/// Who said it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The configuration, or an address with a prefix.
    Static,
    /// A DHCP server.
    Dhcp,
    /// A router's advertisement.
    Router,
    /// A redirect.
    Redirect,
}

/// Where packets to a prefix go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destinations.
    pub prefix: Prefix,
    /// The router; none if destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes to the same prefix, that with the least counts.
    pub metric: u32,
    /// Who said it.
    pub origin: Origin,
    /// When it is gone; [`Instant::MAX`] never.
    pub until: Instant,
}

impl Route {
    /// One for ever.
    #[must_use]
    pub const fn fixed(prefix: Prefix, gateway: Option<IpAddr>) -> Route {
        Route { prefix, gateway, metric: 0, origin: Origin::Static, until: Instant::MAX }
    }
}

/// There are [`MOST_ROUTES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there are {MOST_ROUTES} routes")]
pub struct Full;

/// A hop that was looked up, and is looked up again when the routes have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CachedHop {
    /// The hop.
    pub hop: IpAddr,
    generation: u32,
}

/// The routes of a host with one interface.
///
/// ```
/// use demikernel_net::ip::addresses::Prefix;
/// use demikernel_net::ip::routes::{Full, Route, Routes};
/// use demikernel_runtime::time::Instant;
///
/// let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length).unwrap();
/// let mut routes = Routes::new();
/// routes.add(Route::fixed(prefix("0.0.0.0", 0), "192.0.2.254".parse().ok()))?;
/// routes.add(Route::fixed(prefix("10.0.0.0", 8), "192.0.2.253".parse().ok()))?;
/// routes.add(Route::fixed(prefix("192.0.2.0", 24), None))?;
///
/// let hop = |address: &str| {
///     routes.look_up(Instant::from_nanos(1), address.parse().unwrap()).map(|found| found.hop.to_string())
/// };
/// assert_eq!(hop("10.1.2.3").as_deref(), Some("192.0.2.253"), "of the longest prefix");
/// assert_eq!(hop("8.8.8.8").as_deref(), Some("192.0.2.254"));
/// assert_eq!(hop("192.0.2.7").as_deref(), Some("192.0.2.7"));
/// # Ok::<(), Full>(())
/// ```
#[derive(Debug, Default)]
pub struct Routes {
    /// Longest prefixes first, and of these the least metrics first.
    list: Vec<Route>,
    generation: u32,
}

impl Routes {
    /// None yet.
    #[must_use]
    pub const fn new() -> Routes {
        Routes { list: Vec::new(), generation: 0 }
    }

    /// Adds a route, or replaces that with the same prefix, gateway and origin.
    ///
    /// # Errors
    /// If there is no room.
    pub fn add(&mut self, route: Route) -> Result<(), Full> {
        let same = |known: &Route| {
            known.prefix == route.prefix && known.gateway == route.gateway && known.origin == route.origin
        };
        self.list.retain(|known| !same(known));
        if route.origin == Origin::Redirect {
            self.make_room_for_redirect(route.prefix);
        }
        self.generation = self.generation.wrapping_add(1);
        if self.list.len() >= MOST_ROUTES {
            return Err(Full);
        }
        let place = self.list.partition_point(|known| order(known) <= order(&route));
        self.list.insert(place, route);
        Ok(())
    }

    /// One redirect for a destination replaces the other; of too many, that goes which would end first.
    fn make_room_for_redirect(&mut self, prefix: Prefix) {
        let is_redirect = |route: &Route| route.origin == Origin::Redirect;
        self.list.retain(|known| !(is_redirect(known) && known.prefix == prefix));
        if self.list.iter().filter(|route| is_redirect(route)).count() >= MOST_REDIRECTS {
            let redirects = self.list.iter().enumerate().filter(|(_, route)| is_redirect(route));
            if let Some((place, _)) = redirects.min_by_key(|(_, route)| route.until) {
                self.list.remove(place);
            }
        }
    }

    /// A redirect of IPv4 that `sender` has sent: the route that it makes, if it names a gateway on our link, and comes
    /// from the hop in use [rfc1122 3.2.2.2]. Whether redirects are taken at all, the caller knows. Those of IPv6 are
    /// the part of [`Discovery`](super::ndp::Discovery).
    ///
    /// ```
    /// use demikernel_net::ip::addresses::{Address, Addresses, Prefix};
    /// use demikernel_net::ip::routes::{Route, Routes};
    /// use demikernel_runtime::time::Instant;
    /// use std::net::Ipv4Addr;
    ///
    /// let router = |last| Ipv4Addr::new(192, 0, 2, last);
    /// let own = Address::fixed(router(1).into(), 24);
    /// let addresses: Addresses = [own].into_iter().collect();
    /// let (now, destination) = (Instant::from_nanos(1), Ipv4Addr::new(198, 51, 100, 1));
    /// let mut routes = Routes::new();
    /// let everywhere = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
    /// routes.add(Route::fixed(everywhere, Some(router(254).into()))).unwrap();
    ///
    /// let better = routes.on_redirect(now, router(254), router(253), destination, &addresses).unwrap();
    /// assert_eq!(better.prefix.to_string(), "198.51.100.1/32");
    /// assert_eq!(better.gateway, Some(router(253).into()));
    /// let forged = routes.on_redirect(now, router(66), router(66), destination, &addresses);
    /// assert_eq!(forged, None, "it is not from the router in use");
    /// ```
    #[must_use]
    pub fn on_redirect(
        &self,
        now: Instant,
        sender: Ipv4Addr,
        gateway: Ipv4Addr,
        destination: Ipv4Addr,
        addresses: &Addresses,
    ) -> Option<Route> {
        let current = self.look_up(now, destination.into())?.hop;
        let is_of_use = current == sender
            && gateway != sender
            && addresses.is_on_link(gateway.into())
            && addresses.kind(gateway.into()) == Kind::Other
            && addresses.kind(destination.into()) == Kind::Other;
        is_of_use.then(|| Route {
            prefix: Prefix::host(destination.into()),
            gateway: Some(gateway.into()),
            metric: 0,
            origin: Origin::Redirect,
            until: now.saturating_add(REDIRECT_LIFE),
        })
    }

    /// Removes the routes that are like this; returns how many.
    pub fn remove(&mut self, is_like: impl Fn(&Route) -> bool) -> usize {
        let before = self.list.len();
        self.list.retain(|route| !is_like(route));
        let removed = before - self.list.len();
        if removed > 0 {
            self.generation = self.generation.wrapping_add(1);
        }
        removed
    }

    /// A gateway does not answer: where there is another for the same prefix, that one is used from now on
    /// [rfc1122 3.3.1.4] [rfc1122 3.3.1.2]. The lost one becomes the last choice, until the others are lost as well.
    /// Returns whether anything has changed.
    ///
    /// ```
    /// use demikernel_net::ip::addresses::Prefix;
    /// use demikernel_net::ip::routes::{Route, Routes};
    /// use demikernel_runtime::time::Instant;
    /// use std::net::IpAddr;
    ///
    /// let (now, destination) = (Instant::from_nanos(1), "198.51.100.1".parse().unwrap());
    /// let [first, second]: [IpAddr; 2] = ["192.0.2.254", "192.0.2.253"].map(|router| router.parse().unwrap());
    /// let everywhere = Prefix::new("0.0.0.0".parse().unwrap(), 0).unwrap();
    /// let mut routes = Routes::new();
    /// routes.add(Route::fixed(everywhere, Some(first))).unwrap();
    /// routes.add(Route { metric: 10, ..Route::fixed(everywhere, Some(second)) }).unwrap();
    ///
    /// let used = routes.look_up(now, destination).unwrap();
    /// assert_eq!(used.hop, first);
    /// assert!(routes.on_gateway_lost(first));
    /// assert!(!routes.is_current(&used));
    /// assert_eq!(routes.look_up(now, destination).unwrap().hop, second);
    /// ```
    pub fn on_gateway_lost(&mut self, gateway: IpAddr) -> bool {
        let is_lost = |route: &Route| route.gateway == Some(gateway);
        let mut has_changed = false;
        for place in 0..self.list.len() {
            let prefix = self.list[place].prefix;
            let others = self.list.iter().filter(|route| route.prefix == prefix && !is_lost(route));
            let Some(last) = others.map(|route| route.metric).max() else { continue };
            let route = &mut self.list[place];
            if is_lost(route) && route.metric <= last {
                route.metric = last.saturating_add(1);
                has_changed = true;
            }
        }
        if has_changed {
            // Stable, so that nothing else changes places.
            self.list.sort_by_key(order);
            self.generation = self.generation.wrapping_add(1);
        }
        has_changed
    }

    /// Removes those whose time is over.
    pub fn expire(&mut self, now: Instant) -> usize {
        self.remove(|route| route.until <= now)
    }

    /// Who holds a hop has to look it up again: the addresses, on whose links hops are, have changed.
    pub fn invalidate(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// When [`expire`](Routes::expire) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.list.iter().map(|route| route.until).min().filter(|end| *end != Instant::MAX)
    }

    /// All routes, in the order in which they are tried.
    pub fn iter(&self) -> std::slice::Iter<'_, Route> {
        self.list.iter()
    }

    /// The hop for a destination: that of the longest prefix that it begins with, and of these of the least metric
    /// [rfc1122 3.3.1.1]. None if there is no route. Groups and everybody are on the link.
    #[must_use]
    pub fn look_up(&self, now: Instant, destination: IpAddr) -> Option<CachedHop> {
        let on_link = match destination {
            IpAddr::V4(address) => address.is_broadcast() || address.is_multicast(),
            IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
        };
        let hop = if on_link {
            destination
        } else {
            let fits = |route: &&Route| route.prefix.contains(destination) && route.until > now;
            self.list.iter().find(fits)?.gateway.unwrap_or(destination)
        };
        Some(CachedHop { hop, generation: self.generation })
    }

    /// Whether a hop is what [`look_up`](Routes::look_up) would give: one comparison.
    ///
    /// ```
    /// use demikernel_net::ip::addresses::Prefix;
    /// use demikernel_net::ip::routes::{Route, Routes};
    /// use demikernel_runtime::time::Instant;
    ///
    /// let route = |length, gateway: &str| {
    ///     Route::fixed(Prefix::new("10.0.0.0".parse().unwrap(), length).unwrap(), gateway.parse().ok())
    /// };
    /// let mut routes = Routes::new();
    /// routes.add(route(8, "192.0.2.1")).unwrap();
    /// let cached = routes.look_up(Instant::from_nanos(1), "10.0.0.7".parse().unwrap()).unwrap();
    /// assert!(routes.is_current(&cached));
    /// routes.add(route(16, "192.0.2.2")).unwrap();
    /// assert!(!routes.is_current(&cached), "it may have become another");
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_current(&self, cached: &CachedHop) -> bool {
        cached.generation == self.generation
    }
}

/// In which order routes are tried.
fn order(route: &Route) -> (Reverse<u8>, u32) {
    (Reverse(route.prefix.length()), route.metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::addresses::Address;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(ip(address), length.parse().unwrap()).unwrap()
    }

    fn hop(routes: &Routes, destination: &str) -> Option<String> {
        routes.look_up(NOW, ip(destination)).map(|cached| cached.hop.to_string())
    }

    #[test]
    fn the_longest_prefix_counts_then_the_metric() {
        // [rfc1122 3.3.1.1]
        let mut routes = Routes::new();
        let table = [
            ("0.0.0.0/0", Some("192.0.2.1"), 10),
            ("0.0.0.0/0", Some("192.0.2.2"), 5),
            ("192.0.2.0/24", None, 0),
            ("10.0.0.0/8", Some("192.0.2.3"), 0),
            ("10.1.0.0/16", Some("192.0.2.4"), 99),
            ("::/0", Some("fe80::1"), 0),
            ("2001:db8::/64", None, 0),
        ];
        for (to, gateway, metric) in table {
            routes.add(Route { metric, ..Route::fixed(prefix(to), gateway.map(ip)) }).unwrap();
        }
        let table = [
            ("8.8.8.8", "192.0.2.2"),
            ("192.0.2.77", "192.0.2.77"),
            ("10.2.0.1", "192.0.2.3"),
            ("10.1.0.1", "192.0.2.4"),
            ("2001:db8::9", "2001:db8::9"),
            ("2001:db8:1::9", "fe80::1"),
            ("fe80::7", "fe80::7"),
            ("ff02::1", "ff02::1"),
            ("224.0.0.251", "224.0.0.251"),
            ("255.255.255.255", "255.255.255.255"),
        ];
        for (destination, expected) in table {
            assert_eq!(hop(&routes, destination).as_deref(), Some(expected), "{destination}");
        }
        assert_eq!(routes.remove(|route| route.prefix.length() == 0), 3);
        assert_eq!(hop(&routes, "8.8.8.8"), None);
    }

    #[test]
    fn a_cached_hop_is_right_until_the_routes_change() {
        let mut routes = Routes::new();
        routes.add(Route::fixed(prefix("0.0.0.0/0"), Some(ip("192.0.2.1")))).unwrap();
        let cached = routes.look_up(NOW, ip("8.8.8.8")).unwrap();
        assert!(routes.is_current(&cached));
        assert_eq!(routes.remove(|_| false), 0);
        assert!(routes.is_current(&cached), "nothing has changed");
        routes.add(Route::fixed(prefix("8.0.0.0/8"), Some(ip("192.0.2.2")))).unwrap();
        assert!(!routes.is_current(&cached));
        assert_eq!(hop(&routes, "8.8.8.8").as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn only_the_gateway_in_use_redirects_and_to_one_on_the_link() {
        // [rfc1122 3.2.2.2]
        let mut addresses = Addresses::new();
        addresses.add(Address::fixed(ip("192.0.2.9"), 24)).unwrap();
        let mut routes = Routes::new();
        routes.add(Route::fixed(prefix("0.0.0.0/0"), Some(ip("192.0.2.1")))).unwrap();
        let far = "8.8.8.8";
        let table = [
            ("192.0.2.1", "192.0.2.2", far, true),
            ("192.0.2.3", "192.0.2.2", far, false),
            ("192.0.2.1", "192.0.2.1", far, false),
            ("192.0.2.1", "192.0.3.2", far, false),
            ("192.0.2.1", "192.0.2.9", far, false),
            ("192.0.2.1", "192.0.2.255", far, false),
            ("192.0.2.1", "192.0.2.2", "224.0.0.1", false),
        ];
        for (sender, gateway, destination, taken) in table {
            let [sender, gateway, destination] =
                [sender, gateway, destination].map(|text| text.parse().unwrap());
            let route = routes.on_redirect(NOW, sender, gateway, destination, &addresses);
            assert_eq!(route.is_some(), taken, "{sender} {gateway} {destination}");
        }
        let route = routes.on_redirect(
            NOW,
            Ipv4Addr::new(192, 0, 2, 1),
            Ipv4Addr::new(192, 0, 2, 2),
            Ipv4Addr::new(8, 8, 8, 8),
            &addresses,
        );
        routes.add(route.unwrap()).unwrap();
        assert_eq!(hop(&routes, far).as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_the_last_choice() {
        // [rfc1122 3.3.1.4] [rfc1122 3.3.1.2]
        let mut routes = Routes::new();
        for (to, gateway, metric) in
            [("0.0.0.0/0", "192.0.2.1", 1), ("0.0.0.0/0", "192.0.2.2", 7), ("10.0.0.0/8", "192.0.2.1", 0)]
        {
            routes.add(Route { metric, ..Route::fixed(prefix(to), Some(ip(gateway))) }).unwrap();
        }
        let cached = routes.look_up(NOW, ip("8.8.8.8")).unwrap();
        assert!(!routes.on_gateway_lost(ip("192.0.2.77")) && routes.is_current(&cached));
        assert!(routes.on_gateway_lost(ip("192.0.2.1")) && !routes.is_current(&cached));
        assert_eq!(hop(&routes, "8.8.8.8").as_deref(), Some("192.0.2.2"));
        assert_eq!(hop(&routes, "10.0.0.1").as_deref(), Some("192.0.2.1"), "there is no other");
        assert!(!routes.on_gateway_lost(ip("192.0.2.1")), "it is the last already");
        assert!(routes.on_gateway_lost(ip("192.0.2.2")));
        assert_eq!(hop(&routes, "8.8.8.8").as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn routes_end() {
        let mut routes = Routes::new();
        let until = NOW + Duration::from_secs(30);
        let gateway = Some(ip("fe80::1"));
        routes.add(Route { until, ..Route::fixed(prefix("::/0"), gateway) }).unwrap();
        assert_eq!(routes.deadline(), Some(until));
        assert!(routes.look_up(until, ip("2001:db8::1")).is_none(), "even if nobody has expired it");
        assert_eq!(routes.expire(until), 1);
        assert_eq!((routes.deadline(), routes.iter().count()), (None, 0));
    }

    #[test]
    fn floods_of_redirects_and_routes_meet_limits() {
        let mut routes = Routes::new();
        for number in 0..1000u32 {
            routes
                .add(Route {
                    origin: Origin::Redirect,
                    until: NOW + Duration::from_secs(u64::from(number) + 1),
                    ..Route::fixed(Prefix::host(Ipv4Addr::from_bits(number).into()), Some(ip("192.0.2.1")))
                })
                .unwrap();
        }
        assert_eq!(routes.iter().count(), MOST_REDIRECTS);
        assert!(hop(&routes, "0.0.3.231").is_some() && hop(&routes, "0.0.0.1").is_none());
        let results: Vec<_> = (0..1000u32)
            .map(|number| {
                let host = Prefix::host(Ipv4Addr::from_bits(number << 8).into());
                routes.add(Route::fixed(host, None))
            })
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), MOST_ROUTES - MOST_REDIRECTS);
        assert_eq!(routes.iter().count(), MOST_ROUTES);
    }

    proptest! {
        #[test]
        fn it_is_the_longest_that_fits(
            list in prop::collection::vec((any::<u8>(), 0u8..9, 0u32..3), 0..30), to in 0u8..224,
        ) {
            let mut routes = Routes::new();
            for (number, (net, length, metric)) in list.iter().enumerate() {
                let prefix = Prefix::new(Ipv4Addr::new(*net, 0, 0, 0).into(), *length).unwrap();
                let gateway = Some(Ipv4Addr::from_bits(number as u32).into());
                routes.add(Route { metric: *metric, ..Route::fixed(prefix, gateway) }).unwrap();
            }
            let destination = IpAddr::from(Ipv4Addr::new(to, 1, 1, 1));
            let fitting = routes.iter().filter(|route| route.prefix.contains(destination));
            let best = fitting.map(|route| (Reverse(route.prefix.length()), route.metric)).min();
            let found = routes.look_up(NOW, destination);
            // Several may be as good; any gateway is of one of these.
            let expected = routes.iter().filter(|route| {
                route.prefix.contains(destination)
                    && Some((Reverse(route.prefix.length()), route.metric)) == best
            });
            let gateways: Vec<_> = expected.map(|route| route.gateway.unwrap()).collect();
            prop_assert_eq!(found.is_some(), best.is_some());
            prop_assert!(found.is_none_or(|found| gateways.contains(&found.hop)));
        }
    }
}
