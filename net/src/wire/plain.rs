//! What nearly every segment is, with its headers of all layers in words at known places.

use super::checksum::Sum;
use super::ip::protocol;
use super::tcp::{ALIGNED_TIMESTAMPS, Flags, MINIMUM_HEADER, Options, Segment, SequenceNumber, Timestamps};
use super::{ethernet, ipv4};
use std::ops::Range;

/// What a segment says that has no option but timestamps, and no control bits but ACK and PSH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plain {
    pub(crate) sequence: SequenceNumber,
    pub(crate) acknowledgment: SequenceNumber,
    pub(crate) window: u16,
    pub(crate) pushes: bool,
    pub(crate) timestamps: Option<Timestamps>,
}

/// What is around it in a packet of IPv4 without options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Around {
    /// Addresses, as numbers.
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// The source's in the upper half.
    pub(crate) ports: u32,
    pub(crate) hops: u8,
    /// DSCP and ECN.
    pub(crate) class: u8,
}

/// Where the IP header begins in a frame.
const LINK: usize = ethernet::MINIMUM_HEADER;

/// Octets of the timestamps with what aligns them.
const STAMPS: usize = 12;

/// Octets of both headers, with timestamps.
const HEADERS: usize = ipv4::MINIMUM_HEADER + MINIMUM_HEADER + STAMPS;

/// Octets of an Ethernet header and both others, with timestamps.
pub(crate) const PLAIN_FRAME: usize = LINK + HEADERS;

/// Words of a packet, as far as one with timestamps has headers.
type Words = [u32; HEADERS / 4];

/// Version 4, and a header of five words.
const VERSION: u32 = 0x45;

const DONT_FRAGMENT: u32 = 0x4000;

/// More fragments, and the offset of this one.
const FRAGMENT: u32 = 0x3fff;

/// Beside addresses: the loopback network's.
const LOOPBACK: u32 = 127;

const ACK: u8 = Flags::ACK.bits();
const PSH: u8 = Flags::PSH.bits();

impl Plain {
    /// The segment as a value that can say more.
    pub(crate) fn segment(&self, source: u16, destination: u16) -> Segment {
        let Plain { sequence, acknowledgment, window, pushes, timestamps } = *self;
        let flags = if pushes { Flags::ACK | Flags::PSH } else { Flags::ACK };
        let options = Options { timestamps, ..Options::default() };
        Segment { source, destination, sequence, acknowledgment, flags, window, urgent: 0, options }
    }

    /// The segment, if it is such a one.
    #[inline]
    pub(crate) fn of(segment: &Segment) -> Option<Plain> {
        let Segment { sequence, acknowledgment, flags, window, ref options, .. } = *segment;
        let plain = flags.without(Flags::PSH) == Flags::ACK && options.sack.is_empty();
        let (pushes, timestamps) = (flags.contains(Flags::PSH), options.timestamps);
        plain.then_some(Plain { sequence, acknowledgment, window, pushes, timestamps })
    }

    /// Octets of all headers of a frame.
    #[inline]
    pub(crate) fn frame_headers(&self) -> usize {
        if self.timestamps.is_some() { PLAIN_FRAME } else { PLAIN_FRAME - STAMPS }
    }

