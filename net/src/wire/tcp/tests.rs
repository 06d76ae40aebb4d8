//! Segments byte by byte, against etherparse, and against anything else.

use super::*;
use crate::wire::testing::{hex, mutations, truncate_everywhere};
use etherparse::{TcpHeader, TcpHeaderSlice, TcpOptionElement, TcpSlice};
use proptest::prelude::*;

/// As Linux opens a connection: the options of RFC 9293 in the order of `tcp_options_write`.
const LINUX_SYN: &str = "a5c2 0050 89ab cdef 0000 0000 a002 faf0 0000 0000
    0204 05b4 0402 080a 1122 3344 0000 0000 0103 0307";

fn linux_syn() -> Segment {
    Segment {
        source: 0xa5c2,
        destination: 80,
        sequence: SequenceNumber::new(0x89ab_cdef),
        flags: Flags::SYN,
        window: 0xfaf0,
        options: Options {
            maximum_segment_size: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 0x1122_3344, echo: 0 }),
            ..Options::default()
        },
        ..Segment::default()
    }
}

fn emitted(segment: &Segment) -> Vec<u8> {
    // Whatever was there before is overwritten.
    let mut bytes = vec![0xa5; segment.header_len()];
    let sum = segment.emit(&mut bytes);
    assert_eq!(sum.fold(), Sum::of(&bytes).fold(), "the sum of what was written");
    bytes
}

fn blocks(blocks: &[(u32, u32)]) -> SackBlocks {
    let mut sack = SackBlocks::new();
    for &(left, right) in blocks {
        assert!(sack.push(SackBlock { left: SequenceNumber::new(left), right: SequenceNumber::new(right) }));
    }
    sack
}

fn options_of(options: &[u8], flags: Flags) -> Options {
    let mut bytes = vec![0; MINIMUM_HEADER];
    bytes.extend(options);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[12] = (bytes.len() / 4) as u8 * 16;
    bytes[13] = flags.bits();
    Segment::parse(&bytes).unwrap().0.options
}

#[test]
fn a_syn_of_linux_both_ways() {
    let bytes = hex(LINUX_SYN);
    assert_eq!(Segment::parse(&bytes), Ok((linux_syn(), 40)));
    assert_eq!(emitted(&linux_syn()), bytes);
}

#[test]
fn the_aligned_timestamps_of_a_connection_both_ways() {
    let bytes = hex("0050 a5c2 0102 0304 0506 0708 8018 01f5 0000 0000 0101 080a dead beef cafe f00d 6869");
    let segment = Segment {
        source: 80,
        destination: 0xa5c2,
        sequence: SequenceNumber::new(0x0102_0304),
        acknowledgment: SequenceNumber::new(0x0506_0708),
        flags: Flags::PSH | Flags::ACK,
        window: 501,
        urgent: 0,
        options: Options {
            timestamps: Some(Timestamps { value: 0xdead_beef, echo: 0xcafe_f00d }),
            ..Options::default()
        },
    };
    assert_eq!(Segment::parse(&bytes), Ok((segment, 32)));
    assert_eq!(emitted(&segment), bytes[..32]);
}

#[test]
fn syn_options_in_every_combination_are_words_in_the_order_of_linux() {
    // [rfc9293 MUST-69]: there is no end, and nothing behind it.
    let timestamps = Some(Timestamps { value: 1, echo: 2 });
    let table = [
        (None, false, None, None, ""),
        (Some(536), false, None, None, "02040218"),
        (None, true, None, None, "01010402"),
        (None, false, Some(0), None, "01030300"),
        (Some(1220), true, Some(14), None, "020404c4 01010402 0103030e"),
        (None, false, None, timestamps, "0101080a 00000001 00000002"),
        (None, true, None, timestamps, "0402080a 00000001 00000002"),
        (Some(1220), false, Some(2), timestamps, "020404c4 0101080a 00000001 00000002 01030302"),
    ];
    for (maximum_segment_size, sack_permitted, window_scale, timestamps, expected) in table {
        let options =
            Options { maximum_segment_size, window_scale, sack_permitted, timestamps, ..Options::default() };
        let segment = Segment { flags: Flags::SYN | Flags::ACK, options, ..Segment::default() };
        let bytes = emitted(&segment);
        assert_eq!(bytes[20..], hex(expected));
        assert_eq!(Segment::parse(&bytes), Ok((segment, bytes.len())));
    }
}

