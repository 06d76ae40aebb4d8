//! ICMP of IPv4 (RFC 792; RFC 1122 section 3.2.2, RFC 1191 section 4, RFC 1812 section 5.2.7.1).

use super::Malformed;
use super::checksum::Sum;
use std::net::Ipv4Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header of a message, before what it quotes or echoes.
pub const HEADER: usize = 8;

/// How much of a packet an error quotes at most: it is to have 576 bytes itself [rfc1812 4.3.2.3].
pub const QUOTE: usize = 576 - 20 - HEADER;

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
mod kind {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const DESTINATION_UNREACHABLE: u8 = 3;
    pub(super) const SOURCE_QUENCH: u8 = 4;
    pub(super) const REDIRECT: u8 = 5;
    pub(super) const ECHO_REQUEST: u8 = 8;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = 12;
}

const FRAGMENTATION_NEEDED: u8 = 4;

/// What questions and answers have in common.
///
/// ```
/// use demikernel_net::wire::icmpv4::{Echo, Message};
///
/// let question = Echo { identifier: 0x1234, sequence: 1 };
/// let mut bytes = *b"--------are you there?";
/// Message::EchoRequest(question).emit(&mut bytes);
/// assert_eq!(bytes[4..8], [0x12, 0x34, 0, 1]);
///
/// // The answer has the same of both, and the same text.
/// let Ok((Message::EchoRequest(asked), _)) = Message::parse(&bytes) else { panic!("it is a request") };
/// Message::EchoReply(asked).emit(&mut bytes);
/// assert_eq!((bytes[0], &bytes[8..]), (0, &b"are you there?"[..]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Echo {
    /// Who asks.
    pub identifier: u16,
    /// The how manieth question.
    pub sequence: u16,
}

impl Echo {
    pub(super) fn from_bytes([i0, i1, s0, s1]: [u8; 4]) -> Echo {
        Echo { identifier: u16::from_be_bytes([i0, i1]), sequence: u16::from_be_bytes([s0, s1]) }
    }

    pub(super) fn to_bytes(self) -> [u8; 4] {
        let ([i0, i1], [s0, s1]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        [i0, i1, s0, s1]
    }
}

/// Why a destination is unreachable: the code, of which these are known.
///
/// ```
/// use demikernel_net::wire::icmpv4::{Message, Unreachable};
///
/// let mut bytes = [0; 8 + 28];
/// Message::DestinationUnreachable(Unreachable::PORT).emit(&mut bytes);
/// assert_eq!(bytes[..2], [3, 3]);
/// // Codes that are not named here come through as they are.
/// bytes[1] = 15;
/// bytes[3] -= 12;
/// assert_eq!(Message::parse(&bytes).unwrap().0, Message::DestinationUnreachable(Unreachable(15)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route to the network.
    pub const NETWORK: Unreachable = Unreachable(0);
    /// The host does not answer.
    pub const HOST: Unreachable = Unreachable(1);
    /// The host does not know the protocol: for a transport, a hard error (RFC 1122 section 4.2.3.9).
    pub const PROTOCOL: Unreachable = Unreachable(2);
    /// Nobody is at the port: a hard error.
    pub const PORT: Unreachable = Unreachable(3);
    /// The source route failed.
    pub const SOURCE_ROUTE: Unreachable = Unreachable(5);
    /// The network is not known.
    pub const NETWORK_UNKNOWN: Unreachable = Unreachable(6);
    /// The host is not known.
    pub const HOST_UNKNOWN: Unreachable = Unreachable(7);
    /// The source host is isolated.
    pub const SOURCE_ISOLATED: Unreachable = Unreachable(8);
    /// A rule forbids the network.
    pub const NETWORK_PROHIBITED: Unreachable = Unreachable(9);
    /// A rule forbids the host.
    pub const HOST_PROHIBITED: Unreachable = Unreachable(10);
    /// The network has not this type of service.
    pub const NETWORK_SERVICE: Unreachable = Unreachable(11);
    /// The host has not this type of service.
    pub const HOST_SERVICE: Unreachable = Unreachable(12);
    /// A filter forbids it.
    pub const PROHIBITED: Unreachable = Unreachable(13);
}

