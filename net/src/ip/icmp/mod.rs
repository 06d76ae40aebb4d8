//! ICMP: what is answered, how often, and what errors from others mean to sockets.
//!
//! - [`Answers`] makes messages of packets: echo replies, and errors if none of the many reasons not to stands
//!   against it. Their number is limited, in all and for each destination.
//! - [`report_v4`] and [`report_v6`] read an error that came and say to which socket it goes and as which error number.
//!
//! Limits: [`Rates`], by token buckets; those for destinations are [`BUCKETS`] in number, shared by destinations
//! with the same hash, so that no flood makes them more.

mod bucket;
mod report;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Rate};
pub use report::{Quoted, Report, What, report_v4, report_v6};

use super::Key;
use crate::wire::ip::protocol;
use crate::wire::{checksum, checksum::Sum, icmpv4, icmpv6, ipv4, ipv6};
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::time::Instant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many buckets destinations share.
pub const BUCKETS: usize = 256;

/// Room before a message for the headers of IP and Ethernet, with a tag.
const HEADROOM: usize = ipv6::HEADER + 18;

/// How often is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Errors, in all.
    pub errors: Rate,
    /// Errors to one destination.
    pub errors_each: Rate,
    /// Echo replies, in all.
    pub echoes: Rate,
}

impl Default for Rates {
    /// As Linux limits errors: 1,000 per second in all with bursts of 50, one per second to each with bursts of 6.
    /// Echo replies, which Linux does not limit: 10,000 per second.
    fn default() -> Rates {
        Rates {
            errors: Rate { per_second: 1000, burst: 50 },
            errors_each: Rate { per_second: 1, burst: 6 },
            echoes: Rate { per_second: 10_000, burst: 1000 },
        }
    }
}

/// A message that is to be sent.
#[derive(Debug)]
pub struct Answer {
    /// The packet's source; none if it is to be selected, since what is answered went to a group.
    pub source: Option<IpAddr>,
    /// Its destination.
    pub destination: IpAddr,
    /// The message, or its header, with room before it for those below.
    pub head: BufferMut,
    /// The rest of it, shared with the packet that it answers.
    pub rest: Buffer,
}

/// What is wrong with a packet that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// Nobody is at its port [rfc1122 3.2.2.1-port] [rfc4443 3.1-port].
    PortUnreachable,
    /// There is no such protocol [rfc1122 3.2.2.1-protocol]; the next header is at the pointer [rfc4443 3.4].
    UnknownProtocol {
        /// Where it stands, in IPv6.
        pointer: u32,
    },
    /// Its fragments did not come in time [rfc1122 3.3.2-time-exceeded] [rfc4443 3.3].
    ReassemblyTimeout,
    /// A field or option is wrong [rfc1122 3.2.2.5] [rfc4443 3.4].
    ParameterProblem {
        /// The code, of IPv6; 0 in IPv4.
        code: u8,
        /// Where in the packet.
        pointer: u32,
        /// Even if the packet went to a group [rfc4443 2.4-e3].
        even_if_multicast: bool,
    },
}

/// Answers to packets, and their limits.
#[derive(Debug)]
pub struct Answers {
    errors: Bucket,
    echoes: Bucket,
    each: Box<[Bucket]>,
    rates: Rates,
    key: Key,
    suppressed: u64,
}

impl Answers {
    /// All buckets are full.
    #[must_use]
    pub fn new(rates: Rates, key: Key) -> Answers {
        Answers {
            errors: Bucket::full(),
            echoes: Bucket::full(),
            each: vec![Bucket::full(); BUCKETS].into(),
            rates,
            key,
            suppressed: 0,
        }
    }

