//! Messages of DHCP for IPv4 (RFC 2131), with the options that a client reads (RFC 2132, RFC 3442).

use super::Malformed;
use super::ethernet::MacAddress;
use std::net::Ipv4Addr;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a message before its options, the cookie included.
pub const HEADER: usize = 240;

/// What servers and relays that were made for BOOTP expect at least (RFC 1542 section 2.1).
const LEAST: usize = 300;

/// What stands before the options [rfc2131 3-cookie].
const COOKIE: [u8; 4] = [99, 130, 83, 99];

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const BROADCAST: u16 = 0x8000;

/// RFC 2131 figure 1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    operation: u8,
    hardware_type: u8,
    hardware_length: u8,
    hops: u8,
    transaction: U32,
    seconds: U16,
    flags: U16,
    client: [u8; 4],
    yours: [u8; 4],
    next_server: [u8; 4],
    relay: [u8; 4],
    hardware: [u8; 6],
    hardware_rest: [u8; 10],
    server_name: [u8; 64],
    file: [u8; 128],
    cookie: [u8; 4],
}

const _: () = assert!(size_of::<Layout>() == HEADER);

/// Numbers of options.
#[expect(missing_docs, reason = "each is named as in RFC 2132, or RFC 3442")]
pub mod option {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DOMAIN_NAME_SERVER: u8 = 6;
    pub const INTERFACE_MTU: u8 = 26;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_IDENTIFIER: u8 = 54;
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    pub const MAXIMUM_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT_IDENTIFIER: u8 = 61;
    pub const CLASSLESS_STATIC_ROUTE: u8 = 121;

    pub(super) const PAD: u8 = 0;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const END: u8 = 255;
}

/// What a message is for: the value of the option [`MESSAGE_TYPE`](option::MESSAGE_TYPE) (RFC 2132 section 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each is named as in RFC 2132")]
#[repr(u8)]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Discover,
        Kind::Offer,
        Kind::Request,
        Kind::Decline,
        Kind::Ack,
        Kind::Nak,
        Kind::Release,
        Kind::Inform,
    ];
}

/// The fields of a message before its options, as a value.
///
/// ```
/// use demikernel_net::wire::dhcp::{Header, Kind, option};
///
/// let header = Header { transaction: 7, ..Header::default() };
/// let bytes = header.emit(&[(option::MESSAGE_TYPE, &[Kind::Discover as u8])]);
/// let (parsed, options) = Header::parse(&bytes).unwrap();
/// assert_eq!((parsed, options.kind()), (header, Some(Kind::Discover)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// From a server.
    pub is_reply: bool,
    /// What a question and its answers have in common.
    pub transaction: u32,
    /// Since the client began.
    pub seconds: u16,
    /// The answer is to go to everybody, as the client takes no packets to an address that it does not have yet.
    pub broadcast: bool,
    /// The client's address, if it has it.
    pub client: Ipv4Addr,
    /// The address that it is given.
    pub yours: Ipv4Addr,
    /// The client's Ethernet address.
    pub hardware: MacAddress,
}

impl Default for Header {
    fn default() -> Header {
        let none = Ipv4Addr::UNSPECIFIED;
        let hardware = MacAddress::default();
        Header {
            is_reply: false,
            transaction: 0,
            seconds: 0,
            broadcast: false,
            client: none,
            yours: none,
            hardware,
        }
    }
}

