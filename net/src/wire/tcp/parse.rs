//! From bytes to a segment.

use super::header::{ALIGNED_TIMESTAMPS, Header, MINIMUM_HEADER, TimestampsAlone, kind};
use super::{Flags, Options, Quoted, SackBlock, SackBlocks, Segment, SequenceNumber, Timestamps};
use crate::wire::Malformed;
use zerocopy::FromBytes;

/// The largest shift: a larger one counts as this [rfc7323 2.3].
const MAXIMUM_SHIFT: u8 = 14;

impl Segment {
    /// The header, and where the payload begins.
    ///
    /// The checksum is not looked at: it needs the addresses, and a device may have verified it. See [`verify`].
    ///
    /// # Errors
    /// If the header does not fit into the bytes, or is shorter than its fixed part. Options cannot make a segment
    /// malformed: what cannot be an option is skipped, as Linux does.
    ///
    /// [`verify`]: super::verify
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<(Segment, usize), Malformed> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        // The four bits beside the offset are ignored [rfc9293 3.1-reserved].
        let length = usize::from(header.offset >> 4) * 4;
        let flags = Flags::from_bits(header.flags);
        // Nearly all segments of a connection have no options or just the aligned timestamps of RFC 7323 appendix A.
        let options = match timestamps_alone(length, rest) {
            Some(timestamps) => Options { timestamps: Some(timestamps), ..Options::default() },
            None if length == MINIMUM_HEADER => Options::default(),
            None => {
                let mut options = Options::default();
                parse_other(&mut options, length, rest, flags)?;
                options
            }
        };
        let segment = Segment {
            source: header.source.get(),
            destination: header.destination.get(),
            sequence: SequenceNumber::new(header.sequence.get()),
            acknowledgment: SequenceNumber::new(header.acknowledgment.get()),
            flags,
            window: header.window.get(),
            urgent: header.urgent.get(),
            options,
        };
        Ok((segment, length))
    }
}

impl Quoted {
    /// From the bytes behind the IP header in an ICMP message.
    ///
    /// # Errors
    /// If there are fewer than the eight that every router quotes [rfc792 unreachable-quote].
    pub fn parse(bytes: &[u8]) -> Result<Quoted, Malformed> {
        let [s0, s1, d0, d1, n0, n1, n2, n3] = *bytes.first_chunk().ok_or(Malformed::Truncated)?;
        Ok(Quoted {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            sequence: SequenceNumber::new(u32::from_be_bytes([n0, n1, n2, n3])),
        })
    }
}

#[inline]
fn timestamps_alone(length: usize, rest: &[u8]) -> Option<Timestamps> {
    let (option, _) = TimestampsAlone::ref_from_prefix(rest).ok()?;
    (length == MINIMUM_HEADER + size_of::<TimestampsAlone>() && option.prefix.get() == ALIGNED_TIMESTAMPS)
        .then(|| Timestamps { value: option.value.get(), echo: option.echo.get() })
}

/// In place: were they returned, in a `Result`, usual segments would go through its layout too, byte by byte.
#[cold]
fn parse_other(options: &mut Options, length: usize, rest: &[u8], flags: Flags) -> Result<(), Malformed> {
    let length = length.checked_sub(MINIMUM_HEADER).ok_or(Malformed::Length)?;
    let bytes = rest.get(..length).ok_or(Malformed::Truncated)?;
    parse_options(options, bytes, flags.contains(Flags::SYN));
    Ok(())
}

/// Options as `tcp_parse_options` of Linux takes them:
///
/// - those that everybody knows end the list, fill, or are the maximum segment size [rfc9293 MUST-4];
/// - they may begin on any byte [rfc9293 MUST-64], in any segment [rfc9293 MUST-5];
/// - a length below 2, or beyond the header, ends the list, and what was read before it counts [rfc9293 MUST-7];
/// - unknown kinds are skipped by their length [rfc9293 MUST-6] [rfc9293 MUST-68], and so are known ones whose
///   length is another than it must be;
/// - maximum segment size, window scale and SACK-permitted count in a SYN only [rfc7323 2.2-syn] [rfc2018 2];
/// - an option that comes twice counts the last time.
fn parse_options(options: &mut Options, mut bytes: &[u8], syn: bool) {
    while let [kind, rest @ ..] = bytes {
        let length = match (*kind, rest) {
            (kind::END, _) => break,
            (kind::NOP, _) => 1,
            (_, [length, ..]) if *length >= 2 => usize::from(*length),
            _ => break,
        };
        let Some((option, rest)) = bytes.split_at_checked(length) else { break };
        if let [kind, length, value @ ..] = option {
            take_option(options, (*kind, *length), value, syn);
        }
        bytes = rest;
    }
}

fn take_option(options: &mut Options, kind_and_length: (u8, u8), value: &[u8], syn: bool) {
    match (kind_and_length, value) {
        // A size of 0 says nothing, and would stop the connection.
        (kind::MAXIMUM_SEGMENT_SIZE, &[high, low]) if syn && (high, low) != (0, 0) => {
            options.maximum_segment_size = Some(u16::from_be_bytes([high, low]));
        }
        (kind::WINDOW_SCALE, &[shift]) if syn => options.window_scale = Some(shift.min(MAXIMUM_SHIFT)),
        (kind::SACK_PERMITTED, _) if syn => options.sack_permitted = true,
        (kind::TIMESTAMPS, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
            let (value, echo) = (u32::from_be_bytes([v0, v1, v2, v3]), u32::from_be_bytes([e0, e1, e2, e3]));
            options.timestamps = Some(Timestamps { value, echo });
        }
        (kind::USER_TIMEOUT, &[high, low]) => options.user_timeout = Some(u16::from_be_bytes([high, low])),
        ((kind, _), blocks) if kind == kind::SACK.0 && !blocks.is_empty() => {
            if let (blocks, []) = blocks.as_chunks::<8>() {
                options.sack = parse_sack(blocks);
            }
        }
        _ => {}
    }
}

/// At most four blocks fit, so none is lost [rfc2018 3].
fn parse_sack(blocks: &[[u8; 8]]) -> SackBlocks {
    let mut sack = SackBlocks::new();
    for &[l0, l1, l2, l3, r0, r1, r2, r3] in blocks {
        sack.push(SackBlock {
            left: SequenceNumber::new(u32::from_be_bytes([l0, l1, l2, l3])),
            right: SequenceNumber::new(u32::from_be_bytes([r0, r1, r2, r3])),
        });
    }
    sack
}
