//! Neighbour discovery (RFC 4861), with servers of names (RFC 8106). These are messages of ICMPv6; that format
//! verifies their checksum, and this one whether they may be believed.

mod option;
#[cfg(test)]
mod tests;

pub use option::{DnsServer, PrefixInformation};

use super::Malformed;
use super::checksum::Sum;
use super::ethernet::MacAddress;
use super::icmpv6::{kind, set_checksum};
use super::ipv6;
use option::{Options, Writer};
use std::net::Ipv6Addr;

/// No router has changed it on the way: the message is from this link [rfc4861 hop-limit].
pub const HOP_LIMIT: u8 = 255;

/// Prefixes that are taken from one advertisement.
pub const MOST_PREFIXES: usize = 8;

/// Servers of names that are taken from one advertisement; three suffice by RFC 8106 section 5.3.1.
pub const MOST_DNS_SERVERS: usize = 4;

/// A message, as a value.
///
/// ```
/// use demikernel_net::wire::{icmpv6, ipv6, ndp::{self, Message}};
/// use std::net::Ipv6Addr;
///
/// let target = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// let message = Message::NeighborSolicitation { target, source_link_layer: None };
/// let mut bytes = vec![0; message.len()];
/// let ip = ipv6::Header {
///     destination: ndp::solicited_node(target),
///     hop_limit: ndp::HOP_LIMIT,
///     ..ipv6::Header::default()
/// };
/// message.emit(&mut bytes, icmpv6::pseudo_header(ip.source, ip.destination, message.len()));
/// assert_eq!(Message::parse(&ip, &bytes), Ok(message));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart on the stack, and seldom")]
pub enum Message {
    /// Who is a router here?
    RouterSolicitation {
        /// Of who asks.
        source_link_layer: Option<MacAddress>,
    },
    /// I am one, and this is how things are here.
    RouterAdvertisement(RouterAdvertisement),
    /// Who has this address?
    NeighborSolicitation {
        /// The address.
        target: Ipv6Addr,
        /// Of who asks.
        source_link_layer: Option<MacAddress>,
    },
    /// I have this address.
    NeighborAdvertisement(NeighborAdvertisement),
    /// There is a better first hop.
    Redirect {
        /// That hop; the destination itself, if it is on the link.
        target: Ipv6Addr,
        /// For what.
        destination: Ipv6Addr,
        /// Of the better hop.
        target_link_layer: Option<MacAddress>,
    },
}

/// What a router says of itself and the link (RFC 4861 section 4.2). Times of 0 say nothing.
///
/// ```
/// use demikernel_net::wire::ndp::{HOP_LIMIT, Message, PrefixInformation, RouterAdvertisement};
/// use demikernel_net::wire::{icmpv6, ipv6, mld};
///
/// let mut router = RouterAdvertisement { lifetime: 1800, mtu: Some(1500), ..Default::default() };
/// router.prefixes[0] = Some(PrefixInformation {
///     prefix: "2001:db8:1::".parse().unwrap(),
///     length: 64,
///     on_link: true,
///     autonomous: true,
///     valid_lifetime: 86_400,
///     preferred_lifetime: 14_400,
/// });
/// let message = Message::RouterAdvertisement(router);
/// let ip = ipv6::Header {
///     source: "fe80::1".parse().unwrap(),
///     destination: mld::ALL_NODES,
///     hop_limit: HOP_LIMIT,
///     ..ipv6::Header::default()
/// };
/// let mut bytes = vec![0; message.len()];
/// message.emit(&mut bytes, icmpv6::pseudo_header(ip.source, ip.destination, message.len()));
/// assert_eq!(Message::parse(&ip, &bytes), Ok(message));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouterAdvertisement {
    /// To be set in packets; 0 says nothing.
    pub hop_limit: u8,
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other things are to be had by DHCPv6.
    pub other: bool,
    /// For how many seconds it is a default router; 0 if it is none.
    pub lifetime: u16,
    /// For how many milliseconds a neighbour is reachable after a sign of it.
    pub reachable_time: u32,
    /// Milliseconds between solicitations.
    pub retransmit_time: u32,
    /// Of the router.
    pub source_link_layer: Option<MacAddress>,
    /// Of the link.
    pub mtu: Option<u32>,
    /// What is on the link, and what addresses may be made of: the first ones.
    pub prefixes: [Option<PrefixInformation>; MOST_PREFIXES],
    /// Servers of names: the first ones.
    pub dns_servers: [Option<DnsServer>; MOST_DNS_SERVERS],
}

