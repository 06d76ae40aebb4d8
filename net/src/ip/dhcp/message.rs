//! Messages, as far as the client needs them, by the crate `dhcproto`.

use super::{LEAST_LEASE, Lease, MOST_SERVERS};
use crate::ip::addresses::Prefix;
use crate::wire::ethernet::MacAddress;
use demikernel_runtime::time::{Duration, Instant};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Encodable};
use std::net::Ipv4Addr;

/// What stands before the options [rfc2131 3-cookie].
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const MAGIC_AT: usize = 236;

/// What servers and relays that were made for BOOTP expect at least (RFC 1542 section 2.1).
const LEAST: usize = 300;

/// What a host takes in any case [rfc2131 2-576].
const MOST: u16 = 576;

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
}

impl Kind {
    fn to_wire(self) -> MessageType {
        match self {
            Kind::Discover => MessageType::Discover,
            Kind::Offer => MessageType::Offer,
            Kind::Request => MessageType::Request,
            Kind::Decline => MessageType::Decline,
            Kind::Ack => MessageType::Ack,
            Kind::Nak => MessageType::Nak,
            Kind::Release => MessageType::Release,
        }
    }
}

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
        let none = Ipv4Addr::UNSPECIFIED;
        let client = self.client.unwrap_or(none);
        let mut message = Message::new_with_id(transaction, client, none, none, none, &hardware.0);
        // A host without address cannot take packets to the one that it will get [rfc2131 4.1-broadcast].
        let is_deaf = self.client.is_none() && matches!(kind, Kind::Discover | Kind::Request);
        let flags = Flags::default();
        message.set_secs(seconds).set_flags(if is_deaf { flags.set_broadcast() } else { flags });
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind.to_wire()));
        options.insert(DhcpOption::ClientIdentifier([&[1], &hardware.0[..]].concat()));
        if let Some(requested) = self.requested {
            options.insert(DhcpOption::RequestedIpAddress(requested));
        }
        if let Some(server) = self.server {
            options.insert(DhcpOption::ServerIdentifier(server));
        }
        if matches!(kind, Kind::Discover | Kind::Request) {
            options.insert(DhcpOption::MaxMessageSize(MOST));
            options.insert(DhcpOption::ParameterRequestList(vec![
                OptionCode::SubnetMask,
                OptionCode::Router,
                OptionCode::DomainNameServer,
                OptionCode::InterfaceMtu,
            ]));
        }
        let mut bytes = message.to_vec().expect("a few short options can be encoded");
        bytes.resize(bytes.len().max(LEAST), 0);
        bytes
    }
}

/// A server's answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) address: Ipv4Addr,
    pub(super) server: Option<Ipv4Addr>,
    pub(super) mask: Option<Ipv4Addr>,
    pub(super) routers: Vec<Ipv4Addr>,
    pub(super) dns_servers: Vec<Ipv4Addr>,
    pub(super) mtu: Option<u16>,
    pub(super) seconds: Option<u32>,
    pub(super) renewal: Option<u32>,
    pub(super) rebinding: Option<u32>,
}

impl Reply {
    /// None if it is not an answer to this client's question [rfc2131 4.4.1-xid].
    pub(super) fn parse(payload: &[u8], transaction: u32, hardware: MacAddress) -> Option<Reply> {
        if payload.get(MAGIC_AT..)?.first_chunk() != Some(&MAGIC) {
            return None;
        }
        // How long the hardware's address is says the message, and the crate believes it.
        if payload[2] != 6 {
            return None;
        }
        let message = Message::from_bytes(&wanted_options(payload)?).ok()?;
        let is_ours = message.opcode() == Opcode::BootReply
            && message.xid() == transaction
            && message.chaddr() == hardware.0;
        if !is_ours {
            return None;
        }
        let kind = match message.opts().msg_type()? {
            MessageType::Offer => Kind::Offer,
            MessageType::Ack => Kind::Ack,
            MessageType::Nak => Kind::Nak,
            _ => return None,
        };
        Some(Reply::with_options(kind, &message))
    }

    fn with_options(kind: Kind, message: &Message) -> Reply {
        let mut reply = Reply {
            kind,
            address: message.yiaddr(),
            server: None,
            mask: None,
            routers: Vec::new(),
            dns_servers: Vec::new(),
            mtu: None,
            seconds: None,
            renewal: None,
            rebinding: None,
        };
        for (_, option) in message.opts().iter() {
            match option {
                DhcpOption::ServerIdentifier(server) => reply.server = Some(*server),
                DhcpOption::SubnetMask(mask) => reply.mask = Some(*mask),
                DhcpOption::Router(list) => reply.routers = hosts(list),
                DhcpOption::DomainNameServer(list) => reply.dns_servers = hosts(list),
                DhcpOption::InterfaceMtu(mtu) => reply.mtu = Some(*mtu),
                DhcpOption::AddressLeaseTime(seconds) => reply.seconds = Some(*seconds),
                DhcpOption::Renewal(seconds) => reply.renewal = Some(*seconds),
                DhcpOption::Rebinding(seconds) => reply.rebinding = Some(*seconds),
                _ => {}
            }
        }
        reply
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

/// The message with those of its options only that are read here, if their length is right; those that it has put
/// into the fields for names among them [rfc2131 4.1-overload].
///
/// `dhcproto` 0.15 must not see others: it asserts what some contain, so that a server could make it panic.
fn wanted_options(payload: &[u8]) -> Option<Vec<u8>> {
    const FILE: std::ops::Range<usize> = 108..MAGIC_AT;
    const SERVER_NAME: std::ops::Range<usize> = 44..108;
    let (header, options) = payload.split_at_checked(MAGIC_AT + MAGIC.len())?;
    let mut wanted = header.to_vec();
    wanted[SERVER_NAME.start..FILE.end].fill(0);
    let overload = copy_options(options, &mut wanted);
    if overload & 1 != 0 {
        copy_options(&header[FILE], &mut wanted);
    }
    if overload & 2 != 0 {
        copy_options(&header[SERVER_NAME], &mut wanted);
    }
    wanted.push(END);
    Some(wanted)
}

const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;

/// Copies what is wanted up to the end, or to what is malformed; returns which other fields have options too.
fn copy_options(mut options: &[u8], wanted: &mut Vec<u8>) -> u8 {
    let mut overload = 0;
    while let [code, rest @ ..] = options {
        if *code == PAD {
            options = rest;
            continue;
        }
        let [length, rest @ ..] = rest else { break };
        let Some((value, behind)) = rest.split_at_checked(usize::from(*length)) else { break };
        let is_wanted = match code {
            &END => break,
            // Mask, lease time, server, T1, T2.
            1 | 51 | 54 | 58 | 59 => value.len() == 4,
            // Routers, servers of names.
            3 | 6 => !value.is_empty() && value.len().is_multiple_of(4),
            // MTU.
            26 => value.len() == 2,
            // Type of message.
            53 => value.len() == 1,
            _ => false,
        };
        if is_wanted {
            wanted.extend_from_slice(&options[..2 + value.len()]);
        }
        if let (&OVERLOAD, [fields]) = (code, value) {
            overload = *fields;
        }
        options = behind;
    }
    overload
}

/// The first few that can be hosts.
fn hosts(list: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    list.iter().copied().filter(is_host).take(MOST_SERVERS).collect()
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
