//! What routers say: advertisements, and redirects; and what becomes of one that is lost.

use super::super::counters::Counter;
use super::super::interface::Interface;
use crate::device::{MacAddress, Medium};
use crate::ip::ndp::{self, ALL_ROUTERS};
use crate::ip::routes::{Origin, Route};
use crate::wire::ndp::{Message, RouterAdvertisement};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Interface {
    pub(super) fn run_routers(&mut self, now: Instant) {
        let random = self.automatic.random();
        let Some(discovery) = &mut self.automatic.discovery else { return };
        let changed = discovery.expire(now);
        let solicits = discovery.poll_solicitation(now, random);
        if changed {
            self.install_routers();
        }
        if solicits {
            self.solicit_routers(now);
        }
    }

    /// From the link-local address if it is in use already, else from nobody. [rfc4861 4.1]
    fn solicit_routers(&mut self, now: Instant) {
        let Medium::Ethernet(own) = self.capabilities.medium else { return };
        let source = match self.addresses.select_source(now, ALL_ROUTERS.into()) {
            Some(IpAddr::V6(source)) if !self.is_optimistic(source) => source,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let source_link_layer = (!source.is_unspecified()).then_some(own);
        self.send_ndp(now, source, ALL_ROUTERS, &Message::RouterSolicitation { source_link_layer });
    }

    pub(super) fn install_routers(&mut self) {
        if let Some(discovery) = &self.automatic.discovery {
            discovery.install(&mut self.routes);
        }
        self.renew_paths();
    }

    /// An advertisement that the parser has found valid.
    pub(in crate::stack) fn take_router(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        router: &RouterAdvertisement,
    ) {
        let random = self.automatic.random();
        let Some(discovery) = &mut self.automatic.discovery else { return };
        let changes = discovery.on_advertisement(now, source, router, random);
        let (times, mtu, hop_limit) = (discovery.times(), discovery.mtu(), discovery.hop_limit());
        if let Some(hardware) = router.source_link_layer {
            self.neighbours.on_solicitation(now, source, hardware, Some(true));
        }
        if changes.times {
            self.neighbours.set_times(times);
        }
        if changes.parameters {
            (self.mtu_v6, self.hop_limit) = (mtu, hop_limit);
            self.renew_paths();
        }
        if changes.routes {
            self.install_routers();
        }
        for prefix in router.prefixes.iter().flatten() {
            let made = self.automatic.slaac.on_prefix(now, prefix, &mut self.addresses);
            if let Some(ip) = made {
                tracing::info!(%ip, router = %source, "a router has advertised a prefix");
                self.begin_detection(now, ip);
                self.renew_paths();
            }
        }
    }

    /// A neighbour that does not answer, or is no router any more: what went through it goes another way, if there is one.
    /// [rfc4861 7.3.3-router] [rfc1122 3.3.1.4]
    pub(in crate::stack) fn on_router_lost(&mut self, router: IpAddr) {
        let redirected = self.routes.remove(|route| {
            let hop = route.gateway.unwrap_or(route.prefix.network());
            route.origin == Origin::Redirect && hop == router
        });
        let mut changed = self.routes.on_gateway_lost(router) || redirected > 0;
        if let (IpAddr::V6(router), Some(discovery)) = (router, &mut self.automatic.discovery)
            && discovery.on_router_lost(router)
        {
            self.install_routers();
            changed = true;
        }
        if changed {
            self.renew_paths();
        }
    }

    /// An ICMP redirect of IPv4 about a packet of ours to `destination`. [rfc1122 3.2.2.2]
    pub(in crate::stack) fn redirect_v4(
        &mut self,
        now: Instant,
        sender: Ipv4Addr,
        gateway: Ipv4Addr,
        destination: Ipv4Addr,
    ) {
        if !self.automatic.accepts_redirects {
            return;
        }
        let route = self.routes.on_redirect(now, sender, gateway, destination, &self.addresses);
        self.take_redirect(route);
    }

    /// One of IPv6. [rfc4861 8.3]
    pub(in crate::stack) fn redirect_v6(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        hardware: Option<MacAddress>,
    ) {
        if !self.automatic.accepts_redirects || self.addresses.find(destination.into()).is_some() {
            return;
        }
        let current = self.routes.look_up(now, destination.into()).map(|cached| cached.hop);
        let route = ndp::on_redirect(now, source, target, destination, current);
        if let (Some(_), Some(hardware)) = (route, hardware) {
            // A better first hop is a router, unless it is the destination itself.
            let is_router = (target != destination).then_some(true);
            self.neighbours.on_solicitation(now, target, hardware, is_router);
        }
        self.take_redirect(route);
    }

    fn take_redirect(&mut self, route: Option<Route>) {
        let Some(route) = route else { return };
        if self.routes.add(route).is_ok() {
            self.counters.count(Counter::Redirects);
            self.renew_paths();
        }
    }
}
