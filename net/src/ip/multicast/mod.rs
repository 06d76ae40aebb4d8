//! Membership in groups: the host's side of IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), and of their older versions
//! where a router speaks these. One state machine for both, by the type of address.
//!
//! Sockets join groups for all sources; filters of sources do not exist here, so that a record says either "all but
//! none" or "none but none". Limit: [`MOST_GROUPS`] groups, which only our own sockets can make.

mod emit;
#[cfg(test)]
mod tests;

use super::between;
use crate::wire::multicast::{Address, RecordKind};
use crate::wire::{igmp, mld};
use demikernel_runtime::time::{Duration, Instant};
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many groups an interface is in at most. Their records fit into one packet of 1280 bytes, or of 576 for IPv4.
pub const MOST_GROUPS: usize = 60;

/// How often a change is reported if no querier says [rfc3376 8.1] [rfc3810 9.1].
const ROBUSTNESS: u8 = 2;

/// Between the repetitions of a report that nobody asked for [rfc3376 8.11] [rfc3810 9.11].
const UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The same of version 2 of IGMP and 1 of MLD (RFC 2236 section 8.10, RFC 2710 section 7.10).
const OLD_UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Between general queries if none says (RFC 3376 section 8.2).
const QUERY_INTERVAL: Duration = Duration::from_secs(125);

/// Answers to queries of version 1 of IGMP come within (RFC 3376 section 4.1.1).
const V1_MAX_RESPONSE: Duration = Duration::from_secs(10);

/// Which groups need no reports, and which version is which.
pub trait Family: Address + Ord {
    /// Whether membership in the group is reported: not in that of all hosts [rfc3376 6-all-systems]
    /// [rfc3810 6-all-nodes], nor beyond the host itself.
    fn is_reported(&self) -> bool;
}

impl Family for Ipv4Addr {
    fn is_reported(&self) -> bool {
        *self != igmp::ALL_SYSTEMS
    }
}

impl Family for Ipv6Addr {
    fn is_reported(&self) -> bool {
        let scope = self.octets()[1] & 0x0f;
        *self != mld::ALL_NODES && scope > 1
    }
}

/// What routers on the link speak. MLD's versions 1 and 2 are as IGMP's 2 and 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// IGMPv1.
    One,
    /// IGMPv2, MLDv1.
    Two,
    /// IGMPv3, MLDv2.
    Three,
}

/// A query that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<A> {
    /// Of which version.
    pub version: Version,
    /// About which group, if not about all.
    pub group: Option<A>,
    /// Within what time answers are to come.
    pub max_response: Duration,
    /// How often reports are repeated; 0 says nothing.
    pub robustness: u8,
    /// Between general queries.
    pub interval: Duration,
}

impl Query<Ipv4Addr> {
    /// The query that a message of IGMP is, if it is one.
    #[must_use]
    pub fn from_igmp(message: &igmp::Message<'_>) -> Option<Query<Ipv4Addr>> {
        let (robustness, interval) = (0, QUERY_INTERVAL);
        match message {
            igmp::Message::QueryV1 => Some(Query {
                version: Version::One,
                group: None,
                max_response: V1_MAX_RESPONSE,
                robustness,
                interval,
            }),
            igmp::Message::QueryV2 { group, max_response } => Some(Query {
                version: Version::Two,
                group: *group,
                max_response: *max_response,
                robustness,
                interval,
            }),
            // One about certain sources is answered as one about the group: all of them are wanted.
            igmp::Message::QueryV3(query) => Some(Query {
                version: Version::Three,
                group: query.group,
                max_response: query.max_response,
                robustness: query.robustness,
                interval: query.interval,
            }),
            _ => None,
        }
    }
}

