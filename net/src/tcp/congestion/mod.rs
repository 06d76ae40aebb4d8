//! Congestion control: how fast a connection may go.
//!
//! A [`Controller`] looks at what each acknowledgment says and moves the congestion [`Window`]. While losses are
//! repaired the window belongs to proportional rate reduction, except with BBR, which has its own rules.

mod bbr;
mod cubic;
mod dctcp;
mod hystart;
mod reno;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use demikernel_runtime::time::Instant;

use super::recovery::{CongestionState, RateSample, nanos};
use bbr::Bbr;
use cubic::Cubic;
use dctcp::Dctcp;
use reno::Reno;

/// The congestion control of a connection.
///
/// ```
/// use demikernel_net::tcp::CongestionControl;
///
/// assert_eq!("dctcp".parse(), Ok(CongestionControl::Dctcp));
/// let error = "vegas".parse::<CongestionControl>().unwrap_err();
/// assert_eq!(error.to_string(), "unknown congestion control \"vegas\": expected cubic, reno, bbr or dctcp");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum CongestionControl {
    /// CUBIC (RFC 9438), which starts with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// Reno (RFC 5681).
    Reno,
    /// BBR version 1: from a model of the path instead of from its losses.
    Bbr,
    /// DCTCP (RFC 8257): for data centres whose switches mark early.
    Dctcp,
}

impl CongestionControl {
    /// All that there are.
    pub const ALL: [CongestionControl; 4] =
        [CongestionControl::Cubic, CongestionControl::Reno, CongestionControl::Bbr, CongestionControl::Dctcp];

    /// The name that Linux has for it.
    pub const fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::Reno => "reno",
            CongestionControl::Bbr => "bbr",
            CongestionControl::Dctcp => "dctcp",
        }
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no congestion control of this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown congestion control {0:?}: expected cubic, reno, bbr or dctcp")]
pub struct UnknownCongestionControl(String);

impl FromStr for CongestionControl {
    type Err = UnknownCongestionControl;

    fn from_str(name: &str) -> Result<CongestionControl, UnknownCongestionControl> {
        CongestionControl::ALL
            .into_iter()
            .find(|control| control.name() == name)
            .ok_or_else(|| UnknownCongestionControl(name.to_owned()))
    }
}

/// How much may be in flight, in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) congestion: u32,
    pub(crate) threshold: u32,
    /// SMSS: the most payload in a segment.
    pub(crate) segment: u32,
}

impl Window {
    /// Nobody can use more: the largest scaled receive window.
    const MOST: u32 = 1 << 30;

    pub(crate) const fn new(segments: u32, segment: u32) -> Window {
        Window { congestion: segments * segment, threshold: u32::MAX, segment }
    }

    #[inline]
    pub(crate) fn is_slow_start(&self) -> bool {
        self.congestion < self.threshold
    }

    fn grow(&mut self, octets: u32) {
        self.congestion = self.congestion.saturating_add(octets).min(Window::MOST);
    }
}

/// What an acknowledgment says to congestion control.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) now: Instant,
    /// Octets newly known to have arrived.
    pub(crate) delivered: u32,
    /// Octets newly deemed lost.
    pub(crate) lost: u32,
    /// All octets that have arrived on the connection so far.
    pub(crate) total: u64,
    /// In flight now.
    pub(crate) in_flight: u32,
    /// The latest round trip in nanoseconds, zero if it was not measured.
    pub(crate) rtt: u64,
    /// Zero before the first measurement.
    pub(crate) smoothed: u64,
    /// A round trip ends with this acknowledgment.
    pub(crate) round: bool,
    /// The window, and not the application, held the sender back.
    pub(crate) limited: bool,
    /// The acknowledgment says that congestion was met.
    pub(crate) ece: bool,
    pub(crate) state: CongestionState,
    pub(crate) rate: RateSample,
    /// Bursts are spread over the round trip.
    pub(crate) paced: bool,
}

/// Why the window is to be reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Congestion {
    Loss,
    Mark,
    Timeout,
}

