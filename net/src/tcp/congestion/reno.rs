//! Reno (RFC 5681), counting octets.

use super::{Sample, Window};

/// The least window after a reduction, in segments.
const LEAST: u32 = 2;

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Reno {
    /// Octets acknowledged since the window last grew in congestion avoidance.
    acknowledged: u32,
}

impl Reno {
    #[inline]
    pub(super) fn on_ack(&mut self, sample: &Sample, window: &mut Window) {
        if !sample.limited || sample.state.is_reducing() {
            return;
        }
        let rest = slow_start(sample.delivered, window);
        if rest == 0 {
            return;
        }
        // [rfc5681 3.1-avoidance] One segment for each window of octets, as RFC 3465 counts.
        self.acknowledged += rest;
        if self.acknowledged >= window.congestion {
            self.acknowledged -= window.congestion;
            window.grow(window.segment);
        }
        self.acknowledged = self.acknowledged.min(window.congestion);
    }
}

/// Grows the window by what was delivered, up to the threshold. Returns the octets that are left over.
///
/// [rfc9293 MUST-19] [rfc5681 3.1-slow-start]: with pacing or HyStart++ around it, one acknowledgment may count for
/// more than one segment, as it does in Linux: receivers that merge segments acknowledge many at once.
#[inline]
pub(super) fn slow_start(delivered: u32, window: &mut Window) -> u32 {
    if !window.is_slow_start() {
        return delivered;
    }
    let growth = delivered.min(window.threshold - window.congestion);
    window.grow(growth);
    delivered - growth
}

/// [rfc5681 3.1-ssthresh] Half of what was in flight, two segments at least.
pub(super) fn threshold(window: &Window, in_flight: u32) -> u32 {
    (in_flight / 2).max(LEAST * window.segment)
}
