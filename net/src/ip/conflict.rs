//! Nobody else has an address: duplicate address detection for IPv6 (RFC 4862 section 5.4), and address conflict
//! detection for IPv4 (RFC 5227), with the defence of the latter; and the announcements of both.
//!
//! One [`Detection`] belongs to one address, from the moment when it is tentative. It is small and has no queue.

use super::between;
use crate::wire::arp;
use crate::wire::ethernet::MacAddress;
use demikernel_runtime::time::{Duration, Instant};
use std::net::{IpAddr, Ipv4Addr};

/// RFC 5227 section 1.1.
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_NUM: u8 = 3;
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(2);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const ANNOUNCE_NUM: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// How long each wait of a quick detection is at most. The probes are as many, but fit into the time that a program's
/// start may take: NetworkManager and systemd-networkd probe for as long.
const QUICK: Duration = Duration::from_millis(70);

/// After so many conflicts an address is tried at most every [`RATE_LIMIT_INTERVAL`] [rfc5227 2.1.1-rate].
pub const MAX_CONFLICTS: u8 = 10;

/// See [`MAX_CONFLICTS`].
pub const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(60);

/// How many solicitations are sent [rfc4862 5.1].
const DUP_ADDR_DETECT_TRANSMITS: u8 = 1;

/// How long the first one waits at most [rfc4862 5.4.2-delay].
const MAX_RTR_SOLICITATION_DELAY: Duration = Duration::from_secs(1);

/// What is to be done about the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a probe: an ARP request from 0.0.0.0, or a solicitation from `::`, to all.
    Probe,
    /// Nobody has answered: the address is ours.
    Confirmed,
    /// Send an announcement: an ARP request from the address for it, or an advertisement for which nobody has asked.
    Announce,
}

/// What a conflict means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The address is another's: stop using it.
    GiveUp,
    /// Keep it, and send one announcement.
    Defend,
    /// Keep it, and say nothing: two hosts that announce at each announcement would never stop.
    Keep,
}

/// The probe for an address of IPv4: a question to all from nobody [rfc5227 2.1.1-probe].
#[must_use]
pub const fn probe(own: MacAddress, address: Ipv4Addr) -> arp::Packet {
    arp::Packet {
        operation: arp::Operation::Request,
        sender_hardware: own,
        sender_protocol: Ipv4Addr::UNSPECIFIED,
        target_hardware: MacAddress([0; 6]),
        target_protocol: address,
    }
}

/// The announcement of an address of IPv4: a question to all for it from itself [rfc5227 2.3-packet].
///
/// ```
/// use demikernel_net::ip::conflict::{announcement, probe};
/// use demikernel_net::wire::ethernet::MacAddress;
/// use std::net::Ipv4Addr;
///
/// let (own, address) = (MacAddress([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(192, 0, 2, 1));
/// let (question, news) = (probe(own, address), announcement(own, address));
/// assert_eq!((question.target_protocol, news.target_protocol), (address, address));
/// assert_eq!(question.sender_protocol, Ipv4Addr::UNSPECIFIED, "nobody is to learn it yet");
/// assert_eq!(news.sender_protocol, address);
/// ```
#[must_use]
pub const fn announcement(own: MacAddress, address: Ipv4Addr) -> arp::Packet {
    arp::Packet { sender_protocol: address, ..probe(own, address) }
}

/// How an address came to be unique, or is on its way there.
///
/// ```
/// use demikernel_net::ip::conflict::{Action, Detection, Verdict};
/// use demikernel_runtime::time::{Duration, Instant};
///
/// let start = Instant::from_nanos(0);
/// let address = "192.0.2.1".parse().unwrap();
/// let mut detection = Detection::new(start, address, Duration::from_secs(1), 0, 0);
/// let mut actions = vec![];
/// while let Some(due) = detection.deadline() {
///     actions.extend(detection.poll(due, 0));
/// }
/// use Action::{Announce, Confirmed, Probe};
/// assert_eq!(actions, [Probe, Probe, Probe, Confirmed, Announce, Announce]);
///
/// // An address in use is defended, but not for ever.
/// let later = start + Duration::from_secs(60);
/// assert_eq!(detection.on_conflict(later), Verdict::Defend);
/// assert_eq!(detection.on_conflict(later + Duration::from_secs(1)), Verdict::GiveUp);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detection {
    is_ipv4: bool,
    /// Between the questions of NDP.
    retransmit: Duration,
    is_quick: bool,
    phase: Phase,
    due: Instant,
    defended: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// So many probes were sent.
    Probing(u8),
    /// It is ours, and so many announcements were sent.
    Announcing(u8),
    Done,
}

