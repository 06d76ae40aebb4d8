use super::*;
use proptest::prelude::*;

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 2);
const SECOND: Duration = Duration::from_secs(1);

fn query(version: Version, group: Option<Ipv4Addr>) -> Query<Ipv4Addr> {
    Query { version, group, max_response: 10 * SECOND, robustness: 0, interval: QUERY_INTERVAL }
}

/// What is sent until nothing is left to send, and when, in milliseconds from [`NOW`].
fn story<A: Family>(groups: &mut Groups<A>, random: u64) -> Vec<(u64, String)> {
    let mut story = Vec::new();
    while let Some(due) = groups.deadline() {
        while let Some(outgoing) = groups.poll(due, random) {
            story.push(((due - NOW).as_millis() as u64, format!("{outgoing:?}")));
        }
    }
    story
}

fn records(kind: &str, groups: &str) -> String {
    let records = groups.split_whitespace().map(|group| format!("({kind}, {group})")).collect::<Vec<_>>();
    format!("Records([{}])", records.join(", "))
}

#[test]
fn joining_and_leaving_are_reported_twice() {
    // [rfc3376 5.1] [rfc3376 5.1-repeat] [rfc3376 8.11] [rfc3376 8.1]
    let mut groups = Groups::new();
    groups.join(NOW, GROUP).unwrap();
    let join = records("ChangeToExclude", "239.0.0.1");
    assert_eq!(story(&mut groups, u64::MAX), [(0, join.clone()), (1000, join)]);
    groups.join(NOW, GROUP).unwrap();
    assert!(groups.leave(NOW, GROUP) && groups.contains(GROUP), "one socket is left");
    assert_eq!(story(&mut groups, 0), []);
    assert!(groups.leave(NOW, GROUP) && !groups.contains(GROUP));
    let leave = records("ChangeToInclude", "239.0.0.1");
    assert_eq!(story(&mut groups, 1 << 63), [(0, leave.clone()), (500, leave)]);
    assert!(groups.is_empty() && !groups.leave(NOW, GROUP));
}

#[test]
fn mld_does_as_igmp() {
    // [rfc3810 6.1] [rfc3810 6.1-repeat] [rfc3810 9.11] [rfc3810 9.1] [rfc3810 6.2] [rfc3810 6.2-2]
    let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
    let mut groups = Groups::new();
    groups.join(NOW, group).unwrap();
    let join = records("ChangeToExclude", "ff02::1:ff00:1");
    assert_eq!(story(&mut groups, u64::MAX), [(0, join.clone()), (1000, join)]);
    let wire = mld::Message::QueryV2(crate::wire::multicast::Query {
        group: None,
        max_response: 2 * SECOND,
        suppress: false,
        robustness: 3,
        interval: QUERY_INTERVAL,
        sources: crate::wire::multicast::Sources::new(&[]),
    });
    groups.on_query(NOW, &Query::from_mld(&wire).unwrap(), 1 << 63);
    assert_eq!(story(&mut groups, 0), [(1000, records("ModeIsExclude", "ff02::1:ff00:1"))]);
    // [rfc3376 4.1.6] as of MLD: three times from now on.
    groups.leave(NOW, group);
    assert_eq!(story(&mut groups, 0).len(), 3);
    // [rfc3810 6.2-1] [rfc3810 6.2-3] [rfc3810 8.2.1] [rfc3810 9.12] [rfc3810 8.2.1-cancel]
    groups.join(NOW, group).unwrap();
    groups.on_query(NOW, &Query::from_mld(&wire).unwrap(), 0);
    let old = mld::Message::QueryV1 { group: Some(group), max_response: 4 * SECOND };
    groups.on_query(NOW, &Query::from_mld(&old).unwrap(), 1 << 63);
    assert_eq!(groups.version(NOW), Version::Two);
    assert_eq!(story(&mut groups, 0), [(2000, format!("ReportTwo({group})"))]);
    assert_eq!(Query::from_mld(&mld::Message::Done { group }), None);
}

#[test]
fn queries_are_answered_once_at_a_random_time() {
    let mut groups = Groups::new();
    for group in [GROUP, OTHER] {
        groups.join(NOW, group).unwrap();
    }
    story(&mut groups, 0);
    // [rfc3376 5.2] [rfc3376 5.2-2]
    groups.on_query(NOW, &query(Version::Three, None), 1 << 63);
    // [rfc3376 5.2-1]: these come too late to matter.
    groups.on_query(NOW, &query(Version::Three, None), u64::MAX);
    groups.on_query(NOW, &query(Version::Three, Some(GROUP)), u64::MAX);
    assert_eq!(story(&mut groups, 0), [(5000, records("ModeIsExclude", "239.0.0.1 239.0.0.2"))]);
    // [rfc3376 5.2-3]
    groups.on_query(NOW, &query(Version::Three, Some(GROUP)), 1 << 63);
    groups.on_query(NOW, &query(Version::Three, Some(GROUP)), 1 << 62);
    groups.on_query(NOW, &query(Version::Three, Some(Ipv4Addr::new(239, 9, 9, 9))), 0);
    assert_eq!(story(&mut groups, 0), [(2500, records("ModeIsExclude", "239.0.0.1"))]);
}

