//! TCP segments of nearly all packets.

use super::{Around, LINK, frame, total, words};
use crate::wire::checksum::Sum;
use crate::wire::ip::protocol;
use crate::wire::ipv4;
use crate::wire::tcp::{
    ALIGNED_TIMESTAMPS, Flags, MINIMUM_HEADER, Options, Segment, SequenceNumber, Timestamps,
};
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

/// Octets of the timestamps with what aligns them.
const STAMPS: usize = 12;

/// Octets of a header with timestamps.
const HEADER: usize = MINIMUM_HEADER + STAMPS;

/// Octets of all headers of a frame, if there are timestamps.
pub(crate) const PLAIN_FRAME: usize = LINK + ipv4::MINIMUM_HEADER + HEADER;

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
        let plain = flags.without(Flags::PSH) == Flags::ACK
            && options.sack.is_empty()
            && options.user_timeout.is_none();
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
        ports: u32,
        length: usize,
        payload: Option<Sum>,
    ) -> [u8; PLAIN_FRAME] {
        let (header, option) = match self.timestamps {
            Some(Timestamps { value, echo }) => (HEADER, [ALIGNED_TIMESTAMPS, value, echo]),
            None => (MINIMUM_HEADER, [0; 3]),
        };
        let flags = if self.pushes { ACK | PSH } else { ACK };
        let control = (header as u32 / 4) << 28 | u32::from(flags) << 16 | u32::from(self.window);
        let fixed = [ports, self.sequence.value(), self.acknowledgment.value(), control];
        let pseudo_header = around.pseudo_header(protocol::TCP, header + length);
        let checksum = match payload {
            Some(payload) => {
                Sum::of_fields(pseudo_header + total(fixed) + total(option)).then(payload).checksum()
            }
            None => Sum::of_fields(pseudo_header).fold(),
        };
        let [_, sequence, acknowledgment, control] = fixed;
        let [prefix, value, echo] = option;
        let checksum = u32::from(checksum) << 16;
        let words = [ports, sequence, acknowledgment, control, checksum, prefix, value, echo];
        frame(link, around.ip(protocol::TCP, header + length, 0, true), words)
    }

    /// The segment of a [plain packet](Around) that ends at `end`, its ports, and where in the packet its payload is, if
    /// it is such a one and its checksum is right, or known to be. Of any other the parser of TCP says what it is.
    #[inline(always)]
    pub(crate) fn parse(
        packet: &[u8],
        around: &Around,
        end: usize,
        is_good: bool,
    ) -> Option<(Plain, u32, Range<usize>)> {
        let [fixed @ .., prefix, value, echo] = words::<8>(packet.get(ipv4::MINIMUM_HEADER..)?)?;
        let [ports, sequence, acknowledgment, control, _] = fixed;
        let flags = Flags::from_bits((control >> 16) as u8);
        if flags.without(Flags::PSH) != Flags::ACK {
            return None;
        }
        let (timestamps, header, option) = match control >> 28 {
            8 if prefix == ALIGNED_TIMESTAMPS => {
                (Some(Timestamps { value, echo }), HEADER, total([prefix, value, echo]))
            }
            5 => (None, MINIMUM_HEADER, 0),
            _ => return None,
        };
        let range = ipv4::MINIMUM_HEADER + header..end;
        let payload = packet.get(range.clone())?;
        if !is_good {
            let pseudo_header = around.pseudo_header(protocol::TCP, header + payload.len());
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
        Some((plain, ports, range))
    }
}
