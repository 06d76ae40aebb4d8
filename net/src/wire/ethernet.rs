//! Ethernet II frames, with tags of IEEE 802.1Q.

use super::Malformed;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header without tag.
pub const MINIMUM_HEADER: usize = 14;

/// Bytes of a tag.
const TAG: usize = size_of::<Tag>();

/// The inner and the outer one of 802.1ad. Nobody has reason for more.
const MOST_TAGS: usize = 2;

/// Below are lengths of IEEE 802.3 frames.
const FIRST_TYPE: u16 = 0x0600;

/// What a frame carries.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A tag of IEEE 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// A service tag of IEEE 802.1ad, outside of the other.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// An Ethernet address.
///
/// ```
/// use demikernel_net::wire::ethernet::MacAddress;
///
/// let address = MacAddress([0x02, 0, 0, 0, 0, 0x1f]);
/// assert_eq!(address.to_string(), "02:00:00:00:00:1f");
/// assert!(!address.is_multicast() && MacAddress::BROADCAST.is_multicast());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Everybody on the link.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// Of a group of IPv4: 23 of its bits are the group's [rfc1112 6.4].
    ///
    /// ```
    /// use demikernel_net::wire::ethernet::MacAddress;
    ///
    /// let everybody = MacAddress::of_group_v4("224.0.0.1".parse().unwrap());
    /// assert_eq!(everybody.to_string(), "01:00:5e:00:00:01");
    /// ```
    #[inline]
    pub const fn of_group_v4(group: Ipv4Addr) -> MacAddress {
        let [_, a, b, c] = group.octets();
        MacAddress([0x01, 0x00, 0x5e, a & 0x7f, b, c])
    }

    /// Of a group of IPv6: 32 of its bits are the group's [rfc2464 7].
    ///
    /// ```
    /// use demikernel_net::wire::{ethernet::MacAddress, ndp::solicited_node};
    ///
    /// // Who asks for a neighbour's address reaches those few whose addresses end alike.
    /// let group = solicited_node("2001:db8::12:3456".parse().unwrap());
    /// assert_eq!(MacAddress::of_group_v6(group).to_string(), "33:33:ff:12:34:56");
    /// ```
    #[inline]
    pub const fn of_group_v6(group: Ipv6Addr) -> MacAddress {
        let [.., a, b, c, d] = group.octets();
        MacAddress([0x33, 0x33, a, b, c, d])
    }

    /// Whether it names a group, which broadcast is one of.
    ///
    /// ```
    /// use demikernel_net::wire::ethernet::MacAddress;
    ///
    /// assert!(MacAddress::of_group_v4("239.1.2.3".parse().unwrap()).is_multicast());
    /// // The lowest bit of the first byte decides.
    /// assert!(!MacAddress([0x02, 0, 0x5e, 0, 0, 1]).is_multicast());
    /// ```
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    destination: [u8; 6],
    source: [u8; 6],
    ether_type: U16,
}

const _: () = assert!(size_of::<Layout>() == MINIMUM_HEADER);

/// A tag stands behind an ether type that announces it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tag {
    /// Priority, drop eligible, and 12 bits of identifier.
    control: U16,
    ether_type: U16,
}

/// The header of a frame, as a value.
///
/// ```
/// use demikernel_net::wire::ethernet::{Header, MacAddress, ether_type};
///
/// let header = Header {
///     destination: MacAddress::BROADCAST,
///     source: MacAddress([2, 0, 0, 0, 0, 1]),
///     vlan: None,
///     ether_type: ether_type::ARP,
/// };
/// let mut bytes = [0; 14];
/// header.emit(&mut bytes);
/// assert_eq!(Header::parse(&bytes), Ok((header, 14)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Where it goes.
    pub destination: MacAddress,
    /// Where it comes from.
    pub source: MacAddress,
    /// The identifier in its tag, if it has one: the inner one of two. 0 is a priority without a VLAN.
    pub vlan: Option<u16>,
    /// Of the payload.
    pub ether_type: u16,
}