    /// All headers of a frame with this segment and `length` octets of payload, whose sum is `payload`; without it, the
    /// checksum of the segment is of its pseudo-header only, for a device that completes it. What is behind
    /// [`frame_headers`](Plain::frame_headers) octets means nothing.
    #[inline(always)]
    pub(crate) fn frame(
        &self,
        link: &[u8; LINK],
        around: &Around,
        length: usize,
        payload: Option<Sum>,
    ) -> [u8; PLAIN_FRAME] {
        let Around { source, destination, ports, hops, class } = *around;
        let (tcp, option) = match self.timestamps {
            Some(Timestamps { value, echo }) => (MINIMUM_HEADER + STAMPS, [ALIGNED_TIMESTAMPS, value, echo]),
            None => (MINIMUM_HEADER, [0; 3]),
        };
        let addresses = u64::from(source) + u64::from(destination);
        let first = VERSION << 24 | u32::from(class) << 16 | (ipv4::MINIMUM_HEADER + tcp + length) as u32;
        let third = u32::from(hops) << 24 | u32::from(protocol::TCP) << 16;
        let ip = u64::from(first) + u64::from(DONT_FRAGMENT) + u64::from(third) + addresses;
        let ip = Sum::of_fields(ip).checksum();
        let flags = if self.pushes { ACK | PSH } else { ACK };
        let control = (tcp as u32 / 4) << 28 | u32::from(flags) << 16 | u32::from(self.window);
        let (sequence, acknowledgment) = (self.sequence.value(), self.acknowledgment.value());
        let pseudo_header = addresses + u64::from(protocol::TCP) + (tcp + length) as u64;
        let checksum = match payload {
            Some(payload) => {
                let fixed = [ports, sequence, acknowledgment, control];
                Sum::of_fields(pseudo_header + total(fixed) + total(option)).then(payload).checksum()
            }
            None => Sum::of_fields(pseudo_header).fold(),
        };
        let words: Words = [
            first,
            DONT_FRAGMENT,
            third | u32::from(ip),
            source,
            destination,
            ports,
            sequence,
            acknowledgment,
            control,
            u32::from(checksum) << 16,
            option[0],
            option[1],
            option[2],
        ];
        let mut bytes = [0; PLAIN_FRAME];
        bytes[..LINK].copy_from_slice(link);
        for (place, word) in bytes[LINK..].as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        bytes
    }

    /// The segment of a packet that is in one piece, what is around it, and where its payload is, if it is such a one
    /// and its checksums are right, or known to be. Of any other the parsers of each layer say what it is.
    #[inline(always)]
    pub(crate) fn parse(
        packet: &[u8],
        ip_is_good: bool,
        tcp_is_good: bool,
    ) -> Option<(Plain, Around, Range<usize>)> {
        let bytes = packet.first_chunk::<HEADERS>()?;
        let mut words: Words = [0; HEADERS / 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let [first, second, third, source, destination, ports, sequence, acknowledgment, control, checksum, option @ ..] =
            words;
        let ip = [first, second, third, source, destination];
        let flags = Flags::from_bits((control >> 16) as u8);
        if first >> 24 != VERSION
            || second & FRAGMENT != 0
            || third >> 16 & 0xff != u32::from(protocol::TCP)
            || source >> 24 == LOOPBACK
            || destination >> 24 == LOOPBACK
            || flags.without(Flags::PSH) != Flags::ACK
            || !ip_is_good && !Sum::of_fields(total(ip)).is_valid()
        {
            return None;
        }
        let [prefix, value, echo] = option;
        let (timestamps, start, option) = match control >> 28 {
            8 if prefix == ALIGNED_TIMESTAMPS => (Some(Timestamps { value, echo }), HEADERS, total(option)),
            5 => (None, HEADERS - STAMPS, 0),
            _ => return None,
        };
        let end = (first & 0xffff) as usize;
        let payload = packet.get(start..end)?;
        if !tcp_is_good {
            let pseudo_header =
                u64::from(source) + u64::from(destination) + u64::from(protocol::TCP) + end as u64
                    - ipv4::MINIMUM_HEADER as u64;
            let fixed = [ports, sequence, acknowledgment, control, checksum];
            if !Sum::of_fields(pseudo_header + total(fixed) + option).then(Sum::of(payload)).is_valid() {
                return None;
            }
        }
        let plain = Plain {
            sequence: SequenceNumber::new(sequence),
            acknowledgment: SequenceNumber::new(acknowledgment),
            window: control as u16,
            pushes: flags.contains(Flags::PSH),
            timestamps,
        };
        let (hops, class) = ((third >> 24) as u8, (first >> 16) as u8);
        Some((plain, Around { source, destination, ports, hops, class }, start..end))
    }
}

/// The sum of some words as numbers.
#[inline(always)]
fn total<const N: usize>(words: [u32; N]) -> u64 {
    words.into_iter().map(u64::from).sum()
}
