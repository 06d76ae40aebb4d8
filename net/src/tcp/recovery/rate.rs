//! Delivery rate estimation (draft-cheng-iccrg-delivery-rate-estimation).

use demikernel_runtime::time::Instant;

use super::records::{Marks, Record};
use crate::wire::tcp::SequenceNumber;

/// What one acknowledgment says of the rate at which the path delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RateSample {
    /// Octets delivered in `interval`.
    pub(crate) delivered: u32,
    /// Nanoseconds; zero if there is no sample.
    pub(crate) interval: u64,
    /// Octets delivered on the connection before the segment left for which this is the sample.
    pub(crate) prior_delivered: u64,
    /// The sender did not fill the path, so this is a lower bound.
    pub(crate) app_limited: bool,
}

impl RateSample {
    /// Octets a second.
    pub(crate) fn rate(&self) -> u64 {
        if self.interval == 0 {
            return 0;
        }
        (u128::from(self.delivered) * 1_000_000_000 / u128::from(self.interval)) as u64
    }
}

/// What is to be known of the past while something is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    /// When the last segment that has arrived was sent, or the first of a flight.
    pub(super) first_sent: Instant,
    /// When something has arrived last.
    pub(super) delivered_at: Instant,
}

impl Epoch {
    /// Nothing was in flight before what leaves at `now`.
    #[inline]
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Epoch { first_sent: now, delivered_at: now };
    }
}

#[derive(Debug)]
pub(super) struct Rate {
    pub(super) delivered: u64,
    /// The last sample worth telling.
    told: u32,
    /// In units of 1,024 ns.
    told_interval: u32,
    /// While `delivered` is below this the flight is application-limited; zero if it is not.
    app_limited_until: u64,
}

impl Rate {
    pub(super) fn new() -> Rate {
        Rate { delivered: 0, told: 0, told_interval: 0, app_limited_until: 0 }
    }

    /// After what is in flight there will be a gap.
    #[inline]
    pub(super) fn on_app_limited(&mut self, in_flight: u32) {
        self.app_limited_until = (self.delivered + u64::from(in_flight)).max(1);
    }

    /// What leaves now, and the state of affairs.
    #[inline]
    pub(super) fn record(&self, now: Instant, start: SequenceNumber, length: u32, epoch: Epoch) -> Record {
        Record {
            start,
            length,
            sent: now,
            first_sent: epoch.first_sent,
            delivered_at: epoch.delivered_at,
            delivered: self.delivered as u32,
            marks: if self.app_limited_until != 0 { Marks::APP_LIMITED } else { Marks::default() },
        }
    }

    /// `octets` have arrived, of which `newest` left last.
    #[inline]
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        octets: u32,
        newest: &Record,
        min_rtt: u64,
        epoch: &mut Epoch,
    ) -> RateSample {
        self.delivered += u64::from(octets);
        epoch.delivered_at = now;
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        epoch.first_sent = newest.sent;
        let sending = newest.sent.as_nanos().saturating_sub(newest.first_sent.as_nanos());
        let acking = now.as_nanos().saturating_sub(newest.delivered_at.as_nanos());
        let interval = sending.max(acking);
        let delivered = (self.delivered as u32).wrapping_sub(newest.delivered);
        // Shorter than any round trip: what it measures is the compression of acknowledgments.
        let interval = if interval < min_rtt { 0 } else { interval };
        let app_limited = newest.marks.has(Marks::APP_LIMITED);
        let sample = RateSample {
            delivered,
            interval,
            prior_delivered: self.delivered - u64::from(delivered),
            app_limited,
        };
        if interval != 0 {
            self.tell(&sample);
        }
        sample
    }

    /// Keeps the sample if it is no lower bound, or a higher one than is known.
    #[inline]
    fn tell(&mut self, sample: &RateSample) {
        let interval = (sample.interval >> 10).clamp(1, u64::from(u32::MAX)) as u32;
        let (new, old) = (
            u64::from(sample.delivered) * u64::from(self.told_interval),
            u64::from(self.told) * u64::from(interval),
        );
        if !sample.app_limited || new >= old {
            self.told = sample.delivered;
            self.told_interval = interval;
        }
    }

    /// Octets a second, as last measured.
    pub(super) fn told(&self) -> u64 {
        (u64::from(self.told) * 1_000_000_000).checked_div(u64::from(self.told_interval) << 10).unwrap_or(0)
    }
}
