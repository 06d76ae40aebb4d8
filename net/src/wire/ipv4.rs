//! IPv4 packets (RFC 791).

use super::Malformed;
use super::checksum::Sum;
use super::ip::TrafficClass;
use std::net::Ipv4Addr;
use std::ops::Range;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header without options.
pub const MINIMUM_HEADER: usize = 20;

/// What every host takes, in one piece or reassembled (RFC 791 section 3.1).
pub const MINIMUM_MTU: usize = 576;

/// What every link carries without fragmentation (RFC 791 section 3.2).
pub const MINIMUM_LINK_MTU: usize = 68;

/// Version 4, and a header of five words.
const WITHOUT_OPTIONS: u8 = 0x45;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// An option with copied flag, class and number, whose value 0 has every router look at the packet (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];

/// RFC 791 figure 4, up to the options.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    version_and_length: u8,
    type_of_service: u8,
    total_length: U16,
    identification: U16,
    flags_and_offset: U16,
    time_to_live: u8,
    protocol: u8,
    checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

const _: () = assert!(size_of::<Layout>() == MINIMUM_HEADER);

/// The header of a packet, as a value.
///
/// ```
/// use demikernel_net::wire::{ip::protocol, ipv4::Header};
/// use std::net::Ipv4Addr;
///
/// let header = Header {
///     source: Ipv4Addr::new(192, 0, 2, 1),
///     destination: Ipv4Addr::new(192, 0, 2, 2),
///     protocol: protocol::UDP,
///     payload_len: 8,
///     ..Header::default()
/// };
/// let mut packet = [0; 28];
/// header.emit(&mut packet);
/// assert_eq!(Header::parse(&packet), Ok((header, 20..28)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Of the payload.
    pub protocol: u8,
    /// How many routers it may pass.
    pub time_to_live: u8,
    /// DSCP and ECN.
    pub traffic_class: TrafficClass,
    /// What fragments of one packet have in common, beside addresses and protocol.
    pub identification: u16,
    /// Routers must drop it rather than cut it.
    pub dont_fragment: bool,
    /// There are fragments behind this one.
    pub more_fragments: bool,
    /// Where in the packet this fragment belongs, in bytes: a multiple of 8.
    pub fragment_offset: u16,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// Routers are to look into it (RFC 2113): IGMP has it.
    pub router_alert: bool,
    /// It has a source route, loose or strict: hosts refuse these (RFC 7126). It is not emitted.
    pub source_route: bool,
}

/// What nearly every packet is: whole, without options, and not of the loopback network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) traffic_class: TrafficClass,
    /// Bytes behind the header.
    pub(crate) payload_len: u16,
}

impl Plain {
    /// The header, if it is such a one and has a right checksum, or one that is known to be right. Of any other
    /// [`Header::parse`] says what it is.
    #[inline(always)]
    pub(crate) fn parse(bytes: &[u8], is_verified: bool) -> Option<Plain> {
        let bytes = bytes.first_chunk::<MINIMUM_HEADER>()?;
        let (layout, _) = Layout::ref_from_prefix(bytes).ok()?;
        let loopback = layout.source[0] == 127 || layout.destination[0] == 127;
        let whole = layout.flags_and_offset.get() & (MORE_FRAGMENTS | OFFSET) == 0;
        if layout.version_and_length != WITHOUT_OPTIONS || !whole || loopback {
            return None;
        }
        if !is_verified && !Sum::of(bytes).is_valid() {
            return None;
        }
        Some(Plain {
            source: layout.source.into(),
            destination: layout.destination.into(),
            protocol: layout.protocol,
            traffic_class: TrafficClass::from_bits(layout.type_of_service),
            payload_len: layout.total_length.get().checked_sub(MINIMUM_HEADER as u16)?,
        })
    }
}