#[test]
fn as_many_sack_blocks_as_have_room() {
    // [rfc2018 3] [rfc2018 4-as-many]
    let four = blocks(&[(1, 2), (3, 4), (5, 6), (7, 8)]);
    let timestamps = Some(Timestamps::default());
    for (timestamps, user_timeout, room, length) in
        [(None, None, 4, 56), (timestamps, None, 3, 60), (timestamps, Some(9), 2, 56), (None, Some(9), 4, 60)]
    {
        let options = Options { timestamps, user_timeout, sack: four, ..Options::default() };
        assert_eq!(options.sack_room(), room);
        let segment = Segment { flags: Flags::ACK, options, ..Segment::default() };
        let bytes = emitted(&segment);
        assert_eq!(bytes.len(), length);
        assert_eq!(Segment::parse(&bytes).unwrap().0.options.sack[..], four[..room]);
    }
}

#[test]
fn what_belongs_into_a_syn_only_is_neither_sent_nor_taken_elsewhere() {
    // [rfc9293 MUST-65] [rfc7323 2.2-syn] [rfc2018 2]
    let stray = Segment { flags: Flags::ACK, ..linux_syn() };
    assert_eq!(emitted(&stray)[20..], hex("0101 080a 1122 3344 0000 0000"));
    let options = options_of(&hex(LINUX_SYN)[20..], Flags::ACK);
    assert_eq!(options, Options { timestamps: linux_syn().options.timestamps, ..Options::default() });
    // And no block goes into a SYN.
    let syn = Options { sack: blocks(&[(1, 2)]), ..Options::default() };
    assert_eq!(emitted(&Segment { flags: Flags::SYN, options: syn, ..Segment::default() }).len(), 20);
}

#[test]
fn odd_options_are_taken_as_linux_takes_them() {
    // [rfc9293 MUST-4] [rfc9293 MUST-68]
    let timestamps = Some(Timestamps { value: 1, echo: 2 });
    let with_timestamps = Options { timestamps, ..Options::default() };
    let mss = |size| Options { maximum_segment_size: Some(size), ..Options::default() };
    let table = [
        ("nothing but an end", "00", Options::default()),
        ("only NOPs", "01010101", Options::default()),
        ("unknown kinds are skipped [rfc9293 MUST-6]", "fd04 f00d 1e02 0204 0200", mss(0x200)),
        ("what follows an end is padding", "00 02040200", Options::default()),
        ("options on any byte [rfc9293 MUST-64]", "01 02040200 01 08 0a 00000001 00000002", {
            Options { timestamps, ..mss(0x200) }
        }),
        ("a length of 0 ends the list [rfc9293 MUST-7]", "02040200 0500 0303 07", mss(0x200)),
        ("a length of 1 ends the list", "0501 02040200", Options::default()),
        ("a length beyond the header ends the list", "02040200 0812 0000", mss(0x200)),
        ("a kind without length ends the list", "010101 08", Options::default()),
        ("another length than must be: skipped", "0203 ff 0402", {
            Options { sack_permitted: true, ..Options::default() }
        }),
        ("timestamps of another length", "0806 00000001 0101", Options::default()),
        ("SACK without blocks", "0502 0402", Options { sack_permitted: true, ..Options::default() }),
        ("SACK of a block and a half", "050e 00000001 00000002 00000003 0000", Options::default()),
        ("a segment size of 0 says nothing", "02040000", Options::default()),
        ("the last of two counts", "02040200 02040300", mss(0x300)),
        ("a shift above 14 counts as 14 [rfc7323 2.3]", "0303ff", {
            Options { window_scale: Some(14), ..Options::default() }
        }),
        ("timestamps before their NOPs", "080a 00000001 00000002 0101", with_timestamps),
        ("user timeout", "1c04 8003", Options { user_timeout: Some(0x8003), ..Options::default() }),
    ];
    for (what, options, expected) in table {
        assert_eq!(options_of(&hex(options), Flags::SYN), expected, "{what}");
    }
    // In a segment without SYN too [rfc9293 MUST-5].
    assert_eq!(options_of(&hex("fd04 f00d 080a 00000001 00000002"), Flags::ACK), with_timestamps);
}

#[test]
fn reserved_bits_are_ignored_and_sent_as_zero() {
    // [rfc9293 3.1-reserved]
    let mut bytes = hex(LINUX_SYN);
    bytes[12] |= 0x0f;
    assert_eq!(Segment::parse(&bytes), Ok((linux_syn(), 40)));
    assert_eq!(emitted(&linux_syn())[12], 0xa0);
}

