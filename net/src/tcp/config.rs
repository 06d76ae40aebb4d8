//! What all connections of a stack share: its configuration, its counters, and the budget for challenge ACKs.

use std::cell::Cell;

use demikernel_runtime::time::{Duration, Instant};

use super::congestion::CongestionControl;
use super::recovery::RecoveryConfig;
use crate::key::Key;

/// Whether connections use explicit congestion notification (RFC 3168).
///
/// ```
/// use demikernel_net::tcp::{Config, Connection, EcnMode, InitialNumbers, Limits, Shared, Start};
/// use demikernel_net::wire::tcp::Flags;
/// use demikernel_runtime::time::Instant;
/// use std::rc::Rc;
///
/// let syn = |ecn| {
///     let (now, initial) = (Instant::from_nanos(1), InitialNumbers::default());
///     let start = Start { local: 40_000, remote: 80, initial, mtu: 1500, ip_header: 20 };
///     let shared = Rc::new(Shared::new(Config { ecn, ..Config::default() }));
///     Connection::connect(shared, now, start).poll_transmit(now, &Limits::default()).map(|syn| syn.segment.flags)
/// };
/// assert_eq!(syn(EcnMode::Accept), Some(Flags::SYN));
/// assert_eq!(syn(EcnMode::Request), Some(Flags::SYN | Flags::ECE | Flags::CWR));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EcnMode {
    /// Never.
    Off,
    /// When the peer asks for it: what Linux does.
    #[default]
    Accept,
    /// Ask for it, too.
    Request,
    /// Ask for it, and echo each mark exactly as it comes, as DCTCP wants (RFC 8257 section 3.2).
    Exact,
}

/// How connections begin, and how patient they are. The defaults are those of Linux, where they are not said to be
/// others.
#[derive(Clone, Debug)]
pub struct Config {
    /// Octets that may wait for the user to receive them, at first.
    pub receive_buffer: u32,
    /// As many it may become, as the user keeps up.
    pub receive_buffer_most: u32,
    /// Octets that may be sent and not acknowledged, at first.
    pub send_buffer: u32,
    /// As many it may become, as the congestion window grows.
    pub send_buffer_most: u32,
    /// Timestamps (RFC 7323).
    pub timestamps: bool,
    /// Window scale (RFC 7323).
    pub window_scaling: bool,
    /// Selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Explicit congestion notification.
    pub ecn: EcnMode,
    /// Looks for a larger path MTU than is known (RFC 8899).
    pub mtu_probing: bool,
    /// Times that a SYN is retransmitted. One more than in Linux: so it is tried for over three minutes, as RFC 9293
    /// wants. [rfc9293 MUST-23]
    pub syn_retries: u32,
    /// Times that a SYN-ACK is retransmitted.
    pub syn_ack_retries: u32,
    /// Times that data are retransmitted: a quarter of an hour. [rfc9293 MUST-20] [rfc9293 SHLD-11]
    pub retries: u32,
    /// The same, once the user has closed.
    pub orphan_retries: u32,
    /// Whether the peer is told how long data may be unacknowledged, if the user says so, and heeded if it tells (RFC 5482).
    /// Not in Linux.
    pub user_timeout_option: bool,
    /// What the peer tells is heeded as if it were this at least, so that nobody ends connections early.
    pub user_timeout_least: Duration,
    /// And this at most, so that nobody holds memory here for long.
    pub user_timeout_most: Duration,
    /// The longest that an acknowledgment waits for something to travel with. [rfc9293 MUST-40]
    pub acknowledgment_delay: Duration,
    /// The longest that a closed connection waits for the peer to close.
    pub fin_wait: Duration,
    /// How long TIME-WAIT lasts: two segment lifetimes of 30 seconds, as in Linux. [rfc9293 MUST-13]
    pub time_wait: Duration,
    /// Challenge ACKs in a second, of all connections together. [rfc5961 7]
    pub challenge_acks: u32,
    /// Congestion control.
    pub congestion: CongestionControl,
    /// The congestion window at first, in segments. [rfc6928 2]
    pub initial_window: u32,
    /// The shortest retransmission time-out.
    pub min_rto: Duration,
    /// The longest retransmission time-out.
    pub max_rto: Duration,
    /// Spreads what is sent over the round trip, whatever the congestion control.
    pub pacing: bool,
}

impl Default for Config {
    fn default() -> Config {
        let recovery = RecoveryConfig::default();
        Config {
            receive_buffer: 128 << 10,
            receive_buffer_most: 6 << 20,
            send_buffer: 128 << 10,
            send_buffer_most: 4 << 20,
            timestamps: true,
            window_scaling: true,
            sack: true,
            ecn: EcnMode::default(),
            mtu_probing: true,
            syn_retries: 7,
            syn_ack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            user_timeout_option: false,
            user_timeout_least: Duration::from_secs(100),
            user_timeout_most: Duration::from_secs(3600),
            acknowledgment_delay: Duration::from_millis(40),
            fin_wait: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            challenge_acks: 1000,
            congestion: recovery.congestion,
            initial_window: recovery.initial_window,
            min_rto: recovery.min_rto,
            max_rto: recovery.max_rto,
            pacing: recovery.pacing,
        }
    }
}

impl Config {
    pub(crate) fn recovery(&self) -> RecoveryConfig {
        RecoveryConfig {
            congestion: self.congestion,
            initial_window: self.initial_window,
            min_rto: self.min_rto,
            max_rto: self.max_rto,
            sack: self.sack,
            pacing: self.pacing,
        }
    }

    /// The scale with which the greatest buffer can be told in 16 bits; 14 at most. [rfc7323 2.3]
    pub(crate) fn window_scale(&self) -> u8 {
        let bits = u32::BITS - (self.receive_buffer_most.max(self.receive_buffer) >> 16).leading_zeros();
        bits.min(14) as u8
    }
}

