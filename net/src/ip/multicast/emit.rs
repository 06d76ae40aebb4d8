//! Reports as messages.

use super::Outgoing;
use crate::wire::multicast::{Record, RecordKind, Records};
use crate::wire::{icmpv6, igmp, mld};
use std::net::{Ipv4Addr, Ipv6Addr};

fn record<A: super::Family>((kind, group): &(RecordKind, A)) -> Record<'static, A> {
    Record { kind: *kind, ..Record::join(*group) }
}

impl Outgoing<Ipv4Addr> {
    /// Where it goes, and the message of IGMP, which is sent with a time to live of 1 and a router alert
    /// [rfc3376 4-ttl] [rfc3376 4.2.14].
    #[must_use]
    pub fn to_igmp(&self) -> (Ipv4Addr, Vec<u8>) {
        let records: Vec<_>;
        let (destination, message) = match self {
            Outgoing::Records(list) => {
                records = list.iter().map(record).collect();
                (igmp::ALL_REPORTS, igmp::Message::ReportV3(Records::new(&records)))
            }
            Outgoing::ReportOne(group) => (*group, igmp::Message::ReportV1 { group: *group }),
            Outgoing::ReportTwo(group) => (*group, igmp::Message::ReportV2 { group: *group }),
            Outgoing::Leave(group) => (igmp::ALL_ROUTERS, igmp::Message::Leave { group: *group }),
        };
        let mut bytes = vec![0; message.len()];
        message.emit(&mut bytes);
        (destination, bytes)
    }
}

impl Outgoing<Ipv6Addr> {
    /// Where it goes, and the message of MLD from `source`, a link-local address or `::` [rfc3810 5.2.13], which is
    /// sent with a hop limit of 1 and a router alert [rfc3810 5.2.14].
    #[must_use]
    pub fn to_mld(&self, source: Ipv6Addr) -> (Ipv6Addr, Vec<u8>) {
        let records: Vec<_>;
        let (destination, message) = match self {
            Outgoing::Records(list) => {
                records = list.iter().map(record).collect();
                (mld::ALL_REPORTS, mld::Message::ReportV2(Records::new(&records)))
            }
            // MLD has no version before its first, which is as IGMP's second.
            Outgoing::ReportOne(group) | Outgoing::ReportTwo(group) => {
                (*group, mld::Message::ReportV1 { group: *group })
            }
            Outgoing::Leave(group) => (mld::ALL_ROUTERS, mld::Message::Done { group: *group }),
        };
        let mut bytes = vec![0; message.len()];
        message.emit(&mut bytes, icmpv6::pseudo_header(source, destination, message.len()));
        (destination, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6;

    #[test]
    fn reports_of_igmp_go_where_routers_hear_them() {
        // [rfc3376 4-ttl] [rfc3376 4.2.14]
        let group = Ipv4Addr::new(239, 0, 0, 1);
        let records = [Record::leave(group)];
        let table = [
            (
                Outgoing::Records(vec![(RecordKind::ChangeToInclude, group)]),
                igmp::ALL_REPORTS,
                igmp::Message::ReportV3(Records::new(&records)),
            ),
            (Outgoing::ReportOne(group), group, igmp::Message::ReportV1 { group }),
            (Outgoing::ReportTwo(group), group, igmp::Message::ReportV2 { group }),
            (Outgoing::Leave(group), igmp::ALL_ROUTERS, igmp::Message::Leave { group }),
        ];
        for (outgoing, expected, message) in table {
            let (destination, bytes) = outgoing.to_igmp();
            assert_eq!((destination, igmp::Message::parse(&bytes)), (expected, Ok(message)));
        }
    }

    #[test]
    fn reports_of_mld_go_where_routers_hear_them() {
        // [rfc3810 5.2.13] [rfc3810 5.2.14]
        let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        let source: Ipv6Addr = "fe80::1".parse().unwrap();
        let records = [Record::join(group)];
        let table = [
            (
                Outgoing::Records(vec![(RecordKind::ChangeToExclude, group)]),
                mld::ALL_REPORTS,
                mld::Message::ReportV2(Records::new(&records)),
            ),
            (Outgoing::ReportTwo(group), group, mld::Message::ReportV1 { group }),
            (Outgoing::Leave(group), mld::ALL_ROUTERS, mld::Message::Done { group }),
        ];
        for (outgoing, expected, message) in table {
            let (destination, bytes) = outgoing.to_mld(source);
            let ip =
                ipv6::Header { source, destination, hop_limit: mld::HOP_LIMIT, ..ipv6::Header::default() };
            assert_eq!((destination, mld::Message::parse(&ip, true, &bytes)), (expected, Ok(message)));
            let pseudo_header = icmpv6::pseudo_header(source, destination, bytes.len());
            assert!(icmpv6::Message::parse(&bytes, pseudo_header).is_ok());
        }
    }
}