/// Who has an address (RFC 4861 section 4.4).
///
/// ```
/// use demikernel_net::wire::ndp::{HOP_LIMIT, Message, NeighborAdvertisement};
/// use demikernel_net::wire::{Malformed, checksum::Sum, ipv6, mld};
///
/// let message = Message::NeighborAdvertisement(NeighborAdvertisement {
///     target: "fe80::2".parse().unwrap(),
///     router: false,
///     solicited: true,
///     replaces: true,
///     target_link_layer: None,
/// });
/// let mut bytes = vec![0; message.len()];
/// message.emit(&mut bytes, Sum::ZERO);
/// assert_eq!(bytes[4], 0x60, "solicited, and to override");
///
/// let asker = "fe80::1".parse().unwrap();
/// let ip = ipv6::Header { destination: asker, hop_limit: HOP_LIMIT, ..ipv6::Header::default() };
/// assert_eq!(Message::parse(&ip, &bytes), Ok(message));
/// // Nobody's question is answered to all.
/// let to_all = ipv6::Header { destination: mld::ALL_NODES, ..ip };
/// assert_eq!(Message::parse(&to_all, &bytes), Err(Malformed::Value));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborAdvertisement {
    /// The address.
    pub target: Ipv6Addr,
    /// Its owner is a router.
    pub router: bool,
    /// It was asked for.
    pub solicited: bool,
    /// What was known of it before no longer holds.
    pub replaces: bool,
    /// Of the owner.
    pub target_link_layer: Option<MacAddress>,
}

impl Message {
    /// A whole message of ICMPv6 whose checksum is right.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, checksum::Sum, ipv6, ndp::Message};
    ///
    /// let message = Message::RouterSolicitation { source_link_layer: None };
    /// let mut bytes = vec![0; message.len()];
    /// message.emit(&mut bytes, Sum::ZERO);
    /// let from_link = ipv6::Header { hop_limit: 255, ..ipv6::Header::default() };
    /// assert_eq!(Message::parse(&from_link, &bytes), Ok(message));
    /// // A router has passed it on, and its sender may be anywhere.
    /// let from_afar = ipv6::Header { hop_limit: 254, ..from_link };
    /// assert_eq!(Message::parse(&from_afar, &bytes), Err(Malformed::Value));
    /// ```
    ///
    /// # Errors
    /// If it is not one that RFC 4861 lets a host believe [rfc4861 6.1.1] [rfc4861 6.1.2] [rfc4861 7.1.1]
    /// [rfc4861 7.1.2] [rfc4861 8.1]: it came through a router, its addresses contradict its kind, it is too short,
    /// or an option has no length. Unknown options are skipped [rfc4861 9-unknown].
    pub fn parse(ip: &ipv6::Header, bytes: &[u8]) -> Result<Message, Malformed> {
        let [kind, code, _, _, fields @ ..] = bytes else { return Err(Malformed::Truncated) };
        if ip.hop_limit != HOP_LIMIT || *code != 0 {
            return Err(Malformed::Value);
        }
        match *kind {
            kind::ROUTER_SOLICITATION => parse_router_solicitation(ip, fields),
            kind::ROUTER_ADVERTISEMENT => parse_router_advertisement(ip, fields),
            kind::NEIGHBOR_SOLICITATION => parse_neighbor_solicitation(ip, fields),
            kind::NEIGHBOR_ADVERTISEMENT => parse_neighbor_advertisement(ip, fields),
            kind::REDIRECT => parse_redirect(ip, fields),
            _ => Err(Malformed::Value),
        }
    }

