//! UDP datagrams (RFC 768; RFC 8200 section 8.1 for IPv6).

use super::Malformed;
use super::checksum::Sum;
use super::ip::Version;
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER: usize = 8;

/// RFC 768.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    source: U16,
    destination: U16,
    length: U16,
    checksum: U16,
}

const _: () = assert!(size_of::<Layout>() == HEADER);

const CHECKSUM: usize = offset_of!(Layout, checksum);

/// The header of a datagram, as a value.
///
/// ```
/// use demikernel_net::wire::{checksum::Sum, ip::Version, udp::{self, Header}};
/// use std::net::Ipv4Addr;
///
/// let header = Header { source: 1234, destination: 53, payload_len: 5 };
/// let mut datagram = *b"--------hello";
/// let sum = header.emit(&mut datagram).then(Sum::of(b"hello"));
/// let pseudo_header = Sum::pseudo_header_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 17, 13);
/// udp::set_checksum(&mut datagram, pseudo_header.then(sum).checksum());
///
/// assert_eq!(Header::parse(&datagram), Ok((header, 8..13)));
/// assert!(udp::verify(Version::V4, pseudo_header, &datagram).is_ok());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Source port; 0 if nobody waits for an answer.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl Header {
    /// The header, and where the payload is: what is behind it is no part of the datagram.
    ///
    /// The checksum is not looked at: it needs the addresses, and a device may have verified it. See [`verify`].
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, udp::Header};
    ///
    /// let header = Header { source: 0, destination: 9, payload_len: 4 };
    /// let mut bytes = *b"--------datapadding";
    /// header.emit(&mut bytes);
    /// let (parsed, payload) = Header::parse(&bytes)?;
    /// assert_eq!((parsed, &bytes[payload]), (header, &b"data"[..]));
    /// assert_eq!(Header::parse(&bytes[..11]), Err(Malformed::Truncated));
    /// # Ok::<(), Malformed>(())
    /// ```
    ///
    /// # Errors
    /// If the datagram does not fit into the bytes, or its length is below that of a header [rfc768 length].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Header, Range<usize>), Malformed> {
        let header = Header::parse_quoted(bytes)?;
        let end = HEADER + usize::from(header.payload_len);
        if end <= bytes.len() { Ok((header, HEADER..end)) } else { Err(Malformed::Truncated) }
    }

    /// The header that an ICMP message quotes, where there may be less of the payload than it says.
    ///
    /// ```
    /// use demikernel_net::wire::udp::Header;
    ///
    /// let header = Header { source: 1234, destination: 53, payload_len: 500 };
    /// let mut quote = [0; 8];
    /// header.emit(&mut quote);
    /// assert_eq!(Header::parse_quoted(&quote), Ok(header), "though nothing is left of its payload");
    /// ```
    ///
    /// # Errors
    /// If the header does not fit into the bytes or contradicts itself.
    #[inline]
    pub fn parse_quoted(bytes: &[u8]) -> Result<Header, Malformed> {
        let (layout, _) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        Ok(Header {
            source: layout.source.get(),
            destination: layout.destination.get(),
            payload_len: layout.length.get().checked_sub(HEADER as u16).ok_or(Malformed::Length)?,
        })
    }

    /// Bytes that [`emit`](Header::emit) writes.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER
    }

    /// Writes the header to the beginning of `bytes`, without a checksum, and returns the sum of what it wrote:
    /// [`set_checksum`] then needs to read none of it again.
    ///
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, udp::Header};
    ///
    /// let mut bytes = [0xff; 8];
    /// let sum = Header { source: 1234, destination: 53, payload_len: 5 }.emit(&mut bytes);
    /// assert_eq!(bytes, [0x04, 0xd2, 0, 53, 0, 13, 0, 0]);
    /// assert_eq!(sum.fold(), Sum::of(&bytes).fold());
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`HEADER`] bytes, or the datagram is longer than 65535.
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) -> Sum {
        let length = self.payload_len.checked_add(HEADER as u16).expect("a datagram has 64 KiB");
        let (layout, _) = Layout::mut_from_prefix(bytes).expect("there is room for the header");
        *layout = Layout {
            source: self.source.into(),
            destination: self.destination.into(),
            length: length.into(),
            checksum: U16::ZERO,
        };
        Sum::of_fields(u64::from(self.source) + u64::from(self.destination) + u64::from(length))
    }
}