impl Query<Ipv6Addr> {
    /// The query that a message of MLD is, if it is one.
    #[must_use]
    pub fn from_mld(message: &mld::Message<'_>) -> Option<Query<Ipv6Addr>> {
        match message {
            mld::Message::QueryV1 { group, max_response } => Some(Query {
                version: Version::Two,
                group: *group,
                max_response: *max_response,
                robustness: 0,
                interval: QUERY_INTERVAL,
            }),
            mld::Message::QueryV2(query) => Some(Query {
                version: Version::Three,
                group: query.group,
                max_response: query.max_response,
                robustness: query.robustness,
                interval: query.interval,
            }),
            _ => None,
        }
    }
}

/// What is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing<A> {
    /// A report of the current version, with a record for each; no record has sources.
    Records(Vec<(RecordKind, A)>),
    /// A report of IGMPv1.
    ReportOne(A),
    /// A report of IGMPv2 or MLDv1, sent to the group.
    ReportTwo(A),
    /// Leave of IGMPv2, or Done of MLDv1, sent to all routers.
    Leave(A),
}

/// There are [`MOST_GROUPS`], or it is no group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the group cannot be joined")]
pub struct CannotJoin;

/// The groups of an interface.
///
/// ```
/// use demikernel_net::ip::multicast::{CannotJoin, Groups, Outgoing};
/// use demikernel_net::wire::multicast::RecordKind;
/// use demikernel_runtime::time::Instant;
/// use std::net::Ipv4Addr;
///
/// let (now, group) = (Instant::from_nanos(1), Ipv4Addr::new(239, 1, 2, 3));
/// let mut groups = Groups::new();
/// assert!(!groups.contains(group));
/// groups.join(now, group)?;
/// assert!(groups.contains(group));
/// // Routers are told.
/// let report = Outgoing::Records(vec![(RecordKind::ChangeToExclude, group)]);
/// assert_eq!(groups.poll(now, 0), Some(report));
/// assert_eq!(groups.join(now, Ipv4Addr::new(192, 0, 2, 1)), Err(CannotJoin));
/// # Ok::<(), CannotJoin>(())
/// ```
#[derive(Debug)]
pub struct Groups<A> {
    /// In order; those that were left stay until that was reported.
    list: Vec<Group<A>>,
    robustness: u8,
    /// When a general query is answered in the current version.
    general: Option<Instant>,
    /// Until when routers of older versions are taken to be there.
    one_until: Option<Instant>,
    two_until: Option<Instant>,
}

#[derive(Debug)]
struct Group<A> {
    address: A,
    /// Sockets that have joined.
    users: u32,
    /// How many more times its change is reported, and when next.
    repeats: u8,
    change: Option<Instant>,
    /// When a query about it is answered.
    answer: Option<Instant>,
    /// Nobody else has reported it since: the leave is ours to say (RFC 2236 section 3).
    is_last_reporter: bool,
}

impl<A: Family> Default for Groups<A> {
    fn default() -> Groups<A> {
        Groups { list: Vec::new(), robustness: ROBUSTNESS, general: None, one_until: None, two_until: None }
    }
}

impl<A: Family> Groups<A> {
    /// In none.
    #[must_use]
    pub fn new() -> Groups<A> {
        Groups::default()
    }

    /// A socket joins a group; the first one that does is reported at once [rfc3376 5.1] [rfc3810 6.1].
    ///
    /// # Errors
    /// If there is no room, or it is no group.
    pub fn join(&mut self, now: Instant, address: A) -> Result<(), CannotJoin> {
        if !address.is_multicast() {
            return Err(CannotJoin);
        }
        let place = match self.list.binary_search_by_key(&address, |group| group.address) {
            Ok(place) => place,
            Err(_) if self.list.len() >= MOST_GROUPS => return Err(CannotJoin),
            Err(place) => {
                self.list.insert(place, Group::new(address));
                place
            }
        };
        let robustness = self.robustness;
        let group = &mut self.list[place];
        group.users += 1;
        if group.users == 1 {
            group.changed(now, robustness);
        }
        Ok(())
    }