impl Detection {
    /// Begins with a tentative address. `conflicts` is how many addresses of this interface were given up before.
    #[must_use]
    pub fn new(now: Instant, address: IpAddr, retransmit: Duration, conflicts: u8, random: u64) -> Detection {
        // [rfc5227 2.1.1-wait] [rfc4862 5.4.2-delay]
        let longest = if address.is_ipv4() { PROBE_WAIT } else { MAX_RTR_SOLICITATION_DELAY };
        let held_back = if conflicts >= MAX_CONFLICTS { RATE_LIMIT_INTERVAL } else { Duration::ZERO };
        Detection {
            is_ipv4: address.is_ipv4(),
            retransmit,
            is_quick: false,
            phase: Phase::Probing(0),
            due: now + held_back + between(Duration::ZERO, longest, random),
            defended: None,
        }
    }

    /// The same of an address of IPv4 in a fraction of a second: who answers that late is not found out.
    #[must_use]
    pub fn quick(now: Instant, conflicts: u8) -> Detection {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Detection { is_quick: true, ..Detection::new(now, any, Duration::ZERO, conflicts, 0) }
    }

    /// For an address of IPv4 that is in use from now on, and not probed for: it is announced, and defended.
    #[must_use]
    pub fn announcing(now: Instant) -> Detection {
        let phase = Phase::Announcing(0);
        Detection {
            is_ipv4: true,
            retransmit: Duration::ZERO,
            is_quick: false,
            phase,
            due: now,
            defended: None,
        }
    }

