//! Options of neighbour discovery (RFC 4861 section 4.6, RFC 8106 section 5.1).

use super::{MOST_DNS_SERVERS, MOST_PREFIXES};
use crate::wire::Malformed;
use crate::wire::ethernet::MacAddress;
use std::net::Ipv6Addr;

/// Bytes of a prefix information option.
pub(super) const PREFIX_INFORMATION_LEN: usize = 32;

/// Bytes of an option with one server.
pub(super) const DNS_SERVER_LEN: usize = 24;

mod kind {
    pub(super) const SOURCE_LINK_LAYER: u8 = 1;
    pub(super) const TARGET_LINK_LAYER: u8 = 2;
    pub(super) const PREFIX_INFORMATION: u8 = 3;
    pub(super) const MTU: u8 = 5;
    pub(super) const RECURSIVE_DNS_SERVER: u8 = 25;
}

/// Addresses on the link, or from which one may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixInformation {
    /// The prefix; its other bits are zero.
    pub prefix: Ipv6Addr,
    /// How many bits it has: 128 at most.
    pub length: u8,
    /// They are on this link.
    pub on_link: bool,
    /// Hosts may make themselves one (RFC 4862).
    pub autonomous: bool,
    /// Seconds until none is valid; `u32::MAX` for ever.
    pub valid_lifetime: u32,
    /// Seconds until none is to be used for anything new; `u32::MAX` for ever.
    pub preferred_lifetime: u32,
}

impl PrefixInformation {
    const ON_LINK: u8 = 0x80;
    const AUTONOMOUS: u8 = 0x40;

    /// None if its length is not that of a prefix.
    fn parse(body: &[u8; PREFIX_INFORMATION_LEN - 2]) -> Option<PrefixInformation> {
        let [length, flags, v0, v1, v2, v3, p0, p1, p2, p3, _, _, _, _, prefix @ ..] = *body;
        let shift = 128u32.checked_sub(length.into())?;
        // What is behind the prefix is ignored [rfc4861 4.6.2-prefix].
        let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
        Some(PrefixInformation {
            prefix: (u128::from_be_bytes(prefix) & mask).into(),
            length,
            on_link: flags & Self::ON_LINK != 0,
            autonomous: flags & Self::AUTONOMOUS != 0,
            valid_lifetime: u32::from_be_bytes([v0, v1, v2, v3]),
            preferred_lifetime: u32::from_be_bytes([p0, p1, p2, p3]),
        })
    }
}

/// A server that resolves names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DnsServer {
    /// Its address.
    pub address: Ipv6Addr,
    /// For how many seconds it may be used; `u32::MAX` for ever, 0 no longer.
    pub lifetime: u32,
}

/// What the options of a message say. Of an option that may come once, the first counts.
#[derive(Default)]
pub(super) struct Options {
    pub(super) source_link_layer: Option<MacAddress>,
    pub(super) target_link_layer: Option<MacAddress>,
    pub(super) mtu: Option<u32>,
    pub(super) prefixes: [Option<PrefixInformation>; MOST_PREFIXES],
    pub(super) dns_servers: [Option<DnsServer>; MOST_DNS_SERVERS],
}

impl Options {
    /// An option without length, or beyond the message, makes the message malformed [rfc4861 4.6-length].
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Options, Malformed> {
        let mut options = Options::default();
        while let [kind, units, ..] = bytes {
            if *units == 0 {
                return Err(Malformed::Option);
            }
            let (option, rest) = bytes.split_at_checked(usize::from(*units) * 8).ok_or(Malformed::Option)?;
            options.take(*kind, &option[2..])?;
            bytes = rest;
        }
        if bytes.is_empty() { Ok(options) } else { Err(Malformed::Option) }
    }

    fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), Malformed> {
        match kind {
            kind::SOURCE_LINK_LAYER => {
                self.source_link_layer = self.source_link_layer.or(Some(parse_link_layer(body)?));
            }
            kind::TARGET_LINK_LAYER => {
                self.target_link_layer = self.target_link_layer.or(Some(parse_link_layer(body)?));
            }
            kind::PREFIX_INFORMATION => {
                add(&mut self.prefixes, body.try_into().ok().and_then(PrefixInformation::parse));
            }
            kind::MTU => {
                if let [_, _, m0, m1, m2, m3] = *body {
                    self.mtu = self.mtu.or(Some(u32::from_be_bytes([m0, m1, m2, m3])));
                }
            }
            kind::RECURSIVE_DNS_SERVER => self.take_dns_servers(body),
            // [rfc4861 9-unknown]
            _ => {}
        }
        Ok(())
    }

    /// With half an address it is skipped [rfc8106 5.3.1-length].
    fn take_dns_servers(&mut self, body: &[u8]) {
        let [_, _, l0, l1, l2, l3, addresses @ ..] = body else { return };
        let lifetime = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
        if let (addresses, []) = addresses.as_chunks::<16>() {
            for address in addresses {
                add(&mut self.dns_servers, Some(DnsServer { address: (*address).into(), lifetime }));
            }
        }
    }
}

/// Into the first place that is free, if there is one.
fn add<T>(places: &mut [Option<T>], value: Option<T>) {
    if let Some(free) = places.iter_mut().find(|place| place.is_none()) {
        *free = value;
    }
}

/// Of Ethernet: one of another length cannot be used, nor the message believed.
fn parse_link_layer(body: &[u8]) -> Result<MacAddress, Malformed> {
    body.try_into().map(MacAddress).map_err(|_| Malformed::Option)
}

/// Puts fields and options one behind the other.
pub(super) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(super) fn new(rest: &'a mut [u8]) -> Writer<'a> {
        Writer { rest }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        let (place, rest) = rest.split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.rest = rest;
    }

    pub(super) fn source_link_layer(&mut self, address: Option<MacAddress>) {
        self.link_layer(kind::SOURCE_LINK_LAYER, address);
    }

    pub(super) fn target_link_layer(&mut self, address: Option<MacAddress>) {
        self.link_layer(kind::TARGET_LINK_LAYER, address);
    }

    fn link_layer(&mut self, kind: u8, address: Option<MacAddress>) {
        if let Some(MacAddress(address)) = address {
            self.put(&[kind, 1]);
            self.put(&address);
        }
    }

    pub(super) fn mtu(&mut self, mtu: Option<u32>) {
        if let Some(mtu) = mtu {
            self.put(&[kind::MTU, 1, 0, 0]);
            self.put(&mtu.to_be_bytes());
        }
    }

    pub(super) fn prefix_information(&mut self, prefix: &PrefixInformation) {
        let on_link = if prefix.on_link { PrefixInformation::ON_LINK } else { 0 };
        let autonomous = if prefix.autonomous { PrefixInformation::AUTONOMOUS } else { 0 };
        self.put(&[kind::PREFIX_INFORMATION, 4, prefix.length, on_link | autonomous]);
        self.put(&prefix.valid_lifetime.to_be_bytes());
        self.put(&prefix.preferred_lifetime.to_be_bytes());
        self.put(&[0; 4]);
        self.put(&prefix.prefix.octets());
    }

    pub(super) fn dns_server(&mut self, server: &DnsServer) {
        self.put(&[kind::RECURSIVE_DNS_SERVER, 3, 0, 0]);
        self.put(&server.lifetime.to_be_bytes());
        self.put(&server.address.octets());
    }
}
