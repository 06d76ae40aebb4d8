//! Errors that others report.

use crate::wire::ip::protocol;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};
use std::net::IpAddr;

/// The packet of ours that an error quotes, as far as it says to whom it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// From us.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TCP, UDP, or what is behind its extension headers.
    pub protocol: u8,
    /// What is left of the header behind: the ports and, of TCP, the sequence number, which the connection is to
    /// compare with what is in flight [rfc5927 4.1].
    pub transport: [u8; 8],
    /// Bytes that the packet had, headers included.
    pub length: u16,
}

impl Quoted {
    /// Source and destination port.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.transport;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// Of TCP.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.transport;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The packet did not arrive.
    Failed {
        /// The error number that Linux gives.
        errno: i32,
        /// It will not pass: a transport without connection reports it at once. TCP takes it as final only while a
        /// connection is being opened [rfc5461 4.1] [rfc1122 4.2.3.9-soft].
        is_hard: bool,
    },
    /// The packet was too big for a link, which carries so much; 0 if the router does not say.
    TooBig {
        /// Bytes.
        mtu: u32,
    },
}

/// An error, and about what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// What it says.
    pub what: What,
    /// About which packet.
    pub quoted: Quoted,
}

/// Reads a message of ICMPv4 whose quotation is `quote`. None if it is no error, or quotes too little
/// [rfc1122 3.2.2-quote].
///
/// ```
/// use demikernel_net::ip::icmp::{What, report_v4};
/// use demikernel_net::wire::icmpv4::{Message, Unreachable};
/// use demikernel_net::wire::{ip::protocol, ipv4, udp};
///
/// // What a host says about our datagram: its header, and the first eight bytes behind it.
/// let mut quote = [0; 28];
/// ipv4::Header { protocol: protocol::UDP, payload_len: 100, ..ipv4::Header::default() }.emit(&mut quote);
/// udp::Header { source: 40_000, destination: 53, payload_len: 92 }.emit(&mut quote[20..]);
/// let report = report_v4(&Message::DestinationUnreachable(Unreachable::PORT), &quote).unwrap();
/// assert_eq!(report.quoted.ports(), (40_000, 53));
/// assert_eq!(report.what, What::Failed { errno: libc::ECONNREFUSED, is_hard: true });
/// let report = report_v4(&Message::FragmentationNeeded { mtu: 1400 }, &quote).unwrap();
/// assert_eq!(report.what, What::TooBig { mtu: 1400 });
/// ```
#[must_use]
pub fn report_v4(message: &icmpv4::Message, quote: &[u8]) -> Option<Report> {
    use icmpv4::Message;
    let what = match message {
        Message::DestinationUnreachable(why) => unreachable_v4(*why)?,
        Message::FragmentationNeeded { mtu } => What::TooBig { mtu: (*mtu).into() },
        // [rfc1122 3.2.2.4]
        Message::TimeExceeded { .. } => What::Failed { errno: libc::EHOSTUNREACH, is_hard: false },
        // [rfc1122 3.2.2.5]
        Message::ParameterProblem { .. } => What::Failed { errno: libc::EPROTO, is_hard: true },
        // Source quench is ignored [rfc6633 3]; redirects are for the routes.
        _ => return None,
    };
    let (header, payload) = ipv4::Header::parse_quoted(quote).ok()?;
    // Only a first fragment says whose it is.
    if header.fragment_offset != 0 {
        return None;
    }
    let quoted = Quoted {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol,
        transport: *quote.get(payload..)?.first_chunk()?,
        length: header.payload_len.saturating_add(payload as u16),
    };
    Some(Report { what, quoted })
}

/// As the table `icmp_err_convert` of Linux [rfc1122 3.2.2.1-report].
fn unreachable_v4(why: icmpv4::Unreachable) -> Option<What> {
    let (errno, is_hard) = match why.0 {
        0 | 11 => (libc::ENETUNREACH, false),
        1 | 12 => (libc::EHOSTUNREACH, false),
        2 => (libc::ENOPROTOOPT, true),
        3 => (libc::ECONNREFUSED, true),
        5 => (libc::EOPNOTSUPP, false),
        6 | 9 => (libc::ENETUNREACH, true),
        7 => (libc::EHOSTDOWN, true),
        8 => (libc::ENONET, true),
        10 | 13..=15 => (libc::EHOSTUNREACH, true),
        _ => return None,
    };
    Some(What::Failed { errno, is_hard })
}

/// Reads a message of ICMPv6 whose quotation is `quote` [rfc4443 2.4-d].
#[must_use]
pub fn report_v6(message: &icmpv6::Message, quote: &[u8]) -> Option<Report> {
    use icmpv6::Message;
    let what = match message {
        Message::DestinationUnreachable(why) => unreachable_v6(*why),
        // [rfc4443 3.2-upper]
        Message::PacketTooBig { mtu } => What::TooBig { mtu: *mtu },
        // [rfc4443 3.3-upper] [rfc4443 3.4-upper]
        Message::TimeExceeded { .. } => What::Failed { errno: libc::EHOSTUNREACH, is_hard: false },
        Message::ParameterProblem { code, .. } => {
            // Of a header that the peer does not know, it will never learn.
            What::Failed { errno: libc::EPROTO, is_hard: *code == 1 }
        }
        // Errors of unknown type go to the transport, which knows no use for them [rfc4443 2.4-a],
        // and other messages of unknown type nobody does [rfc4443 2.4-b].
        _ => return None,
    };
    let header = ipv6::Header::parse_quoted(quote).ok()?;
    let (protocol, payload) = skip_extensions(&header, quote)?;
    let quoted = Quoted {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol,
        transport: *quote.get(payload..)?.first_chunk()?,
        length: header.payload_len.saturating_add(ipv6::HEADER as u16),
    };
    Some(Report { what, quoted })
}

/// As `icmpv6_err_convert` of Linux [rfc4443 3.1-report] [rfc4443 3.1-upper].
fn unreachable_v6(why: icmpv6::Unreachable) -> What {
    let (errno, is_hard) = match why.0 {
        0 => (libc::ENETUNREACH, false),
        1 | 5 | 6 => (libc::EACCES, true),
        2 | 3 => (libc::EHOSTUNREACH, false),
        4 => (libc::ECONNREFUSED, true),
        _ => (libc::EPROTO, false),
    };
    What::Failed { errno, is_hard }
}

/// The protocol behind extension headers of a packet that may be cut off, and where its header begins. None if that
/// is not there, or the packet is no first fragment. It judges nothing, unlike [`ipv6::Chain`].
pub(super) fn skip_extensions(header: &ipv6::Header, packet: &[u8]) -> Option<(u8, usize)> {
    use ipv6::next_header::{DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
    let (mut protocol, mut place) = (header.next_header, ipv6::HEADER);
    for _ in 0..8 {
        let fields = match protocol {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => return Some((protocol, place)),
            HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT => packet.get(place..)?.first_chunk::<4>()?,
            _ => return Some((protocol, place)),
        };
        if protocol == FRAGMENT && u16::from_be_bytes([fields[2], fields[3]]) & 0xfff8 != 0 {
            return None;
        }
        place += if protocol == FRAGMENT { 8 } else { 8 + 8 * usize::from(fields[1]) };
        protocol = fields[0];
    }
    None
}
