//! IPv6 packets (RFC 8200): the fixed header here, what may stand between it and the payload in [`Chain`].

mod extension;
#[cfg(test)]
mod tests;

pub use extension::{Chain, Fragment, HOP_BY_HOP_ROUTER_ALERT, ProblemCode, Refusal, next_header};

use super::Malformed;
use super::ip::TrafficClass;
use std::net::Ipv6Addr;
use std::ops::Range;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

/// What every link carries (RFC 8200 section 5).
pub const MINIMUM_MTU: usize = 1280;

const VERSION: u32 = 6;
const FLOW_LABEL: u32 = 0x000f_ffff;

/// RFC 8200 section 3.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    version_class_label: U32,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

const _: () = assert!(size_of::<Layout>() == HEADER);

/// The fixed header of a packet, as a value.
///
/// ```
/// use demikernel_net::wire::{ip::protocol, ipv6::Header};
/// use std::net::Ipv6Addr;
///
/// let header = Header {
///     source: Ipv6Addr::LOCALHOST,
///     destination: Ipv6Addr::LOCALHOST,
///     next_header: protocol::UDP,
///     payload_len: 8,
///     ..Header::default()
/// };
/// let mut packet = [0; 48];
/// header.emit(&mut packet);
/// assert_eq!(Header::parse(&packet), Ok((header, 40..48)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it comes from.
    pub source: Ipv6Addr,
    /// Where it goes.
    pub destination: Ipv6Addr,
    /// Of the payload, or of the first extension header.
    pub next_header: u8,
    /// How many routers it may pass.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: TrafficClass,
    /// Packets of one flow have the same, by which routers spread flows (RFC 6437): 20 bits.
    pub flow_label: u32,
    /// Bytes behind this header, extension headers among them.
    pub payload_len: u16,
}

impl Header {
    /// The header, and where the extension headers and the payload are: what is behind them pads the frame.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, ipv4, ipv6::Header};
    ///
    /// let header = Header { payload_len: 4, ..Header::default() };
    /// let mut bytes = [0xff; 46];
    /// header.emit(&mut bytes);
    /// assert_eq!(Header::parse(&bytes), Ok((header, 40..44)), "two bytes pad the frame");
    /// ipv4::Header::default().emit(&mut bytes);
    /// assert_eq!(Header::parse(&bytes), Err(Malformed::Version));
    /// ```
    ///
    /// # Errors
    /// If the header or the packet does not fit into the bytes, or it is of another version.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Header, Range<usize>), Malformed> {
        let header = Header::parse_quoted(bytes)?;
        let end = HEADER + usize::from(header.payload_len);
        if end <= bytes.len() { Ok((header, HEADER..end)) } else { Err(Malformed::Truncated) }
    }

    /// The header that an ICMP message quotes, where there may be less of the payload than it says.
    ///
    /// ```
    /// use demikernel_net::wire::{Malformed, ipv6::Header};
    ///
    /// let header = Header { payload_len: 1400, ..Header::default() };
    /// let mut quote = [0; 48];
    /// header.emit(&mut quote);
    /// assert_eq!(Header::parse_quoted(&quote), Ok(header));
    /// assert_eq!(Header::parse(&quote), Err(Malformed::Truncated));
    /// ```
    ///
    /// # Errors
    /// If the header does not fit into the bytes, or it is of another version.
    #[inline]
    pub fn parse_quoted(bytes: &[u8]) -> Result<Header, Malformed> {
        let (layout, _) = Layout::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let first = layout.version_class_label.get();
        // [rfc8200 3-version]
        if first >> 28 != VERSION {
            return Err(Malformed::Version);
        }
        Ok(Header {
            source: layout.source.into(),
            destination: layout.destination.into(),
            next_header: layout.next_header,
            hop_limit: layout.hop_limit,
            traffic_class: TrafficClass::from_bits((first >> 20) as u8),
            flow_label: first & FLOW_LABEL,
            payload_len: layout.payload_length.get(),
        })
    }

    /// Bytes that [`emit`](Header::emit) writes.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER
    }

    /// Writes the header to the beginning of `bytes`.
    ///
    /// ```
    /// use demikernel_net::wire::{ip::{Ecn, TrafficClass}, ipv6::Header};
    ///
    /// let traffic_class = TrafficClass { dscp: 46, ecn: Ecn::Ect0 };
    /// let mut bytes = [0; 40];
    /// Header { traffic_class, flow_label: 0x12345, ..Header::default() }.emit(&mut bytes);
    /// assert_eq!(bytes[..4], [0x6b, 0xa1, 0x23, 0x45], "version, class, and label, in 4, 8 and 20 bits");
    /// ```
    ///
    /// # Panics
    /// If there are fewer than [`HEADER`] bytes.
    #[inline]
    pub fn emit(&self, bytes: &mut [u8]) {
        let class = u32::from(self.traffic_class.bits());
        let (layout, _) = Layout::mut_from_prefix(bytes).expect("there is room for the header");
        *layout = Layout {
            version_class_label: (VERSION << 28 | class << 20 | self.flow_label & FLOW_LABEL).into(),
            payload_length: self.payload_len.into(),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
    }
}

impl Default for Header {
    /// From and to nowhere, with the hop limit that IANA recommends.
    fn default() -> Header {
        Header {
            source: Ipv6Addr::UNSPECIFIED,
            destination: Ipv6Addr::UNSPECIFIED,
            next_header: next_header::NONE,
            hop_limit: 64,
            traffic_class: TrafficClass::default(),
            flow_label: 0,
            payload_len: 0,
        }
    }
}