/// The state of one congestion control. What is large is boxed, and made when the window first moves.
#[derive(Debug)]
pub(crate) enum Controller {
    Reno(Reno),
    Cubic(Option<Box<Cubic>>),
    Bbr(Box<Bbr>),
    Dctcp(Box<Dctcp>),
}

impl Controller {
    pub(crate) fn new(control: CongestionControl, now: Instant) -> Controller {
        match control {
            CongestionControl::Reno => Controller::Reno(Reno::default()),
            CongestionControl::Cubic => Controller::Cubic(None),
            CongestionControl::Bbr => Controller::Bbr(Box::new(Bbr::new(now))),
            CongestionControl::Dctcp => Controller::Dctcp(Box::default()),
        }
    }

    pub(crate) fn control(&self) -> CongestionControl {
        match self {
            Controller::Reno(_) => CongestionControl::Reno,
            Controller::Cubic(_) => CongestionControl::Cubic,
            Controller::Bbr(_) => CongestionControl::Bbr,
            Controller::Dctcp(_) => CongestionControl::Dctcp,
        }
    }

    /// After the state of recovery is settled for this acknowledgment. Only BBR moves the window while the state is
    /// one in which it is reduced.
    #[inline]
    pub(crate) fn on_ack(&mut self, sample: &Sample, window: &mut Window) {
        match self {
            Controller::Reno(reno) => reno.on_ack(sample, window),
            // Requests and responses that never fill the window need no state.
            Controller::Cubic(None) if !sample.limited => {}
            Controller::Cubic(cubic) => cubic.get_or_insert_default().on_ack(sample, window),
            Controller::Bbr(bbr) => bbr.on_ack(sample, window),
            Controller::Dctcp(dctcp) => dctcp.on_ack(sample, window),
        }
    }

    /// Congestion was met while `in_flight` of the window was in use: the new slow start threshold. The window is left
    /// to the caller.
    pub(crate) fn on_congestion(&mut self, event: Congestion, window: &Window, in_flight: u32) -> u32 {
        match self {
            Controller::Reno(_) => reno::threshold(window, in_flight),
            Controller::Cubic(cubic) => cubic.get_or_insert_default().on_congestion(event, window, in_flight),
            Controller::Bbr(bbr) => bbr.on_congestion(window),
            Controller::Dctcp(dctcp) => dctcp.on_congestion(event, window, in_flight),
        }
    }

    /// The reduction was for nothing. The caller restores the window.
    pub(crate) fn undo(&mut self) {
        match self {
            Controller::Reno(_) => {}
            Controller::Cubic(cubic) => cubic.iter_mut().for_each(|cubic| cubic.undo()),
            Controller::Bbr(bbr) => bbr.undo(),
            Controller::Dctcp(_) => {}
        }
    }

    /// Sending begins again after nothing was in flight.
    pub(crate) fn on_restart(&mut self, now: Instant, idle: u64) {
        match self {
            Controller::Reno(_) | Controller::Dctcp(_) => {}
            Controller::Cubic(cubic) => cubic.iter_mut().for_each(|cubic| cubic.on_idle(idle)),
            Controller::Bbr(bbr) => bbr.on_restart(now),
        }
    }

    /// Whether it looks at acknowledgments that cannot open the window.
    #[inline]
    pub(crate) fn needs_all(&self) -> bool {
        match self {
            Controller::Reno(_) | Controller::Cubic(None) => false,
            Controller::Cubic(Some(cubic)) => !cubic.knows_unused(),
            Controller::Bbr(_) | Controller::Dctcp(_) => true,
        }
    }

    /// Whether it decides the window even while losses are repaired.
    #[inline]
    pub(crate) fn owns_window(&self) -> bool {
        matches!(self, Controller::Bbr(_))
    }

    /// Octets a second at which bursts are to be spread; `None` for what follows from the window.
    #[inline]
    pub(crate) fn pacing_rate(&self, window: &Window, smoothed: u64) -> Option<u64> {
        match self {
            Controller::Bbr(bbr) => Some(bbr.pacing_rate(window, smoothed)),
            _ => None,
        }
    }
}
