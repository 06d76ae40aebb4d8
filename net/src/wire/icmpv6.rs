//! ICMP of IPv6 (RFC 4443). Neighbour discovery and multicast listeners are [`Message::Other`] here: see
//! [`ndp`](super::ndp) and [`mld`](super::mld).

use super::Malformed;
use super::checksum::Sum;
use super::ip::protocol;
use super::ipv6;
use std::net::Ipv6Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use super::icmpv4::Echo;

/// Bytes of the header of a message, before what it quotes or echoes.
pub const HEADER: usize = 8;

/// How much of a packet an error quotes at most: as much as goes through every link [rfc4443 2.4-c].
pub const QUOTE: usize = ipv6::MINIMUM_MTU - ipv6::HEADER - HEADER;

/// What all messages begin with.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    kind: u8,
    code: u8,
    checksum: U16,
    rest: [u8; 4],
}

const _: () = assert!(size_of::<Layout>() == HEADER);

/// Numbers of messages.
pub mod kind {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 2710, 3810).
    pub const MULTICAST_LISTENER_QUERY: u8 = 130;
    /// Multicast listener report (RFC 2710).
    pub const MULTICAST_LISTENER_REPORT: u8 = 131;
    /// Multicast listener done (RFC 2710).
    pub const MULTICAST_LISTENER_DONE: u8 = 132;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect (RFC 4861).
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report of version 2 (RFC 3810).
    pub const MULTICAST_LISTENER_REPORT_V2: u8 = 143;
}

/// Types below are errors, and all others are not [rfc4443 2.1].
const FIRST_INFORMATIONAL: u8 = 128;

/// Why a destination is unreachable: the code, of which these are known.
///
/// ```
/// use demikernel_net::wire::icmpv6::{Message, Unreachable, pseudo_header};
///
/// let pseudo_header = pseudo_header("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap(), 48);
/// let mut bytes = [0; 48];
/// Message::DestinationUnreachable(Unreachable::PORT).emit(&mut bytes, pseudo_header);
/// assert_eq!(bytes[..2], [1, 4], "the numbers are others than in ICMP of IPv4");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route to it.
    pub const NO_ROUTE: Unreachable = Unreachable(0);
    /// A rule forbids it.
    pub const PROHIBITED: Unreachable = Unreachable(1);
    /// It is beyond the scope of the source's address.
    pub const BEYOND_SCOPE: Unreachable = Unreachable(2);
    /// The host does not answer.
    pub const ADDRESS: Unreachable = Unreachable(3);
    /// Nobody is at the port.
    pub const PORT: Unreachable = Unreachable(4);
    /// A policy about sources forbids it.
    pub const SOURCE_POLICY: Unreachable = Unreachable(5);
    /// A route to it rejects packets.
    pub const REJECT_ROUTE: Unreachable = Unreachable(6);
}

/// A message, as a value. What it quotes or echoes is behind its header.
///
/// ```
/// use demikernel_net::wire::icmpv6::{Echo, HEADER, Message, pseudo_header};
/// use std::net::Ipv6Addr;
///
/// let message = Message::EchoRequest(Echo { identifier: 7, sequence: 1 });
/// let mut bytes = *b"--------abcdefgh";
/// let pseudo_header = pseudo_header(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, bytes.len());
/// message.emit(&mut bytes, pseudo_header);
/// assert_eq!(Message::parse(&bytes, pseudo_header), Ok((message, HEADER)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// The quoted packet did not reach its destination.
    DestinationUnreachable(Unreachable),
    /// The quoted packet was too long for a link.
    PacketTooBig {
        /// What that link carries.
        mtu: u32,
    },
    /// The quoted packet went through too many routers, or waited too long to be reassembled.
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
    },
    /// Something is wrong with the quoted packet.
    ParameterProblem {
        /// What: see [`ProblemCode`](ipv6::ProblemCode).
        code: u8,
        /// Where in the packet, which may be behind what is quoted.
        pointer: u32,
    },
    /// Are you there? What follows is to be sent back.
    EchoRequest(Echo),
    /// The answer.
    EchoReply(Echo),
    /// Others.
    Other {
        /// The type: see [`kind`].
        kind: u8,
        /// The code.
        code: u8,
        /// What is in the place of other messages' fields.
        rest: [u8; 4],
    },
}