    /// Bytes that [`emit`](Message::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::{ethernet::MacAddress, ndp::Message};
    ///
    /// let source_link_layer = Some(MacAddress([2, 0, 0, 0, 0, 1]));
    /// assert_eq!(Message::RouterSolicitation { source_link_layer: None }.len(), 8);
    /// assert_eq!(Message::RouterSolicitation { source_link_layer }.len(), 8 + 8);
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        let link_layer = |address: &Option<MacAddress>| if address.is_some() { 8 } else { 0 };
        match self {
            Message::RouterSolicitation { source_link_layer } => 8 + link_layer(source_link_layer),
            Message::RouterAdvertisement(router) => {
                let prefixes = router.prefixes.iter().flatten().count() * option::PREFIX_INFORMATION_LEN;
                let dns_servers = router.dns_servers.iter().flatten().count() * option::DNS_SERVER_LEN;
                let mtu = if router.mtu.is_some() { 8 } else { 0 };
                16 + link_layer(&router.source_link_layer) + mtu + prefixes + dns_servers
            }
            Message::NeighborSolicitation { source_link_layer, .. } => 24 + link_layer(source_link_layer),
            Message::NeighborAdvertisement(neighbor) => 24 + link_layer(&neighbor.target_link_layer),
            Message::Redirect { target_link_layer, .. } => 40 + link_layer(target_link_layer),
        }
    }

    /// Writes the message, with its checksum, to all of `bytes`. It is sent with [`HOP_LIMIT`]
    /// [rfc4861 hop-limit], reserved fields are zero.
    ///
    /// # Panics
    /// If there are not [`len`](Message::len) bytes.
    pub fn emit(&self, bytes: &mut [u8], pseudo_header: Sum) {
        assert_eq!(bytes.len(), self.len(), "the message has all bytes");
        bytes.fill(0);
        let mut writer = Writer::new(bytes);
        match self {
            Message::RouterSolicitation { source_link_layer } => {
                writer.put(&[kind::ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
                writer.source_link_layer(*source_link_layer);
            }
            Message::RouterAdvertisement(router) => router.emit(&mut writer),
            Message::NeighborSolicitation { target, source_link_layer } => {
                writer.put(&[kind::NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
                writer.put(&target.octets());
                writer.source_link_layer(*source_link_layer);
            }
            Message::NeighborAdvertisement(neighbor) => {
                writer.put(&[kind::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, neighbor.flags(), 0, 0, 0]);
                writer.put(&neighbor.target.octets());
                writer.target_link_layer(neighbor.target_link_layer);
            }
            Message::Redirect { target, destination, target_link_layer } => {
                writer.put(&[kind::REDIRECT, 0, 0, 0, 0, 0, 0, 0]);
                writer.put(&target.octets());
                writer.put(&destination.octets());
                writer.target_link_layer(*target_link_layer);
            }
        }
        set_checksum(bytes, pseudo_header);
    }
}

impl RouterAdvertisement {
    const MANAGED: u8 = 0x80;
    const OTHER: u8 = 0x40;

    fn emit(&self, writer: &mut Writer<'_>) {
        let flags = if self.managed { Self::MANAGED } else { 0 } | if self.other { Self::OTHER } else { 0 };
        writer.put(&[kind::ROUTER_ADVERTISEMENT, 0, 0, 0, self.hop_limit, flags]);
        writer.put(&self.lifetime.to_be_bytes());
        writer.put(&self.reachable_time.to_be_bytes());
        writer.put(&self.retransmit_time.to_be_bytes());
        writer.source_link_layer(self.source_link_layer);
        writer.mtu(self.mtu);
        self.prefixes.iter().flatten().for_each(|prefix| writer.prefix_information(prefix));
        self.dns_servers.iter().flatten().for_each(|server| writer.dns_server(server));
    }
}

impl NeighborAdvertisement {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;

    fn flags(&self) -> u8 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.router, Self::ROUTER)
            | flag(self.solicited, Self::SOLICITED)
            | flag(self.replaces, Self::OVERRIDE)
    }
}

/// The group to which an address's owner listens for solicitations [rfc4291 2.7.1].
///
/// ```
/// use demikernel_net::wire::ndp::solicited_node;
///
/// let address = "4037::01:800:200e:8c6c".parse().unwrap();
/// assert_eq!(solicited_node(address).to_string(), "ff02::1:ff0e:8c6c");
/// ```
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0x00ff, low)
}