    /// Whether it is not known yet that nobody else has the address.
    #[must_use]
    pub const fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing(_))
    }

    /// What is to be done now, if anything. Ask again until there is nothing.
    pub fn poll(&mut self, now: Instant, random: u64) -> Option<Action> {
        if now < self.due {
            return None;
        }
        let (phase, wait, action) = match (self.phase, self.is_ipv4) {
            (Phase::Done, _) => return None,
            // [rfc4862 5.4.2-solicitation] [rfc4862 5.1]
            (Phase::Probing(sent), false) if sent < DUP_ADDR_DETECT_TRANSMITS => {
                (Phase::Probing(sent + 1), self.retransmit, Action::Probe)
            }
            // [rfc4862 5.4-unique]
            (Phase::Probing(_), false) => (Phase::Announcing(0), Duration::ZERO, Action::Confirmed),
            // [rfc5227 2.1.1-probes]
            (Phase::Probing(sent), true) if sent < PROBE_NUM => {
                let is_last = sent + 1 == PROBE_NUM;
                let wait = match (self.is_quick, is_last) {
                    (true, _) => QUICK,
                    (false, true) => ANNOUNCE_WAIT,
                    (false, false) => between(PROBE_MIN, PROBE_MAX, random),
                };
                (Phase::Probing(sent + 1), wait, Action::Probe)
            }
            (Phase::Probing(_), true) => (Phase::Announcing(0), Duration::ZERO, Action::Confirmed),
            // [rfc5227 2.3-announce] [rfc4861 7.2.6] [rfc4861 7.2.6-interval]
            (Phase::Announcing(sent), is_ipv4) => {
                let phase = if sent + 1 < ANNOUNCE_NUM { Phase::Announcing(sent + 1) } else { Phase::Done };
                (phase, if is_ipv4 { ANNOUNCE_INTERVAL } else { self.retransmit }, Action::Announce)
            }
        };
        self.phase = phase;
        self.due = if phase == Phase::Done { Instant::MAX } else { now + wait };
        Some(action)
    }

    /// Another has, or probes for, the address. While it is tentative it is given up [rfc4862 5.4.3] [rfc4862 5.4.4]
    /// [rfc5227 2.1.1-conflict]. Later, IPv4 defends it once in ten seconds [rfc5227 2.4-b]; IPv6 has no defence
    /// but to answer, so that it is kept.
    pub fn on_conflict(&mut self, now: Instant) -> Verdict {
        if let Phase::Probing(_) = self.phase {
            return Verdict::GiveUp;
        }
        if !self.is_ipv4 {
            return Verdict::Keep;
        }
        if self.defended.is_some_and(|last| now < last + DEFEND_INTERVAL) {
            return Verdict::GiveUp;
        }
        self.defended = Some(now);
        Verdict::Defend
    }

    /// When [`poll`](Detection::poll) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.phase != Phase::Done).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Announce, Confirmed, Probe};
    use std::net::Ipv6Addr;

    const START: Instant = Instant::from_nanos(0);
    const SECOND: Duration = Duration::from_secs(1);

    /// Runs to the end; when what was done, in milliseconds.
    fn story(detection: &mut Detection, random: u64) -> Vec<(u64, Action)> {
        let mut story = Vec::new();
        while let Some(now) = detection.deadline() {
            while let Some(action) = detection.poll(now, random) {
                story.push((now.as_nanos() / 1_000_000, action));
            }
        }
        story
    }

    #[test]
    fn an_ipv4_address_is_probed_then_announced() {
        // [rfc5227 2.1.1-wait] [rfc5227 2.1.1-probes] [rfc5227 2.3-announce]
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        let mut first = Detection::new(START, address, SECOND, 0, 0);
        let expected =
            [(0, Probe), (1000, Probe), (2000, Probe), (4000, Confirmed), (4000, Announce), (6000, Announce)];
        assert_eq!(story(&mut first, 0), expected);
        let mut last = Detection::new(START, address, SECOND, 0, u64::MAX);
        let expected = [
            (1000, Probe),
            (3000, Probe),
            (5000, Probe),
            (7000, Confirmed),
            (7000, Announce),
            (9000, Announce),
        ];
        assert_eq!(story(&mut last, u64::MAX), expected);
    }

    #[test]
    fn a_quick_detection_probes_as_often_and_an_announcement_needs_none() {
        let expected =
            [(0, Probe), (70, Probe), (140, Probe), (210, Confirmed), (210, Announce), (2210, Announce)];
        assert_eq!(story(&mut Detection::quick(START, 0), u64::MAX), expected);
        let mut announcing = Detection::announcing(START);
        assert!(!announcing.is_probing());
        assert_eq!(story(&mut announcing, 0), [(0, Announce), (2000, Announce)]);
    }

    #[test]
    fn probes_and_announcements_differ_in_the_sender() {
        // [rfc5227 2.1.1-probe] [rfc5227 2.3-packet]
        let (own, address) = (MacAddress([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(192, 0, 2, 1));
        let (probe, announcement) = (probe(own, address), announcement(own, address));
        assert_eq!((probe.sender_protocol, probe.target_protocol), (Ipv4Addr::UNSPECIFIED, address));
        assert_eq!((announcement.sender_protocol, announcement.target_protocol), (address, address));
        assert!([probe, announcement].iter().all(|packet| packet.operation == arp::Operation::Request));
    }

    #[test]
    fn an_ipv6_address_is_asked_for_once_then_announced() {
        // [rfc4862 5.4.2-solicitation] [rfc4862 5.1] [rfc4862 5.4-unique] [rfc4862 5.4.2-delay] [rfc4861 7.2.6]
        // [rfc4861 7.2.6-interval]
        let mut detection = Detection::new(START, Ipv6Addr::LOCALHOST.into(), SECOND, 0, 1 << 63);
        let expected = [(500, Probe), (1500, Confirmed), (1500, Announce), (2500, Announce)];
        assert_eq!(story(&mut detection, 0), expected);
        assert_eq!(detection.on_conflict(START + 100 * SECOND), Verdict::Keep);
    }

    #[test]
    fn a_tentative_address_is_given_up_and_another_one_defended() {
        // [rfc4862 5.4.3] [rfc4862 5.4.4] [rfc5227 2.1.1-conflict]
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let mut detection = Detection::new(START, address, SECOND, 0, 0);
            assert_eq!(detection.on_conflict(START), Verdict::GiveUp);
            detection.poll(START, 0);
            assert_eq!(detection.on_conflict(START), Verdict::GiveUp);
        }
        // [rfc5227 2.4-b]
        let mut detection = Detection::new(START, Ipv4Addr::LOCALHOST.into(), SECOND, 0, 0);
        story(&mut detection, 0);
        let now = START + Duration::from_secs(100);
        assert_eq!(detection.on_conflict(now), Verdict::Defend);
        assert_eq!(detection.on_conflict(now + 10 * SECOND), Verdict::Defend);
        assert_eq!(detection.on_conflict(now + 19 * SECOND), Verdict::GiveUp);
    }

    #[test]
    fn many_conflicts_slow_down() {
        // [rfc5227 2.1.1-rate]
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        let detection = Detection::new(START, address, SECOND, MAX_CONFLICTS, 0);
        assert_eq!(detection.deadline(), Some(START + RATE_LIMIT_INTERVAL));
        let detection = Detection::new(START, address, SECOND, MAX_CONFLICTS - 1, 0);
        assert_eq!(detection.deadline(), Some(START));
    }
}