impl Message {
    /// The message, and where what it quotes or echoes begins.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, icmpv6::{HEADER, Message, pseudo_header}};
    ///
    /// let (router, host) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
    /// let mut bytes = *b"--------the packet that was too long";
    /// let sum = pseudo_header(router, host, bytes.len());
    /// Message::PacketTooBig { mtu: 1280 }.emit(&mut bytes, sum);
    /// assert_eq!(Message::parse(&bytes, sum), Ok((Message::PacketTooBig { mtu: 1280 }, HEADER)));
    ///
    /// // The checksum covers the addresses, too: it was for somebody else.
    /// let other = pseudo_header(router, "fe80::3".parse().unwrap(), bytes.len());
    /// assert_eq!(Message::parse(&bytes, other), Err(Malformed::Checksum));
    /// ```
    ///
    /// # Errors
    /// If there are fewer bytes than a header has, or the checksum over all of them is wrong [rfc4443 2.3].
    pub fn parse(bytes: &[u8], pseudo_header: Sum) -> Result<(Message, usize), Malformed> {
        let (layout, _) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if !pseudo_header.then(Sum::of(bytes)).is_valid() {
            return Err(Malformed::Checksum);
        }
        Ok((Message::from_fields(layout.kind, layout.code, layout.rest), HEADER))
    }

    fn from_fields(kind: u8, code: u8, rest: [u8; 4]) -> Message {
        match (kind, code) {
            (kind::DESTINATION_UNREACHABLE, code) => Message::DestinationUnreachable(Unreachable(code)),
            // The code is ignored [rfc4443 3.2-code].
            (kind::PACKET_TOO_BIG, _) => Message::PacketTooBig { mtu: u32::from_be_bytes(rest) },
            (kind::TIME_EXCEEDED, code) => Message::TimeExceeded { code },
            (kind::PARAMETER_PROBLEM, code) => {
                Message::ParameterProblem { code, pointer: u32::from_be_bytes(rest) }
            }
            (kind::ECHO_REQUEST, 0) => Message::EchoRequest(Echo::from_bytes(rest)),
            (kind::ECHO_REPLY, 0) => Message::EchoReply(Echo::from_bytes(rest)),
            (kind, code) => Message::Other { kind, code, rest },
        }
    }

    fn to_fields(self) -> (u8, u8, [u8; 4]) {
        match self {
            Message::DestinationUnreachable(Unreachable(code)) => {
                (kind::DESTINATION_UNREACHABLE, code, [0; 4])
            }
            Message::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Message::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Message::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Message::EchoRequest(echo) => (kind::ECHO_REQUEST, 0, echo.to_bytes()),
            Message::EchoReply(echo) => (kind::ECHO_REPLY, 0, echo.to_bytes()),
            Message::Other { kind, code, rest } => (kind, code, rest),
        }
    }

    /// Bytes of the header that [`emit`](Message::emit) writes.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER
    }

    /// Writes the header, and the checksum, of a message that has all of `bytes`, with what it quotes or echoes
    /// already in its place.
    ///
    /// # Panics
    /// If there are fewer than [`HEADER`] bytes.
    pub fn emit(&self, bytes: &mut [u8], pseudo_header: Sum) {
        let (kind, code, rest) = self.to_fields();
        let layout = Layout { kind, code, checksum: U16::ZERO, rest };
        layout.write_to_prefix(&mut *bytes).expect("there is room for the header");
        set_checksum(bytes, pseudo_header);
    }

    /// Whether it tells of an error.
    ///
    /// ```
    /// use demikernel_net::wire::icmpv6::{Echo, Message};
    ///
    /// assert!(Message::PacketTooBig { mtu: 1280 }.is_error());
    /// assert!(!Message::EchoReply(Echo::default()).is_error());
    /// // Of unknown ones the highest bit of the type decides.
    /// assert!(Message::Other { kind: 100, code: 0, rest: [0; 4] }.is_error());
    /// assert!(!Message::Other { kind: 200, code: 0, rest: [0; 4] }.is_error());
    /// ```
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self {
            Message::EchoRequest(_) | Message::EchoReply(_) => false,
            Message::Other { kind, .. } => *kind < FIRST_INFORMATIONAL,
            _ => true,
        }
    }

    /// Whether none may be told about it: neither about errors [rfc4443 2.4-e1] nor about redirects
    /// [rfc4443 2.4-e2].
    ///
    /// ```
    /// use demikernel_net::wire::icmpv6::{Message, kind};
    ///
    /// let redirect = Message::Other { kind: kind::REDIRECT, code: 0, rest: [0; 4] };
    /// assert!(redirect.forbids_errors() && !redirect.is_error());
    /// ```
    #[must_use]
    pub const fn forbids_errors(&self) -> bool {
        self.is_error() || matches!(self, Message::Other { kind: kind::REDIRECT, .. })
    }
}

