//! DCTCP (RFC 8257): the window is reduced by as much as the share of marked octets says.

use super::reno::{self, Reno};
use super::{Congestion, Sample, Window};

/// The share is kept with this many binary places, as in Linux.
const PLACES: u32 = 10;

/// g = 1/16: the weight of a window's share in the average [rfc8257 4.2-g].
const GAIN_SHIFT: u32 = 4;

#[derive(Debug)]
pub(crate) struct Dctcp {
    reno: Reno,
    /// DCTCP.Alpha.
    alpha: u32,
    delivered: u32,
    marked: u32,
}

impl Default for Dctcp {
    fn default() -> Dctcp {
        // [rfc8257 3.3-init] Until more is known a mark halves the window.
        Dctcp { reno: Reno::default(), alpha: 1 << PLACES, delivered: 0, marked: 0 }
    }
}

impl Dctcp {
    pub(super) fn on_ack(&mut self, sample: &Sample, window: &mut Window) {
        // [rfc8257 3.3-bytes]
        self.delivered = self.delivered.saturating_add(sample.delivered);
        if sample.ece {
            self.marked = self.marked.saturating_add(sample.delivered);
        }
        if sample.round {
            self.on_round();
        }
        self.reno.on_ack(sample, window);
    }

    pub(super) fn on_congestion(&mut self, event: Congestion, window: &Window, in_flight: u32) -> u32 {
        match event {
            // [rfc8257 3.3-reduce]
            Congestion::Mark => {
                let cut = (u64::from(window.congestion) * u64::from(self.alpha)) >> (PLACES + 1);
                (window.congestion - cut as u32).max(2 * window.segment)
            }
            // [rfc8257 3.4] Losses count as they do for Reno.
            Congestion::Loss | Congestion::Timeout => reno::threshold(window, in_flight),
        }
    }

    /// [rfc8257 3.3-alpha]
    fn on_round(&mut self) {
        let share =
            (u64::from(self.marked) << PLACES).checked_div(u64::from(self.delivered)).unwrap_or(0) as u32;
        self.alpha = self.alpha - (self.alpha >> GAIN_SHIFT).max(u32::from(share == 0 && self.alpha > 0))
            + (share >> GAIN_SHIFT);
        self.alpha = self.alpha.min(1 << PLACES);
        self.delivered = 0;
        self.marked = 0;
    }

    #[cfg(test)]
    pub(super) fn alpha(&self) -> u32 {
        self.alpha
    }
}