#[test]
fn nobody_reports_the_group_of_all() {
    // [rfc3376 6-all-systems] [rfc3810 6-all-nodes]
    let mut groups = Groups::new();
    groups.join(NOW, igmp::ALL_SYSTEMS).unwrap();
    groups.on_query(NOW, &query(Version::Three, None), 0);
    groups.on_query(NOW, &query(Version::Three, Some(igmp::ALL_SYSTEMS)), 0);
    assert_eq!(story(&mut groups, 0), []);
    let mut groups = Groups::new();
    for group in [mld::ALL_NODES, "ff01::7".parse().unwrap()] {
        groups.join(NOW, group).unwrap();
    }
    assert_eq!(story(&mut groups, 0), []);
    assert!(Groups::<Ipv6Addr>::new().contains(mld::ALL_NODES));
}

#[test]
fn older_routers_get_older_reports_for_as_long_as_they_are_there() {
    // [rfc3376 7.2.1] [rfc3376 8.12] [rfc3376 7.2.1-cancel]
    let mut groups = Groups::new();
    groups.join(NOW, GROUP).unwrap();
    groups.on_query(NOW, &query(Version::Three, None), 0);
    groups.on_query(NOW, &query(Version::Two, None), 0);
    assert_eq!(groups.version(NOW), Version::Two);
    let told = story(&mut groups, 0);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, "ReportTwo(239.0.0.1)");
    groups.leave(NOW, GROUP);
    assert_eq!(story(&mut groups, 0), [(0, "Leave(239.0.0.1)".into())]);
    let end = NOW + 2 * QUERY_INTERVAL + 10 * SECOND;
    assert_eq!(groups.version(end - Duration::from_nanos(1)), Version::Two);
    assert_eq!(groups.version(end), Version::Three);
    // Version 1 comes before 2 and knows no leaving.
    groups.on_query(NOW, &Query::from_igmp(&igmp::Message::QueryV1).unwrap(), 0);
    groups.join(NOW, GROUP).unwrap();
    let report = "ReportOne(239.0.0.1)".to_string();
    assert_eq!(story(&mut groups, u64::MAX), [(0, report.clone()), (10_000, report)]);
    groups.leave(NOW, GROUP);
    assert_eq!(story(&mut groups, 0), []);
    assert!(groups.is_empty());
}

#[test]
fn one_report_of_an_older_version_is_enough() {
    let mut groups = Groups::new();
    groups.join(NOW, GROUP).unwrap();
    let asked = igmp::Message::QueryV2 { group: None, max_response: SECOND };
    groups.on_query(NOW, &Query::from_igmp(&asked).unwrap(), 0);
    groups.on_report(NOW, GROUP);
    assert_eq!(story(&mut groups, 0), []);
    groups.leave(NOW, GROUP);
    assert_eq!(story(&mut groups, 0), [], "the other one is there to say it");
    // In version 3 nobody relies on others.
    let mut groups = Groups::new();
    groups.join(NOW, GROUP).unwrap();
    story(&mut groups, 0);
    groups.on_query(NOW, &query(Version::Three, Some(GROUP)), 0);
    groups.on_report(NOW, GROUP);
    assert_eq!(story(&mut groups, 0).len(), 1);
}

#[test]
fn groups_are_limited() {
    let mut groups = Groups::new();
    assert_eq!(groups.join(NOW, Ipv4Addr::new(10, 0, 0, 1)), Err(CannotJoin));
    for number in 0..1000u32 {
        let result = groups.join(NOW, Ipv4Addr::from_bits(0xef00_0000 + number));
        assert_eq!(result.is_ok(), number < MOST_GROUPS as u32);
    }
    let Some(Outgoing::Records(records)) = groups.poll(NOW, 0) else { panic!("no report") };
    assert_eq!(records.len(), MOST_GROUPS);
    // They fit into what every link carries.
    const { assert!(24 + 8 + 8 * MOST_GROUPS <= 576 && 40 + 8 + 8 + 20 * MOST_GROUPS <= 1280) };
}

proptest! {
    #[test]
    fn whatever_happens_membership_is_right_and_talk_ends(
        steps in prop::collection::vec((0u8..6, 0u8..4, any::<u64>()), 0..100),
    ) {
        let mut groups = Groups::new();
        let mut users = [0u32; 4];
        let mut now = NOW;
        for (step, which, random) in steps {
            let group = Ipv4Addr::new(239, 0, 0, which);
            match step {
                0 => {
                    groups.join(now, group).unwrap();
                    users[usize::from(which)] += 1;
                }
                1 => {
                    let was_in = users[usize::from(which)] > 0;
                    prop_assert_eq!(groups.leave(now, group), was_in);
                    users[usize::from(which)] -= u32::from(was_in);
                }
                2 => {
                    let version = [Version::One, Version::Two, Version::Three][usize::from(which) % 3];
                    groups.on_query(now, &query(version, (random & 1 == 0).then_some(group)), random);
                }
                3 => groups.on_report(now, group),
                _ => {
                    now += Duration::from_millis(random % 20_000);
                    while groups.poll(now, random).is_some() {}
                    prop_assert!(groups.deadline().is_none_or(|due| due > now));
                }
            }
            for (which, users) in users.iter().enumerate() {
                prop_assert_eq!(groups.contains(Ipv4Addr::new(239, 0, 0, which as u8)), *users > 0);
            }
        }
        let mut sent = 0;
        while let Some(due) = groups.deadline() {
            let before = sent;
            while groups.poll(due, 1 << 63).is_some() { sent += 1; }
            prop_assert!(sent - before < 10 && sent < 100);
        }
        prop_assert_eq!(groups.len(), users.iter().filter(|users| **users > 0).count());
    }
}