/// [rfc4861 6.1.1]
fn parse_router_solicitation(ip: &ipv6::Header, fields: &[u8]) -> Result<Message, Malformed> {
    let (_, options) = split::<4>(fields)?;
    let options = Options::parse(options)?;
    if ip.source.is_unspecified() && options.source_link_layer.is_some() {
        return Err(Malformed::Value);
    }
    Ok(Message::RouterSolicitation { source_link_layer: options.source_link_layer })
}

/// [rfc4861 6.1.2]
fn parse_router_advertisement(ip: &ipv6::Header, fields: &[u8]) -> Result<Message, Malformed> {
    let ([hop_limit, flags, l0, l1, a0, a1, a2, a3, t0, t1, t2, t3], options) = split::<12>(fields)?;
    let options = Options::parse(options)?;
    if !ip.source.is_unicast_link_local() {
        return Err(Malformed::Value);
    }
    Ok(Message::RouterAdvertisement(RouterAdvertisement {
        hop_limit,
        managed: flags & RouterAdvertisement::MANAGED != 0,
        other: flags & RouterAdvertisement::OTHER != 0,
        lifetime: u16::from_be_bytes([l0, l1]),
        reachable_time: u32::from_be_bytes([a0, a1, a2, a3]),
        retransmit_time: u32::from_be_bytes([t0, t1, t2, t3]),
        source_link_layer: options.source_link_layer,
        mtu: options.mtu,
        prefixes: options.prefixes,
        dns_servers: options.dns_servers,
    }))
}

/// [rfc4861 7.1.1]
fn parse_neighbor_solicitation(ip: &ipv6::Header, fields: &[u8]) -> Result<Message, Malformed> {
    let (_, rest) = split::<4>(fields)?;
    let (target, options) = split::<16>(rest)?;
    let options = Options::parse(options)?;
    let target = Ipv6Addr::from(target);
    // Who has no address yet asks whether another has it: the answer goes to all, and cannot name who asked.
    let detects_duplicates = ip.source.is_unspecified();
    if target.is_multicast()
        || detects_duplicates && (!is_solicited_node(ip.destination) || options.source_link_layer.is_some())
    {
        return Err(Malformed::Value);
    }
    Ok(Message::NeighborSolicitation { target, source_link_layer: options.source_link_layer })
}

/// [rfc4861 7.1.2]
fn parse_neighbor_advertisement(ip: &ipv6::Header, fields: &[u8]) -> Result<Message, Malformed> {
    let ([flags, ..], rest) = split::<4>(fields)?;
    let (target, options) = split::<16>(rest)?;
    let options = Options::parse(options)?;
    let neighbor = NeighborAdvertisement {
        target: target.into(),
        router: flags & NeighborAdvertisement::ROUTER != 0,
        solicited: flags & NeighborAdvertisement::SOLICITED != 0,
        replaces: flags & NeighborAdvertisement::OVERRIDE != 0,
        target_link_layer: options.target_link_layer,
    };
    if neighbor.target.is_multicast() || ip.destination.is_multicast() && neighbor.solicited {
        return Err(Malformed::Value);
    }
    Ok(Message::NeighborAdvertisement(neighbor))
}

/// [rfc4861 8.1], but for whether it is from the hop that is in use, which the routes know.
fn parse_redirect(ip: &ipv6::Header, fields: &[u8]) -> Result<Message, Malformed> {
    let (_, rest) = split::<4>(fields)?;
    let (target, rest) = split::<16>(rest)?;
    let (destination, options) = split::<16>(rest)?;
    let options = Options::parse(options)?;
    let (target, destination) = (Ipv6Addr::from(target), Ipv6Addr::from(destination));
    let possible = ip.source.is_unicast_link_local()
        && !destination.is_multicast()
        && (target.is_unicast_link_local() || target == destination);
    if !possible {
        return Err(Malformed::Value);
    }
    Ok(Message::Redirect { target, destination, target_link_layer: options.target_link_layer })
}

fn is_solicited_node(group: Ipv6Addr) -> bool {
    solicited_node(group) == group
}

fn split<const LENGTH: usize>(bytes: &[u8]) -> Result<([u8; LENGTH], &[u8]), Malformed> {
    bytes.split_first_chunk().map(|(chunk, rest)| (*chunk, rest)).ok_or(Malformed::Truncated)
}
