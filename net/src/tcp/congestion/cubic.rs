//! CUBIC (RFC 9438). Windows are counted in segments, as the formulas are.

use demikernel_runtime::time::Instant;

use super::hystart::HyStart;
use super::{Congestion, Sample, Window, nanos};

/// Segments per second cubed [rfc9438 5.1-C].
const C: f64 = 0.4;

/// [rfc9438 4.6]
const BETA: f64 = 0.7;

/// What Reno with [`BETA`] would add in a round trip, to send as much as Reno on average [rfc9438 4.3-alpha].
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The slope is computed anew this many times in a round trip.
const UPDATES: u64 = 32;

#[derive(Clone, Copy, Debug)]
struct Curve {
    /// W_max: where the window was when congestion was last met, or below for fast convergence.
    top: f64,
    /// cwnd_prior: where it really was.
    prior: f64,
    /// W_est: where Reno would be.
    reno: f64,
    /// K: seconds from the beginning of the epoch until the curve passes its top.
    inflection: f64,
    /// When congestion avoidance began; `None` until it does.
    epoch: Option<Instant>,
}

impl Curve {
    const NONE: Curve = Curve { top: 0.0, prior: 0.0, reno: 0.0, inflection: 0.0, epoch: None };
}

#[derive(Debug)]
pub(crate) struct Cubic {
    curve: Curve,
    before: Curve,
    /// Octets of window for an octet delivered, with 16 binary places.
    slope: u64,
    fraction: u64,
    /// Octets delivered since the slope was computed.
    delivered: u32,
    compute_at: Instant,
    unused_since: Option<Instant>,
    hystart: HyStart,
}

impl Default for Cubic {
    fn default() -> Cubic {
        Cubic {
            curve: Curve::NONE,
            before: Curve::NONE,
            slope: 0,
            fraction: 0,
            delivered: 0,
            compute_at: Instant::from_nanos(0),
            unused_since: None,
            hystart: HyStart::default(),
        }
    }
}

impl Cubic {
    #[inline]
    pub(super) fn on_ack(&mut self, sample: &Sample, window: &mut Window) {
        if sample.state.is_reducing() {
            return;
        }
        if !sample.limited {
            self.unused_since.get_or_insert(sample.now);
            return;
        }
        if let Some(since) = self.unused_since.take() {
            // [rfc9438 5.8] Time in which the window was not in use does not count.
            self.on_idle(nanos(since, sample.now));
        }
        let mut delivered = sample.delivered;
        if window.is_slow_start() {
            delivered = self.hystart.on_ack(sample, window);
            if delivered == 0 {
                return;
            }
        }
        self.delivered = self.delivered.saturating_add(delivered);
        if sample.now >= self.compute_at || self.curve.epoch.is_none() {
            self.compute_slope(sample, window);
        }
        self.fraction += u64::from(delivered) * self.slope;
        window.grow((self.fraction >> 16) as u32);
        self.fraction &= 0xffff;
    }

    /// It has noted that the window is not in use.
    pub(super) fn knows_unused(&self) -> bool {
        self.unused_since.is_some()
    }

    #[cold]
    pub(super) fn on_congestion(&mut self, event: Congestion, window: &Window, in_flight: u32) -> u32 {
        let segment = f64::from(window.segment);
        let now = f64::from(window.congestion) / segment;
        self.before = self.curve;
        self.hystart.finish();
        self.unused_since = None;
        // [rfc9438 4.7] Fast convergence: leave room to others if the last top was not reached.
        let top = if now < self.curve.top { now * (1.0 + BETA) / 2.0 } else { now };
        let top = if event == Congestion::Timeout { 0.0 } else { top };
        self.curve = Curve { top, prior: now, ..Curve::NONE };
        // [rfc9438 4.6]
        ((f64::from(in_flight) * BETA) as u32).max(2 * window.segment)
    }

    /// [rfc9438 4.9.2-undo]
    pub(super) fn undo(&mut self) {
        self.curve = self.before;
        self.compute_at = Instant::from_nanos(0);
    }

    /// The epoch moves by the time in which nothing was sent [rfc9438 4.2-idle].
    pub(super) fn on_idle(&mut self, idle: u64) {
        if let Some(epoch) = &mut self.curve.epoch {
            *epoch = Instant::from_nanos(epoch.as_nanos().saturating_add(idle));
        }
    }

    fn compute_slope(&mut self, sample: &Sample, window: &Window) {
        let segment = f64::from(window.segment);
        let cwnd = f64::from(window.congestion) / segment;
        let epoch = *self.curve.epoch.get_or_insert_with(|| {
            // [rfc9438 4.2-K] [rfc9438 4.8] [rfc9438 4.10] After a timeout, or slow start without a loss, the top is here.
            self.curve.top = self.curve.top.max(cwnd);
            self.curve.inflection = ((self.curve.top - cwnd) / C).cbrt();
            self.curve.reno = cwnd;
            self.delivered = 0;
            sample.now
        });
        let delivered = f64::from(std::mem::take(&mut self.delivered)) / segment;
        // [rfc9438 4.3-west] From the point on where Reno is back where it was, it grows as Reno does.
        let alpha = if self.curve.reno >= self.curve.prior { 1.0 } else { ALPHA };
        self.curve.reno += alpha * delivered / cwnd;
        let elapsed = (sample.now - epoch).as_nanos() as f64 / 1e9;
        let ahead = elapsed + sample.smoothed as f64 / 1e9;
        // [rfc9438 4.2-target] [rfc9438 4.4] [rfc9438 4.5]
        let target = self.curve.at(ahead).clamp(cwnd, 1.5 * cwnd);
        let cubic = (target - cwnd) / cwnd;
        // [rfc9438 4.3-region] Where Reno would be further, be there at the end of this round trip.
        let reno = if self.curve.at(elapsed) < self.curve.reno {
            (self.curve.reno - cwnd).max(0.0) / cwnd + alpha / cwnd
        } else {
            0.0
        };
        self.slope = (cubic.max(reno).min(0.5) * 65536.0) as u64;
        self.compute_at =
            sample.now.saturating_add(std::time::Duration::from_nanos(sample.smoothed / UPDATES));
    }
}

impl Curve {
    /// W_cubic(t) [rfc9438 4.2-curve].
    fn at(&self, seconds: f64) -> f64 {
        let from_top = seconds - self.inflection;
        C * from_top * from_top * from_top + self.top
    }
}
