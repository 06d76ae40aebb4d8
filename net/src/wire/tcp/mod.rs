//! TCP segments (RFC 9293 section 3.1).
//!
//! ```
//! use demikernel_net::wire::tcp::{Flags, Options, Segment, SequenceNumber, Timestamps};
//!
//! let options = Options {
//!     maximum_segment_size: Some(1460),
//!     window_scale: Some(7),
//!     sack_permitted: true,
//!     timestamps: Some(Timestamps { value: 1000, echo: 0 }),
//!     ..Options::default()
//! };
//! let syn = Segment {
//!     source: 40_000,
//!     destination: 80,
//!     sequence: SequenceNumber::new(1),
//!     flags: Flags::SYN,
//!     window: 65_535,
//!     options,
//!     ..Segment::default()
//! };
//! let mut bytes = vec![0; syn.header_len()];
//! syn.emit(&mut bytes);
//! assert_eq!(Segment::parse(&bytes), Ok((syn, 40)));
//!
//! // Without SYN nothing is agreed on any more: of these options only timestamps are sent.
//! let later = Segment { flags: Flags::ACK, ..syn };
//! later.emit(&mut bytes);
//! let (received, length) = Segment::parse(&bytes)?;
//! assert_eq!((received.options.maximum_segment_size, length), (None, 32));
//! # Ok::<(), demikernel_net::wire::Malformed>(())
//! ```

mod emit;
mod header;
mod options;
mod parse;
mod sequence;
#[cfg(test)]
mod tests;

pub(super) use header::ALIGNED_TIMESTAMPS;
pub use header::{MAXIMUM_HEADER, MINIMUM_HEADER};
pub use options::{Options, SackBlock, SackBlocks, Timestamps};
pub use sequence::SequenceNumber;

use super::Malformed;
use super::checksum::Sum;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Control bits (RFC 9293 section 3.1, RFC 3168 section 6.1).
///
/// ```
/// use demikernel_net::wire::tcp::Flags;
///
/// let flags = Flags::SYN | Flags::ACK;
/// assert_eq!(flags.bits(), 0x12);
/// assert_eq!(format!("{flags:?}"), "S.", "as tcpdump writes it");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No bit.
    pub const NONE: Flags = Flags(0);
    /// No more data from sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push function.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is significant.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo.
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced.
    pub const CWR: Flags = Flags(0x80);

    /// The octet as it is in the header.
    #[inline]
    pub const fn from_bits(bits: u8) -> Flags {
        Flags(bits)
    }

    /// The octet as it is in the header.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all bits of `other` are set.
    ///
    /// ```
    /// use demikernel_net::wire::tcp::Flags;
    ///
    /// assert!((Flags::PSH | Flags::ACK).contains(Flags::ACK));
    /// assert!(!Flags::ECE.contains(Flags::ECE | Flags::CWR), "all are asked for");
    /// ```
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    ///
    /// ```
    /// use demikernel_net::wire::tcp::Flags;
    ///
    /// let ends = Flags::FIN | Flags::RST;
    /// assert!((Flags::FIN | Flags::ACK).intersects(ends));
    /// assert!(!Flags::ACK.intersects(ends));
    /// ```
    #[inline]
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// These without those of `other`.
    ///
    /// ```
    /// use demikernel_net::wire::tcp::Flags;
    ///
    /// let last = Flags::FIN | Flags::PSH | Flags::ACK;
    /// assert_eq!(last.without(Flags::FIN | Flags::URG), Flags::PSH | Flags::ACK);
    /// ```
    #[inline]
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    /// As tcpdump writes them: `S.` is SYN with ACK.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Flags, &str); 8] = [
            (Flags::FIN, "F"),
            (Flags::SYN, "S"),
            (Flags::RST, "R"),
            (Flags::PSH, "P"),
            (Flags::ACK, "."),
            (Flags::URG, "U"),
            (Flags::ECE, "E"),
            (Flags::CWR, "W"),
        ];
        NAMES.iter().filter(|(flag, _)| self.contains(*flag)).try_for_each(|(_, name)| f.write_str(name))
    }
}

