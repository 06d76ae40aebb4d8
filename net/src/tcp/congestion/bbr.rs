//! BBR version 1 (draft-cardwell-iccrg-bbr-congestion-control-00, and what Linux does): the bottleneck's bandwidth and
//! the least round trip are measured, and sending follows from their product instead of from losses.

use demikernel_runtime::time::{Duration, Instant};

use super::{CongestionState, Sample, Window, nanos};

/// 2/ln 2: the least gain with which the rate doubles each round.
const HIGH_GAIN: f64 = 2.885;
const DRAIN_GAIN: f64 = 1.0 / HIGH_GAIN;
const CWND_GAIN: f64 = 2.0;

/// One phase probes for more, the next drains what that has queued, the others cruise.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

/// Rounds over which the bandwidth is the greatest seen.
const BANDWIDTH_ROUNDS: u64 = 10;

/// Without a lower round trip for this long, the queue is drained to see one.
const MIN_RTT_WINDOW: u64 = 10_000_000_000;
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const LEAST_SEGMENTS: u32 = 4;

/// The path is full when the bandwidth has not grown by a quarter in three rounds.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u8 = 3;

/// Slightly below what was measured, so that queues do not stay.
const PACING_MARGIN: f64 = 0.99;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Startup,
    Drain,
    ProbeBandwidth,
    ProbeRtt,
}

#[derive(Debug)]
pub(crate) struct Bbr {
    mode: Mode,
    bandwidth: MaxFilter,
    /// Nanoseconds, zero if none was measured.
    min_rtt: u64,
    min_rtt_at: Instant,
    probe_rtt_until: Option<Instant>,
    probe_rtt_round: bool,
    rounds: u64,
    /// The round ends with what was sent after so many octets had been delivered.
    round_ends: u64,
    full_bandwidth: u64,
    full_rounds: u8,
    full: bool,
    cycle: usize,
    cycle_at: Instant,
    pacing_gain: f64,
    window_gain: f64,
    /// The window before it was taken down to repair losses or to see the least round trip.
    prior_window: u32,
    was: CongestionState,
    conserve: bool,
    idle_restart: bool,
}

impl Bbr {
    pub(super) fn new(now: Instant) -> Bbr {
        Bbr {
            mode: Mode::Startup,
            bandwidth: MaxFilter::default(),
            min_rtt: 0,
            min_rtt_at: now,
            probe_rtt_until: None,
            probe_rtt_round: false,
            rounds: 0,
            round_ends: 0,
            full_bandwidth: 0,
            full_rounds: 0,
            full: false,
            cycle: 0,
            cycle_at: now,
            pacing_gain: HIGH_GAIN,
            window_gain: HIGH_GAIN,
            prior_window: 0,
            was: CongestionState::Open,
            conserve: false,
            idle_restart: false,
        }
    }

    pub(super) fn on_ack(&mut self, sample: &Sample, window: &mut Window) {
        let round = self.update_round(sample);
        self.update_bandwidth(sample);
        self.update_cycle(sample, window);
        self.check_full(sample, round);
        self.check_drain(sample, window);
        self.update_min_rtt(sample, window, round);
        self.set_gains();
        self.set_window(sample, window);
    }

    pub(super) fn on_congestion(&mut self, window: &Window) -> u32 {
        self.save_window(window);
        // There is no threshold: losses do not end startup.
        window.threshold
    }

    pub(super) fn undo(&mut self) {
        self.full_bandwidth = 0;
        self.full_rounds = 0;
    }

    pub(super) fn on_restart(&mut self, now: Instant) {
        self.idle_restart = true;
        self.cycle_at = now;
    }

    pub(super) fn pacing_rate(&self, window: &Window, smoothed: u64) -> u64 {
        let bandwidth = self.bandwidth.get();
        if bandwidth == 0 {
            let rtt = if smoothed == 0 { 1_000_000 } else { smoothed };
            return (HIGH_GAIN * f64::from(window.congestion) * 1e9 / rtt as f64) as u64;
        }
        (bandwidth as f64 * self.pacing_gain * PACING_MARGIN) as u64
    }