impl Header {
    /// The whole payload of a datagram.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, dhcp::Header};
    ///
    /// let mut bytes = Header::default().emit(&[]);
    /// assert!(Header::parse(&bytes).is_ok());
    /// // Without the cookie it is a message of BOOTP.
    /// bytes[236..240].fill(0);
    /// assert_eq!(Header::parse(&bytes).unwrap_err(), Malformed::Value);
    /// ```
    ///
    /// # Errors
    /// If it is truncated, is no message of DHCP, or is about other hardware than Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<(Header, Options<'_>), Malformed> {
        let (layout, options) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let is_known = matches!(layout.operation, REQUEST | REPLY)
            && (layout.hardware_type, layout.hardware_length) == (ETHERNET, 6)
            && layout.cookie == COOKIE;
        if !is_known {
            return Err(Malformed::Value);
        }
        let header = Header {
            is_reply: layout.operation == REPLY,
            transaction: layout.transaction.get(),
            seconds: layout.seconds.get(),
            broadcast: layout.flags.get() & BROADCAST != 0,
            client: layout.client.into(),
            yours: layout.yours.into(),
            hardware: MacAddress(layout.hardware),
        };
        Ok((header, Options::new(options, &layout.file, &layout.server_name)))
    }

    /// The message with these options, padded to the least that servers take.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, Kind, option};
    ///
    /// let bytes = Header::default().emit(&[(option::MESSAGE_TYPE, &[Kind::Discover as u8])]);
    /// assert_eq!(bytes[240..244], [53, 1, 1, 255], "the option, and the end of options");
    /// assert_eq!(bytes.len(), 300, "old servers take no less");
    /// ```
    ///
    /// # Panics
    /// If a value has more than 255 bytes.
    #[must_use]
    pub fn emit(&self, options: &[(u8, &[u8])]) -> Vec<u8> {
        let layout = Layout {
            operation: if self.is_reply { REPLY } else { REQUEST },
            hardware_type: ETHERNET,
            hardware_length: 6,
            hops: 0,
            transaction: self.transaction.into(),
            seconds: self.seconds.into(),
            flags: if self.broadcast { BROADCAST } else { 0 }.into(),
            client: self.client.octets(),
            yours: self.yours.octets(),
            next_server: [0; 4],
            relay: [0; 4],
            hardware: self.hardware.0,
            hardware_rest: [0; 10],
            server_name: [0; 64],
            file: [0; 128],
            cookie: COOKIE,
        };
        let mut bytes = layout.as_bytes().to_vec();
        for (code, value) in options {
            let length = u8::try_from(value.len()).expect("a value has at most 255 bytes");
            bytes.extend_from_slice(&[*code, length]);
            bytes.extend_from_slice(value);
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(LEAST), option::PAD);
        bytes
    }
}

/// The options of a message: those behind the header, then those that it has put into the fields for names
/// [rfc2131 4.1-overload].
///
/// ```
/// use demikernel_net::wire::dhcp::{Header, Kind, option};
///
/// let answer = Header { is_reply: true, yours: [192, 0, 2, 10].into(), ..Header::default() };
/// let bytes = answer.emit(&[
///     (option::MESSAGE_TYPE, &[Kind::Ack as u8]),
///     (option::SUBNET_MASK, &[255, 255, 255, 0]),
///     (option::LEASE_TIME, &3600u32.to_be_bytes()),
/// ]);
/// let (header, options) = Header::parse(&bytes)?;
/// assert_eq!(header.yours.to_string(), "192.0.2.10");
/// assert_eq!(options.kind(), Some(Kind::Ack));
/// assert_eq!(options.address(option::SUBNET_MASK), Some([255, 255, 255, 0].into()));
/// assert_eq!(options.number(option::LEASE_TIME), Some(3600));
/// # Ok::<(), demikernel_net::wire::Malformed>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    fields: [&'a [u8]; 3],
}

impl<'a> Options<'a> {
    fn new(options: &'a [u8], file: &'a [u8], server_name: &'a [u8]) -> Options<'a> {
        let alone = Options { fields: [options, &[], &[]] };
        let [overload] = alone.fixed(option::OVERLOAD).unwrap_or([0]);
        let used = |bit: u8, field: &'a [u8]| if overload & bit != 0 { field } else { &[] };
        Options { fields: [options, used(1, file), used(2, server_name)] }
    }

    /// Numbers and values. A field ends with its end option, or where it is malformed.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// let bytes = Header::default().emit(&[(option::INTERFACE_MTU, &[5, 220]), (200, b"what is it?")]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// let numbers: Vec<_> = options.iter().map(|(number, value)| (number, value.len())).collect();
    /// assert_eq!(numbers, [(option::INTERFACE_MTU, 2), (200, 11)], "unknown ones, too");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        self.fields.into_iter().flat_map(|mut rest| std::iter::from_fn(move || next_option(&mut rest)))
    }

