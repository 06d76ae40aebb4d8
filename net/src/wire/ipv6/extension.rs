//! Extension headers (RFC 8200 section 4).

use super::{HEADER, Header};
use crate::wire::Malformed;
use crate::wire::ip::protocol;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Numbers of extension headers, which are of the same registry as the protocols.
pub mod next_header {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Nothing follows.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// More headers than this no sender has reason for; a limit is allowed by RFC 8504 section 5.3.
const MOST_HEADERS: usize = 8;

/// Options of one header that are not padding, for the same reason.
const MOST_OPTIONS: usize = 8;

/// Where the payload length is in the fixed header.
const PAYLOAD_LENGTH: u32 = 4;

/// Where the next header is in the fixed header.
const NEXT_HEADER: u32 = 6;

/// A hop-by-hop header with a router alert of value 0, "contains MLD" (RFC 2711), but for its next header, which is
/// the first byte.
pub const HOP_BY_HOP_ROUTER_ALERT: [u8; 8] =
    [protocol::ICMPV6, 0, option::ROUTER_ALERT, 2, 0, 0, option::PAD_N, 0];

mod option {
    pub(super) const PAD_1: u8 = 0;
    pub(super) const PAD_N: u8 = 1;
    pub(super) const ROUTER_ALERT: u8 = 5;
}

/// What the headers between the fixed one and the payload say.
///
/// ```
/// use demikernel_net::wire::ip::protocol;
/// use demikernel_net::wire::ipv6::{Chain, HEADER, HOP_BY_HOP_ROUTER_ALERT, Header, next_header};
///
/// let header = Header { next_header: next_header::HOP_BY_HOP, payload_len: 12, ..Header::default() };
/// let mut packet = vec![0; HEADER + 12];
/// header.emit(&mut packet);
/// packet[HEADER..][..8].copy_from_slice(&HOP_BY_HOP_ROUTER_ALERT);
///
/// let chain = Chain::walk(&header, &packet)?;
/// assert_eq!((chain.protocol, chain.payload), (protocol::ICMPV6, HEADER + 8));
/// assert!(chain.router_alert && chain.fragment.is_none());
/// # Ok::<(), demikernel_net::wire::ipv6::Refusal>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Of the payload: what a transport takes, or [`next_header::NONE`]. Of a fragment, what the first header of its
    /// packet behind the fragment header is.
    pub protocol: u8,
    /// Where the payload, or the part of it that a fragment has, begins, from the beginning of the packet.
    pub payload: usize,
    /// Where `protocol` stands: what to point at when there is no such protocol [rfc8200 4-unrecognized].
    pub pointer: u32,
    /// If it is a fragment.
    pub fragment: Option<Fragment>,
    /// Routers are to look into it (RFC 2711): MLD has it.
    pub router_alert: bool,
}

/// A fragment header.
///
/// ```
/// use demikernel_net::wire::ip::protocol;
/// use demikernel_net::wire::ipv6::{Chain, Fragment, HEADER, Header, next_header};
///
/// let fragment = Fragment { next_header: protocol::UDP, offset: 1232, more: false, identification: 7 };
/// let header = Header { next_header: next_header::FRAGMENT, payload_len: 8 + 5, ..Header::default() };
/// let mut packet = vec![0; HEADER + Fragment::HEADER + 5];
/// header.emit(&mut packet);
/// fragment.emit(&mut packet[HEADER..]);
/// let chain = Chain::walk(&header, &packet)?;
/// assert_eq!((chain.fragment, chain.payload), (Some(fragment), HEADER + Fragment::HEADER));
/// # Ok::<(), demikernel_net::wire::ipv6::Refusal>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Of the first header behind the fragment header, in the whole packet.
    pub next_header: u8,
    /// Where in the whole this part belongs, in bytes: a multiple of 8.
    pub offset: u16,
    /// There are fragments behind this one.
    pub more: bool,
    /// What fragments of one packet have in common, beside addresses.
    pub identification: u32,
}

/// Why a packet goes no further.
///
/// ```
/// use demikernel_net::wire::ip::protocol;
/// use demikernel_net::wire::ipv6::{Chain, HEADER, Header, ProblemCode, Refusal, next_header};
///
/// let header = Header { next_header: next_header::DESTINATION, payload_len: 8, ..Header::default() };
/// let mut packet = vec![0; HEADER + 8];
/// header.emit(&mut packet);
/// // An option that nobody knows, and whose two highest bits say what is to become of the packet.
/// packet[HEADER..].copy_from_slice(&[protocol::UDP, 0, 0b10_011110, 4, 0, 0, 0, 0]);
/// let pointer = HEADER as u32 + 2;
/// let problem =
///     Refusal::Problem { code: ProblemCode::UnrecognizedOption, pointer, even_if_multicast: true };
/// assert_eq!(Chain::walk(&header, &packet), Err(problem));
/// packet[HEADER + 2] = 0b01_011110;
/// assert_eq!(Chain::walk(&header, &packet), Err(Refusal::Discard));
/// packet[HEADER + 2] = 0b00_011110;
/// assert!(Chain::walk(&header, &packet).is_ok(), "it is skipped");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Its bytes are not what they should be; nobody is told.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It asks to be dropped, or is beyond a limit; nobody is told.
    #[error("to be dropped")]
    Discard,
    /// Its source is to be told by an ICMPv6 parameter problem.
    #[error("parameter problem {code:?} at {pointer}")]
    Problem {
        /// The code.
        code: ProblemCode,
        /// Where in the packet.
        pointer: u32,
        /// Even if the packet went to a group [rfc4443 2.4-e3].
        even_if_multicast: bool,
    },
}