    fn update_round(&mut self, sample: &Sample) -> bool {
        let ends = sample.rate.interval != 0 && sample.rate.prior_delivered >= self.round_ends;
        if ends {
            self.round_ends = sample.total;
            self.rounds += 1;
            self.conserve = false;
        }
        ends
    }

    fn update_bandwidth(&mut self, sample: &Sample) {
        let rate = sample.rate.rate();
        if rate != 0 && (!sample.rate.app_limited || rate >= self.bandwidth.get()) {
            self.bandwidth.update(self.rounds, rate);
        }
    }

    /// Octets in flight that fill the path `gain` times, with what bursts and delayed acknowledgments need on top.
    fn target(&self, gain: f64, window: &Window) -> u32 {
        let product = self.product(gain, window) / window.segment;
        let mut segments = product.saturating_add(3);
        segments = segments.saturating_add(segments & 1);
        if self.mode == Mode::ProbeBandwidth && self.cycle == 0 {
            segments = segments.saturating_add(2);
        }
        segments.saturating_mul(window.segment)
    }

    fn product(&self, gain: f64, window: &Window) -> u32 {
        if self.min_rtt == 0 {
            return 10 * window.segment;
        }
        (self.bandwidth.get() as f64 * self.min_rtt as f64 / 1e9 * gain).min(f64::from(Window::MOST)) as u32
    }

    fn update_cycle(&mut self, sample: &Sample, window: &Window) {
        if self.mode != Mode::ProbeBandwidth {
            return;
        }
        let long_enough = nanos(self.cycle_at, sample.now) > self.min_rtt;
        let next = match CYCLE[self.cycle] {
            // Probing goes on until the path is that full, or loses.
            gain if gain > 1.0 => {
                long_enough && (sample.lost > 0 || prior_flight(sample) >= self.target(gain, window))
            }
            gain if gain < 1.0 => long_enough || sample.in_flight <= self.target(1.0, window),
            _ => long_enough,
        };
        if next {
            self.cycle = (self.cycle + 1) % CYCLE.len();
            self.cycle_at = sample.now;
        }
    }

    fn check_full(&mut self, sample: &Sample, round: bool) {
        if self.full || !round || sample.rate.app_limited {
            return;
        }
        let bandwidth = self.bandwidth.get();
        if bandwidth as f64 >= self.full_bandwidth as f64 * FULL_GROWTH {
            self.full_bandwidth = bandwidth;
            self.full_rounds = 0;
            return;
        }
        self.full_rounds += 1;
        self.full = self.full_rounds >= FULL_ROUNDS;
    }

    fn check_drain(&mut self, sample: &Sample, window: &Window) {
        if self.mode == Mode::Startup && self.full {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && sample.in_flight <= self.target(1.0, window) {
            self.enter_probe_bandwidth(sample.now);
        }
    }

    fn enter_probe_bandwidth(&mut self, now: Instant) {
        self.mode = Mode::ProbeBandwidth;
        // Any phase but the draining one; which, follows from the time, so that flows do not march in step.
        self.cycle = 2 + (now.as_nanos() / 1_000 % 6) as usize;
        self.cycle_at = now;
    }

    fn update_min_rtt(&mut self, sample: &Sample, window: &mut Window, round: bool) {
        let age = nanos(self.min_rtt_at, sample.now);
        let expired = age > MIN_RTT_WINDOW;
        if sample.rtt != 0 && (self.min_rtt == 0 || sample.rtt <= self.min_rtt || expired) {
            self.min_rtt = sample.rtt;
            self.min_rtt_at = sample.now;
        }
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.mode = Mode::ProbeRtt;
            self.save_window(window);
            self.probe_rtt_until = None;
        }
        if self.mode == Mode::ProbeRtt {
            self.probe_rtt(sample, window, round);
        }
        if sample.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn probe_rtt(&mut self, sample: &Sample, window: &mut Window, round: bool) {
        match self.probe_rtt_until {
            None => {
                if sample.in_flight <= LEAST_SEGMENTS * window.segment {
                    self.probe_rtt_until = Some(sample.now.saturating_add(PROBE_RTT_TIME));
                    self.probe_rtt_round = false;
                    self.round_ends = sample.total;
                }
            }
            Some(until) => {
                self.probe_rtt_round |= round;
                if self.probe_rtt_round && sample.now >= until {
                    self.min_rtt_at = sample.now;
                    window.congestion = window.congestion.max(self.prior_window);
                    if self.full {
                        self.enter_probe_bandwidth(sample.now);
                    } else {
                        self.mode = Mode::Startup;
                    }
                }
            }
        }
    }

    fn set_gains(&mut self) {
        (self.pacing_gain, self.window_gain) = match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBandwidth => (CYCLE[self.cycle], CWND_GAIN),
            Mode::ProbeRtt => (1.0, 1.0),
        };
    }