    /// The bytes of an option: of all its parts, as one that stands several times is one whose value is long (RFC 3396).
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::Header;
    ///
    /// let bytes = Header::default().emit(&[(200, b"one "), (201, b"other"), (200, b"value")]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// assert_eq!(options.bytes(200).collect::<Vec<_>>(), b"one value");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    pub fn bytes(&self, code: u8) -> impl Iterator<Item = u8> + use<'a> {
        self.iter().filter(move |(known, _)| *known == code).flat_map(|(_, value)| value.iter().copied())
    }

    /// The value of an option that has so many bytes, neither more nor less.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// let bytes = Header::default().emit(&[(option::INTERFACE_MTU, &1500u16.to_be_bytes())]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// assert_eq!(options.fixed(option::INTERFACE_MTU).map(u16::from_be_bytes), Some(1500));
    /// assert_eq!(options.fixed::<4>(option::INTERFACE_MTU), None, "it has two bytes");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    #[must_use]
    pub fn fixed<const LENGTH: usize>(&self, code: u8) -> Option<[u8; LENGTH]> {
        let mut bytes = self.bytes(code);
        let mut value = [0; LENGTH];
        for place in &mut value {
            *place = bytes.next()?;
        }
        bytes.next().is_none().then_some(value)
    }

    /// A number of 32 bits.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// let bytes = Header::default().emit(&[(option::LEASE_TIME, &86_400u32.to_be_bytes())]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// assert_eq!(options.number(option::LEASE_TIME), Some(86_400));
    /// assert_eq!(options.number(option::RENEWAL_TIME), None, "the server says nothing of it");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        self.fixed(code).map(u32::from_be_bytes)
    }

    /// An address.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// let bytes = Header::default().emit(&[(option::SERVER_IDENTIFIER, &[192, 0, 2, 1])]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// assert_eq!(options.address(option::SERVER_IDENTIFIER), Some([192, 0, 2, 1].into()));
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.fixed(code).map(Ipv4Addr::from)
    }

    /// A list of addresses; what is left over at its end is no address.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// let servers = [192, 0, 2, 53, 198, 51, 100, 53, 203, 0];
    /// let bytes = Header::default().emit(&[(option::DOMAIN_NAME_SERVER, &servers)]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// let servers: Vec<_> = options.addresses(option::DOMAIN_NAME_SERVER).collect();
    /// assert_eq!(servers.len(), 2, "half an address is none");
    /// assert_eq!(servers[1].to_string(), "198.51.100.53");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
        let mut bytes = self.bytes(code);
        std::iter::from_fn(move || take(&mut bytes).map(Ipv4Addr::from))
    }

    /// Routes, as RFC 3442 writes them: the length of a prefix, as many bytes of it as that needs, and a router.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, option};
    ///
    /// // To 10.17.0.0/16 by 192.0.2.2, to everything else by 192.0.2.1.
    /// let routes = [16, 10, 17, 192, 0, 2, 2, 0, 192, 0, 2, 1];
    /// let bytes = Header::default().emit(&[(option::CLASSLESS_STATIC_ROUTE, &routes)]);
    /// let (_, options) = Header::parse(&bytes)?;
    /// let routes: Vec<_> = options.routes().collect();
    /// assert_eq!(routes[0], ([10, 17, 0, 0].into(), 16, [192, 0, 2, 2].into()));
    /// assert_eq!(routes[1], ([0, 0, 0, 0].into(), 0, [192, 0, 2, 1].into()));
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    pub fn routes(&self) -> impl Iterator<Item = (Ipv4Addr, u8, Ipv4Addr)> + use<'a> {
        let mut bytes = self.bytes(option::CLASSLESS_STATIC_ROUTE);
        std::iter::from_fn(move || {
            let length = bytes.next().filter(|length| *length <= 32)?;
            let mut network = [0; 4];
            for place in network.iter_mut().take(usize::from(length.div_ceil(8))) {
                *place = bytes.next()?;
            }
            Some((network.into(), length, take(&mut bytes)?.into()))
        })
    }

    /// What the message is for.
    ///
    /// ```
    /// use demikernel_net::wire::dhcp::{Header, Kind, option};
    ///
    /// let bytes = Header::default().emit(&[(option::MESSAGE_TYPE, &[6])]);
    /// assert_eq!(Header::parse(&bytes)?.1.kind(), Some(Kind::Nak));
    /// let bytes = Header::default().emit(&[(option::MESSAGE_TYPE, &[77])]);
    /// assert_eq!(Header::parse(&bytes)?.1.kind(), None);
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let [kind] = self.fixed(option::MESSAGE_TYPE)?;
        Kind::ALL.into_iter().find(|known| *known as u8 == kind)
    }
}

fn take(bytes: &mut impl Iterator<Item = u8>) -> Option<[u8; 4]> {
    Some([bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?])
}

