//! Round-trip times and what follows from them: the retransmission timeout, the least round trip.

use demikernel_runtime::time::{Duration, Instant};

/// How long the least round trip is remembered.
const MIN_RTT_WINDOW_MS: u32 = 10_000;

/// Before there is a sample [rfc6298 2.1].
const INITIAL_RTO: u64 = 1_000_000_000;

/// If the SYN was lost, for the data that follow [rfc6298 5.7].
const RTO_AFTER_LOST_SYN: u64 = 3_000_000_000;

/// Times in nanoseconds; zero where nothing was measured.
#[derive(Debug)]
pub(super) struct Rtt {
    smoothed: u64,
    variation: u64,
    /// The least in the window that runs, and in the one before with it.
    least: u32,
    least_before: u32,
    /// In milliseconds, modulo 2^32.
    window_started: u32,
    min_rto_ms: u16,
    max_rto_s: u16,
    /// By how many binary places one sample weighs less than one per round trip would.
    dilution: u8,
    backoff: u8,
    syn_lost: bool,
}

impl Rtt {
    pub(super) fn new(min_rto: Duration, max_rto: Duration, now: Instant) -> Rtt {
        Rtt {
            smoothed: 0,
            variation: 0,
            least: u32::MAX,
            least_before: u32::MAX,
            window_started: milliseconds(now),
            min_rto_ms: u16::try_from(min_rto.as_millis()).unwrap_or(u16::MAX),
            max_rto_s: u16::try_from(max_rto.max(min_rto).as_secs().max(1)).unwrap_or(u16::MAX),
            dilution: 0,
            backoff: 0,
            syn_lost: false,
        }
    }

    /// A round trip took `sample` nanoseconds. Not of something that was sent twice, unless timestamps tell which
    /// transmission it was [rfc6298 3].
    #[inline]
    pub(super) fn on_sample(&mut self, sample: u64) {
        let sample = sample.max(1);
        if self.smoothed == 0 {
            // [rfc6298 2.2]
            self.smoothed = sample;
            self.variation = sample / 2;
        } else {
            // [rfc6298 2.3] alpha = 1/8, beta = 1/4, both less where many samples are taken in one round trip
            // [rfc7323 G]; RTTVAR before SRTT.
            let error = sample as i64 - self.smoothed as i64;
            let deviation = error.unsigned_abs() as i64 - self.variation as i64;
            self.variation = (self.variation as i64 + (deviation >> (2 + self.dilution))) as u64;
            self.smoothed = ((self.smoothed as i64 + (error >> (3 + self.dilution))) as u64).max(1);
        }
        // [rfc6298 5.7-backoff] A fresh sample ends the backing off.
        self.backoff = 0;
    }

    /// A round trip of the segment that was sent last, to know the least.
    #[inline]
    pub(super) fn on_least_sample(&mut self, now: Instant, sample: u64) {
        let sample = u32::try_from(sample.max(1)).unwrap_or(u32::MAX);
        self.least = self.least.min(sample);
        let now = milliseconds(now);
        if now.wrapping_sub(self.window_started) > MIN_RTT_WINDOW_MS / 2 {
            self.least_before = self.least;
            self.least = sample;
            self.window_started = now;
        }
    }

    /// How many samples the coming round trip will give [rfc7323 G]: one for each two segments in flight.
    #[inline]
    pub(super) fn expect_samples(&mut self, flight: u32, segment: u32) {
        self.dilution = if flight <= 2 * segment {
            0
        } else {
            flight.div_ceil(2 * segment).next_power_of_two().trailing_zeros() as u8
        };
    }

    /// The timer has expired [rfc6298 5.5].
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// The timeout was spurious, or there is progress after all.
    pub(super) fn forget_backoff(&mut self) {
        self.backoff = 0;
    }

    /// The handshake needed more than one SYN.
    pub(super) fn on_syn_lost(&mut self) {
        self.syn_lost = true;
        self.backoff = 0;
    }

    /// [rfc6298 2]: with the least and the most that are configured; nanoseconds.
    #[inline]
    pub(super) fn rto(&self) -> u64 {
        let base = if self.smoothed != 0 {
            // The clock counts nanoseconds, so its granularity never counts.
            self.smoothed + (4 * self.variation).max(1)
        } else if self.syn_lost {
            RTO_AFTER_LOST_SYN
        } else {
            INITIAL_RTO
        };
        let (least, most) =
            (u64::from(self.min_rto_ms) * 1_000_000, u64::from(self.max_rto_s) * 1_000_000_000);
        // [rfc6298 2.4] [rfc6298 2.5]
        (base.max(least) << self.backoff).min(most)
    }

    /// Nanoseconds, if there is a sample.
    #[inline]
    pub(super) fn smoothed(&self) -> Option<u64> {
        (self.smoothed != 0).then_some(self.smoothed)
    }

    pub(super) fn variation(&self) -> u64 {
        self.variation
    }

    /// The least round trip of the last ten seconds; nanoseconds, zero if none was measured.
    #[inline]
    pub(super) fn least(&self) -> u64 {
        let least = self.least.min(self.least_before);
        if least == u32::MAX { 0 } else { u64::from(least) }
    }

    pub(super) fn backoff(&self) -> u8 {
        self.backoff
    }
}

fn milliseconds(at: Instant) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}