#[test]
fn a_header_length_below_five_words_is_refused() {
    let mut bytes = hex(LINUX_SYN);
    for words in 0..5 {
        bytes[12] = words << 4;
        assert_eq!(Segment::parse(&bytes), Err(Malformed::Length));
    }
}

#[test]
fn truncated_headers_are_refused() {
    truncate_everywhere(&hex(LINUX_SYN), 40, Segment::parse);
    let mut alone = hex("0050 a5c2 0102 0304 0506 0708 8018 01f5 0000 0000 0101 080a dead beef cafe f00d");
    truncate_everywhere(&alone, 32, Segment::parse);
    alone[12] = 0x50;
    truncate_everywhere(&alone, 20, Segment::parse);
    truncate_everywhere(&hex(LINUX_SYN), 8, Quoted::parse);
}

#[test]
fn a_quotation_has_what_finds_the_connection() {
    let quoted = Quoted { source: 0xa5c2, destination: 80, sequence: SequenceNumber::new(0x89ab_cdef) };
    assert_eq!(Quoted::parse(&hex(LINUX_SYN)), Ok(quoted));
}

#[test]
fn a_checksum_covers_every_bit() {
    // [rfc9293 MUST-2] [rfc9293 MUST-3]
    let pseudo_header = Sum::pseudo_header_v4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 6, 43);
    let mut bytes = emitted(&linux_syn());
    let sum = Sum::of(&bytes).then(Sum::of(b"odd"));
    set_checksum(&mut bytes, pseudo_header.then(sum).checksum());
    bytes.extend(b"odd");
    assert_eq!(verify(pseudo_header, &bytes), Ok(()));
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(pseudo_header, &bytes), Err(Malformed::Checksum), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_corpus_of_broken_segments_parses_or_is_refused() {
    for bytes in mutations(&hex(LINUX_SYN)) {
        if let Ok((segment, offset)) = Segment::parse(&bytes) {
            assert!(offset <= bytes.len());
            // What was understood can be said again, and means the same.
            assert_eq!(Segment::parse(&emitted(&segment)).unwrap().0, segment);
        }
    }
}

fn any_sequence() -> impl Strategy<Value = SequenceNumber> {
    any::<u32>().prop_map(SequenceNumber::new)
}

fn any_timestamps() -> impl Strategy<Value = Option<Timestamps>> {
    prop::option::of(any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo }))
}

/// Segments as they can be on the wire.
fn any_segment() -> impl Strategy<Value = Segment> {
    let syn_options = (prop::option::of(1u16..), prop::option::of(0u8..=14), any::<bool>());
    let sack = prop::collection::vec(any::<(u32, u32)>(), 0..=4);
    let options = (syn_options, any_timestamps(), sack, prop::option::of(any::<u16>()));
    let fields = (any::<(u16, u16, u8, u16, u16)>(), any_sequence(), any_sequence());
    (fields, options).prop_map(|((fields, sequence, acknowledgment), options)| {
        let (source, destination, flags, window, urgent) = fields;
        let ((maximum_segment_size, window_scale, sack_permitted), timestamps, sack, user_timeout) = options;
        let flags = Flags::from_bits(flags);
        let mut options = Options { timestamps, user_timeout, ..Options::default() };
        if flags.contains(Flags::SYN) {
            options = Options { maximum_segment_size, window_scale, sack_permitted, ..options };
        } else {
            options.sack = blocks(&sack);
            options.sack.truncate(options.sack_room());
        }
        Segment { source, destination, sequence, acknowledgment, flags, window, urgent, options }
    })
}

fn from_etherparse(header: &TcpHeaderSlice<'_>) -> Segment {
    let mut options = Options::default();
    for element in header.options_iterator() {
        match element.expect("valid options") {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(size) => options.maximum_segment_size = Some(size),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::Timestamp(value, echo) => {
                options.timestamps = Some(Timestamps { value, echo });
            }
            TcpOptionElement::SelectiveAcknowledgement(first, others) => {
                options.sack = blocks(&[first]);
                for (left, right) in others.into_iter().flatten() {
                    let (left, right) = (SequenceNumber::new(left), SequenceNumber::new(right));
                    assert!(options.sack.push(SackBlock { left, right }));
                }
            }
        }
    }
    Segment {
        source: header.source_port(),
        destination: header.destination_port(),
        sequence: SequenceNumber::new(header.sequence_number()),
        acknowledgment: SequenceNumber::new(header.acknowledgment_number()),
        flags: Flags::from_bits(header.slice()[13]),
        window: header.window_size(),
        urgent: header.urgent_pointer(),
        options,
    }
}