    /// How many answers a limit has suppressed.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// The answer to an echo request of IPv4, whose message was parsed: source and destination change places, the
    /// rest is as it came [rfc792 echo] [rfc1122 3.2.2.6]. Not to everybody's, nor to groups' [rfc1122 3.2.2.6-broadcast].
    pub fn echo_v4(
        &mut self,
        now: Instant,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        message: &Buffer,
        is_broadcast: bool,
    ) -> Option<Answer> {
        if is_broadcast || destination.is_multicast() || !may_be_told_v4(source) {
            return None;
        }
        let header = message.first_chunk::<{ icmpv4::HEADER }>()?;
        let mut reply = *header;
        reply[0] = 0;
        update(&mut reply, u16::from_be_bytes([header[0], 0]), 0);
        if reply == [0; icmpv4::HEADER] {
            // The sum of nothing but zeros has no other representation: only this checksum is taken.
            reply[2..4].copy_from_slice(&[0xff; 2]);
        }
        self.echo(now, Some(destination.into()), source.into(), &reply, message)
    }

    /// The answer to an echo request of IPv6 [rfc4443 4.2-reply] [rfc4443 4.2-source]. Those to groups are answered from an address of ours
    /// [rfc4443 4.2-multicast], which `own` is then.
    pub fn echo_v6(
        &mut self,
        now: Instant,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: &Buffer,
        own: Ipv6Addr,
    ) -> Option<Answer> {
        if source.is_unspecified() || source.is_multicast() {
            return None;
        }
        let header = message.first_chunk::<{ icmpv6::HEADER }>()?;
        let mut reply = *header;
        reply[0] = 129;
        update(&mut reply, u16::from_be_bytes([header[0], 0]), u16::from_be_bytes([129, 0]));
        let from = if destination.is_multicast() { own } else { destination };
        // Addresses that change places leave the sum; another one in place of the group's does not.
        let (old, new) = (Sum::of_ipv6(destination).fold(), Sum::of_ipv6(from).fold());
        update(&mut reply, old, new);
        self.echo(now, Some(from.into()), source.into(), &reply, message)
    }

    fn echo(
        &mut self,
        now: Instant,
        source: Option<IpAddr>,
        destination: IpAddr,
        header: &[u8],
        message: &Buffer,
    ) -> Option<Answer> {
        if !self.echoes.take(now, self.rates.echoes) {
            self.suppressed += 1;
            return None;
        }
        let mut head = BufferMut::with_headroom(HEADROOM, header.len()).ok()?;
        head.extend_from_slice(header);
        Some(Answer { source, destination, head, rest: message.slice(header.len()..) })
    }

    /// The error about a packet of IPv4 that came to us, unless something stands against it. `is_link_group` says
    /// whether its frame went to everybody or a group [rfc1122 2.4]; `is_broadcast` the same of its destination.
    pub fn error_v4(
        &mut self,
        now: Instant,
        packet: &[u8],
        complaint: Complaint,
        is_link_group: bool,
        is_broadcast: bool,
    ) -> Option<Answer> {
        let (header, payload) = ipv4::Header::parse_quoted(packet).ok()?;
        if is_link_group || is_broadcast || !may_complain_v4(&header, packet.get(payload..)?) {
            return None;
        }
        let message = match complaint {
            Complaint::PortUnreachable => icmpv4::Message::DestinationUnreachable(icmpv4::Unreachable::PORT),
            Complaint::UnknownProtocol { .. } => {
                icmpv4::Message::DestinationUnreachable(icmpv4::Unreachable::PROTOCOL)
            }
            Complaint::ReassemblyTimeout => icmpv4::Message::TimeExceeded { code: 1 },
            Complaint::ParameterProblem { code, pointer, .. } => {
                icmpv4::Message::ParameterProblem { code, pointer: u8::try_from(pointer).unwrap_or(0) }
            }
        };
        let quote = &packet[..packet.len().min(icmpv4::QUOTE).min(payload + usize::from(header.payload_len))];
        let mut head = self.error(now, header.source.into(), icmpv4::HEADER, quote)?;
        message.emit(&mut head);
        // From the address to which the packet went [rfc1122 3.2.2-source].
        let source = Some(header.destination.into());
        Some(Answer { source, destination: header.source.into(), head, rest: Buffer::new() })
    }