crate::counters::counters! {
    /// What is counted.
    Counter:
    /// Outside of the window.
    OutOfWindow => "tcp_out_of_window",
    /// An old timestamp.
    OldTimestamp => "tcp_old_timestamp",
    /// No timestamp although they were agreed on.
    NoTimestamp => "tcp_no_timestamp",
    /// No ACK bit where there must be one.
    NoAcknowledgment => "tcp_no_acknowledgment",
    /// An acknowledgment of what was never sent, or long ago.
    WrongAcknowledgment => "tcp_wrong_acknowledgment",
    /// A reset whose number is not exactly the next.
    SuspiciousReset => "tcp_suspicious_reset",
    /// A SYN within a connection.
    UnexpectedSyn => "tcp_unexpected_syn",
    /// Challenge ACKs sent.
    Challenge => "tcp_challenge_acks",
    /// Challenge ACKs that the limit forbade.
    ChallengeLimited => "tcp_challenge_acks_limited",
    /// No room for what came out of order.
    ReassemblyFull => "tcp_reassembly_full",
    /// Data that came after the user had closed.
    DataAfterClose => "tcp_data_after_close",
    /// A segment for a connection that is over.
    Closed => "tcp_closed",
    /// Segments whose payload was here already.
    Duplicate => "tcp_duplicates",
    /// Connections given up as the peer did not answer.
    TimedOut => "tcp_timed_out",
    /// Memory was too short to merge small segments, which were dropped.
    NoMemory => "tcp_no_memory",
    /// ICMP messages that quote what is not in flight.
    ForgedIcmp => "tcp_forged_icmp",
    /// SYNs dropped as a queue of their listener was full.
    ListenOverflow => "tcp_listen_overflow",
    /// SYN cookies sent.
    CookieSent => "tcp_cookies_sent",
    /// SYN cookies that came back.
    CookieReceived => "tcp_cookies_received",
    /// ACKs to a listener that hold no cookie of ours.
    CookieFailed => "tcp_cookies_failed",
}

/// What all connections of one stack share. It is on one thread, hence the cells.
#[derive(Debug, Default)]
pub struct Shared {
    config: Config,
    counters: [Cell<u64>; Counter::ALL.len()],
    challenges: Cell<Challenges>,
    /// With which the limit of challenges differs from second to second.
    noise: Option<Key>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Challenges {
    /// The second that is counted, from 1 on.
    second: u64,
    /// As many more may be sent in it.
    left: u32,
}

impl Shared {
    /// For connections with this configuration.
    pub fn new(config: Config) -> Shared {
        Shared { config, ..Shared::default() }
    }

    /// The same, with a limit of challenge ACKs that nobody outside can know: between half of what is configured and
    /// one and a half times as much, another one each second. Whoever counts the challenges that are left learns
    /// nothing of other connections' numbers from it (CVE-2016-5696).
    pub fn with_key(config: Config, key: Key) -> Shared {
        Shared { config, noise: Some(key), ..Shared::default() }
    }

    /// The configuration.
    #[inline]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How often it has happened.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].get()
    }

    pub(crate) fn count(&self, counter: Counter) {
        let cell = &self.counters[counter as usize];
        cell.set(cell.get() + 1);
    }

    /// Whether one more challenge ACK may be sent. [rfc5961 7]
    #[cold]
    pub(crate) fn may_challenge(&self, now: Instant) -> bool {
        let second = now.as_nanos() / 1_000_000_000 + 1;
        let mut challenges = self.challenges.get();
        if challenges.second != second {
            challenges = Challenges { second, left: self.challenges_in(second) };
        }
        let may = challenges.left > 0;
        challenges.left -= u32::from(may);
        self.challenges.set(challenges);
        self.count(if may { Counter::Challenge } else { Counter::ChallengeLimited });
        may
    }

    fn challenges_in(&self, second: u64) -> u32 {
        let configured = self.config.challenge_acks;
        match &self.noise {
            Some(key) if configured > 0 => {
                configured / 2 + (key.number(second) % u64::from(configured)) as u32
            }
            _ => configured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [rfc5961 7]
    #[test]
    fn challenges_are_limited_by_the_second() {
        let shared = Shared::new(Config { challenge_acks: 3, ..Config::default() });
        let allowed = |ms: u64| shared.may_challenge(Instant::from_nanos(ms * 1_000_000));
        assert_eq!([0, 10, 999, 999, 1000].map(allowed), [true, true, true, false, true]);
        assert_eq!(shared.counter(Counter::ChallengeLimited), 1);
    }

    #[test]
    fn with_a_key_the_limit_is_not_known() {
        let shared = Shared::with_key(Config { challenge_acks: 100, ..Config::default() }, Key::new([4; 16]));
        let limits: Vec<usize> = (1..50)
            .map(|second| {
                let now = Instant::from_nanos(second * 1_000_000_000);
                (0..1000).take_while(|_| shared.may_challenge(now)).count()
            })
            .collect();
        assert!(limits.iter().all(|limit| (50..150).contains(limit)), "{limits:?}");
        assert!(limits.iter().any(|limit| *limit != limits[0]));
    }

    /// [rfc7323 2.3]
    #[test]
    fn the_scale_suffices_and_is_14_at_most() {
        for (most, scale) in [(65_535, 0), (65_536, 1), (6 << 20, 7), (1 << 30, 14), (u32::MAX, 14)] {
            let config = Config { receive_buffer: 1, receive_buffer_most: most, ..Config::default() };
            assert_eq!(config.window_scale(), scale, "{most}");
        }
    }
}
