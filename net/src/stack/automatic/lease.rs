//! The DHCP client, which talks before there is an address, and so below the sockets.

use super::super::Stack;
use super::super::emit::Envelope;
use super::super::interface::Interface;
use super::super::receive::Packet;
use super::DuplicateDetection;
use crate::ip::addresses::{Address, Origin, Prefix};
use crate::ip::dhcp::{Action, CLIENT_PORT, Lease, SERVER_PORT};
use crate::ip::routes::{self, Route};
use crate::wire::ip::protocol;
use crate::wire::udp::{self, Header};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr};

/// Metric of the routes of a lease: those of the configuration come first. Linux's clients choose as much.
const METRIC: u32 = 1024;

impl Interface {
    pub(super) fn run_lease(&mut self, now: Instant) {
        loop {
            let random = self.automatic.random();
            let Some(action) = self.automatic.dhcp.as_mut().and_then(|client| client.poll(now, random))
            else {
                return;
            };
            match action {
                Action::Send { source, destination, payload } => {
                    self.send_to_server(now, source, destination, &payload);
                }
                Action::Configure(lease) => self.install_lease(now, &lease),
                Action::Deconfigure(address) => self.remove_lease(now, address),
            }
        }
    }

    /// From no address to everybody, at first. [rfc2131 4.1]
    fn send_to_server(&mut self, now: Instant, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) {
        let envelope = Envelope::new(source.into(), destination.into(), protocol::UDP);
        self.send_packet(now, &envelope, udp::HEADER + payload.len(), |bytes, pseudo_header| {
            bytes[udp::HEADER..].copy_from_slice(payload);
            let payload_len = payload.len() as u16;
            let sum = Header { source: CLIENT_PORT, destination: SERVER_PORT, payload_len }.emit(bytes);
            let sum = pseudo_header.then(sum).then(crate::wire::checksum::Sum::of(payload));
            udp::set_checksum(bytes, sum.checksum());
        });
    }

    fn install_lease(&mut self, now: Instant, lease: &Lease) {
        let ip = IpAddr::V4(lease.address);
        let known = self.addresses.find(ip).filter(|known| known.origin == Origin::Dhcp).copied();
        let waits = matches!(self.automatic.mode, DuplicateDetection::Standard | DuplicateDetection::Strict);
        let address = Address {
            prefix_length: lease.prefix.length(),
            origin: Origin::Dhcp,
            unique: known.map_or(!waits, |known| known.unique),
            valid_until: lease.until,
            ..Address::fixed(ip, 0)
        };
        if self.addresses.add(address).is_err() {
            tracing::warn!(%ip, "no room for the address of a lease");
            return;
        }
        self.routes.remove(|route| route.origin == routes::Origin::Dhcp);
        for (prefix, gateway, metric) in routes_of(lease) {
            let (origin, until) = (routes::Origin::Dhcp, lease.until);
            let gateway = gateway.map(IpAddr::V4);
            // Full of what the configuration says: then that is what counts.
            let _ = self.routes.add(Route { prefix, gateway, metric, origin, until });
        }
        self.mtu_v4 = lease.mtu.unwrap_or(u16::MAX);
        self.renew_paths();
        if known.is_none() {
            self.begin_detection(now, ip);
            tracing::info!(%ip, server = %lease.server, "a DHCP server has given an address");
        }
    }

    fn remove_lease(&mut self, now: Instant, address: Ipv4Addr) {
        if let Some(address) = self.addresses.remove(address.into()) {
            self.forget_address(now, &address);
        }
        self.routes.remove(|route| route.origin == routes::Origin::Dhcp);
        self.mtu_v4 = u16::MAX;
        self.renew_paths();
        tracing::info!(%address, "the address of a lease is gone");
    }

    pub(super) fn release_lease(&mut self, now: Instant) {
        let random = self.automatic.random();
        if let Some(client) = &mut self.automatic.dhcp {
            client.release(now, random);
            self.run_lease(now);
        }
    }
}

/// The network of the lease, and what is beyond: its routes, or its routers in their order.
fn routes_of(lease: &Lease) -> impl Iterator<Item = (Prefix, Option<Ipv4Addr>, u32)> {
    let any = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let routers = lease.routers.iter().zip(METRIC..);
    let routers = routers.filter_map(move |(router, metric)| Some((any?, Some(*router), metric)));
    let routes = lease.routes.iter().map(|(prefix, router)| (*prefix, *router, METRIC));
    std::iter::once((lease.prefix, None, METRIC)).chain(routes).chain(routers)
}

impl Stack {
    /// Whether a datagram, of which only the source is known to be possible, is for the DHCP client: it may have
    /// been sent to the address that is only about to be given.
    #[cold]
    pub(in crate::stack) fn take_lease(&mut self, now: Instant, header: &Header, packet: &Packet) -> bool {
        let is_ours = (header.source, header.destination) == (SERVER_PORT, CLIENT_PORT)
            && packet.source.is_ipv4()
            && self.interface.automatic.dhcp.is_some();
        if !is_ours {
            return false;
        }
        let payload: Vec<u8> = packet.pieces(udp::HEADER).flatten().copied().collect();
        let random = self.interface.automatic.random();
        if let Some(client) = &mut self.interface.automatic.dhcp {
            client.on_message(now, &payload, random);
        }
        self.run_automatic(now);
        true
    }
}
