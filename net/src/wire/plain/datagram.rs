//! UDP datagrams of nearly all packets.

use super::{Around, LINK, frame, total, words};
use crate::wire::checksum::Sum;
use crate::wire::ip::protocol;
use crate::wire::{ipv4, udp};
use std::ops::Range;

/// Octets of all headers of a frame.
pub(crate) const DATAGRAM_FRAME: usize = LINK + ipv4::MINIMUM_HEADER + udp::HEADER;

/// All headers of a frame with a datagram of `length` octets, whose sum is `payload`; without it, the checksum is of the
/// pseudo-header only, for a device that completes it.
#[inline(always)]
pub(crate) fn datagram_frame(
    link: &[u8; LINK],
    around: &Around,
    ports: u32,
    identification: u16,
    length: usize,
    payload: Option<Sum>,
) -> [u8; DATAGRAM_FRAME] {
    let length = udp::HEADER + length;
    let pseudo_header = around.pseudo_header(protocol::UDP, length);
    let checksum = match payload {
        Some(payload) => {
            // 0 means that there is none. [rfc768 zero]
            let fields = u64::from(ports) + length as u64;
            let sum = Sum::of_fields(pseudo_header + fields).then(payload).checksum();
            if sum == 0 { u16::MAX } else { sum }
        }
        None => Sum::of_fields(pseudo_header).fold(),
    };
    let words = [ports, (length as u32) << 16 | u32::from(checksum)];
    frame(link, around.ip(protocol::UDP, length, identification, false), words)
}

/// The ports of a datagram in a [plain packet](Around) that ends at `end`, and where in the packet its payload is, if its checksum is right,
/// or known to be, or there is none. Of any other the parser of UDP says what is wrong.
#[inline(always)]
pub(crate) fn parse_datagram(
    packet: &[u8],
    around: &Around,
    end: usize,
    is_good: bool,
) -> Option<(u32, Range<usize>)> {
    const START: usize = ipv4::MINIMUM_HEADER + udp::HEADER;
    let fixed = words::<2>(packet.get(ipv4::MINIMUM_HEADER..)?)?;
    let [ports, control] = fixed;
    let length = (control >> 16) as usize;
    let range = START..ipv4::MINIMUM_HEADER + length;
    let payload = packet.get(..end)?.get(range.clone())?;
    // [rfc768 none]
    if !is_good && control & 0xffff != 0 {
        let pseudo_header = around.pseudo_header(protocol::UDP, length);
        if !Sum::of_fields(pseudo_header + total(fixed)).then(Sum::of(payload)).is_valid() {
            return None;
        }
    }
    Some((ports, range))
}