/// A message, as a value. What it quotes or echoes is behind its header.
///
/// ```
/// use demikernel_net::wire::icmpv4::{Echo, HEADER, Message};
///
/// let message = Message::EchoRequest(Echo { identifier: 7, sequence: 1 });
/// let mut bytes = *b"--------abcdefgh";
/// message.emit(&mut bytes);
/// assert_eq!(Message::parse(&bytes), Ok((message, HEADER)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Are you there? What follows is to be sent back.
    EchoRequest(Echo),
    /// The answer.
    EchoReply(Echo),
    /// The quoted packet did not reach its destination.
    DestinationUnreachable(Unreachable),
    /// The quoted packet was too long, and must not be fragmented [rfc1191 4].
    FragmentationNeeded {
        /// What the next link carries; 0 if the router is older than RFC 1191.
        mtu: u16,
    },
    /// There is a better first hop for the quoted packet.
    Redirect {
        /// For networks or hosts.
        code: u8,
        /// That hop.
        gateway: Ipv4Addr,
    },
    /// The quoted packet went through too many routers, or waited too long to be reassembled.
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
    },
    /// Something is wrong with the quoted packet.
    ParameterProblem {
        /// 0 if the pointer means something, 1 if a needed option is missing.
        code: u8,
        /// Where in the packet.
        pointer: u8,
    },
    /// Others; hosts drop those that they do not know [rfc1122 3.2.2-unknown].
    Other {
        /// The type.
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
    /// use demikernel_net::wire::{Malformed, icmpv4::Message};
    ///
    /// let mut bytes = *b"--------the packet that was too long";
    /// Message::FragmentationNeeded { mtu: 1400 }.emit(&mut bytes);
    /// let (message, quote) = Message::parse(&bytes)?;
    /// assert_eq!(message, Message::FragmentationNeeded { mtu: 1400 });
    /// assert_eq!(&bytes[quote..], b"the packet that was too long");
    /// assert_eq!(Message::parse(&bytes[..30]), Err(Malformed::Checksum), "it covers what is quoted");
    /// # Ok::<(), Malformed>(())
    /// ```
    ///
    /// # Errors
    /// If there are fewer bytes than a header has, or the checksum over all of them is wrong [rfc792 checksum].
    pub fn parse(bytes: &[u8]) -> Result<(Message, usize), Malformed> {
        let (layout, _) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if !Sum::of(bytes).is_valid() {
            return Err(Malformed::Checksum);
        }
        Ok((Message::from_fields(layout.kind, layout.code, layout.rest), HEADER))
    }

    fn from_fields(kind: u8, code: u8, rest: [u8; 4]) -> Message {
        match (kind, code) {
            (kind::ECHO_REQUEST, 0) => Message::EchoRequest(Echo::from_bytes(rest)),
            (kind::ECHO_REPLY, 0) => Message::EchoReply(Echo::from_bytes(rest)),
            (kind::DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
                Message::FragmentationNeeded { mtu: u16::from_be_bytes([rest[2], rest[3]]) }
            }
            (kind::DESTINATION_UNREACHABLE, code) => Message::DestinationUnreachable(Unreachable(code)),
            (kind::REDIRECT, code) => Message::Redirect { code, gateway: rest.into() },
            (kind::TIME_EXCEEDED, code) => Message::TimeExceeded { code },
            (kind::PARAMETER_PROBLEM, code) => Message::ParameterProblem { code, pointer: rest[0] },
            (kind, code) => Message::Other { kind, code, rest },
        }
    }

    fn to_fields(self) -> (u8, u8, [u8; 4]) {
        match self {
            Message::EchoRequest(echo) => (kind::ECHO_REQUEST, 0, echo.to_bytes()),
            Message::EchoReply(echo) => (kind::ECHO_REPLY, 0, echo.to_bytes()),
            Message::DestinationUnreachable(Unreachable(code)) => {
                (kind::DESTINATION_UNREACHABLE, code, [0; 4])
            }
            Message::FragmentationNeeded { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                (kind::DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, [0, 0, high, low])
            }
            Message::Redirect { code, gateway } => (kind::REDIRECT, code, gateway.octets()),
            Message::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Message::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
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
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, icmpv4::Message};
    ///
    /// let mut bytes = *b"--------quoted packet";
    /// Message::TimeExceeded { code: 1 }.emit(&mut bytes);
    /// assert_eq!(bytes[..2], [11, 1]);
    /// assert!(Sum::of(&bytes).is_valid());
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`HEADER`] bytes.
    pub fn emit(&self, bytes: &mut [u8]) {
        let (kind, code, rest) = self.to_fields();
        let sum = Sum::of_u16(u16::from_be_bytes([kind, code]))
            .then(Sum::of(&rest))
            .then(Sum::of(&bytes[HEADER..]));
        let layout = Layout { kind, code, checksum: sum.checksum().into(), rest };
        layout.write_to_prefix(bytes).expect("there is room for the header");
    }

    /// Whether it tells of an error: none is ever told about one [rfc1122 3.2.2-no-error-about].
    ///
    /// ```
    /// use demikernel_net::wire::icmpv4::{Echo, Message};
    ///
    /// assert!(Message::TimeExceeded { code: 0 }.is_error());
    /// assert!(!Message::EchoRequest(Echo::default()).is_error(), "so it may be answered with an error");
    /// ```
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self {
            Message::DestinationUnreachable(_)
            | Message::FragmentationNeeded { .. }
            | Message::Redirect { .. }
            | Message::TimeExceeded { .. }
            | Message::ParameterProblem { .. } => true,
            Message::Other { kind, .. } => *kind == kind::SOURCE_QUENCH,
            Message::EchoRequest(_) | Message::EchoReply(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use crate::wire::{ip::protocol, ipv4, tcp};
    use etherparse::icmpv4::{DestUnreachableHeader, ParameterProblemHeader, RedirectCode, TimeExceededCode};
    use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type};
    use proptest::prelude::*;

    /// `ping -s 8`.
    const PING: &str = "0800 ffff 0007 0001 6162636465666768";

    fn emitted(message: &Message, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xa5; message.header_len()];
        bytes.extend(rest);
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn known_bytes_both_ways() {
        let echo = Echo { identifier: 7, sequence: 1 };
        // [rfc1122 3.2.2-unknown] [rfc1191 4]
        let table = [
            ("0800 258e 0007 0001 6869 6a", Message::EchoRequest(echo)),
            ("0000 2d8e 0007 0001 6869 6a", Message::EchoReply(echo)),
            ("0303 fcfc 0000 0000", Message::DestinationUnreachable(Unreachable::PORT)),
            ("0304 f721 0000 05da", Message::FragmentationNeeded { mtu: 1498 }),
            ("0501 3890 c000 026e", Message::Redirect { code: 1, gateway: Ipv4Addr::new(192, 0, 2, 110) }),
            ("0b01 f4fe 0000 0000", Message::TimeExceeded { code: 1 }),
            ("0c00 dfff 1400 0000", Message::ParameterProblem { code: 0, pointer: 20 }),
            ("0d00 e8f7 0102 0906", Message::Other { kind: 13, code: 0, rest: [1, 2, 9, 6] }),
        ];
        for (bytes, message) in table {
            let bytes = hex(bytes);
            assert_eq!(Message::parse(&bytes), Ok((message, 8)));
            assert_eq!(emitted(&message, &bytes[8..]), bytes);
        }
    }

    #[test]
    fn truncated_and_altered_messages_are_refused() {
        // [rfc792 checksum]
        let mut bytes = emitted(&Message::TimeExceeded { code: 0 }, &[]);
        truncate_everywhere(&bytes, 8, Message::parse);
        bytes = hex(PING);
        assert_eq!(Message::parse(&bytes), Err(Malformed::Checksum));
        bytes = emitted(&Message::EchoRequest(Echo::default()), b"odd");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Message::parse(&bytes), Err(Malformed::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn an_error_tells_of_which_connection_it_is() {
        // [rfc792 unreachable-quote]: the IP header, and eight bytes of the segment.
        let ip = ipv4::Header { protocol: protocol::TCP, payload_len: 1480, ..ipv4::Header::default() };
        let segment = tcp::Segment { source: 80, destination: 4000, ..tcp::Segment::default() };
        let (mut quote, mut header) = ([0; 28], [0; 20]);
        ip.emit(&mut quote);
        let _ = segment.emit(&mut header);
        quote[20..].copy_from_slice(&header[..8]);

        let bytes = emitted(&Message::FragmentationNeeded { mtu: 1400 }, &quote);
        let (message, start) = Message::parse(&bytes).unwrap();
        assert_eq!(message, Message::FragmentationNeeded { mtu: 1400 });
        let (quoted, payload) = ipv4::Header::parse_quoted(&bytes[start..]).unwrap();
        assert_eq!(quoted, ip);
        let quoted = tcp::Quoted::parse(&bytes[start + payload..]).unwrap();
        assert_eq!((quoted.source, quoted.destination), (80, 4000));
    }

    #[test]
    fn errors_are_known_as_such() {
        // [rfc1122 3.2.2-no-error-about]
        let errors = (0..=255).filter(|kind| Message::from_fields(*kind, 0, [0; 4]).is_error());
        assert_eq!(errors.collect::<Vec<u8>>(), [3, 4, 5, 11, 12]);
    }

    #[test]
    fn a_corpus_of_broken_messages_parses_or_is_refused() {
        for mut bytes in mutations(&hex(PING)) {
            if bytes.len() >= HEADER {
                bytes[2..4].fill(0);
                let checksum = Sum::of(&bytes).checksum();
                bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
                let (message, start) = Message::parse(&bytes).unwrap();
                assert_eq!(emitted(&message, &bytes[start..]).len(), bytes.len());
            }
        }
    }

    fn any_message() -> impl Strategy<Value = (Message, Icmpv4Type)> {
        let echo = any::<(u16, u16)>().prop_map(|(identifier, sequence)| {
            (Echo { identifier, sequence }, IcmpEchoHeader { id: identifier, seq: sequence })
        });
        let unreachable = |code, mtu| {
            Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::from_values(code, mtu).unwrap())
        };
        prop_oneof![
            echo.clone()
                .prop_map(|(echo, other)| (Message::EchoRequest(echo), Icmpv4Type::EchoRequest(other))),
            echo.prop_map(|(echo, other)| (Message::EchoReply(echo), Icmpv4Type::EchoReply(other))),
            (0u8..16).prop_filter("has its own", |code| *code != 4).prop_map(move |code| {
                (Message::DestinationUnreachable(Unreachable(code)), unreachable(code, 0))
            }),
            any::<u16>().prop_map(move |mtu| (Message::FragmentationNeeded { mtu }, unreachable(4, mtu))),
            (0u8..4, any::<[u8; 4]>()).prop_map(|(code, gateway)| {
                let other = etherparse::icmpv4::RedirectHeader {
                    code: RedirectCode::from_u8(code).unwrap(),
                    gateway_internet_address: gateway,
                };
                (Message::Redirect { code, gateway: gateway.into() }, Icmpv4Type::Redirect(other))
            }),
            (0u8..2).prop_map(|code| {
                let other = TimeExceededCode::from_u8(code).unwrap();
                (Message::TimeExceeded { code }, Icmpv4Type::TimeExceeded(other))
            }),
            any::<u8>().prop_map(|pointer| {
                let other = ParameterProblemHeader::PointerIndicatesError(pointer);
                (Message::ParameterProblem { code: 0, pointer }, Icmpv4Type::ParameterProblem(other))
            }),
        ]
    }

    proptest! {
        #[test]
        fn etherparse_agrees_both_ways((message, other) in any_message(), rest: Vec<u8>) {
            let bytes = emitted(&message, &rest);
            prop_assert_eq!(Message::parse(&bytes), Ok((message, HEADER)));
            prop_assert_eq!(Icmpv4Slice::from_slice(&bytes).unwrap().icmp_type(), other.clone());
            let mut written = Icmpv4Header::with_checksum(other, &rest).to_bytes().to_vec();
            written.extend(rest);
            prop_assert_eq!(written, bytes);
        }

        #[test]
        fn anything_parses_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::parse(&bytes);
        }
    }
}