/// The header of a segment, as a value. What follows it is the payload.
///
/// ```
/// use demikernel_net::wire::tcp::{Flags, MINIMUM_HEADER, Segment, SequenceNumber};
///
/// let segment = Segment {
///     source: 80,
///     destination: 40_000,
///     sequence: SequenceNumber::new(1000),
///     acknowledgment: SequenceNumber::new(2000),
///     flags: Flags::PSH | Flags::ACK,
///     window: 512,
///     ..Segment::default()
/// };
/// let mut bytes = [0; MINIMUM_HEADER + 5];
/// segment.emit(&mut bytes);
/// bytes[MINIMUM_HEADER..].copy_from_slice(b"hello");
/// let (parsed, payload) = Segment::parse(&bytes)?;
/// assert_eq!((parsed, &bytes[payload..]), (segment, &b"hello"[..]));
/// # Ok::<(), demikernel_net::wire::Malformed>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Of the first octet of the payload, or of the SYN if there is one.
    pub sequence: SequenceNumber,
    /// What the sender expects next; significant with [`Flags::ACK`].
    pub acknowledgment: SequenceNumber,
    /// Control bits.
    pub flags: Flags,
    /// As it is in the header, not scaled.
    pub window: u16,
    /// Urgent pointer; significant with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

/// What an ICMP message quotes of a segment that this host sent.
///
/// ```
/// use demikernel_net::wire::tcp::{Quoted, Segment, SequenceNumber};
///
/// let sequence = SequenceNumber::new(77);
/// let mut bytes = [0; 20];
/// Segment { source: 40_000, destination: 80, sequence, ..Segment::default() }.emit(&mut bytes);
/// // No router quotes less than eight bytes, and they suffice.
/// let quoted = Quoted { source: 40_000, destination: 80, sequence };
/// assert_eq!(Quoted::parse(&bytes[..8]), Ok(quoted));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Source port: ours.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// By which a message about nothing that is under way is known as forged (RFC 5927 section 4.1).
    pub sequence: SequenceNumber,
}

/// Writes the checksum into a header that [`Segment::emit`] wrote [rfc9293 MUST-2].
///
/// ```
/// use demikernel_net::wire::{checksum::Sum, tcp::{self, Segment}};
/// use std::net::Ipv4Addr;
///
/// let (segment, payload) = (Segment::default(), b"hello");
/// let mut header = [0; tcp::MINIMUM_HEADER];
/// let sum = segment.emit(&mut header).then(Sum::of(payload));
/// let pseudo_header = Sum::pseudo_header_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 6, 25);
/// tcp::set_checksum(&mut header, pseudo_header.then(sum).checksum());
/// assert!(tcp::verify(pseudo_header, &[&header[..], payload].concat()).is_ok());
/// ```
///
/// # Panics
/// If there are fewer bytes than a header has.
#[inline]
pub fn set_checksum(header: &mut [u8], checksum: u16) {
    header[header::CHECKSUM..header::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether the checksum of a whole segment is right [rfc9293 MUST-3].
///
/// ```
/// use demikernel_net::wire::{Malformed, checksum::Sum, tcp::{self, Segment}};
/// use std::net::Ipv4Addr;
///
/// let (here, there) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
/// let pseudo_header = Sum::pseudo_header_v4(here, there, 6, 20);
/// let mut segment = [0; tcp::MINIMUM_HEADER];
/// let sum = Segment::default().emit(&mut segment);
/// tcp::set_checksum(&mut segment, pseudo_header.then(sum).checksum());
/// assert_eq!(tcp::verify(pseudo_header, &segment), Ok(()));
/// segment[13] ^= 0x04;
/// assert_eq!(tcp::verify(pseudo_header, &segment), Err(Malformed::Checksum), "a reset out of nothing");
/// ```
///
/// # Errors
/// If it is not.
#[inline]
pub fn verify(pseudo_header: Sum, segment: &[u8]) -> Result<(), Malformed> {
    if pseudo_header.then(Sum::of(segment)).is_valid() { Ok(()) } else { Err(Malformed::Checksum) }
}