impl Header {
    /// The header, and where the payload is: what is behind it pads the frame.
    ///
    /// ```
    /// use demikernel_net::wire::ipv4::Header;
    ///
    /// let header = Header { payload_len: 4, ..Header::default() };
    /// // An Ethernet frame pads what is short.
    /// let mut bytes = [0xff; 46];
    /// header.emit(&mut bytes);
    /// let (parsed, payload) = Header::parse(&bytes)?;
    /// assert_eq!((parsed, payload), (header, 20..24));
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    ///
    /// # Errors
    /// If the header or the packet does not fit into the bytes, contradicts itself, or has a wrong checksum.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Header, Range<usize>), Malformed> {
        let (header, payload) = Header::parse_unverified(bytes)?;
        // Of a known number of bytes the sum has no loop and no rests.
        let sum = match bytes.first_chunk::<MINIMUM_HEADER>() {
            Some(fixed) if payload.start == MINIMUM_HEADER => Sum::of(fixed),
            _ => Sum::of(&bytes[..payload.start]),
        };
        // [rfc791 3.1-checksum] [rfc1122 3.2.1.2]
        if sum.is_valid() { Ok((header, payload)) } else { Err(Malformed::Checksum) }
    }

    /// [`parse`](Header::parse) where a device has verified the checksum.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, ipv4::Header};
    ///
    /// let header = Header { time_to_live: 64, ..Header::default() };
    /// let mut bytes = [0; 20];
    /// header.emit(&mut bytes);
    /// // Sent on this machine: the checksum was left to a device.
    /// bytes[10..12].fill(0);
    /// assert_eq!(Header::parse(&bytes), Err(Malformed::Checksum));
    /// assert_eq!(Header::parse_unverified(&bytes), Ok((header, 20..20)));
    /// ```
    ///
    /// # Errors
    /// As for that, but for the checksum.
    #[inline]
    pub fn parse_unverified(bytes: &[u8]) -> Result<(Header, Range<usize>), Malformed> {
        let (header, start) = Header::parse_quoted(bytes)?;
        let end = start + usize::from(header.payload_len);
        if end <= bytes.len() { Ok((header, start..end)) } else { Err(Malformed::Truncated) }
    }

    /// The header that an ICMP message quotes, and where the payload begins, of which all or less is there. The
    /// checksum is as the last router left it, which may be wrong, so nobody looks at it.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, ipv4::Header};
    ///
    /// let header = Header { payload_len: 1000, ..Header::default() };
    /// let mut quote = [0; 28];
    /// header.emit(&mut quote);
    /// assert_eq!(Header::parse_quoted(&quote), Ok((header, 20)), "eight bytes are left of a thousand");
    /// assert_eq!(Header::parse(&quote), Err(Malformed::Truncated));
    /// ```
    ///
    /// # Errors
    /// If the header does not fit into the bytes or contradicts itself.
    #[inline]
    pub fn parse_quoted(bytes: &[u8]) -> Result<(Header, usize), Malformed> {
        let (layout, rest) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let (start, options) = match layout.version_and_length {
            WITHOUT_OPTIONS => (MINIMUM_HEADER, Options::default()),
            other => parse_options(other, rest)?,
        };
        let payload_len = layout.total_length.get().checked_sub(start as u16).ok_or(Malformed::Length)?;
        // The bit that is reserved is ignored [rfc791 3.1-reserved].
        let flags_and_offset = layout.flags_and_offset.get();
        let fragment_offset = (flags_and_offset & OFFSET) * 8;
        // What would end beyond the longest packet is a fragment of none [rfc791 3.1-65535].
        if fragment_offset.checked_add(payload_len).is_none() {
            return Err(Malformed::Length);
        }
        let header = Header {
            source: layout.source.into(),
            destination: layout.destination.into(),
            protocol: layout.protocol,
            time_to_live: layout.time_to_live,
            traffic_class: TrafficClass::from_bits(layout.type_of_service),
            identification: layout.identification.get(),
            dont_fragment: flags_and_offset & DONT_FRAGMENT != 0,
            more_fragments: flags_and_offset & MORE_FRAGMENTS != 0,
            fragment_offset,
            payload_len,
            router_alert: options.router_alert,
            source_route: options.source_route,
        };
        Ok((header, start))
    }

    /// Whether it is a part of a packet only.
    ///
    /// ```
    /// use demikernel_net::wire::ipv4::Header;
    ///
    /// assert!(!Header { dont_fragment: true, ..Header::default() }.is_fragment());
    /// assert!(Header { more_fragments: true, ..Header::default() }.is_fragment(), "the first");
    /// assert!(Header { fragment_offset: 1480, ..Header::default() }.is_fragment(), "the last");
    /// ```
    #[inline]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Bytes that [`emit`](Header::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::ipv4::Header;
    ///
    /// assert_eq!(Header::default().header_len(), 20);
    /// assert_eq!(Header { router_alert: true, ..Header::default() }.header_len(), 24);
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn header_len(&self) -> usize {
        if self.router_alert { MINIMUM_HEADER + ROUTER_ALERT.len() } else { MINIMUM_HEADER }
    }

    /// Writes the header, and its checksum, to the beginning of `bytes`.
    ///
    /// ```
    /// use demikernel_net::wire::ipv4::Header;
    ///
    /// let header = Header { fragment_offset: 1480, more_fragments: true, ..Header::default() };
    /// let mut bytes = [0; 20];
    /// header.emit(&mut bytes);
    /// // Offsets are in units of eight bytes, below three flags.
    /// assert_eq!(u16::from_be_bytes([bytes[6], bytes[7]]), 0x2000 | 1480 / 8);
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`header_len`](Header::header_len) bytes, if the packet is longer than 65535, or if
    /// the fragment's offset is not a multiple of 8.
    #[inline(always)]
    pub fn emit(&self, bytes: &mut [u8]) {
        assert!(self.fragment_offset.is_multiple_of(8), "a fragment begins on a multiple of 8");
        let length = self.header_len();
        let total_length =
            u16::try_from(length + usize::from(self.payload_len)).expect("a packet has 64 KiB");
        let version_and_length = 0x40 | (length / 4) as u8;
        let flags_and_offset = (self.fragment_offset / 8)
            | if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        // Of fields, not of the bytes, which are on their way to memory: see the emitter of TCP.
        let sum = Sum::of_fields(
            u64::from(u16::from_be_bytes([version_and_length, self.traffic_class.bits()]))
                + u64::from(total_length)
                + u64::from(self.identification)
                + u64::from(flags_and_offset)
                + u64::from(u16::from_be_bytes([self.time_to_live, self.protocol]))
                + u64::from(self.source.to_bits())
                + u64::from(self.destination.to_bits())
                + if self.router_alert { u64::from(u32::from_be_bytes(ROUTER_ALERT)) } else { 0 },
        );
        let (layout, rest) = Layout::mut_from_prefix(bytes).expect("there is room for the header");
        *layout = Layout {
            version_and_length,
            type_of_service: self.traffic_class.bits(),
            total_length: total_length.into(),
            identification: self.identification.into(),
            flags_and_offset: flags_and_offset.into(),
            time_to_live: self.time_to_live,
            protocol: self.protocol,
            checksum: sum.checksum().into(),
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        if self.router_alert {
            rest[..ROUTER_ALERT.len()].copy_from_slice(&ROUTER_ALERT);
        }
    }
}