    /// A socket leaves a group; whether it was in it.
    pub fn leave(&mut self, now: Instant, address: A) -> bool {
        let robustness = self.robustness;
        let Some(group) = self.find_mut(address).filter(|group| group.users > 0) else { return false };
        group.users -= 1;
        if group.users == 0 {
            group.answer = None;
            group.changed(now, robustness);
            self.sweep();
        }
        true
    }

    /// Whether packets to a group are taken: those that a socket has joined, and all hosts'.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
        let found = self.list.binary_search_by_key(&address, |group| group.address);
        found.is_ok_and(|place| self.list[place].users > 0) || !address.is_reported()
    }

    /// How many groups there are, those that were left and are not reported yet among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What the routers speak [rfc3376 7.2.1] [rfc3810 8.2.1].
    #[must_use]
    pub fn version(&self, now: Instant) -> Version {
        let is_there = |until: Option<Instant>| until.is_some_and(|until| now < until);
        match (is_there(self.one_until), is_there(self.two_until)) {
            (true, _) => Version::One,
            (false, true) => Version::Two,
            (false, false) => Version::Three,
        }
    }

    /// Takes a query: an answer is to come at a random time within what it says [rfc3376 5.2] [rfc3810 6.2].
    pub fn on_query(&mut self, now: Instant, query: &Query<A>, random: u64) {
        let before = self.version(now);
        if query.version == Version::Three && query.robustness != 0 {
            // [rfc3376 4.1.6]
            self.robustness = query.robustness;
        }
        // [rfc3376 8.12] [rfc3810 9.12]
        let present = query.interval * u32::from(self.robustness) + query.max_response;
        match query.version {
            Version::One => self.one_until = Some(now.saturating_add(present)),
            Version::Two => self.two_until = Some(now.saturating_add(present)),
            Version::Three => {}
        }
        if self.version(now) != before {
            self.cancel();
        }
        let delay = |random| now.saturating_add(between(Duration::ZERO, query.max_response, random));
        // What will be answered sooner in any case needs nothing more [rfc3376 5.2-1] [rfc3810 6.2-1].
        let due = delay(random);
        if self.general.is_some_and(|general| general <= due) {
            return;
        }
        match query.group {
            // One report for all [rfc3376 5.2-2] [rfc3810 6.2-2].
            None if self.version(now) == Version::Three => self.general = Some(due),
            // One for each, at times of their own (RFC 2236 section 3).
            None => {
                let mut random = random;
                for group in &mut self.list {
                    random = mix(random);
                    group.ask(delay(random));
                }
            }
            Some(address) => {
                // [rfc3376 5.2-3] [rfc3810 6.2-3]
                if let Some(group) = self.find_mut(address) {
                    group.ask(due);
                }
            }
        }
    }

    /// Another host has reported a group in an older version: one is enough (RFC 2236 section 3, RFC 2710 section 4).
    pub fn on_report(&mut self, now: Instant, address: A) {
        if self.version(now) == Version::Three {
            return;
        }
        let promised = self.find_mut(address).filter(|group| group.answer.is_some());
        if let Some(group) = promised {
            group.answer = None;
            group.is_last_reporter = false;
        }
    }

    /// What is to be sent now, if anything. Ask again until there is nothing.
    pub fn poll(&mut self, now: Instant, random: u64) -> Option<Outgoing<A>> {
        if self.version(now) == Version::Three {
            self.poll_three(now, random)
        } else {
            self.poll_old(now, random)
        }
    }

    fn poll_three(&mut self, now: Instant, random: u64) -> Option<Outgoing<A>> {
        if self.general.is_some_and(|due| due <= now) {
            self.general = None;
            let joined = self.list.iter_mut().filter(|group| group.users > 0);
            let records = joined.map(|group| {
                group.answer = None;
                (RecordKind::ModeIsExclude, group.address)
            });
            let records: Vec<_> = records.filter(|(_, address)| address.is_reported()).collect();
            if !records.is_empty() {
                return Some(Outgoing::Records(records));
            }
        }
        let next = now.saturating_add(between(Duration::ZERO, UNSOLICITED_REPORT_INTERVAL, random));
        let records = self.list.iter_mut().filter_map(|group| group.record(now, next)).collect::<Vec<_>>();
        self.sweep();
        (!records.is_empty()).then_some(Outgoing::Records(records))
    }

    fn poll_old(&mut self, now: Instant, random: u64) -> Option<Outgoing<A>> {
        let version = self.version(now);
        let next = now.saturating_add(between(Duration::ZERO, OLD_UNSOLICITED_REPORT_INTERVAL, random));
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let mut outgoing = None;
        for group in &mut self.list {
            if !is_due(group.answer) && !is_due(group.change) {
                continue;
            }
            if is_due(group.change) {
                group.repeats = group.repeats.saturating_sub(1);
                group.change = (group.repeats > 0 && group.users > 0).then_some(next);
            }
            group.answer = None;
            let address = group.address;
            outgoing = match (group.users > 0, version) {
                (true, Version::One) => Some(Outgoing::ReportOne(address)),
                (true, _) => Some(Outgoing::ReportTwo(address)),
                // Version 1 knows no leaving.
                (false, Version::Two) if group.is_last_reporter => Some(Outgoing::Leave(address)),
                (false, _) => continue,
            };
            group.is_last_reporter = true;
            break;
        }
        self.sweep();
        outgoing
    }

    /// When [`poll`](Groups::poll) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let groups = self.list.iter().flat_map(|group| [group.change, group.answer]);
        groups.chain([self.general]).flatten().min()
    }

    /// Answers that were promised to a router of another version are not given [rfc3376 7.2.1-cancel]
    /// [rfc3810 8.2.1-cancel].
    fn cancel(&mut self) {
        self.general = None;
        for group in &mut self.list {
            (group.answer, group.change, group.repeats) = (None, None, 0);
        }
        self.sweep();
    }

    /// What was left, and has been said so, is forgotten.
    fn sweep(&mut self) {
        self.list.retain(|group| group.users > 0 || group.change.is_some());
    }

    fn find_mut(&mut self, address: A) -> Option<&mut Group<A>> {
        let place = self.list.binary_search_by_key(&address, |group| group.address).ok()?;
        self.list.get_mut(place)
    }
}