/// The option that `rest` begins with, and what is behind it.
fn next_option<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    while let [option::PAD, behind @ ..] = *rest {
        *rest = behind;
    }
    let [code, length, behind @ ..] = *rest else { return None };
    if *code == option::END {
        return None;
    }
    let (value, behind) = behind.split_at_checked(usize::from(*length))?;
    *rest = behind;
    Some((*code, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use proptest::prelude::*;

    /// An offer of 192.0.2.50 for an hour, of which one part of the routers stands in the field for a server's name.
    fn offer() -> Vec<u8> {
        let mut bytes =
            hex("02 01 06 00  12 34 56 78  00 05 80 00  00000000 c0000232 00000000 00000000 020000000001");
        bytes.resize(44, 0);
        bytes.extend(hex("03 04 c0000202 ff"));
        bytes.resize(108, 0);
        // What would be an option if the overload said so.
        bytes.extend(hex("06 04 09090909 ff"));
        bytes.resize(236, 0);
        bytes.extend(hex(
            "63825363  35 01 02  00 00  36 04 c0000201  33 04 00000e10  01 04 ffffff00  34 01 02",
        ));
        bytes.extend(hex(
            "03 04 c0000201  79 0e 18 c00003 c0000209 00 c0000208 08  fb 02 aabb  ff  06 04 08080808",
        ));
        bytes
    }

    #[test]
    fn a_message_written_by_hand_is_understood() {
        // [rfc2131 3-cookie] [rfc2131 4.1-overload]
        let bytes = offer();
        let (header, options) = Header::parse(&bytes).unwrap();
        let expected = Header {
            is_reply: true,
            transaction: 0x1234_5678,
            seconds: 5,
            broadcast: true,
            yours: Ipv4Addr::new(192, 0, 2, 50),
            hardware: MacAddress([2, 0, 0, 0, 0, 1]),
            ..Header::default()
        };
        assert_eq!(header, expected);
        assert_eq!(options.kind(), Some(Kind::Offer));
        assert_eq!(options.address(option::SERVER_IDENTIFIER), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(options.number(option::LEASE_TIME), Some(3600));
        let routers: Vec<_> = options.addresses(option::ROUTER).collect();
        assert_eq!(routers, [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)], "of both fields");
        assert_eq!(
            options.addresses(option::DOMAIN_NAME_SERVER).count(),
            0,
            "behind the end, and not overloaded"
        );
        let routes: Vec<_> = options.routes().collect();
        let (some, any) = (Ipv4Addr::new(192, 0, 3, 0), Ipv4Addr::UNSPECIFIED);
        let by = |last| Ipv4Addr::new(192, 0, 2, last);
        assert_eq!(routes, [(some, 24, by(9)), (any, 0, by(8))], "the rest is too short for a route");
        assert_eq!(options.fixed::<2>(251), Some([0xaa, 0xbb]));
        assert_eq!((options.fixed::<1>(251), options.fixed::<3>(251)), (None, None));
    }

    #[test]
    fn a_message_is_written_as_by_hand() {
        let header = Header {
            transaction: 0x0102_0304,
            seconds: 9,
            hardware: MacAddress([6; 6]),
            ..Header::default()
        };
        let bytes = header.emit(&[(option::MESSAGE_TYPE, &[1]), (option::MAXIMUM_MESSAGE_SIZE, &[2, 64])]);
        assert_eq!(
            bytes[..44],
            hex(
                "01 01 06 00 01020304 0009 0000 00000000 00000000 00000000 00000000 060606060606 00000000000000000000"
            )
        );
        assert!(bytes[44..236].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[236..248], hex("63825363 35 01 01 39 02 0240 ff"));
        assert_eq!(bytes.len(), LEAST);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        truncate_everywhere(&offer(), HEADER, Header::parse);
        for (place, value) in [(0, 3), (1, 6), (2, 16), (236, 0), (239, 0)] {
            let mut bytes = offer();
            bytes[place] = value;
            assert_eq!(Header::parse(&bytes).unwrap_err(), Malformed::Value, "{place}");
        }
    }

    fn read_all(bytes: &[u8]) {
        let Ok((_, options)) = Header::parse(bytes) else { return };
        let read = options.iter().map(|(_, value)| value.len() + 2).sum::<usize>();
        assert!(read <= bytes.len());
        for code in 0..=255 {
            assert!(options.addresses(code).count() <= bytes.len());
        }
        let _ = (options.kind(), options.routes().count());
    }

    #[test]
    fn no_alteration_of_a_message_makes_it_panic() {
        mutations(&offer()).for_each(|bytes| read_all(&bytes));
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_header_are_read(
            options in prop::collection::vec(any::<u8>(), 0..300), names in prop::collection::vec(any::<u8>(), 192),
            overload in 0u8..5,
        ) {
            let mut bytes = offer()[..HEADER].to_vec();
            bytes[44..236].copy_from_slice(&names);
            bytes.extend([option::OVERLOAD, 1, overload]);
            bytes.extend(options);
            read_all(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            transaction: u32, seconds: u16, broadcast: bool, is_reply: bool, addresses: [u32; 2], hardware: [u8; 6],
            values in prop::collection::vec((1u8..255, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let [client, yours] = addresses.map(Ipv4Addr::from_bits);
            let hardware = MacAddress(hardware);
            let header = Header { is_reply, transaction, seconds, broadcast, client, yours, hardware };
            let values: Vec<_> = values.into_iter().filter(|(code, _)| *code != option::OVERLOAD).collect();
            let options: Vec<_> = values.iter().map(|(code, value)| (*code, &value[..])).collect();
            let bytes = header.emit(&options);
            let (parsed, read) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(parsed, header);
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), options);
        }
    }
}