impl Default for Header {
    /// From and to nowhere, with the time to live that IANA recommends.
    fn default() -> Header {
        Header {
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::UNSPECIFIED,
            protocol: 0,
            time_to_live: 64,
            traffic_class: TrafficClass::default(),
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            payload_len: 0,
            router_alert: false,
            source_route: false,
        }
    }
}

#[derive(Default)]
struct Options {
    router_alert: bool,
    source_route: bool,
}

/// Where the payload begins, and what the options before it say that matters to a host: unknown ones are skipped
/// [rfc791 3.1-options] [rfc1122 3.2.1.8] [rfc9293 MUST-50], but must have a length that can be.
#[cold]
fn parse_options(version_and_length: u8, rest: &[u8]) -> Result<(usize, Options), Malformed> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    // [rfc791 3.1-version]
    if version_and_length >> 4 != 4 {
        return Err(Malformed::Version);
    }
    let start = usize::from(version_and_length & 0x0f) * 4;
    // [rfc791 3.1-ihl]
    let length = start.checked_sub(MINIMUM_HEADER).ok_or(Malformed::Length)?;
    let mut bytes = rest.get(..length).ok_or(Malformed::Truncated)?;
    let mut options = Options::default();
    while let [kind, rest @ ..] = bytes {
        let length = match (*kind, rest) {
            (END, _) => break,
            (NOP, _) => 1,
            (_, [length, ..]) if *length >= 2 => usize::from(*length),
            _ => return Err(Malformed::Option),
        };
        let (option, rest) = bytes.split_at_checked(length).ok_or(Malformed::Option)?;
        options.router_alert |= option == ROUTER_ALERT;
        options.source_route |= matches!(*kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
        bytes = rest;
    }
    Ok((start, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip::{Ecn, protocol};
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::{Ipv4Header, Ipv4HeaderSlice};
    use proptest::prelude::*;

    /// A UDP packet of the book, with 3 bytes of padding behind it.
    const PACKET: &str =
        "4500 0020 1234 4000 4011 5dee 0a00 0001 c0a8 0002 01020304 05060708 090a0b0c ffffff";

    fn header() -> Header {
        Header {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(192, 168, 0, 2),
            protocol: protocol::UDP,
            identification: 0x1234,
            dont_fragment: true,
            payload_len: 12,
            ..Header::default()
        }
    }

    fn emitted(header: &Header) -> Vec<u8> {
        let mut bytes = vec![0xa5; header.header_len()];
        header.emit(&mut bytes);
        bytes
    }

    /// With options in place of none, and the checksum right.
    fn with_options(options: &str) -> Vec<u8> {
        let (packet, options) = (hex(PACKET), hex(options));
        let mut bytes = [&packet[..20], &options, &packet[20..]].concat();
        bytes[0] += (options.len() / 4) as u8;
        bytes[3] += options.len() as u8;
        right_checksum(&mut bytes);
        bytes
    }

    fn right_checksum(bytes: &mut [u8]) {
        let length = (usize::from(bytes[0] & 0x0f) * 4).min(bytes.len());
        bytes[10..12].fill(0);
        let checksum = Sum::of(&bytes[..length]).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    #[test]
    fn known_bytes_both_ways() {
        let bytes = hex(PACKET);
        // What pads the frame is no part of it.
        assert_eq!(Header::parse(&bytes), Ok((header(), 20..32)));
        assert_eq!(emitted(&header()), bytes[..20]);
    }

    #[test]
    fn truncated_packets_are_refused() {
        truncate_everywhere(&hex(PACKET), 32, Header::parse);
        truncate_everywhere(&hex(PACKET), 20, Header::parse_quoted);
        truncate_everywhere(&with_options("94040000"), 36, Header::parse);
        truncate_everywhere(&with_options("94040000"), 24, Header::parse_quoted);
    }

    #[test]
    fn a_quotation_has_the_header_and_less_of_the_payload() {
        let quoted = &hex(PACKET)[..28];
        assert_eq!(Header::parse(quoted), Err(Malformed::Truncated));
        assert_eq!(Header::parse_quoted(quoted), Ok((header(), 20)));
    }

    #[test]
    fn every_bit_of_the_header_is_covered() {
        // [rfc791 3.1-checksum] [rfc1122 3.2.1.2]
        let mut bytes = hex(PACKET);
        for bit in 0..160 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes[8] -= 1;
        assert_eq!(Header::parse(&bytes), Err(Malformed::Checksum));
        assert!(Header::parse_unverified(&bytes).is_ok());
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |place: usize, value: u8| {
            let mut bytes = hex(PACKET);
            bytes[place] = value;
            right_checksum(&mut bytes);
            Header::parse(&bytes).unwrap_err()
        };
        // [rfc791 3.1-version]
        assert_eq!(refused(0, 0x65), Malformed::Version);
        // [rfc791 3.1-ihl]
        assert_eq!(refused(0, 0x44), Malformed::Length);
        assert_eq!(refused(3, 19), Malformed::Length);
        assert_eq!(refused(2, 0x01), Malformed::Truncated);
        // Offset 65528 [rfc791 3.1-65535].
        let mut bytes = hex(PACKET);
        bytes[6..8].copy_from_slice(&[0x1f, 0xff]);
        right_checksum(&mut bytes);
        assert_eq!(Header::parse(&bytes), Err(Malformed::Length));
        bytes[3] = 20 + 7;
        right_checksum(&mut bytes);
        assert_eq!(Header::parse(&bytes).unwrap().0.fragment_offset, 65528);
    }

    #[test]
    fn options_are_skipped_but_must_be_possible() {
        // [rfc9293 MUST-50] [rfc791 3.1-options] [rfc1122 3.2.1.8]
        let table = [
            ("01010101", Ok((false, false))),
            ("00ffffff", Ok((false, false))),
            ("94040000", Ok((true, false))),
            ("94040001", Ok((false, false))),
            ("0183 0704 0a000001", Ok((false, true))),
            ("8907 0801 0a000001", Ok((false, true))),
            ("0107 0704 00000000 94040000", Ok((true, false))),
            ("94000000", Err(Malformed::Option)),
            ("94010000", Err(Malformed::Option)),
            ("01940400", Err(Malformed::Option)),
            ("01010194", Err(Malformed::Option)),
        ];
        for (options, expected) in table {
            let result = Header::parse(&with_options(options));
            let result = result.map(|(header, payload)| {
                assert_eq!(payload.len(), 12);
                (header.router_alert, header.source_route)
            });
            assert_eq!(result, expected, "{options}");
        }
    }

    #[test]
    fn a_router_alert_is_sent() {
        let header = Header { router_alert: true, ..header() };
        let mut bytes = emitted(&header);
        assert_eq!(bytes[20..], [148, 4, 0, 0]);
        bytes.extend([0; 12]);
        assert_eq!(Header::parse(&bytes), Ok((header, 24..36)));
    }

    #[test]
    fn the_reserved_flag_is_ignored_and_sent_as_zero() {
        // [rfc791 3.1-reserved]
        let mut bytes = hex(PACKET);
        bytes[6] |= 0x80;
        right_checksum(&mut bytes);
        assert_eq!(Header::parse(&bytes), Ok((header(), 20..32)));
        assert_eq!(emitted(&header())[6], 0x40);
    }

    #[test]
    fn a_corpus_of_broken_packets_parses_or_is_refused() {
        for mut bytes in mutations(&with_options("94040000")) {
            if bytes.len() >= MINIMUM_HEADER {
                right_checksum(&mut bytes);
            }
            if let Ok((header, payload)) = Header::parse(&bytes) {
                assert_eq!(bytes[payload].len(), usize::from(header.payload_len));
                assert!(usize::from(header.fragment_offset) + usize::from(header.payload_len) <= 65535);
            }
        }
    }

    fn any_header() -> impl Strategy<Value = Header> {
        let fragments = (any::<bool>(), any::<bool>(), 0u16..8192);
        let fields = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u8; 3]>(), any::<u16>(), 0u16..2000);
        (fields, fragments, any::<bool>()).prop_map(|(fields, fragments, router_alert)| {
            let (source, destination, [protocol, time_to_live, class], identification, payload_len) = fields;
            let (dont_fragment, more_fragments, offset) = fragments;
            Header {
                source: source.into(),
                destination: destination.into(),
                protocol,
                time_to_live,
                traffic_class: TrafficClass::from_bits(class),
                identification,
                dont_fragment,
                more_fragments,
                fragment_offset: (offset * 8).min((65535 - payload_len) / 8 * 8),
                payload_len,
                router_alert,
                source_route: false,
            }
        })
    }

    fn assert_same(other: &Ipv4HeaderSlice<'_>, header: &Header) {
        assert_eq!(other.source_addr(), header.source);
        assert_eq!(other.destination_addr(), header.destination);
        assert_eq!(other.protocol().0, header.protocol);
        assert_eq!(other.ttl(), header.time_to_live);
        assert_eq!(other.dcp().value(), header.traffic_class.dscp);
        assert_eq!(Ecn::from_bits(other.ecn().value()), header.traffic_class.ecn);
        assert_eq!(other.identification(), header.identification);
        assert_eq!(other.dont_fragment(), header.dont_fragment);
        assert_eq!(other.more_fragments(), header.more_fragments);
        assert_eq!(other.fragments_offset().byte_offset(), header.fragment_offset);
        assert_eq!(other.payload_len().unwrap(), header.payload_len);
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_here_and_by_etherparse(header in any_header(), padding in 0usize..20) {
            let mut bytes = emitted(&header);
            let other = Ipv4HeaderSlice::from_slice(&bytes).unwrap();
            assert_same(&other, &header);
            prop_assert_eq!(other.header_checksum(), other.to_header().calc_header_checksum());
            let start = bytes.len();
            let end = start + usize::from(header.payload_len);
            bytes.resize(end + padding, 0xff);
            prop_assert_eq!(Header::parse(&bytes), Ok((header, start..end)));
        }

        #[test]
        fn what_etherparse_writes_is_read(header in any_header(), nops in 0usize..10) {
            let header = Header { router_alert: false, ..header };
            let mut other = Ipv4Header::new(
                header.payload_len,
                header.time_to_live,
                header.protocol.into(),
                header.source.octets(),
                header.destination.octets(),
            )
            .unwrap();
            other.dscp = header.traffic_class.dscp.try_into().unwrap();
            other.ecn = (header.traffic_class.ecn as u8).try_into().unwrap();
            other.identification = header.identification;
            other.dont_fragment = header.dont_fragment;
            other.more_fragments = header.more_fragments;
            other.fragment_offset = (header.fragment_offset / 8).try_into().unwrap();
            other.options = [[1; 4]; 10][..nops].as_flattened().try_into().unwrap();
            other.set_payload_len(header.payload_len.into()).unwrap();
            other.header_checksum = other.calc_header_checksum();
            let mut bytes = other.to_bytes().to_vec();
            let start = bytes.len();
            bytes.resize(start + usize::from(header.payload_len), 0);
            prop_assert_eq!(Header::parse(&bytes), Ok((header, start..bytes.len())));
        }

        #[test]
        fn anything_parses_or_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..100), length in 5u8..16) {
            if bytes.len() >= MINIMUM_HEADER {
                bytes[0] = 0x40 | length;
                bytes[2] = 0;
                right_checksum(&mut bytes);
            }
            let other = Ipv4HeaderSlice::from_slice(&bytes);
            match Header::parse(&bytes) {
                Ok((header, payload)) => {
                    assert_same(&other.unwrap(), &header);
                    prop_assert!(payload.end <= bytes.len());
                }
                // It does not look into options, at lengths of packets, nor at fragments.
                Err(Malformed::Version | Malformed::Truncated | Malformed::Length | Malformed::Option) => {}
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