impl<A: Family> Group<A> {
    fn new(address: A) -> Group<A> {
        Group { address, users: 0, repeats: 0, change: None, answer: None, is_last_reporter: false }
    }

    /// Its change is reported now, and again some times [rfc3376 5.1-repeat] [rfc3810 6.1-repeat].
    fn changed(&mut self, now: Instant, robustness: u8) {
        if self.address.is_reported() {
            self.repeats = robustness;
            self.change = Some(now);
        }
    }

    fn ask(&mut self, due: Instant) {
        if self.users > 0 && self.address.is_reported() {
            self.answer = Some(self.answer.map_or(due, |known| known.min(due)));
        }
    }

    /// The record that is due, if any: that of a change says as much as an answer.
    fn record(&mut self, now: Instant, next: Instant) -> Option<(RecordKind, A)> {
        if self.change.is_some_and(|due| due <= now) {
            self.repeats = self.repeats.saturating_sub(1);
            self.change = (self.repeats > 0).then_some(next);
            let kind = if self.users > 0 { RecordKind::ChangeToExclude } else { RecordKind::ChangeToInclude };
            return Some((kind, self.address));
        }
        let is_asked = self.answer.is_some_and(|due| due <= now);
        is_asked.then(|| {
            self.answer = None;
            (RecordKind::ModeIsExclude, self.address)
        })
    }
}

/// Another random value made of one (the finalizer of SplitMix64).
fn mix(random: u64) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