/// Writes the checksum into a header that [`Header::emit`] wrote. One that is 0 is sent as its other
/// representation, since 0 means that there is none [rfc768 zero] [rfc8200 8.1-zero-sent].
///
/// ```
/// use demikernel_net::wire::udp::set_checksum;
///
/// let mut header = [0x04, 0xd2, 0, 53, 0, 8, 0, 0];
/// set_checksum(&mut header, 0);
/// assert_eq!(header[6..], [0xff, 0xff], "0 would say that there is none");
/// ```
///
/// # Panics
/// If there are fewer bytes than a header has.
#[inline]
pub fn set_checksum(header: &mut [u8], checksum: u16) {
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether the checksum of a datagram, without what may be behind it, is right. IPv4 allows to send none
/// [rfc768 none]; IPv6 does not [rfc8200 8.1-zero-received].
///
/// ```
/// use demikernel_net::wire::{Malformed, checksum::Sum, ip::Version, udp};
///
/// let (pseudo_header, without) = (Sum::of_u16(1), [0x04, 0xd2, 0, 53, 0, 8, 0, 0]);
/// assert_eq!(udp::verify(Version::V4, pseudo_header, &without), Ok(()));
/// assert_eq!(udp::verify(Version::V6, pseudo_header, &without), Err(Malformed::Checksum));
/// ```
///
/// # Errors
/// If it is not.
#[inline]
pub fn verify(version: Version, pseudo_header: Sum, datagram: &[u8]) -> Result<(), Malformed> {
    let none = datagram.get(CHECKSUM..CHECKSUM + 2) == Some(&[0, 0]);
    let good = if none { version == Version::V4 } else { pseudo_header.then(Sum::of(datagram)).is_valid() };
    if good { Ok(()) } else { Err(Malformed::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::{UdpHeader, UdpSlice};
    use proptest::prelude::*;

    const DATAGRAM: &str = "04d2 0035 000d 0000 68656c6c6f";

    fn header() -> Header {
        Header { source: 1234, destination: 53, payload_len: 5 }
    }

    #[test]
    fn known_bytes_both_ways() {
        let bytes = hex(DATAGRAM);
        assert_eq!(Header::parse(&bytes), Ok((header(), 8..13)));
        let mut emitted = [0xa5; HEADER];
        assert_eq!(header().emit(&mut emitted).fold(), Sum::of(&bytes[..8]).fold());
        assert_eq!(emitted[..], bytes[..8]);
    }

    #[test]
    fn what_is_behind_the_datagram_is_no_part_of_it() {
        let mut bytes = hex(DATAGRAM);
        bytes.push(0xff);
        assert_eq!(Header::parse(&bytes), Ok((header(), 8..13)));
    }

    #[test]
    fn truncated_and_impossible_datagrams_are_refused() {
        truncate_everywhere(&hex(DATAGRAM), 13, Header::parse);
        truncate_everywhere(&hex(DATAGRAM), 8, Header::parse_quoted);
        let mut bytes = hex(DATAGRAM);
        // [rfc768 length]
        for length in 0..8 {
            bytes[5] = length;
            assert_eq!(Header::parse(&bytes), Err(Malformed::Length));
        }
        bytes[5] = 8;
        assert_eq!(Header::parse(&bytes).unwrap().1, 8..8);
    }

    #[test]
    fn no_checksum_is_good_in_ipv4_only() {
        // [rfc768 none] [rfc8200 8.1-zero-received]
        let bytes = hex(DATAGRAM);
        assert_eq!(verify(Version::V4, Sum::of_u16(1), &bytes), Ok(()));
        assert_eq!(verify(Version::V6, Sum::of_u16(1), &bytes), Err(Malformed::Checksum));
        // Even where it would be right as a number.
        let zero = Sum::of(&bytes).checksum();
        assert_eq!(verify(Version::V6, Sum::of_u16(zero), &bytes), Err(Malformed::Checksum));
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ones() {
        // [rfc768 zero] [rfc8200 8.1-zero-sent]
        let mut bytes = hex(DATAGRAM);
        let pseudo_header = Sum::of_u16(Sum::of(&bytes).checksum());
        let checksum = pseudo_header.then(Sum::of(&bytes)).checksum();
        assert_eq!(checksum, 0);
        set_checksum(&mut bytes, checksum);
        assert_eq!(bytes[6..8], [0xff, 0xff]);
        assert_eq!(verify(Version::V6, pseudo_header, &bytes), Ok(()));
    }

    #[test]
    fn a_checksum_covers_every_bit() {
        let mut bytes = hex(DATAGRAM);
        let pseudo_header = Sum::of_u32(0x1234_5678);
        let checksum = pseudo_header.then(Sum::of(&bytes)).checksum();
        set_checksum(&mut bytes, checksum);
        assert_eq!(verify(Version::V4, pseudo_header, &bytes), Ok(()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(Version::V4, pseudo_header, &bytes), Err(Malformed::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_corpus_of_broken_datagrams_parses_or_is_refused() {
        for bytes in mutations(&hex(DATAGRAM)) {
            if let Ok((header, payload)) = Header::parse(&bytes) {
                assert_eq!(bytes[payload].len(), usize::from(header.payload_len));
            }
        }
    }

    proptest! {
        #[test]
        fn etherparse_reads_what_is_emitted(ports: (u16, u16), payload: Vec<u8>, from: [u8; 16], to: [u8; 16]) {
            let header =
                Header { source: ports.0, destination: ports.1, payload_len: payload.len() as u16 };
            let mut bytes = vec![0xa5; HEADER];
            let sum = header.emit(&mut bytes).then(Sum::of(&payload));
            bytes.extend(&payload);
            let pseudo_header = Sum::pseudo_header_v6(from.into(), to.into(), 17, bytes.len() as u32);
            set_checksum(&mut bytes, pseudo_header.then(sum).checksum());
            let other = UdpSlice::from_slice(&bytes).unwrap().to_header();
            prop_assert_eq!((other.source_port, other.destination_port), ports);
            prop_assert_eq!(other.calc_checksum_ipv6_raw(from, to, &payload).unwrap(), other.checksum);
            prop_assert_eq!(verify(Version::V6, pseudo_header, &bytes), Ok(()));
        }

        #[test]
        fn what_etherparse_writes_is_read(ports: (u16, u16), payload: Vec<u8>, from: [u8; 4], to: [u8; 4]) {
            let mut other =
                UdpHeader::without_ipv4_checksum(ports.0, ports.1, payload.len()).unwrap();
            other.checksum = other.calc_checksum_ipv4_raw(from, to, &payload).unwrap();
            let bytes = [&other.to_bytes()[..], &payload].concat();
            let header =
                Header { source: ports.0, destination: ports.1, payload_len: payload.len() as u16 };
            prop_assert_eq!(Header::parse(&bytes), Ok((header, HEADER..bytes.len())));
            let pseudo_header = Sum::pseudo_header_v4(from.into(), to.into(), 17, bytes.len() as u16);
            prop_assert_eq!(verify(Version::V4, pseudo_header, &bytes), Ok(()));
        }

        #[test]
        fn anything_parses_or_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(length) = bytes.get_mut(4) {
                *length = 0;
            }
            if let Ok((_, payload)) = Header::parse(&bytes) {
                prop_assert!(payload.end <= bytes.len());
            }
            let _ = verify(Version::V4, Sum::ZERO, &bytes);
        }
    }
}