    /// The error about a packet of IPv6 that came to us, unless something stands against it. `own` is the source of
    /// the answer if the packet went to a group.
    pub fn error_v6(
        &mut self,
        now: Instant,
        packet: &[u8],
        complaint: Complaint,
        is_link_group: bool,
        own: Ipv6Addr,
    ) -> Option<Answer> {
        let header = ipv6::Header::parse_quoted(packet).ok()?;
        let even_if_multicast =
            matches!(complaint, Complaint::ParameterProblem { even_if_multicast: true, .. });
        // [rfc4443 2.4-e4] [rfc4443 2.4-e5]
        let to_group = is_link_group || header.destination.is_multicast();
        if to_group && !even_if_multicast || !may_complain_v6(&header, packet) {
            return None;
        }
        let message = match complaint {
            Complaint::PortUnreachable => icmpv6::Message::DestinationUnreachable(icmpv6::Unreachable::PORT),
            Complaint::UnknownProtocol { pointer } => icmpv6::Message::ParameterProblem { code: 1, pointer },
            Complaint::ReassemblyTimeout => icmpv6::Message::TimeExceeded { code: 1 },
            Complaint::ParameterProblem { code, pointer, .. } => {
                icmpv6::Message::ParameterProblem { code, pointer }
            }
        };
        let quote = &packet[..packet.len().min(icmpv6::QUOTE)];
        let mut head = self.error(now, header.source.into(), icmpv6::HEADER, quote)?;
        // [rfc4443 2.2-source]
        let from = if header.destination.is_multicast() { own } else { header.destination };
        let pseudo_header = icmpv6::pseudo_header(from, header.source, head.len());
        message.emit(&mut head, pseudo_header);
        Some(Answer {
            source: Some(from.into()),
            destination: header.source.into(),
            head,
            rest: Buffer::new(),
        })
    }

    /// Room for a header, and the quotation behind it, if no limit is met [rfc4443 2.4-f] [rfc1812 4.3.2.8].
    fn error(&mut self, now: Instant, to: IpAddr, header: usize, quote: &[u8]) -> Option<BufferMut> {
        let place = self.key.hash(PURPOSE, &to) as usize % BUCKETS;
        let each = &mut self.each[place];
        // That of the destination first: a flood from one address leaves the others their share.
        if !each.take(now, self.rates.errors_each) || !self.errors.take(now, self.rates.errors) {
            self.suppressed += 1;
            return None;
        }
        let mut head = BufferMut::with_headroom(HEADROOM, header + quote.len()).ok()?;
        head.resize(header, 0);
        head.extend_from_slice(quote);
        Some(head)
    }
}

const PURPOSE: u64 = 0x6963_6d70;

/// The checksum at its place, after a field has changed.
fn update(header: &mut [u8; 8], old: u16, new: u16) {
    let checksum = checksum::update(u16::from_be_bytes([header[2], header[3]]), old, new);
    header[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether there can be a single host at the address [rfc1122 3.2.2-no-single-host].
fn may_be_told_v4(source: Ipv4Addr) -> bool {
    let is_class_e = source.octets()[0] >= 240;
    !(source.is_unspecified() || source.is_loopback() || source.is_multicast() || is_class_e)
}

/// Reasons not to tell of an error that the packet itself has.
fn may_complain_v4(header: &ipv4::Header, payload: &[u8]) -> bool {
    // [rfc1122 3.2.2-broadcast] [rfc1122 3.2.2-fragment]
    if header.destination.is_multicast()
        || header.destination.is_broadcast()
        || header.fragment_offset != 0
        || !may_be_told_v4(header.source)
    {
        return false;
    }
    // [rfc1122 3.2.2-no-error-about]: echoes are the only messages that are none.
    header.protocol != protocol::ICMP || matches!(payload.first(), Some(0 | 8 | 13 | 14))
}

/// As that; what comes behind other headers than ICMPv6's is told of.
fn may_complain_v6(header: &ipv6::Header, packet: &[u8]) -> bool {
    // [rfc4443 2.4-e6]
    if header.source.is_unspecified() || header.source.is_multicast() {
        return false;
    }
    let Some((protocol, payload)) = report::skip_extensions(header, packet) else { return true };
    // [rfc4443 2.4-e1] [rfc4443 2.4-e2]
    let kind = packet.get(payload).copied().unwrap_or(0);
    protocol != protocol::ICMPV6 || kind >= 128 && kind != icmpv6::kind::REDIRECT
}
