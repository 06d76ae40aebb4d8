//! Round-trip times and what follows from them: the retransmission timeout, the least round trip.

use demikernel_runtime::time::{Duration, Instant};

/// How long the least round trip is remembered.
const MIN_RTT_WINDOW: u32 = (10_000_000_000u64 >> COARSE) as u32;

/// With more, errors of a few microseconds would be rounded away.
const MOST_DILUTION: u32 = 10;

/// Nanoseconds without so many binary places are some milliseconds.
const COARSE: u32 = 20;

/// Before there is a sample [rfc6298 2.1] [rfc8961 4-1].
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
    /// See [`coarse`].
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
            window_started: coarse(now),
            min_rto_ms: u16::try_from(min_rto.as_millis()).unwrap_or(u16::MAX),
            max_rto_s: u16::try_from(max_rto.max(min_rto).as_secs().max(1)).unwrap_or(u16::MAX),
            dilution: 0,
            backoff: 0,
            syn_lost: false,
        }
    }

    /// A round trip took `sample` nanoseconds [rfc6298 2] [rfc8961 4-2a]: one at least in each round trip, and more if
    /// there are [rfc8961 4-2b] [rfc8961 4-2c]. Not of something that was sent twice, unless timestamps tell which
    /// transmission it was [rfc9293 MUST-18] [rfc6298 3] [rfc8961 4-2d].
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
        if coarse(now).wrapping_sub(self.window_started) > MIN_RTT_WINDOW / 2 {
            self.least_before = self.least;
            self.least = sample;
            self.window_started = coarse(now);
        }
    }

    /// How many samples the coming round trip will give [rfc7323 G]: one for each two segments in flight.
    #[inline]
    pub(super) fn expect_samples(&mut self, flight: u32, segment: u32) {
        self.dilution = if flight <= 2 * segment {
            0
        } else {
            let samples = flight.div_ceil(2 * segment).next_power_of_two();
            samples.trailing_zeros().min(MOST_DILUTION) as u8
        };
    }

    /// The timer has expired [rfc9293 MUST-19] [rfc6298 5.5] [rfc8961 4-3].
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

/// Some milliseconds, modulo 2^32.
fn coarse(at: Instant) -> u32 {
    (at.as_nanos() >> COARSE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn fresh() -> Rtt {
        Rtt::new(Duration::ZERO, Duration::from_secs(60), Instant::from_nanos(0))
    }

    /// [rfc6298 2] [rfc6298 2.1] [rfc6298 2.2] [rfc6298 2.3] [rfc8961 4-1] [rfc8961 4-2a]
    #[test]
    fn the_timeout_follows_the_samples() {
        let mut rtt = fresh();
        assert_eq!(rtt.rto(), 1_000 * MS);
        for (sample, smoothed, variation) in
            [(100.0, 100.0, 50.0), (100.0, 100.0, 37.5), (200.0, 112.5, 53.125), (40.0, 103.4375, 57.96875)]
        {
            rtt.on_sample((sample * 1e6) as u64);
            assert_eq!(rtt.smoothed(), Some((smoothed * 1e6) as u64));
            assert_eq!(rtt.variation(), (variation * 1e6) as u64);
            assert_eq!(rtt.rto(), ((smoothed + 4.0 * variation) * 1e6) as u64);
        }
    }

    /// [rfc6298 2.4] [rfc6298 2.5] [rfc6298 5.5] [rfc6298 5.7-backoff] [rfc8961 4-3]
    #[test]
    fn the_timeout_has_bounds_and_backs_off() {
        let (least, most) = (Duration::from_millis(200), Duration::from_secs(3));
        let mut rtt = Rtt::new(least, most, Instant::from_nanos(0));
        rtt.on_sample(MS);
        for expected in [200, 400, 800, 1_600, 3_000, 3_000] {
            assert_eq!(rtt.rto(), expected * MS);
            rtt.back_off();
        }
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto(), 3_000 * MS);
        rtt.on_sample(MS);
        assert_eq!(rtt.rto(), 200 * MS);
    }

    /// [rfc6298 5.7]
    #[test]
    fn after_a_lost_syn_data_begin_with_three_seconds() {
        let mut rtt = fresh();
        rtt.back_off();
        assert_eq!(rtt.rto(), 2_000 * MS);
        rtt.on_syn_lost();
        assert_eq!(rtt.rto(), 3_000 * MS);
        rtt.on_sample(100 * MS);
        assert_eq!(rtt.rto(), 300 * MS);
    }

    /// [rfc7323 G] [rfc8961 4-2b] [rfc8961 4-2c] A step of the round trip is followed as fast with 64 samples in each as with one.
    #[test]
    fn many_samples_weigh_together_as_much_as_one() {
        let converged = |samples: u32| {
            let mut rtt = fresh();
            rtt.on_sample(100 * MS);
            rtt.expect_samples(samples * 2_000, 1_000);
            for _ in 0..8 * samples {
                rtt.on_sample(200 * MS);
            }
            rtt.smoothed().expect("there were samples") / MS
        };
        assert_eq!(converged(1), 165);
        for samples in [2, 8, 64] {
            assert!((160..167).contains(&converged(samples)), "{samples}: {}", converged(samples));
        }
    }

    #[test]
    fn the_least_round_trip_is_that_of_the_last_seconds() {
        let mut rtt = fresh();
        assert_eq!(rtt.least(), 0);
        let mut told = Vec::new();
        for second in 0..20 {
            let sample = if second == 2 { 10 } else { 20 };
            rtt.on_least_sample(Instant::from_nanos(second * 1_000 * MS), sample * MS);
            told.push(rtt.least() / MS);
        }
        assert_eq!(told[..2], [20, 20]);
        assert!(told[2..=7].iter().all(|&least| least == 10), "{told:?}");
        assert!(told[13..].iter().all(|&least| least == 20), "{told:?}");
    }

    #[test]
    fn round_trips_of_a_nanosecond_and_of_an_hour_are_endured() {
        let mut rtt = fresh();
        for sample in [0, u64::from(u32::MAX) * 1_000, 1, 0] {
            rtt.on_sample(sample);
            rtt.on_least_sample(Instant::from_nanos(sample), sample);
            assert!(rtt.rto() <= 60_000 * MS && rtt.smoothed() > Some(0));
        }
    }
}