/// Codes of parameter problems (RFC 4443 section 3.4, RFC 7112 section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ProblemCode {
    /// Erroneous header field encountered.
    ErroneousField = 0,
    /// Unrecognized next header type encountered.
    UnrecognizedNextHeader = 1,
    /// Unrecognized IPv6 option encountered.
    UnrecognizedOption = 2,
    /// First fragment has incomplete IPv6 header chain.
    IncompleteChain = 3,
}

impl Chain {
    /// Walks over the extension headers of a whole packet, as it came out of [`Header::parse`].
    ///
    /// Headers are taken in any order and any number of times within limits [rfc8200 4.1-any-order], except that
    /// hop-by-hop options are first [rfc8200 4.1-hop-by-hop].
    ///
    /// # Errors
    /// What is to become of the packet, and whether its source is to be told.
    #[inline]
    pub fn walk(header: &Header, packet: &[u8]) -> Result<Chain, Refusal> {
        let chain = Chain {
            protocol: header.next_header,
            payload: HEADER,
            pointer: NEXT_HEADER,
            fragment: None,
            router_alert: false,
        };
        if is_extension(header.next_header) { chain.walk_on(header, packet) } else { Ok(chain) }
    }

    /// Walks over the extension headers in the reassembled part of a packet, whose fixed header says where it went.
    /// `protocol` is the next header of its first fragment. Positions are from the beginning of that part.
    ///
    /// # Errors
    /// As for [`walk`](Chain::walk). What pointers point at is in the reassembled part.
    pub fn walk_reassembled(header: &Header, protocol: u8, part: &[u8]) -> Result<Chain, Refusal> {
        Chain { protocol, payload: 0, pointer: 0, fragment: None, router_alert: false }.walk_on(header, part)
    }

    #[cold]
    fn walk_on(mut self, header: &Header, packet: &[u8]) -> Result<Chain, Refusal> {
        self.take_headers(header, packet)?;
        match self.fragment {
            Some(Fragment { offset: 0, .. }) if !self.is_complete(header, packet) => {
                Err(problem(ProblemCode::IncompleteChain, 0))
            }
            _ => Ok(self),
        }
    }

    /// Up to a transport's header, or to a fragment.
    fn take_headers(&mut self, header: &Header, packet: &[u8]) -> Result<(), Refusal> {
        for _ in 0..=MOST_HEADERS {
            match self.protocol {
                _ if self.fragment.is_some() => return Ok(()),
                next_header::HOP_BY_HOP if self.pointer != NEXT_HEADER => {
                    return Err(problem(ProblemCode::UnrecognizedNextHeader, self.pointer));
                }
                next_header::HOP_BY_HOP | next_header::DESTINATION => self.take_options(header, packet)?,
                next_header::ROUTING => self.take_routing(packet)?,
                next_header::FRAGMENT => self.take_fragment(packet)?,
                _ => return Ok(()),
            }
        }
        Err(Refusal::Discard)
    }

    /// A first fragment has all headers up to the transport's, that filters can see it [rfc8200 4.5-first]
    /// [rfc7112 5]. Whatever else is wrong with them will show once the packet is whole.
    fn is_complete(&self, header: &Header, packet: &[u8]) -> bool {
        let mut rest = Chain { fragment: None, ..*self };
        match rest.take_headers(header, packet) {
            Ok(()) => rest.payload + minimum_header(rest.protocol) <= packet.len(),
            Err(refusal) => refusal != Refusal::Malformed(Malformed::Truncated),
        }
    }

