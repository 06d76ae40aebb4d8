//! MLD: version 2 (RFC 3810), and what hosts need of version 1 (RFC 2710). These are messages of ICMPv6; that format
//! verifies their checksum, and this one whether they may be believed.

use super::Malformed;
use super::checksum::Sum;
use super::icmpv6::{kind, set_checksum};
use super::ipv6;
use super::multicast::{QUERY_TRAILER, Query, Records, decode_16, encode_16, group_in, group_of};
use std::net::Ipv6Addr;
use std::time::Duration;

/// Where general queries go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Where messages of version 1 that leave a group go (RFC 2710 section 4).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Where reports of version 2 go (RFC 3810 section 5.2.14).
pub const ALL_REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// What all messages are sent with (RFC 3810 section 5).
pub const HOP_LIMIT: u8 = 1;

/// Bytes of a message of version 1, and of a query of version 2 as far as its group.
const HEADER: usize = 24;

/// A message. All are sent from an address of the link, with a hop limit of 1 and a router alert (RFC 3810 section 5).
///
/// ```
/// use demikernel_net::wire::mld::{ALL_REPORTS, HOP_LIMIT, Message};
/// use demikernel_net::wire::multicast::{Record, Records};
/// use demikernel_net::wire::{icmpv6, ipv6};
///
/// let ip = ipv6::Header {
///     source: "fe80::1".parse().unwrap(),
///     destination: ALL_REPORTS,
///     hop_limit: HOP_LIMIT,
///     ..ipv6::Header::default()
/// };
/// let records = [Record::join("ff02::1:2".parse().unwrap())];
/// let report = Message::ReportV2(Records::new(&records));
/// let mut bytes = vec![0; report.len()];
/// report.emit(&mut bytes, icmpv6::pseudo_header(ip.source, ip.destination, report.len()));
/// assert_eq!(Message::parse(&ip, true, &bytes), Ok(report));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Which groups does anybody listen to, or does anybody listen to a group? To be answered in version 1.
    QueryV1 {
        /// The group, or all.
        group: Option<Ipv6Addr>,
        /// Answers are to come, spread out, within this.
        max_response: Duration,
    },
    /// The same, or whether anybody listens to a group and sources.
    QueryV2(Query<'a, Ipv6Addr>),
    /// Version 1: I listen to this group.
    ReportV1 {
        /// The group.
        group: Ipv6Addr,
    },
    /// Version 1: I no longer listen to this group.
    Done {
        /// The group.
        group: Ipv6Addr,
    },
    /// What I listen to.
    ReportV2(Records<'a, Ipv6Addr>),
}

impl<'a> Message<'a> {
    /// A whole message of ICMPv6 whose checksum is right. `router_alert` tells whether its packet had one.
    ///
    /// Queries tell their version by their length [rfc3810 8.1].
    ///
    /// ```
    /// use demikernel_net::wire::mld::{ALL_ROUTERS, Message};
    /// use demikernel_net::wire::{Malformed, icmpv6, ipv6};
    ///
    /// let done = Message::Done { group: "ff15::1".parse().unwrap() };
    /// let source = "fe80::1".parse().unwrap();
    /// let ip = ipv6::Header { source, destination: ALL_ROUTERS, hop_limit: 1, ..ipv6::Header::default() };
    /// let mut bytes = vec![0; done.len()];
    /// done.emit(&mut bytes, icmpv6::pseudo_header(ip.source, ip.destination, done.len()));
    /// assert_eq!(Message::parse(&ip, true, &bytes), Ok(done));
    ///
    /// // It may have come from beyond the link: nobody believes it.
    /// let far = ipv6::Header { hop_limit: 64, ..ip };
    /// assert_eq!(Message::parse(&far, true, &bytes), Err(Malformed::Value));
    /// assert_eq!(Message::parse(&ip, false, &bytes), Err(Malformed::Value));
    /// ```
    ///
    /// # Errors
    /// If it is truncated, is about what is no group, or is not one that RFC 3810 lets anybody believe: it came
    /// through a router, without alert, or, if it is a query or a report of version 1, not from an address of the
    /// link [rfc3810 5.1.14] [rfc3810 6.2] [rfc2710 3].
    pub fn parse(ip: &ipv6::Header, router_alert: bool, bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (&[kind, _, _, _], rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        if ip.hop_limit != HOP_LIMIT || !router_alert {
            return Err(Malformed::Value);
        }
        // Who has no address yet reports from none [rfc3810 5.2.13].
        let from_nobody = ip.source.is_unspecified() && kind == kind::MULTICAST_LISTENER_REPORT_V2;
        if !ip.source.is_unicast_link_local() && !from_nobody {
            return Err(Malformed::Value);
        }
        if kind == kind::MULTICAST_LISTENER_REPORT_V2 {
            return Records::parse(bytes).map(Message::ReportV2);
        }
        let (&[c0, c1, _, _], rest) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        let (group, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Truncated)?;
        let group = Ipv6Addr::from(*group);
        match kind {
            kind::MULTICAST_LISTENER_QUERY => parse_query(u16::from_be_bytes([c0, c1]), group, rest),
            kind::MULTICAST_LISTENER_REPORT => Ok(Message::ReportV1 { group: group_in(group)? }),
            kind::MULTICAST_LISTENER_DONE => Ok(Message::Done { group: group_in(group)? }),
            _ => Err(Malformed::Value),
        }
    }

    /// Bytes that [`emit`](Message::emit) writes.
    ///
    /// ```
    /// use demikernel_net::wire::mld::Message;
    /// use demikernel_net::wire::multicast::{Record, Records};
    ///
    /// let groups = ["ff15::1".parse().unwrap(), "ff15::2".parse().unwrap()];
    /// assert_eq!(Message::ReportV1 { group: groups[0] }.len(), 24);
    /// let records = groups.map(Record::join);
    /// assert_eq!(Message::ReportV2(Records::new(&records)).len(), 8 + 2 * 20);
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        match self {
            Message::QueryV2(query) => HEADER + QUERY_TRAILER + query.sources.bytes(),
            Message::ReportV2(records) => records.report_len(),
            _ => HEADER,
        }
    }

    /// Writes the message, with its checksum, to all of `bytes`.
    ///
    /// # Panics
    /// If there are not [`len`](Message::len) bytes.
    pub fn emit(&self, bytes: &mut [u8], pseudo_header: Sum) {
        assert_eq!(bytes.len(), self.len(), "the message has all bytes");
        if let Message::ReportV2(records) = self {
            records.emit(kind::MULTICAST_LISTENER_REPORT_V2, bytes);
        } else {
            let (kind, code, group) = self.to_fields();
            let ([c0, c1], (header, rest)) = (code.to_be_bytes(), bytes.split_at_mut(HEADER));
            header[..8].copy_from_slice(&[kind, 0, 0, 0, c0, c1, 0, 0]);
            header[8..].copy_from_slice(&group.octets());
            if let Message::QueryV2(query) = self {
                query.emit(rest);
            }
        }
        set_checksum(bytes, pseudo_header);
    }

    fn to_fields(self) -> (u8, u16, Ipv6Addr) {
        let none = Ipv6Addr::UNSPECIFIED;
        match self {
            Message::QueryV1 { group, max_response } => {
                let code = u16::try_from(max_response.as_millis()).unwrap_or(u16::MAX);
                (kind::MULTICAST_LISTENER_QUERY, code, group.unwrap_or(none))
            }
            Message::QueryV2(Query { group, max_response, .. }) => {
                let code = encode_16(u32::try_from(max_response.as_millis()).unwrap_or(u32::MAX));
                (kind::MULTICAST_LISTENER_QUERY, code, group.unwrap_or(none))
            }
            Message::ReportV1 { group } => (kind::MULTICAST_LISTENER_REPORT, 0, group),
            Message::Done { group } => (kind::MULTICAST_LISTENER_DONE, 0, group),
            Message::ReportV2(_) => (kind::MULTICAST_LISTENER_REPORT_V2, 0, none),
        }
    }
}

fn parse_query(code: u16, group: Ipv6Addr, rest: &[u8]) -> Result<Message<'_>, Malformed> {
    let group = group_of(group, Ipv6Addr::UNSPECIFIED)?;
    let duration = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    if rest.is_empty() {
        return Ok(Message::QueryV1 { group, max_response: duration(code.into()) });
    }
    // 25 to 27 bytes are of no version.
    Query::parse(group, duration(decode_16(code)), rest).map(Message::QueryV2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::multicast::{Record, RecordKind, Sources, decode_8};
    use crate::wire::testing::{hex, mutations, truncate_everywhere};
    use etherparse::Icmpv6Slice;
    use proptest::prelude::*;

    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 2);
    const GROUP_TEXT: &str = "ff0e0000000000000000000000010002";
    const NONE_TEXT: &str = "00000000000000000000000000000000";

    fn ip(source: &str) -> ipv6::Header {
        let source = source.parse().unwrap();
        ipv6::Header { source, destination: ALL_NODES, hop_limit: HOP_LIMIT, ..ipv6::Header::default() }
    }

    fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
        Message::parse(&ip("fe80::1"), true, bytes)
    }

    /// With the checksum left out.
    fn emitted(message: &Message<'_>) -> Vec<u8> {
        let mut bytes = vec![0xa5; message.len()];
        message.emit(&mut bytes, Sum::ZERO);
        assert!(Sum::of(&bytes).is_valid());
        bytes[2..4].fill(0);
        bytes
    }

    #[test]
    fn messages_of_version_1_both_ways() {
        let max_response = Duration::from_secs(10);
        let table = [
            (format!("8200 0000 2710 0000 {NONE_TEXT}"), Message::QueryV1 { group: None, max_response }),
            (
                format!("8200 0000 2710 0000 {GROUP_TEXT}"),
                Message::QueryV1 { group: Some(GROUP), max_response },
            ),
            (format!("8300 0000 0000 0000 {GROUP_TEXT}"), Message::ReportV1 { group: GROUP }),
            (format!("8400 0000 0000 0000 {GROUP_TEXT}"), Message::Done { group: GROUP }),
        ];
        for (bytes, message) in table {
            let bytes = hex(&bytes);
            assert_eq!(parse(&bytes), Ok(message));
            assert_eq!(emitted(&message), bytes);
            truncate_everywhere(&bytes, 24, parse);
        }
    }

    #[test]
    fn queries_of_version_2_both_ways() {
        let sources = ["2001:db8::1".parse().unwrap()];
        let query = Query {
            group: Some(GROUP),
            max_response: Duration::from_secs(10),
            suppress: false,
            robustness: 2,
            interval: Duration::from_secs(125),
            sources: Sources::new(&sources),
        };
        let bytes =
            hex(&format!("8200 0000 2710 0000 {GROUP_TEXT} 027d 0001 20010db8000000000000000000000001"));
        assert_eq!(parse(&bytes), Ok(Message::QueryV2(query)));
        assert_eq!(emitted(&Message::QueryV2(query)), bytes);
    }

    #[test]
    fn queries_tell_their_version_by_their_length() {
        // [rfc3810 8.1]
        let bytes = hex(&format!("8200 0000 9000 0000 {NONE_TEXT} 027d 0000"));
        for length in 25..28 {
            assert_eq!(parse(&bytes[..length]), Err(Malformed::Length));
        }
        // Codes from 32768 are floating point in version 2 only.
        let group = None;
        let max_response = Duration::from_millis(0x9000);
        assert_eq!(parse(&bytes[..24]), Ok(Message::QueryV1 { group, max_response }));
        match parse(&bytes) {
            Ok(Message::QueryV2(query)) => assert_eq!(query.max_response, Duration::from_millis(0x1000 << 4)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reports_of_version_2_both_ways() {
        let sources = ["2001:db8::1".parse().unwrap()];
        let block =
            Record { kind: RecordKind::BlockOldSources, group: GROUP, sources: Sources::new(&sources) };
        let records = [Record::join(GROUP), block];
        let report = Message::ReportV2(Records::new(&records));
        let bytes = hex(&format!(
            "8f00 0000 0000 0002 0400 0000 {GROUP_TEXT} 0600 0001 {GROUP_TEXT} 20010db8000000000000000000000001"
        ));
        assert_eq!(parse(&bytes), Ok(report));
        assert_eq!(emitted(&report), bytes);
        truncate_everywhere(&bytes, bytes.len(), parse);
    }

    #[test]
    fn auxiliary_data_and_unknown_records_are_skipped() {
        // [rfc3810 5.2.10]
        let bytes = hex(&format!(
            "8f00 0000 0000 0002 0700 0000 {GROUP_TEXT} 0302 0000 {GROUP_TEXT} ffffffff ffffffff"
        ));
        let records = [Record::leave(GROUP)];
        assert_eq!(parse(&bytes), Ok(Message::ReportV2(Records::new(&records))));
    }

    #[test]
    fn messages_from_beyond_the_link_are_refused() {
        // [rfc3810 5.1.14] [rfc3810 6.2] [rfc2710 3]
        let query = hex(&format!("8200 0000 2710 0000 {NONE_TEXT}"));
        let report = hex("8f00 0000 0000 0000");
        for bytes in [&query, &report] {
            assert!(Message::parse(&ip("fe80::1"), true, bytes).is_ok());
            assert_eq!(Message::parse(&ip("fe80::1"), false, bytes), Err(Malformed::Value));
            assert_eq!(Message::parse(&ip("2001:db8::1"), true, bytes), Err(Malformed::Value));
            let routed = ipv6::Header { hop_limit: 2, ..ip("fe80::1") };
            assert_eq!(Message::parse(&routed, true, bytes), Err(Malformed::Value));
        }
        // [rfc3810 5.2.13]
        assert!(Message::parse(&ip("::"), true, &report).is_ok());
        assert_eq!(Message::parse(&ip("::"), true, &query), Err(Malformed::Value));
    }

    #[test]
    fn what_is_about_no_group_is_refused() {
        let host = "20010db8000000000000000000000001";
        for start in [
            "8200 0000 2710 0000",
            "8300 0000 0000 0000",
            "8400 0000 0000 0000",
            "8f00 0000 0000 0001 0400 0000",
        ] {
            assert_eq!(parse(&hex(&format!("{start} {host}"))), Err(Malformed::Value));
        }
        assert_eq!(parse(&hex(&format!("8500 0000 0000 0000 {GROUP_TEXT}"))), Err(Malformed::Value));
    }

    #[test]
    fn a_corpus_of_broken_messages_parses_or_is_refused() {
        let report = hex(&format!(
            "8f00 0000 0000 0002 0400 0000 {GROUP_TEXT} 0601 0001 {GROUP_TEXT} {GROUP_TEXT} 00000000"
        ));
        let query = hex(&format!("8200 0000 2710 0000 {GROUP_TEXT} 027d 0001 {GROUP_TEXT}"));
        for bytes in mutations(&report).chain(mutations(&query)) {
            if let Ok(message) = parse(&bytes) {
                assert_eq!(parse(&emitted(&message)), Ok(message));
            }
        }
    }

    fn any_group() -> impl Strategy<Value = Ipv6Addr> {
        any::<u128>().prop_map(|group| Ipv6Addr::from(group | 0xff << 120))
    }

    fn any_sources() -> impl Strategy<Value = Vec<Ipv6Addr>> {
        prop::collection::vec(any::<u128>().prop_map(Ipv6Addr::from), 0..5)
    }

    proptest! {
        #[test]
        fn reports_come_back(groups in prop::collection::vec((any_group(), any_sources()), 0..6), to: u128) {
            let records: Vec<_> = groups
                .iter()
                .map(|(group, sources)| {
                    Record { kind: RecordKind::ModeIsInclude, group: *group, sources: Sources::new(sources) }
                })
                .collect();
            let report = Message::ReportV2(Records::new(&records));
            let (ip, to) = (ip("fe80::1"), Ipv6Addr::from(to));
            let mut bytes = vec![0xa5; report.len()];
            report.emit(&mut bytes, crate::wire::icmpv6::pseudo_header(ip.source, to, report.len()));
            prop_assert_eq!(parse(&bytes), Ok(report));
            // etherparse knows these messages by their checksum only.
            let other = Icmpv6Slice::from_slice(&bytes).unwrap();
            prop_assert!(other.is_checksum_valid(ip.source.octets(), to.octets()));
        }

        #[test]
        fn queries_come_back(
            group in prop::option::of(any_group()), codes: (u16, u8), flags: (bool, u8), sources in any_sources(),
        ) {
            let query = Query {
                group,
                max_response: Duration::from_millis(decode_16(codes.0).into()),
                suppress: flags.0,
                robustness: flags.1 % 8,
                interval: Duration::from_secs(decode_8(codes.1).into()),
                sources: Sources::new(&sources),
            };
            let bytes = emitted(&Message::QueryV2(query));
            prop_assert_eq!(parse(&bytes), Ok(Message::QueryV2(query)));
        }

        #[test]
        fn anything_parses_or_is_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in prop::sample::select(vec![130u8, 131, 132, 143]),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = parse(&bytes);
        }
    }
}