fn to_etherparse(segment: &Segment) -> TcpHeader {
    let mut elements = Vec::new();
    let options = &segment.options;
    elements.extend(options.timestamps.map(|stamps| TcpOptionElement::Timestamp(stamps.value, stamps.echo)));
    elements.extend(options.maximum_segment_size.map(TcpOptionElement::MaximumSegmentSize));
    elements.extend(options.window_scale.map(TcpOptionElement::WindowScale));
    elements.extend(options.sack_permitted.then_some(TcpOptionElement::SelectiveAcknowledgementPermitted));
    if let Some(first) = options.sack.first() {
        let pair = |block: &SackBlock| (block.left.value(), block.right.value());
        let others = [1, 2, 3].map(|at| options.sack.get(at).map(pair));
        elements.push(TcpOptionElement::SelectiveAcknowledgement(pair(first), others));
    }
    let mut header =
        TcpHeader::new(segment.source, segment.destination, segment.sequence.value(), segment.window);
    header.acknowledgment_number = segment.acknowledgment.value();
    header.urgent_pointer = segment.urgent;
    let flag = |flag| segment.flags.contains(flag);
    (header.fin, header.syn, header.rst, header.psh) =
        (flag(Flags::FIN), flag(Flags::SYN), flag(Flags::RST), flag(Flags::PSH));
    (header.ack, header.urg, header.ece, header.cwr) =
        (flag(Flags::ACK), flag(Flags::URG), flag(Flags::ECE), flag(Flags::CWR));
    header.set_options(&elements).expect("they fit");
    header
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(segment in any_segment(), payload: [u8; 3]) {
        let mut bytes = emitted(&segment);
        prop_assert_eq!(bytes.len() % 4, 0);
        let length = bytes.len();
        bytes.extend(payload);
        prop_assert_eq!(Segment::parse(&bytes), Ok((segment, length)));
    }

    #[test]
    fn etherparse_reads_what_is_emitted(mut segment in any_segment(), payload: Vec<u8>, from: [u8; 4], to: [u8; 4]) {
        segment.options.user_timeout = None;
        let mut bytes = emitted(&segment);
        let pseudo_header =
            Sum::pseudo_header_v4(from.into(), to.into(), 6, (bytes.len() + payload.len()) as u16);
        let sum = Sum::of(&bytes).then(Sum::of(&payload));
        set_checksum(&mut bytes, pseudo_header.then(sum).checksum());
        let header = TcpHeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(from_etherparse(&header), segment);
        prop_assert_eq!(header.to_header().calc_checksum_ipv4_raw(from, to, &payload).unwrap(), header.checksum());
    }

    #[test]
    fn what_etherparse_writes_is_read(mut segment in any_segment(), payload: Vec<u8>, from: [u8; 16], to: [u8; 16]) {
        segment.options.user_timeout = None;
        let mut header = to_etherparse(&segment);
        header.checksum = header.calc_checksum_ipv6_raw(from, to, &payload).unwrap();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&payload);
        prop_assert_eq!(Segment::parse(&bytes), Ok((segment, header.header_len())));
        let pseudo_header = Sum::pseudo_header_v6(from.into(), to.into(), 6, bytes.len() as u32);
        prop_assert_eq!(verify(pseudo_header, &bytes), Ok(()));
    }

    #[test]
    fn anything_parses_or_is_refused_where_etherparse_does(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(offset) = bytes.get_mut(12) {
            *offset |= 0x40;
        }
        let other = TcpSlice::from_slice(&bytes);
        match Segment::parse(&bytes) {
            Ok((segment, offset)) => {
                let other = other.unwrap();
                prop_assert_eq!(other.header_len(), offset);
                prop_assert_eq!(other.sequence_number(), segment.sequence.value());
            }
            Err(_) => prop_assert!(other.is_err()),
        }
    }

    #[test]
    fn any_options_parse(bytes in prop::collection::vec(0u8..12, 0..=40), flags: u8) {
        let options = options_of(&bytes, Flags::from_bits(flags));
        prop_assert!(options.window_scale.is_none_or(|shift| shift <= 14));
    }
}
