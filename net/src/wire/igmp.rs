//! IGMP: version 3 (RFC 3376), and what hosts need of versions 2 (RFC 2236) and 1 (RFC 1112).

use super::Malformed;
use super::checksum::Sum;
use super::multicast::{
    QUERY_TRAILER, Query, REPORT_HEADER, Records, decode_8, encode_8, group_in, group_of,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Where general queries go.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Where messages of version 2 that leave a group go (RFC 2236 section 9).
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

/// Where reports of version 3 go (RFC 3376 section 4.2.14).
pub const ALL_REPORTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// Bytes of a message of version 1 or 2, and of one of version 3 as far as its group.
const HEADER: usize = 8;

mod kind {
    pub(super) const QUERY: u8 = 0x11;
    pub(super) const REPORT_V1: u8 = 0x12;
    pub(super) const REPORT_V2: u8 = 0x16;
    pub(super) const LEAVE: u8 = 0x17;
    pub(super) const REPORT_V3: u8 = 0x22;
}

/// A message. All are sent with a time to live of 1 and a router alert (RFC 3376 section 4).
///
/// ```
/// use demikernel_net::wire::igmp::Message;
/// use demikernel_net::wire::multicast::{Record, Records};
///
/// let records = [Record::join("239.0.0.1".parse().unwrap())];
/// let report = Message::ReportV3(Records::new(&records));
/// let mut bytes = vec![0; report.len()];
/// report.emit(&mut bytes);
/// assert_eq!(Message::parse(&bytes), Ok(report));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Which groups does anybody listen to? To be answered in version 1, within 10 seconds.
    QueryV1,
    /// The same, or whether anybody listens to a group, to be answered in version 2.
    QueryV2 {
        /// The group, or all.
        group: Option<Ipv4Addr>,
        /// Answers are to come, spread out, within this.
        max_response: Duration,
    },
    /// The same, or whether anybody listens to a group and sources.
    QueryV3(Query<'a, Ipv4Addr>),
    /// Version 1: I listen to this group.
    ReportV1 {
        /// The group.
        group: Ipv4Addr,
    },
    /// Version 2: I listen to this group.
    ReportV2 {
        /// The group.
        group: Ipv4Addr,
    },
    /// Version 2: I no longer listen to this group.
    Leave {
        /// The group.
        group: Ipv4Addr,
    },
    /// What I listen to.
    ReportV3(Records<'a, Ipv4Addr>),
}

impl<'a> Message<'a> {
    /// A message that has the whole payload of its packet.
    ///
    /// Queries tell their version by their length [rfc3376 7.1].
    ///
    /// ```
    /// use demikernel_net::wire::igmp::Message;
    /// use std::time::Duration;
    ///
    /// // "Who listens to anything?", to be answered within two seconds: a query of version 2 has no more.
    /// let query = Message::QueryV2 { group: None, max_response: Duration::from_secs(2) };
    /// let mut bytes = [0; 8];
    /// query.emit(&mut bytes);
    /// assert_eq!(bytes[..2], [0x11, 20], "in tenths of a second");
    /// assert_eq!(Message::parse(&bytes), Ok(query));
    /// ```
    ///
    /// # Errors
    /// If it is truncated, its checksum over the whole payload is wrong [rfc3376 4.1.2], it has an unknown type
    /// [rfc3376 4-unknown], or it is about what is no group.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (&[kind, code, _, _, g0, g1, g2, g3], rest) =
            bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Truncated)?;
        if !Sum::of(bytes).is_valid() {
            return Err(Malformed::Checksum);
        }
        let group = Ipv4Addr::from([g0, g1, g2, g3]);
        match kind {
            kind::QUERY => parse_query(code, group, rest),
            kind::REPORT_V1 => Ok(Message::ReportV1 { group: group_in(group)? }),
            kind::REPORT_V2 => Ok(Message::ReportV2 { group: group_in(group)? }),
            kind::LEAVE => Ok(Message::Leave { group: group_in(group)? }),
            kind::REPORT_V3 => Ok(Message::ReportV3(Records::parse(bytes)?)),
            _ => Err(Malformed::Value),
        }
    }

    /// Bytes that [`emit`](Message::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::igmp::Message;
    /// use demikernel_net::wire::multicast::{Record, Records};
    ///
    /// let groups = ["239.0.0.1".parse().unwrap(), "239.0.0.2".parse().unwrap()];
    /// assert_eq!(Message::Leave { group: groups[0] }.len(), 8);
    /// let records = groups.map(Record::leave);
    /// assert_eq!(Message::ReportV3(Records::new(&records)).len(), 8 + 2 * 8);
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        match self {
            Message::QueryV3(query) => HEADER + QUERY_TRAILER + query.sources.bytes(),
            Message::ReportV3(records) => records.report_len(),
            _ => HEADER,
        }
    }

    /// Writes the message, with its checksum, to all of `bytes`.
    ///
    /// ```
    /// use demikernel_net::wire::{checksum::Sum, igmp::Message};
    ///
    /// let mut bytes = [0; 8];
    /// Message::Leave { group: "239.0.0.1".parse().unwrap() }.emit(&mut bytes);
    /// assert_eq!((bytes[0], &bytes[4..]), (0x17, &[239, 0, 0, 1][..]));
    /// assert!(Sum::of(&bytes).is_valid());
    /// ```
    ///
    /// # Panics
    /// If there are not [`len`](Message::len) bytes.
    pub fn emit(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.len(), "the message has all bytes");
        const { assert!(HEADER == REPORT_HEADER) };
        if let Message::ReportV3(records) = self {
            records.emit(kind::REPORT_V3, bytes);
        } else {
            let (kind, code, group) = self.to_fields();
            let (header, rest) = bytes.split_at_mut(HEADER);
            header[..4].copy_from_slice(&[kind, code, 0, 0]);
            header[4..].copy_from_slice(&group.octets());
            if let Message::QueryV3(query) = self {
                query.emit(rest);
            }
        }
        let checksum = Sum::of(bytes).checksum();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    }

    fn to_fields(self) -> (u8, u8, Ipv4Addr) {
        let none = Ipv4Addr::UNSPECIFIED;
        match self {
            Message::QueryV1 => (kind::QUERY, 0, none),
            Message::QueryV2 { group, max_response } => {
                let tenths = u8::try_from(tenths(max_response)).unwrap_or(u8::MAX);
                // 0 would be a query of version 1.
                (kind::QUERY, tenths.max(1), group.unwrap_or(none))
            }
            Message::QueryV3(Query { group, max_response, .. }) => {
                (kind::QUERY, encode_8(tenths(max_response)), group.unwrap_or(none))
            }
            Message::ReportV1 { group } => (kind::REPORT_V1, 0, group),
            Message::ReportV2 { group } => (kind::REPORT_V2, 0, group),
            Message::Leave { group } => (kind::LEAVE, 0, group),
            Message::ReportV3(_) => (kind::REPORT_V3, 0, none),
        }
    }
}

