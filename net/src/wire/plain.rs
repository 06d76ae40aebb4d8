//! What nearly every segment is, with its headers of all layers in words at known places.

use super::checksum::Sum;
use super::ip::protocol;
use super::tcp::{ALIGNED_TIMESTAMPS, Flags, MINIMUM_HEADER, Options, Segment, SequenceNumber, Timestamps};
use super::{ethernet, ipv4};

/// What a segment says that has timestamps and no other option, and no control bits but ACK and PSH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plain {
    pub(crate) sequence: SequenceNumber,
    pub(crate) acknowledgment: SequenceNumber,
    pub(crate) window: u16,
    pub(crate) pushes: bool,
    pub(crate) timestamps: Timestamps,
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

/// Octets of the TCP header.
const TCP: usize = MINIMUM_HEADER + 12;

/// Octets of both headers.
const HEADERS: usize = ipv4::MINIMUM_HEADER + TCP;

/// Octets of an Ethernet header and both others.
pub(crate) const PLAIN_FRAME: usize = LINK + HEADERS;

/// Version 4, and a header of five words.
const VERSION: u32 = 0x45 << 24;

const DONT_FRAGMENT: u32 = 0x4000;

/// The length of the TCP header in its place, ACK, and PSH.
const OFFSET: u32 = (TCP as u32 / 4) << 28;
const ACK: u32 = (Flags::ACK.bits() as u32) << 16;
const PSH: u32 = (Flags::PSH.bits() as u32) << 16;

impl Plain {
    /// The segment as a value that can say more.
    pub(crate) fn segment(&self, source: u16, destination: u16) -> Segment {
        let flags = if self.pushes { Flags::ACK | Flags::PSH } else { Flags::ACK };
        let options = Options { timestamps: Some(self.timestamps), ..Options::default() };
        let Plain { sequence, acknowledgment, window, .. } = *self;
        Segment { source, destination, sequence, acknowledgment, flags, window, urgent: 0, options }
    }

    /// The segment, if it is such a one.
    #[inline]
    pub(crate) fn of(segment: &Segment) -> Option<Plain> {
        let Segment { sequence, acknowledgment, flags, window, options, .. } = *segment;
        let timestamps = options.timestamps?;
        let plain = flags.without(Flags::PSH) == Flags::ACK && options.sack.is_empty();
        let pushes = flags.contains(Flags::PSH);
        plain.then_some(Plain { sequence, acknowledgment, window, pushes, timestamps })
    }

    /// All headers of a frame with this segment and `length` octets of payload, whose sum is `payload`; without it, the
    /// checksum of the segment is of its pseudo-header only, for a device that completes it.
    #[inline(always)]
    pub(crate) fn frame(
        &self,
        link: &[u8; LINK],
        around: &Around,
        length: usize,
        payload: Option<Sum>,
    ) -> [u8; PLAIN_FRAME] {
        let Around { source, destination, ports, hops, class } = *around;
        let Timestamps { value, echo } = self.timestamps;
        let addresses = u64::from(source) + u64::from(destination);
        let first = VERSION | u32::from(class) << 16 | (HEADERS + length) as u32;
        let third = u32::from(hops) << 24 | u32::from(protocol::TCP) << 16;
        let ip = u64::from(first) + u64::from(DONT_FRAGMENT) + u64::from(third) + addresses;
        let ip = Sum::of_fields(ip).checksum();
        let window = OFFSET | ACK | if self.pushes { PSH } else { 0 } | u32::from(self.window);
        let pseudo_header = addresses + u64::from(protocol::TCP) + (TCP + length) as u64;
        let checksum = match payload {
            Some(payload) => {
                let fields = u64::from(ports)
                    + u64::from(self.sequence.value())
                    + u64::from(self.acknowledgment.value())
                    + u64::from(window)
                    + u64::from(ALIGNED_TIMESTAMPS)
                    + u64::from(value)
                    + u64::from(echo);
                Sum::of_fields(pseudo_header + fields).then(payload).checksum()
            }
            None => Sum::of_fields(pseudo_header).fold(),
        };
        let words = [
            first,
            DONT_FRAGMENT,
            third | u32::from(ip),
            source,
            destination,
            ports,
            self.sequence.value(),
            self.acknowledgment.value(),
            window,
            u32::from(checksum) << 16,
            ALIGNED_TIMESTAMPS,
            value,
            echo,
        ];
        let mut bytes = [0; PLAIN_FRAME];
        bytes[..LINK].copy_from_slice(link);
        for (place, word) in bytes[LINK..].as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        bytes
    }
}
