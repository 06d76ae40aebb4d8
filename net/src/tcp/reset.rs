//! Resets for segments that belong to no connection (RFC 9293 section 3.5.2).

use crate::wire::tcp::{Flags, Segment};

/// The answer to `segment`, with `payload` octets behind its header, for which there is no connection; `None` if it
/// is itself a reset. [rfc9293 3.10.7.1]
///
/// ```
/// use demikernel_net::tcp::reset_for;
/// use demikernel_net::wire::tcp::{Flags, Segment, SequenceNumber};
///
/// let sequence = SequenceNumber::new(1000);
/// let syn = Segment { source: 40_000, destination: 80, sequence, flags: Flags::SYN, ..Segment::default() };
/// let reset = reset_for(&syn, 0).unwrap();
/// assert_eq!((reset.source, reset.destination), (80, 40_000));
/// assert_eq!((reset.flags, reset.acknowledgment), (Flags::RST | Flags::ACK, sequence + 1));
/// assert_eq!(reset_for(&reset, 0), None, "two hosts would never stop");
/// ```
pub fn reset_for(segment: &Segment, payload: u32) -> Option<Segment> {
    if segment.flags.contains(Flags::RST) {
        return None;
    }
    let reset = Segment { source: segment.destination, destination: segment.source, ..Segment::default() };
    if segment.flags.contains(Flags::ACK) {
        return Some(Segment { sequence: segment.acknowledgment, flags: Flags::RST, ..reset });
    }
    let bits = u32::from(segment.flags.contains(Flags::SYN)) + u32::from(segment.flags.contains(Flags::FIN));
    Some(Segment {
        acknowledgment: segment.sequence + payload + bits,
        flags: Flags::RST | Flags::ACK,
        ..reset
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::SequenceNumber;

    /// [rfc9293 3.10.7.1]
    #[test]
    fn each_gets_a_reset_that_it_believes() {
        let segment = |flags| Segment {
            source: 1,
            destination: 2,
            sequence: SequenceNumber::new(u32::MAX),
            acknowledgment: SequenceNumber::new(700),
            flags,
            ..Segment::default()
        };
        assert_eq!(reset_for(&segment(Flags::RST), 0), None);
        assert_eq!(reset_for(&segment(Flags::RST | Flags::ACK), 0), None);
        let reset = reset_for(&segment(Flags::ACK), 5).unwrap();
        assert_eq!((reset.sequence.value(), reset.flags), (700, Flags::RST));
        assert_eq!((reset.source, reset.destination), (2, 1));
        let reset = reset_for(&segment(Flags::SYN | Flags::FIN), 5).unwrap();
        assert_eq!((reset.acknowledgment.value(), reset.flags), (6, Flags::RST | Flags::ACK));
        assert_eq!(reset.sequence.value(), 0);
    }
}