impl Header {
    /// The header, and where the payload begins. One tag or two, with their priorities, are skipped.
    ///
    /// ```
    /// use demikernel_net::wire::ethernet::{Header, ether_type};
    ///
    /// // Both tags of 802.1ad stand between the addresses and what is inside.
    /// let frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xa8\0\x07\x81\0\0\x2a\x08\0packet";
    /// let (header, payload) = Header::parse(frame)?;
    /// assert_eq!((header.vlan, header.ether_type), (Some(42), ether_type::IPV4));
    /// assert_eq!(&frame[payload..], b"packet");
    /// # Ok::<(), demikernel_net::wire::Malformed>(())
    /// ```
    ///
    /// # Errors
    /// If the header does not fit into the bytes, is of IEEE 802.3, or has more than two tags.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Header, usize), Malformed> {
        let (layout, rest) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let header = Header {
            destination: MacAddress(layout.destination),
            source: MacAddress(layout.source),
            vlan: None,
            ether_type: layout.ether_type.get(),
        };
        match header.ether_type {
            ether_type::VLAN | ether_type::SERVICE_VLAN => header.parse_tags(rest),
            0..FIRST_TYPE => Err(Malformed::Value),
            _ => Ok((header, MINIMUM_HEADER)),
        }
    }

    #[cold]
    fn parse_tags(mut self, mut rest: &[u8]) -> Result<(Header, usize), Malformed> {
        for count in 1..=MOST_TAGS {
            let tag;
            (tag, rest) = Tag::ref_from_prefix(rest).map_err(|_| Malformed::Truncated)?;
            self.vlan = Some(tag.control.get() & 0x0fff);
            self.ether_type = tag.ether_type.get();
            match self.ether_type {
                ether_type::VLAN | ether_type::SERVICE_VLAN => {}
                0..FIRST_TYPE => return Err(Malformed::Value),
                _ => return Ok((self, MINIMUM_HEADER + count * TAG)),
            }
        }
        Err(Malformed::Value)
    }

    /// Bytes that [`emit`](Header::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::ethernet::Header;
    ///
    /// assert_eq!(Header::default().header_len(), 14);
    /// assert_eq!(Header { vlan: Some(7), ..Header::default() }.header_len(), 18);
    /// ```
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        if self.vlan.is_some() { MINIMUM_HEADER + TAG } else { MINIMUM_HEADER }
    }

    /// Writes the header to the beginning of `bytes`, with at most one tag, of no priority.
    ///
    /// ```
    /// use demikernel_net::wire::ethernet::{Header, ether_type};
    ///
    /// let header = Header { vlan: Some(7), ether_type: ether_type::IPV6, ..Header::default() };
    /// let mut bytes = [0; 18];
    /// header.emit(&mut bytes);
    /// assert_eq!(bytes[12..], [0x81, 0x00, 0, 7, 0x86, 0xdd]);
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`header_len`](Header::header_len) bytes.
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) {
        let (layout, rest) = Layout::mut_from_prefix(bytes).expect("there is room for the header");
        layout.destination = self.destination.0;
        layout.source = self.source.0;
        layout.ether_type = if self.vlan.is_some() { ether_type::VLAN } else { self.ether_type }.into();
        if let Some(vlan) = self.vlan {
            let tag = Tag { control: (vlan & 0x0fff).into(), ether_type: self.ether_type.into() };
            tag.write_to_prefix(rest).expect("there is room for the tag");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::{EtherType, Ethernet2Header, SingleVlanHeader, VlanId};
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            destination: MacAddress([2, 0, 0, 0, 0, 1]),
            source: MacAddress([2, 0, 0, 0, 0, 2]),
            vlan: None,
            ether_type: ether_type::IPV4,
        }
    }

    fn emitted(header: &Header) -> Vec<u8> {
        let mut bytes = vec![0xa5; header.header_len()];
        header.emit(&mut bytes);
        bytes
    }

    #[test]
    fn known_bytes_both_ways() {
        let bytes = hex("020000000001 020000000002 0800");
        assert_eq!(Header::parse(&bytes), Ok((header(), 14)));
        assert_eq!(emitted(&header()), bytes);
        truncate_everywhere(&bytes, 14, Header::parse);
    }

    #[test]
    fn one_tag_and_two_are_skipped_and_three_refused() {
        let one = hex("020000000001 020000000002 8100 e064 0800");
        assert_eq!(Header::parse(&one), Ok((Header { vlan: Some(100), ..header() }, 18)));
        truncate_everywhere(&one, 18, Header::parse);
        for outer in ["88a8", "8100"] {
            let two = hex(&format!("020000000001 020000000002 {outer} 0007 8100 e064 0800"));
            assert_eq!(Header::parse(&two), Ok((Header { vlan: Some(100), ..header() }, 22)));
            truncate_everywhere(&two, 22, Header::parse);
        }
        let three = hex("020000000001 020000000002 88a8 0007 8100 0008 8100 0009 0800");
        assert_eq!(Header::parse(&three), Err(Malformed::Value));
    }

    #[test]
    fn a_tag_is_sent() {
        let bytes = emitted(&Header { vlan: Some(100), ..header() });
        assert_eq!(bytes, hex("020000000001 020000000002 8100 0064 0800"));
    }

    #[test]
    fn lengths_of_802_3_are_no_types() {
        for bytes in ["020000000001 020000000002 05ff", "020000000001 020000000002 8100 0064 0026"] {
            assert_eq!(Header::parse(&hex(bytes)), Err(Malformed::Value));
        }
        assert!(Header::parse(&hex("020000000001 020000000002 0600")).is_ok());
    }

    #[test]
    fn groups_have_addresses() {
        // [rfc1112 6.4]: the highest bit of the 24 is not in it.
        let group = MacAddress::of_group_v4(Ipv4Addr::new(239, 129, 2, 3));
        assert_eq!(group.to_string(), "01:00:5e:01:02:03");
        // [rfc2464 7]
        let group = MacAddress::of_group_v6("ff02::1:ff28:9c5a".parse().unwrap());
        assert_eq!(group.to_string(), "33:33:ff:28:9c:5a");
        assert!(group.is_multicast() && MacAddress::BROADCAST.is_multicast());
        assert!(!header().source.is_multicast());
    }

    #[test]
    fn a_corpus_of_broken_frames_parses_or_is_refused() {
        for bytes in mutations(&hex("020000000001 020000000002 88a8 0007 8100 e064 0800 0000")) {
            if let Ok((header, payload)) = Header::parse(&bytes) {
                assert!(payload <= bytes.len() && header.ether_type >= FIRST_TYPE);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_here_and_by_etherparse(
            destination: [u8; 6], source: [u8; 6], vlan in prop::option::of(0u16..4096), ether_type in 0x9200u16..,
        ) {
            let (destination, source) = (MacAddress(destination), MacAddress(source));
            let header = Header { destination, source, vlan, ether_type };
            let bytes = emitted(&header);
            prop_assert_eq!(Header::parse(&bytes), Ok((header, bytes.len())));
            let (other, rest) = Ethernet2Header::from_slice(&bytes).unwrap();
            prop_assert_eq!((other.destination, other.source), (destination.0, source.0));
            if let Some(vlan) = vlan {
                let (tag, _) = SingleVlanHeader::from_slice(rest).unwrap();
                prop_assert_eq!((tag.vlan_id.value(), tag.ether_type.0), (vlan, ether_type));
            }
        }

        #[test]
        fn what_etherparse_writes_is_read(destination: [u8; 6], source: [u8; 6], outer in 0u16..4096, inner in 0u16..4096) {
            let tag = |id| SingleVlanHeader { vlan_id: VlanId::try_new(id).unwrap(), ..Default::default() };
            let (mut outer, mut inner_tag) = (tag(outer), tag(inner));
            outer.ether_type = EtherType::VLAN_TAGGED_FRAME;
            inner_tag.ether_type = EtherType::IPV6;
            let ethernet =
                Ethernet2Header { destination, source, ether_type: EtherType::PROVIDER_BRIDGING };
            let mut bytes = ethernet.to_bytes().to_vec();
            bytes.extend([outer.to_bytes(), inner_tag.to_bytes()].concat());
            let header = Header {
                destination: MacAddress(destination),
                source: MacAddress(source),
                vlan: Some(inner),
                ether_type: ether_type::IPV6,
            };
            prop_assert_eq!(Header::parse(&bytes), Ok((header, 22)));
        }

        #[test]
        fn anything_parses_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((_, payload)) = Header::parse(&bytes) {
                prop_assert!(payload <= bytes.len());
            }
        }
    }
}