fn parse_query(code: u8, group: Ipv4Addr, rest: &[u8]) -> Result<Message<'_>, Malformed> {
    // The field for a group is ignored in version 1 [rfc1112 I-group].
    if rest.is_empty() && code == 0 {
        return Ok(Message::QueryV1);
    }
    let group = group_of(group, Ipv4Addr::UNSPECIFIED)?;
    let duration = |tenths: u32| Duration::from_millis(u64::from(tenths) * 100);
    if rest.is_empty() {
        return Ok(Message::QueryV2 { group, max_response: duration(code.into()) });
    }
    // Nine to eleven bytes are of no version.
    Query::parse(group, duration(decode_8(code)), rest).map(Message::QueryV3)
}

fn tenths(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::multicast::{Record, RecordKind, Sources};
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::{IgmpSlice, IgmpType, igmp};
    use proptest::prelude::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn right_checksum(bytes: &mut [u8]) {
        if bytes.len() >= HEADER {
            bytes[2..4].fill(0);
            let checksum = Sum::of(bytes).checksum();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Bytes whose checksum is filled in.
    fn valid(text: &str) -> Vec<u8> {
        let mut bytes = hex(text);
        right_checksum(&mut bytes);
        bytes
    }

    fn emitted(message: &Message<'_>) -> Vec<u8> {
        let mut bytes = vec![0xa5; message.len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn messages_of_the_old_versions_both_ways() {
        let (all, one) = ("00000000", "ef010203");
        let seconds = Duration::from_secs(10);
        let table = [
            (format!("1100 0000 {all}"), Message::QueryV1),
            (format!("1164 0000 {all}"), Message::QueryV2 { group: None, max_response: seconds }),
            (format!("1164 0000 {one}"), Message::QueryV2 { group: Some(GROUP), max_response: seconds }),
            (format!("1200 0000 {one}"), Message::ReportV1 { group: GROUP }),
            (format!("1600 0000 {one}"), Message::ReportV2 { group: GROUP }),
            (format!("1700 0000 {one}"), Message::Leave { group: GROUP }),
        ];
        for (bytes, message) in table {
            let bytes = valid(&bytes);
            assert_eq!(Message::parse(&bytes), Ok(message));
            assert_eq!(emitted(&message), bytes);
            truncate_everywhere(&bytes, 8, Message::parse);
        }
        // [rfc1112 I-group]
        assert_eq!(Message::parse(&valid("1100 0000 c0000201")), Ok(Message::QueryV1));
        // A checksum that is known: a join of 239.1.2.3 by version 2.
        assert_eq!(valid("1600 0000 ef010203"), hex("1600 f8fa ef010203"));
    }

    #[test]
    fn queries_of_version_3_both_ways() {
        let sources = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let query = Query {
            group: Some(GROUP),
            max_response: Duration::from_secs(10),
            suppress: true,
            robustness: 2,
            interval: Duration::from_secs(125),
            sources: Sources::new(&sources),
        };
        let bytes = valid("1164 0000 ef010203 0a7d 0002 c0000201 c0000202");
        assert_eq!(Message::parse(&bytes), Ok(Message::QueryV3(query)));
        assert_eq!(emitted(&Message::QueryV3(query)), bytes);
        let general = Query { group: None, sources: Sources::new(&[]), ..query };
        let bytes = valid("1164 0000 00000000 0a7d 0000");
        assert_eq!(Message::parse(&bytes), Ok(Message::QueryV3(general)));
    }

    #[test]
    fn queries_tell_their_version_by_their_length() {
        // [rfc3376 7.1]
        for (length, expected) in [(9, Err(Malformed::Length)), (11, Err(Malformed::Length)), (12, Ok(()))] {
            let mut bytes = hex("1164 0000 00000000 0a7d 0000");
            bytes.truncate(length);
            right_checksum(&mut bytes);
            assert_eq!(Message::parse(&bytes).map(|_| ()), expected, "{length} bytes");
        }
        // Codes from 128 are floating point in version 3 only.
        let response = |bytes: &str| match Message::parse(&valid(bytes)) {
            Ok(Message::QueryV2 { max_response, .. }) => max_response,
            Ok(Message::QueryV3(query)) => query.max_response,
            other => panic!("{other:?}"),
        };
        assert_eq!(response("11ff 0000 00000000"), Duration::from_millis(25_500));
        assert_eq!(response("11ff 0000 00000000 0000 0000"), Duration::from_millis(3_174_400));
    }

    #[test]
    fn reports_of_version_3_both_ways() {
        let sources = [Ipv4Addr::new(192, 0, 2, 1)];
        let allow =
            Record { kind: RecordKind::AllowNewSources, group: GROUP, sources: Sources::new(&sources) };
        let records = [Record::join(GROUP), allow];
        let report = Message::ReportV3(Records::new(&records));
        let bytes = valid("2200 0000 0000 0002 0400 0000 ef010203 0500 0001 ef010203 c0000201");
        assert_eq!(Message::parse(&bytes), Ok(report));
        assert_eq!(emitted(&report), bytes);
    }

    #[test]
    fn auxiliary_data_and_unknown_records_are_skipped() {
        // [rfc3376 4.2.10] [rfc3376 4.2.12-unknown] [rfc3376 4.2.11]
        let bytes = valid(
            "2200 0000 0000 0003 0401 0000 ef010203 ffffffff 0700 0000 ef010203 0300 0000 ef010204 ffff",
        );
        let records = [Record::join(GROUP), Record::leave(Ipv4Addr::new(239, 1, 2, 4))];
        assert_eq!(Message::parse(&bytes), Ok(Message::ReportV3(Records::new(&records))));
    }

    #[test]
    fn what_is_truncated_unknown_or_about_no_group_is_refused() {
        let report = hex("2200 0000 0000 0002 0400 0000 ef010203 0501 0001 ef010203 c0000201 ffffffff");
        truncate_everywhere(&report, report.len(), |bytes| {
            let mut bytes = bytes.to_vec();
            right_checksum(&mut bytes);
            Message::parse(&bytes).map(|_| ())
        });
        assert_eq!(Message::parse(&valid("1164 0000 00000000 0a7d 0001")), Err(Malformed::Truncated));
        // [rfc3376 4-unknown]
        assert_eq!(Message::parse(&valid("1300 0000 ef010203")), Err(Malformed::Value));
        for bytes in ["1164 0000 c0000201", "1200 0000 00000000", "1600 0000 c0000201", "1700 0000 c0000201"]
        {
            assert_eq!(Message::parse(&valid(bytes)), Err(Malformed::Value));
        }
        let about_a_host = valid("2200 0000 0000 0001 0400 0000 c0000201");
        assert_eq!(Message::parse(&about_a_host), Err(Malformed::Value));
    }

    #[test]
    fn a_checksum_covers_every_bit() {
        // [rfc3376 4.1.2]
        let mut bytes = valid("1164 0000 ef010203 0a7d 0001 c0000201");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Message::parse(&bytes), Err(Malformed::Checksum), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_corpus_of_broken_messages_parses_or_is_refused() {
        let report = hex("2200 0000 0000 0002 0400 0000 ef010203 0501 0001 ef010203 c0000201 ffffffff");
        let query = hex("1164 0000 ef010203 0a7d 0001 c0000201");
        for mut bytes in mutations(&report).chain(mutations(&query)) {
            right_checksum(&mut bytes);
            if let Ok(message) = Message::parse(&bytes) {
                // A query's time of more than the wire has room for is cut, which nothing received is.
                assert_eq!(Message::parse(&emitted(&message)), Ok(message));
            }
        }
    }

    fn any_group() -> impl Strategy<Value = Ipv4Addr> {
        (0xe000_0000u32..0xf000_0000).prop_map(Ipv4Addr::from)
    }

    fn any_kind() -> impl Strategy<Value = RecordKind> {
        prop::sample::select(vec![
            RecordKind::ModeIsInclude,
            RecordKind::ModeIsExclude,
            RecordKind::ChangeToInclude,
            RecordKind::ChangeToExclude,
            RecordKind::AllowNewSources,
            RecordKind::BlockOldSources,
        ])
    }

    fn any_sources() -> impl Strategy<Value = Vec<Ipv4Addr>> {
        prop::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..5)
    }

    proptest! {
        #[test]
        fn etherparse_reads_reports(groups in prop::collection::vec((any_kind(), any_group(), any_sources()), 0..6)) {
            let records: Vec<_> = groups
                .iter()
                .map(|(kind, group, sources)| {
                    Record { kind: *kind, group: *group, sources: Sources::new(sources) }
                })
                .collect();
            let report = Message::ReportV3(Records::new(&records));
            let bytes = emitted(&report);
            prop_assert_eq!(Message::parse(&bytes), Ok(report));
            let IgmpSlice::MembershipReportV3(other) = IgmpSlice::from_slice(&bytes).unwrap() else {
                panic!("a report")
            };
            let records: Vec<_> = other.group_records().map(|record| record.unwrap()).collect();
            prop_assert_eq!(records.len(), groups.len());
            for (record, (kind, group, sources)) in records.iter().zip(&groups) {
                prop_assert_eq!(record.record_type().0, *kind as u8);
                prop_assert_eq!(Ipv4Addr::from(record.multicast_address()), *group);
                prop_assert!(record.source_addresses().map(Ipv4Addr::from).eq(sources.iter().copied()));
            }
        }

        #[test]
        fn etherparse_agrees_about_short_messages_both_ways(group in any_group(), code in 1u8.., which in 0..4) {
            let group_address = igmp::GroupAddress { octets: group.octets() };
            let max_response = Duration::from_millis(u64::from(code) * 100);
            let (message, other) = match which {
                0 => (Message::ReportV1 { group }, IgmpType::MembershipReportV1(igmp::MembershipReportV1Type { group_address })),
                1 => (Message::ReportV2 { group }, IgmpType::MembershipReportV2(igmp::MembershipReportV2Type { group_address })),
                2 => (Message::Leave { group }, IgmpType::LeaveGroup(igmp::LeaveGroupType { group_address })),
                _ => (
                    Message::QueryV2 { group: Some(group), max_response },
                    IgmpType::MembershipQuery(igmp::MembershipQueryType { max_response_time: code, group_address }),
                ),
            };
            let bytes = etherparse::IgmpHeader::with_checksum(other, &[]).to_bytes();
            prop_assert_eq!(Message::parse(&bytes), Ok(message));
            prop_assert_eq!(&emitted(&message)[..], &bytes[..]);
        }

        #[test]
        fn queries_of_version_3_come_back(
            group in prop::option::of(any_group()), codes: (u8, u8), flags: (bool, u8), sources in any_sources(),
        ) {
            let query = Query {
                group,
                max_response: Duration::from_millis(u64::from(decode_8(codes.0)) * 100),
                suppress: flags.0,
                robustness: flags.1 % 8,
                interval: Duration::from_secs(decode_8(codes.1).into()),
                sources: Sources::new(&sources),
            };
            let bytes = emitted(&Message::QueryV3(query));
            prop_assert_eq!(bytes[1], codes.0);
            prop_assert_eq!(Message::parse(&bytes), Ok(Message::QueryV3(query)));
        }

        #[test]
        fn anything_parses_or_is_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80), kind in prop::sample::select(vec![0x11u8, 0x12, 0x16, 0x17, 0x22]),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            right_checksum(&mut bytes);
            let _ = Message::parse(&bytes);
        }
    }
}