    /// The header that begins where the payload was, as far as its length says; the payload is then behind it.
    fn take<'a>(&mut self, packet: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let rest = packet.get(self.payload..).ok_or(Malformed::Truncated)?;
        let [next, units, ..] = *rest else { return Err(Malformed::Truncated) };
        let length = if self.protocol == next_header::FRAGMENT { 8 } else { 8 + 8 * usize::from(units) };
        let extension = rest.get(..length).ok_or(Malformed::Truncated)?;
        self.pointer = self.payload as u32;
        self.payload += length;
        self.protocol = next;
        Ok(extension)
    }

    fn take_options(&mut self, header: &Header, packet: &[u8]) -> Result<(), Refusal> {
        let hop_by_hop = self.protocol == next_header::HOP_BY_HOP;
        let extension = self.take(packet)?;
        let mut options = &extension[2..];
        let mut count = 0;
        while let [kind, rest @ ..] = options {
            if *kind == option::PAD_1 {
                options = rest;
                continue;
            }
            let (length, rest) = rest.split_first().ok_or(Malformed::Option)?;
            let (value, behind) = rest.split_at_checked(usize::from(*length)).ok_or(Malformed::Option)?;
            let pointer = self.pointer + (extension.len() - options.len()) as u32;
            match (*kind, value) {
                (option::PAD_N, _) => {}
                (option::ROUTER_ALERT, [0, 0]) if hop_by_hop => self.router_alert = true,
                _ => refuse_unknown(*kind, pointer, header)?,
            }
            count += usize::from(*kind != option::PAD_N);
            if count > MOST_OPTIONS {
                return Err(Refusal::Discard);
            }
            options = behind;
        }
        Ok(())
    }

    /// No type is known here: type 0 was abolished by RFC 5095, and the others are for routers of a domain.
    fn take_routing(&mut self, packet: &[u8]) -> Result<(), Refusal> {
        let extension = self.take(packet)?;
        let segments_left = extension[3];
        // Who has no segments left to visit need not know how to [rfc8200 4.4-unrecognized] [rfc5095 3].
        if segments_left == 0 { Ok(()) } else { Err(problem(ProblemCode::ErroneousField, self.pointer + 2)) }
    }

    fn take_fragment(&mut self, packet: &[u8]) -> Result<(), Refusal> {
        let extension = self.take(packet)?;
        let (layout, _) = FragmentLayout::ref_from_prefix(extension).map_err(|_| Malformed::Truncated)?;
        // Two bits between offset and flag are reserved, and ignored [rfc8200 4.5-reserved].
        let offset_and_more = layout.offset_and_more.get();
        let fragment = Fragment {
            next_header: layout.next_header,
            offset: offset_and_more & FragmentLayout::OFFSET,
            more: offset_and_more & FragmentLayout::MORE != 0,
            identification: layout.identification.get(),
        };
        // A whole packet in one fragment has nothing to wait for [rfc8200 4.5-whole] [rfc6946 4].
        if fragment.offset == 0 && !fragment.more {
            return Ok(());
        }
        let length = packet.len() - self.payload;
        if length == 0 {
            return Err(Malformed::Length.into());
        }
        // [rfc8200 4.5-multiple-of-8]
        if fragment.more && !length.is_multiple_of(8) {
            return Err(problem(ProblemCode::ErroneousField, PAYLOAD_LENGTH));
        }
        // Longer than any packet, once it is whole [rfc8200 4.5-65535].
        let before = (self.pointer as usize).saturating_sub(HEADER);
        if before + usize::from(fragment.offset) + length > usize::from(u16::MAX) {
            return Err(problem(ProblemCode::ErroneousField, self.pointer + 2));
        }
        self.fragment = Some(fragment);
        Ok(())
    }
}

impl Fragment {
    /// Bytes of a fragment header.
    pub const HEADER: usize = size_of::<FragmentLayout>();

    /// Writes the header to the beginning of `bytes`.
    ///
    /// # Panics
    /// If there are fewer than [`Fragment::HEADER`] bytes, or the offset is not a multiple of 8.
    pub fn emit(&self, bytes: &mut [u8]) {
        assert!(self.offset.is_multiple_of(8), "a fragment begins on a multiple of 8");
        let layout = FragmentLayout {
            next_header: self.next_header,
            reserved: 0,
            offset_and_more: (self.offset | if self.more { FragmentLayout::MORE } else { 0 }).into(),
            identification: self.identification.into(),
        };
        layout.write_to_prefix(bytes).expect("there is room for the header");
    }
}

/// RFC 8200 section 4.5.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FragmentLayout {
    next_header: u8,
    reserved: u8,
    offset_and_more: U16,
    identification: U32,
}

impl FragmentLayout {
    const OFFSET: u16 = 0xfff8;
    const MORE: u16 = 0x0001;
}

/// What the two highest bits of an unknown option's type ask for [rfc8200 4.2-unrecognized].
fn refuse_unknown(kind: u8, pointer: u32, header: &Header) -> Result<(), Refusal> {
    let problem =
        Refusal::Problem { code: ProblemCode::UnrecognizedOption, pointer, even_if_multicast: true };
    match kind >> 6 {
        0b00 => Ok(()),
        0b01 => Err(Refusal::Discard),
        0b10 => Err(problem),
        _ if header.destination.is_multicast() => Err(Refusal::Discard),
        _ => Err(problem),
    }
}

fn problem(code: ProblemCode, pointer: u32) -> Refusal {
    Refusal::Problem { code, pointer, even_if_multicast: false }
}

fn minimum_header(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => crate::wire::tcp::MINIMUM_HEADER,
        protocol::UDP => 8,
        protocol::ICMPV6 => 4,
        _ => 0,
    }
}

fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        next_header::HOP_BY_HOP | next_header::ROUTING | next_header::FRAGMENT | next_header::DESTINATION
    )
}