    fn set_window(&mut self, sample: &Sample, window: &mut Window) {
        if !self.repair(sample, window) {
            let target = self.target(self.window_gain, window);
            if self.full {
                window.congestion = window.congestion.saturating_add(sample.delivered).min(target);
            } else if window.congestion < target || sample.total < u64::from(10 * window.segment) {
                window.grow(sample.delivered);
            }
        }
        if self.mode == Mode::ProbeRtt {
            window.congestion = window.congestion.min(LEAST_SEGMENTS * window.segment);
        }
    }

    /// Conserves packets in the first round of a repair. Whether that has set the window.
    ///
    /// It never falls below the least: a single segment in flight has nothing behind it that would show its loss before
    /// the retransmission timer does.
    fn repair(&mut self, sample: &Sample, window: &mut Window) -> bool {
        if sample.lost > 0 {
            window.congestion = window.congestion.saturating_sub(sample.lost);
        }
        let (was, is) = (self.was, sample.state);
        self.was = is;
        if is == CongestionState::Recovery && was != CongestionState::Recovery {
            self.conserve = true;
            self.round_ends = sample.total;
            window.congestion = sample.in_flight + sample.delivered;
        } else if was.is_repairing() && !is.is_repairing() {
            window.congestion = window.congestion.max(self.prior_window);
            self.conserve = false;
        }
        if self.conserve {
            window.congestion = window.congestion.max(sample.in_flight + sample.delivered);
        }
        window.congestion = window.congestion.max(LEAST_SEGMENTS * window.segment);
        self.conserve
    }

    fn save_window(&mut self, window: &Window) {
        if !self.was.is_repairing() && self.mode != Mode::ProbeRtt {
            self.prior_window = window.congestion;
        } else {
            self.prior_window = self.prior_window.max(window.congestion);
        }
    }

    #[cfg(test)]
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }
}

/// What was in flight before the acknowledgment.
fn prior_flight(sample: &Sample) -> u32 {
    sample.in_flight.saturating_add(sample.delivered).saturating_add(sample.lost)
}

/// The greatest value of the last rounds, from the three best (as Kathleen Nichols' filter in Linux).
#[derive(Clone, Copy, Debug, Default)]
struct MaxFilter {
    best: [(u64, u64); 3],
}

impl MaxFilter {
    fn get(&self) -> u64 {
        self.best[0].1
    }

    fn update(&mut self, round: u64, value: u64) {
        let new = (round, value);
        if value >= self.best[0].1 || round - self.best[2].0 > BANDWIDTH_ROUNDS {
            self.best = [new; 3];
            return;
        }
        if value >= self.best[1].1 {
            self.best[1] = new;
            self.best[2] = new;
        } else if value >= self.best[2].1 {
            self.best[2] = new;
        }
        self.age(new);
    }

    /// Each of the three is of another part of the window, so that there is one to follow when the best expires.
    fn age(&mut self, new: (u64, u64)) {
        let age = new.0 - self.best[0].0;
        if age > BANDWIDTH_ROUNDS {
            self.best = [self.best[1], self.best[2], new];
            if new.0 - self.best[0].0 > BANDWIDTH_ROUNDS {
                self.best = [self.best[1], new, new];
            }
        } else if self.best[1].0 == self.best[0].0 && age > BANDWIDTH_ROUNDS / 4 {
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].0 == self.best[1].0 && age > BANDWIDTH_ROUNDS / 2 {
            self.best[2] = new;
        }
    }
}
