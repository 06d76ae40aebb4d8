//! Rates and shares, from two samples.

use demikernel_inspect::Client;
use demikernel_inspect::protocol::Of;
use demikernel_runtime::inspect::{Latencies, Metrics};
use std::io;
use std::time::{Duration, Instant};

/// What the program has told at a moment.
pub(crate) struct Sample {
    at: Instant,
    pub(crate) metrics: Of<Metrics>,
}

impl Sample {
    pub(crate) fn take(client: &mut Client) -> io::Result<Sample> {
        Ok(Sample { at: Instant::now(), metrics: client.metrics()? })
    }
}

/// What a core has done between two samples.
pub(crate) struct Core<'a> {
    pub(crate) now: &'a Metrics,
    before: Option<&'a Metrics>,
    time: Duration,
}

/// The cores of a sample, each with what it did since an earlier one.
pub(crate) fn cores<'a>(before: &'a Sample, now: &'a Sample) -> Vec<Core<'a>> {
    let time = now.at.duration_since(before.at);
    let earlier =
        |metrics: &Metrics| before.metrics.runtimes.iter().find(|before| before.runtime == metrics.runtime);
    now.metrics.runtimes.iter().map(|now| Core { now, before: earlier(now), time }).collect()
}

impl Core<'_> {
    /// In a second.
    pub(crate) fn rate(&self, count: impl Fn(&Metrics) -> u64) -> f64 {
        let before = self.before.map_or(0, &count);
        self.per_second(count(self.now).saturating_sub(before))
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Of the time that was counted, the share of this.
    pub(crate) fn share(&self, of: impl Fn(&Metrics) -> Duration) -> f64 {
        let spent = |time: &dyn Fn(&Metrics) -> Duration| {
            time(self.now).saturating_sub(self.before.map_or(Duration::ZERO, time)).as_secs_f64()
        };
        let all = spent(&|metrics| metrics.busy + metrics.idle);
        if all == 0.0 { 0.0 } else { (spent(&of) / all).min(1.0) }
    }

    /// The counters of its devices: which device, the name, the count, and how many in a second.
    pub(crate) fn counters(&self) -> Vec<(String, String, u64, f64)> {
        let mut counters = Vec::new();
        for (place, device) in self.now.devices.iter().enumerate() {
            let before = self.before.and_then(|before| before.devices.get(place));
            let before = before.filter(|before| before.name == device.name);
            for (name, value) in &device.counters {
                let former = before.and_then(|it| it.counters.iter().find(|(other, _)| other == name));
                let more = value.saturating_sub(former.map_or(0, |(_, value)| *value));
                counters.push((device.name.to_string(), name.to_string(), *value, self.per_second(more)));
            }
        }
        counters
    }

    /// Of what, and how long that took between the samples.
    pub(crate) fn latencies(&self) -> Vec<(String, Latencies)> {
        let since = |now: &Latencies, before: Option<&Latencies>| match before {
            Some(before) => now.since(before),
            None => now.clone(),
        };
        let turns = since(&self.now.turn_times, self.before.map(|before| &before.turn_times));
        let mut all = vec![("turns of the loop".to_owned(), turns)];
        for (place, device) in self.now.devices.iter().enumerate() {
            let before = self.before.and_then(|before| before.devices.get(place));
            for now in &device.latencies {
                let before = before.and_then(|it| it.latencies.iter().find(|it| it.name() == now.name()));
                all.push((format!("{}: {}", device.name, now.name()), since(now, before)));
            }
        }
        all.retain(|(_, latencies)| latencies.count() > 0);
        all
    }
}

/// How many took so long, by powers of two of nanoseconds, from 256 ns to 17 s: those that are beyond are in the last.
pub(crate) fn powers(latencies: &Latencies) -> [u64; POWERS] {
    let mut powers = [0; POWERS];
    for (most, count) in latencies.buckets() {
        let power = most.max(&1).ilog2() as usize;
        powers[power.saturating_sub(FIRST).min(POWERS - 1)] += count;
    }
    powers
}

pub(crate) const POWERS: usize = 27;
const FIRST: usize = 8;

/// A count as people read it.
pub(crate) fn short(count: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(unit, _)| count >= 10.0 * unit) {
        Some((unit, name)) => format!("{:.1}{name}", count / unit),
        None => format!("{count:.0}"),
    }
}

/// Bytes likewise.
pub(crate) fn bytes(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

/// The middle, the 99th percentile and the longest.
pub(crate) fn quantiles(latencies: &Latencies) -> String {
    let at = |share| latencies.quantile(share).unwrap_or_default();
    format!("p50 {:.1?}, p99 {:.1?}, most {:.1?}", at(0.5), at(0.99), at(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_histograms_have_every_time() {
        assert_eq!([9.0, 9999.0, 10_000.0, 2.5e9].map(short), ["9", "9999", "10.0k", "2500.0M"]);
        assert_eq!([12, 1536, 3 << 20].map(bytes), ["12 B", "1.5 KiB", "3.0 MiB"]);
        let all = Latencies::new("x", 0, vec![(0, 1), (256, 2), (1023, 4), (u64::MAX, 8)]);
        let powers = powers(&all);
        assert_eq!((powers[0], powers[1], powers[POWERS - 1]), (3, 4, 8));
    }
}
