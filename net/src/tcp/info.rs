//! What people want to know of a connection: `tcp_info` of Linux.

use demikernel_runtime::time::{Duration, Instant};

use super::congestion::CongestionControl;
use super::connection::{Connection, Marks};
use super::recovery::CongestionState;
use super::state::State;

/// A view of a connection. Sizes are in octets, not in segments as in Linux, unless it says otherwise.
///
/// ```
/// use demikernel_net::tcp::{Config, Connection, InitialNumbers, Limits, Shared, Start, State};
/// use demikernel_runtime::time::Instant;
/// use std::rc::Rc;
///
/// let (now, initial) = (Instant::from_nanos(1), InitialNumbers::default());
/// let start = Start { local: 40_000, remote: 80, initial, mtu: 1500, ip_header: 20 };
/// let mut connection = Connection::connect(Rc::new(Shared::new(Config::default())), now, start);
/// let _syn = connection.poll_transmit(now, &Limits::default());
/// let info = connection.info(now);
/// assert_eq!((info.state, info.unacked, info.advmss), (State::SynSent, 1, 1460));
/// // There is no round trip to tell of yet, so it is not among the figures.
/// assert_eq!(info.rtt, None);
/// assert!(info.figures().iter().any(|(name, value)| *name == "unacked" && *value == 1));
/// assert!(!info.figures().iter().any(|(name, _)| *name == "rtt"));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// The state.
    pub state: State,
    /// What is done about losses.
    pub ca_state: CongestionState,
    /// The congestion control.
    pub congestion: CongestionControl,
    /// Times that the retransmission time-out was doubled.
    pub backoff: u8,
    /// Retransmission time-out.
    pub rto: Duration,
    /// Smoothed round-trip time, once there is one.
    pub rtt: Option<Duration>,
    /// Its variation.
    pub rttvar: Duration,
    /// The least round-trip time that was seen.
    pub min_rtt: Option<Duration>,
    /// Size of segments that are sent.
    pub snd_mss: u32,
    /// The largest segment that was received.
    pub rcv_mss: u32,
    /// What our SYN announced.
    pub advmss: u32,
    /// The path's MTU.
    pub pmtu: u32,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow-start threshold.
    pub ssthresh: u32,
    /// Sent and not acknowledged.
    pub unacked: u32,
    /// Of these, what has arrived out of order.
    pub sacked: u32,
    /// Of these, what is taken to be lost.
    pub lost: u32,
    /// Of these, what was retransmitted and is still under way.
    pub retrans: u32,
    /// Retransmitted, in all.
    pub total_retrans: u64,
    /// Delivered, in all, also out of order.
    pub delivered: u64,
    /// Acknowledged, in all.
    pub bytes_acked: u64,
    /// Received in order, in all.
    pub bytes_received: u64,
    /// Waits to be sent for the first time.
    pub notsent_bytes: u32,
    /// The peer's window.
    pub snd_wnd: u32,
    /// Our window.
    pub rcv_wnd: u32,
    /// What the receive buffer has become.
    pub rcv_space: u32,
    /// The peer's window scale.
    pub snd_wscale: u8,
    /// Our window scale.
    pub rcv_wscale: u8,
    /// Octets in a second that pacing lets go; `None` if nothing is paced.
    pub pacing_rate: Option<u64>,
    /// Octets in a second that were delivered.
    pub delivery_rate: Option<u64>,
    /// Whether reordering was seen.
    pub reord_seen: bool,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// Selective acknowledgments are in use.
    pub sack: bool,
    /// Explicit congestion notification is in use.
    pub ecn: bool,
    /// Zero-window or keepalive probes that were not answered.
    pub probes: u32,
    /// Time since something came last.
    pub last_data_recv: Duration,
}

impl Info {
    /// The figures by name, times in microseconds; without those that there are not.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        let micros = |time: Duration| time.as_micros() as u64;
        let figures = [
            ("backoff", Some(self.backoff.into())),
            ("rto", Some(micros(self.rto))),
            ("rtt", self.rtt.map(micros)),
            ("rttvar", Some(micros(self.rttvar))),
            ("min_rtt", self.min_rtt.map(micros)),
            ("snd_mss", Some(self.snd_mss.into())),
            ("rcv_mss", Some(self.rcv_mss.into())),
            ("advmss", Some(self.advmss.into())),
            ("pmtu", Some(self.pmtu.into())),
            ("snd_cwnd", Some(self.cwnd.into())),
            ("snd_ssthresh", Some(self.ssthresh.into())),
            ("unacked", Some(self.unacked.into())),
            ("sacked", Some(self.sacked.into())),
            ("lost", Some(self.lost.into())),
            ("retrans", Some(self.retrans.into())),
            ("total_retrans", Some(self.total_retrans)),
            ("delivered", Some(self.delivered)),
            ("bytes_acked", Some(self.bytes_acked)),
            ("bytes_received", Some(self.bytes_received)),
            ("notsent_bytes", Some(self.notsent_bytes.into())),
            ("snd_wnd", Some(self.snd_wnd.into())),
            ("rcv_wnd", Some(self.rcv_wnd.into())),
            ("rcv_space", Some(self.rcv_space.into())),
            ("pacing_rate", self.pacing_rate),
            ("delivery_rate", self.delivery_rate),
            ("probes", Some(self.probes.into())),
            ("last_data_recv", Some(micros(self.last_data_recv))),
        ];
        figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Connection {
    /// A view of it.
    pub fn info(&self, now: Instant) -> Info {
        let recovery = &self.recovery;
        let keepalive = self.rare.as_ref().map_or(0, |rare| rare.keepalive.probes);
        let unacked = self.send.next - self.send.unacknowledged;
        Info {
            state: self.state,
            ca_state: recovery.state(),
            congestion: recovery.congestion_control(),
            backoff: recovery.backoff(),
            rto: recovery.rto(),
            rtt: recovery.smoothed_rtt(),
            rttvar: recovery.rtt_variation(),
            min_rtt: recovery.min_rtt(),
            snd_mss: u32::from(self.send.segment),
            rcv_mss: u32::from(self.receive.segment),
            advmss: u32::from(self.mtu.announced()),
            pmtu: u32::from(self.mtu.current()),
            cwnd: recovery.congestion_window(),
            ssthresh: recovery.slow_start_threshold(),
            unacked,
            sacked: recovery.sacked(),
            lost: recovery.lost(),
            retrans: recovery.retransmitted(),
            total_retrans: u64::from(recovery.total_retransmitted()),
            delivered: recovery.delivered(),
            bytes_acked: recovery.delivered().saturating_sub(u64::from(recovery.sacked())),
            bytes_received: self.receive.received(),
            notsent_bytes: self.send.queue.end().distance_from(self.send.next).max(0) as u32,
            snd_wnd: self.send.window,
            rcv_wnd: self.receive.window(),
            rcv_space: self.receive.limit,
            snd_wscale: self.send.shift,
            rcv_wscale: self.receive.shift,
            pacing_rate: Some(recovery.pacing_rate()).filter(|rate| *rate > 0),
            delivery_rate: Some(recovery.delivery_rate()).filter(|rate| *rate > 0),
            reord_seen: recovery.has_reordered(),
            timestamps: self.clock.is_on(),
            sack: self.marks.contains(Marks::SACK),
            ecn: self.marks.contains(Marks::ECN),
            probes: u32::from(self.send.probes) + keepalive,
            last_data_recv: now.duration_since(self.heard),
        }
    }
}
