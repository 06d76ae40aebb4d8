//! What the client says, and what it reads of answers.

use super::{LEAST_LEASE, Lease, MOST_ROUTES, MOST_SERVERS};
use crate::ip::addresses::Prefix;
use crate::wire::dhcp::{Header, Kind, Options, option};
use crate::wire::ethernet::MacAddress;
use demikernel_runtime::time::{Duration, Instant};
use std::net::Ipv4Addr;

/// What a host takes in any case [rfc2131 2-576].
const MOST: u16 = 576;

/// What is asked for. Routes come before routers, which they replace (RFC 3442).
const WANTED: [u8; 5] = [
    option::SUBNET_MASK,
    option::CLASSLESS_STATIC_ROUTE,
    option::ROUTER,
    option::DOMAIN_NAME_SERVER,
    option::INTERFACE_MTU,
];

/// What changes in messages of a client.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Request {
    /// Its address, once it has one.
    pub(super) client: Option<Ipv4Addr>,
    /// What it wants.
    pub(super) requested: Option<Ipv4Addr>,
    /// Of whom.
    pub(super) server: Option<Ipv4Addr>,
}

impl Request {
    /// The payload of a packet [rfc2131 4.4.1-fields].
    pub(super) fn encode(&self, kind: Kind, transaction: u32, seconds: u16, hardware: MacAddress) -> Vec<u8> {
        let is_question = matches!(kind, Kind::Discover | Kind::Request);
        let header = Header {
            transaction,
            seconds,
            // A host without address cannot take packets to the one that it will get [rfc2131 4.1-broadcast].
            broadcast: self.client.is_none() && is_question,
            client: self.client.unwrap_or(Ipv4Addr::UNSPECIFIED),
            hardware,
            ..Header::default()
        };
        // The type of the hardware, and its address (RFC 2132 section 9.14).
        let mut identifier = [1; 7];
        identifier[1..].copy_from_slice(&hardware.0);
        let kind = [kind as u8];
        let mut options: Vec<(u8, &[u8])> =
            vec![(option::MESSAGE_TYPE, &kind), (option::CLIENT_IDENTIFIER, &identifier)];
        let (requested, server) = (self.requested.map(|it| it.octets()), self.server.map(|it| it.octets()));
        options.extend(requested.iter().map(|it| (option::REQUESTED_ADDRESS, &it[..])));
        options.extend(server.iter().map(|it| (option::SERVER_IDENTIFIER, &it[..])));
        let most = MOST.to_be_bytes();
        if is_question {
            options.push((option::MAXIMUM_MESSAGE_SIZE, &most));
            options.push((option::PARAMETER_REQUEST_LIST, &WANTED));
        }
        header.emit(&options)
    }
}

/// A server's answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) address: Ipv4Addr,
    pub(super) server: Option<Ipv4Addr>,
    mask: Option<Ipv4Addr>,
    routers: Vec<Ipv4Addr>,
    routes: Vec<(Prefix, Option<Ipv4Addr>)>,
    dns_servers: Vec<Ipv4Addr>,
    mtu: Option<u16>,
    seconds: Option<u32>,
    renewal: Option<u32>,
    rebinding: Option<u32>,
}

impl Reply {
    /// None if it is not an answer to this client's question [rfc2131 4.4.1-xid].
    pub(super) fn parse(payload: &[u8], transaction: u32, hardware: MacAddress) -> Option<Reply> {
        let (header, options) = Header::parse(payload).ok()?;
        let is_ours = header.is_reply && header.transaction == transaction && header.hardware == hardware;
        let kind = options.kind().filter(|kind| matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak));
        let routes = routes(&options);
        Some(Reply {
            kind: kind.filter(|_| is_ours)?,
            address: header.yours,
            server: options.address(option::SERVER_IDENTIFIER),
            mask: options.address(option::SUBNET_MASK),
            // Who says routes says all of them (RFC 3442).
            routers: if routes.is_empty() { hosts(&options, option::ROUTER) } else { Vec::new() },
            routes,
            dns_servers: hosts(&options, option::DOMAIN_NAME_SERVER),
            mtu: options.fixed(option::INTERFACE_MTU).map(u16::from_be_bytes),
            seconds: options.number(option::LEASE_TIME),
            renewal: options.number(option::RENEWAL_TIME),
            rebinding: options.number(option::REBINDING_TIME),
        })
    }

    /// The lease that it is, if it has all that makes one.
    pub(super) fn lease(&self, now: Instant) -> Option<Lease> {
        let (server, seconds) = (self.server.filter(is_host)?, self.seconds?.max(LEAST_LEASE));
        let address = Some(self.address).filter(is_host)?;
        let length = self.mask.map_or(Some(class(address)), prefix_length)?;
        let at = |seconds: u32| crate::ip::ndp::lifetime(now, seconds);
        // T1 and T2 as the server says, if they are in order; else a half and seven eighths [rfc2131 4.4.5-default].
        let (half, most) = (seconds / 2, seconds - seconds / 8);
        let (renewal, rebinding) = match (self.renewal, self.rebinding) {
            (Some(renewal), Some(rebinding)) if 0 < renewal && renewal < rebinding && rebinding < seconds => {
                (renewal, rebinding)
            }
            (Some(renewal), None) if 0 < renewal && renewal < most => (renewal, most),
            _ => (half, most),
        };
        let forever = seconds == u32::MAX;
        Some(Lease {
            address,
            prefix: Prefix::new(address.into(), length)?,
            routers: self.routers.clone(),
            routes: self.routes.clone(),
            dns_servers: self.dns_servers.clone(),
            // Less is no IPv4 link worth the name, but an attempt to make us fragment.
            mtu: self.mtu.filter(|mtu| *mtu >= MOST),
            server,
            renew_at: if forever { Instant::MAX } else { now + Duration::from_secs(renewal.into()) },
            rebind_at: if forever { Instant::MAX } else { now + Duration::from_secs(rebinding.into()) },
            until: at(seconds),
        })
    }
}

/// The first few that can be hosts.
fn hosts(options: &Options<'_>, code: u8) -> Vec<Ipv4Addr> {
    options.addresses(code).filter(is_host).take(MOST_SERVERS).collect()
}

/// The first few; a router of 0.0.0.0 says that the destinations are on the link (RFC 3442).
fn routes(options: &Options<'_>) -> Vec<(Prefix, Option<Ipv4Addr>)> {
    let routes = options.routes().filter_map(|(network, length, router)| {
        let router = Some(router).filter(|router| !router.is_unspecified());
        let is_possible = router.is_none_or(|router| is_host(&router));
        Prefix::new(network.into(), length).filter(|_| is_possible).map(|prefix| (prefix, router))
    });
    routes.take(MOST_ROUTES).collect()
}

fn is_host(address: &Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

/// None if ones and zeros are mixed.
fn prefix_length(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() == 32).then_some(bits.leading_ones() as u8)
}

/// Without a mask, that of the address's class, as the RFCs of that time meant it.
fn class(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_prefixes() {
        let table = [
            ([255, 255, 255, 0], Some(24)),
            ([255, 255, 255, 255], Some(32)),
            ([0, 0, 0, 0], Some(0)),
            ([255, 0, 255, 0], None),
        ];
        for (mask, length) in table {
            assert_eq!(prefix_length(mask.into()), length);
        }
        assert_eq!([10, 172, 192].map(|first| class(Ipv4Addr::new(first, 0, 0, 1))), [8, 16, 24]);
    }
}
