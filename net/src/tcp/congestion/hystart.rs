//! HyStart++ (RFC 9406): leave slow start before the queue overflows, because round trips grow.

use super::{Sample, Window};

const MIN_RTT_THRESH: u64 = 4_000_000;
const MAX_RTT_THRESH: u64 = 16_000_000;
const MIN_RTT_DIVISOR: u64 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;

/// The most segments that one acknowledgment counts for, where bursts are not paced [rfc9406 4.2-L].
const L: u32 = 8;

/// No round trip has been seen.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    last_round: u64,
    this_round: u64,
    /// The least round trip when conservative slow start began; [`NONE`] outside of it.
    baseline: u64,
    samples: u8,
    conservative_rounds: u8,
    /// It has ended slow start, which it does once.
    done: bool,
}

impl Default for HyStart {
    fn default() -> HyStart {
        HyStart {
            last_round: NONE,
            this_round: NONE,
            baseline: NONE,
            samples: 0,
            conservative_rounds: 0,
            done: false,
        }
    }
}

impl HyStart {
    /// Slow start has ended otherwise: only the first one is watched [rfc9406 4.3-first].
    pub(super) fn finish(&mut self) {
        self.done = true;
    }

    /// Grows the window in slow start. Returns the octets that are left over for congestion avoidance.
    pub(super) fn on_ack(&mut self, sample: &Sample, window: &mut Window) -> u32 {
        if self.done {
            return super::reno::slow_start(sample.delivered, window);
        }
        let counted = if sample.paced { sample.delivered } else { sample.delivered.min(L * window.segment) };
        // [rfc9406 4.2-css]
        let counted = if self.baseline == NONE { counted } else { counted / CSS_GROWTH_DIVISOR };
        let rest = super::reno::slow_start(counted, window);
        self.watch(sample, window);
        rest
    }

    fn watch(&mut self, sample: &Sample, window: &mut Window) {
        if sample.round {
            self.on_round(window);
        }
        if sample.rtt == 0 {
            return;
        }
        // [rfc9406 4.2-sample]
        self.this_round = self.this_round.min(sample.rtt);
        self.samples = self.samples.saturating_add(1);
        if self.samples < N_RTT_SAMPLE {
            return;
        }
        if self.baseline != NONE {
            // [rfc9406 4.2-resume] The growth was noise.
            if self.this_round < self.baseline {
                self.baseline = NONE;
            }
            return;
        }
        if self.last_round == NONE {
            return;
        }
        // [rfc9406 4.2-delay]
        let threshold = (self.last_round / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
        if self.this_round >= self.last_round + threshold {
            self.baseline = self.this_round;
            self.conservative_rounds = 0;
        }
    }

    /// [rfc9406 4.2-round]
    fn on_round(&mut self, window: &mut Window) {
        if self.baseline != NONE {
            self.conservative_rounds += 1;
            if self.conservative_rounds >= CSS_ROUNDS {
                // [rfc9406 4.2-exit]
                window.threshold = window.congestion;
                self.done = true;
            }
        }
        self.last_round = self.this_round;
        self.this_round = NONE;
        self.samples = 0;
    }
}