/// What the checksum of a message of this length begins with [rfc4443 2.3].
///
/// ```
/// use demikernel_net::wire::{checksum::Sum, icmpv6::{Echo, Message, pseudo_header}};
/// use std::net::Ipv6Addr;
///
/// let mut bytes = *b"--------abcdefgh";
/// let sum = pseudo_header(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, bytes.len());
/// Message::EchoRequest(Echo::default()).emit(&mut bytes, sum);
/// assert!(sum.then(Sum::of(&bytes)).is_valid());
/// assert!(!Sum::of(&bytes).is_valid(), "alone it says nothing");
/// ```
pub fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> Sum {
    Sum::pseudo_header_v6(source, destination, protocol::ICMPV6, length as u32)
}

/// Writes the checksum of a whole message.
pub(super) fn set_checksum(message: &mut [u8], pseudo_header: Sum) {
    message[2..4].fill(0);
    let checksum = pseudo_header.then(Sum::of(message)).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::icmpv6::{
        DestUnreachableCode, ParameterProblemCode, ParameterProblemHeader, TimeExceededCode,
    };
    use etherparse::{IcmpEchoHeader, Icmpv6Header, Icmpv6Slice, Icmpv6Type};
    use proptest::prelude::*;

    fn emitted(message: &Message, rest: &[u8], pseudo_header: Sum) -> Vec<u8> {
        let mut bytes = vec![0xa5; message.header_len()];
        bytes.extend(rest);
        message.emit(&mut bytes, pseudo_header);
        bytes
    }

    #[test]
    fn known_bytes_both_ways() {
        let echo = Echo { identifier: 7, sequence: 1 };
        let table = [
            ("0104 0000 0000 0000", Message::DestinationUnreachable(Unreachable::PORT)),
            ("0200 0000 0000 0500", Message::PacketTooBig { mtu: 1280 }),
            ("0301 0000 0000 0000", Message::TimeExceeded { code: 1 }),
            ("0402 0000 0000 0028", Message::ParameterProblem { code: 2, pointer: 40 }),
            ("8000 0000 0007 0001 6869 2a", Message::EchoRequest(echo)),
            ("8100 0000 0007 0001 6869 2a", Message::EchoReply(echo)),
            ("8700 0000 0102 00ff", Message::Other { kind: 135, code: 0, rest: [1, 2, 0, 255] }),
        ];
        for (bytes, message) in table {
            let mut bytes = hex(bytes);
            set_checksum(&mut bytes, Sum::ZERO);
            assert_eq!(Message::parse(&bytes, Sum::ZERO), Ok((message, 8)));
            assert_eq!(emitted(&message, &bytes[8..], Sum::ZERO), bytes);
        }
        // RFC 4443 section 2.3 with the pseudo-header of section 8.1 of RFC 8200, summed by hand: ffff less
        // 3a + 8 + 1 + 1 and 8000.
        let bytes = emitted(
            &Message::EchoRequest(Echo::default()),
            &[],
            pseudo_header(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 8),
        );
        assert_eq!(bytes, hex("8000 7fbb 0000 0000"));
    }

    #[test]
    fn the_code_of_packet_too_big_is_ignored() {
        // [rfc4443 3.2-code]
        let mut bytes = hex("02ff 0000 0000 0500");
        set_checksum(&mut bytes, Sum::ZERO);
        assert_eq!(Message::parse(&bytes, Sum::ZERO), Ok((Message::PacketTooBig { mtu: 1280 }, 8)));
    }

    #[test]
    fn truncated_and_altered_messages_are_refused() {
        // [rfc4443 2.3]
        let bytes = emitted(&Message::TimeExceeded { code: 0 }, &[], Sum::of_u16(1));
        truncate_everywhere(&bytes, 8, |bytes| Message::parse(bytes, Sum::of_u16(1)));
        assert_eq!(Message::parse(&bytes, Sum::of_u16(2)), Err(Malformed::Checksum));
        let mut bytes = emitted(&Message::EchoRequest(Echo::default()), b"odd", Sum::of_u16(1));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = Message::parse(&bytes, Sum::of_u16(1));
            assert_eq!(result, Err(Malformed::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_highest_bit_of_the_type_tells_errors() {
        // [rfc4443 2.1] [rfc4443 2.4-e1] [rfc4443 2.4-e2]
        for kind in 0..=255 {
            let message = Message::from_fields(kind, 0, [0; 4]);
            assert_eq!(message.is_error(), kind < 128, "{kind}");
            assert_eq!(message.forbids_errors(), kind < 128 || kind == 137, "{kind}");
        }
    }

    #[test]
    fn a_corpus_of_broken_messages_parses_or_is_refused() {
        for mut bytes in mutations(&hex("8000 0000 0007 0001 6869 2a")) {
            if bytes.len() >= HEADER {
                set_checksum(&mut bytes, Sum::ZERO);
                assert!(Message::parse(&bytes, Sum::ZERO).is_ok());
            }
        }
    }

    fn any_message() -> impl Strategy<Value = (Message, Icmpv6Type)> {
        let echo = any::<(u16, u16)>().prop_map(|(identifier, sequence)| {
            (Echo { identifier, sequence }, IcmpEchoHeader { id: identifier, seq: sequence })
        });
        prop_oneof![
            (0u8..7).prop_map(|code| {
                let other = DestUnreachableCode::from_u8(code).unwrap();
                let message = Message::DestinationUnreachable(Unreachable(code));
                (message, Icmpv6Type::DestinationUnreachable(other))
            }),
            any::<u32>().prop_map(|mtu| (Message::PacketTooBig { mtu }, Icmpv6Type::PacketTooBig { mtu })),
            (0u8..2).prop_map(|code| {
                let other = TimeExceededCode::from_u8(code).unwrap();
                (Message::TimeExceeded { code }, Icmpv6Type::TimeExceeded(other))
            }),
            (0u8..4, any::<u32>()).prop_map(|(code, pointer)| {
                let other =
                    ParameterProblemHeader { code: ParameterProblemCode::from_u8(code).unwrap(), pointer };
                (Message::ParameterProblem { code, pointer }, Icmpv6Type::ParameterProblem(other))
            }),
            echo.clone()
                .prop_map(|(echo, other)| (Message::EchoRequest(echo), Icmpv6Type::EchoRequest(other))),
            echo.prop_map(|(echo, other)| (Message::EchoReply(echo), Icmpv6Type::EchoReply(other))),
        ]
    }

    proptest! {
        #[test]
        fn etherparse_agrees_both_ways(
            (message, other) in any_message(), rest: Vec<u8>, from: [u8; 16], to: [u8; 16],
        ) {
            let pseudo_header = pseudo_header(from.into(), to.into(), HEADER + rest.len());
            let bytes = emitted(&message, &rest, pseudo_header);
            prop_assert_eq!(Message::parse(&bytes, pseudo_header), Ok((message, HEADER)));
            prop_assert_eq!(Icmpv6Slice::from_slice(&bytes).unwrap().icmp_type(), other);
            let written = Icmpv6Header::with_checksum(other, from, to, &rest).unwrap();
            let mut written = written.to_bytes().to_vec();
            written.extend(rest);
            prop_assert_eq!(written, bytes);
        }

        #[test]
        fn anything_parses_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::parse(&bytes, Sum::ZERO);
        }
    }
}
