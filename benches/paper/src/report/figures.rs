//! Figures of a run: quartiles over its rounds, and differences and ratios inside of rounds.

use crate::results::{Experiment, Results};
use crate::systems::{System, named};
use demikernel_measure::stats::quartiles;
use std::collections::BTreeMap;

/// The first quartile, the median, the third.
pub(crate) type Quartiles = [f64; 3];

/// By round.
pub(crate) type Rounds = BTreeMap<usize, f64>;

/// A run's.
pub(crate) struct Figures<'a> {
    pub(crate) results: &'a Results,
}

impl Figures<'_> {
    /// One metric by round, or why there is none.
    pub(crate) fn rounds(
        &self,
        experiment: Experiment,
        system: &str,
        case: &str,
        metric: &str,
    ) -> Result<Rounds, String> {
        let rounds = self.results.series(experiment, system, case, metric);
        if !rounds.is_empty() {
            return Ok(rounds);
        }
        let why = self.results.why_absent(experiment, system, case);
        // A case such as `memory set` is one of those that a start of a server has, here `memory`.
        let why = why.or_else(|| self.results.why_absent(experiment, system, case.split(' ').next()?));
        Err(why.unwrap_or("not measured in this run").to_owned())
    }

    /// Its quartiles over rounds.
    pub(crate) fn quartiles(
        &self,
        experiment: Experiment,
        system: &str,
        case: &str,
        metric: &str,
    ) -> Result<Quartiles, String> {
        Ok(quartiles(self.rounds(experiment, system, case, metric)?.into_values()))
    }

    /// Differences inside of rounds.
    pub(crate) fn differences(&self, one: &Rounds, other: &Rounds) -> Quartiles {
        quartiles(one.iter().filter_map(|(round, value)| Some(value - other.get(round)?)))
    }

    /// Ratios inside of rounds.
    pub(crate) fn ratios(&self, one: &Rounds, other: &Rounds) -> Quartiles {
        quartiles(one.iter().filter_map(|(round, value)| Some(value / other.get(round)?)))
    }

    /// What a round trip takes more than on its floor, p50, in ns.
    pub(crate) fn above_floor(&self, system: &str, case: &str) -> Result<Quartiles, String> {
        let own = self.rounds(Experiment::Echo, system, case, "p50")?;
        let floor = match named(system) {
            Some(System { floor: Some(floor), .. }) => floor,
            Some(System { transport: "rdma", .. }) => {
                return Err("cargo xtask bench rdma has its floor".to_owned());
            }
            _ => return Err("there is no floor to take off".to_owned()),
        };
        let floor = self
            .rounds(Experiment::Echo, floor, case, "p50")
            .or_else(|_| self.rounds(Experiment::Echo, floor, "udp", "p50"))?;
        Ok(self.differences(&own, &floor))
    }

    /// The same for each of the operations that are demikernel's.
    pub(crate) fn share(&self, system: &str, case: &str) -> Result<Quartiles, String> {
        let operations = named(system).map_or(4, |system| system.operations());
        Ok(self.above_floor(system, case)?.map(|share| share / f64::from(operations)))
    }
}

/// Gigabits per second of messages that go there and back, of which both ways count as NetPIPE has it: the size by half
/// the round trip.
pub(crate) fn gigabits(figures: &Figures<'_>, system: &str, case: &str) -> Result<Quartiles, String> {
    let size: f64 = case.parse().map_err(|_| format!("{case} is no size"))?;
    let round_trips = figures.rounds(Experiment::Sizes, system, case, "p50")?;
    Ok(quartiles(round_trips.into_values().map(|round_trip| size * 8.0 / (round_trip / 2.0))))
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    // Thousands apart.
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("−", rest));
    let (whole, rest) = text.split_once('.').map_or((text, String::new()), |(a, b)| (a, format!(".{b}")));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// A power of ten, as short as it can be.
pub(crate) fn power(value: f64) -> String {
    // As it comes out of a multiplication it may be a little beside.
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The unit of a time in ns, and how many ns it has.
fn unit(nanoseconds: f64) -> (&'static str, f64) {
    match nanoseconds.abs() {
        1e6.. => ("ms", 1e6),
        1000.0.. => ("µs", 1e3),
        _ => ("ns", 1.0),
    }
}

fn with_quartiles([low, middle, high]: Quartiles, scale: f64, unit: &str) -> String {
    let number = |value: f64| number(value / scale);
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    format!("{}{unit} ({} to {})", number(middle), number(low), number(high))
}

/// A time in ns, with its quartiles.
pub(crate) fn time(quartiles: Quartiles) -> String {
    let (unit, scale) = unit(quartiles[1]);
    with_quartiles(quartiles, scale, unit)
}

/// A number without a unit, with its quartiles.
pub(crate) fn rate(quartiles: Quartiles) -> String {
    with_quartiles(quartiles, 1.0, "")
}

/// A time in ns, alone.
pub(crate) fn short_time(nanoseconds: f64) -> String {
    if nanoseconds == 0.0 {
        return "0".to_owned();
    }
    let (unit, scale) = unit(nanoseconds);
    format!("{} {unit}", number(nanoseconds / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Figure, tests::RECORDED};

    #[test]
    fn numbers_have_three_digits_that_count() {
        let cases = [(0.1234, "0.123"), (1.5, "1.50"), (12.34, "12.3"), (1234.5, "1,234"), (-56.78, "−56.8")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(time([900.0, 1250.0, 2000.0]), "1.25 µs (0.900 to 2.00)");
        assert_eq!(short_time(25e6), "25.0 ms");
        assert_eq!([0.01, 1.0, 100.0].map(power), ["0.01", "1", "100"]);
    }

    #[test]
    fn shares_are_taken_inside_of_rounds() {
        let mut results: Results = serde_json::from_str(RECORDED).unwrap();
        results.figures.clear();
        // The second round was twice as slow for everybody.
        for (round, own, floor) in [(0, 1400.0, 1000.0), (1, 2800.0, 2000.0), (2, 1400.0, 1000.0)] {
            for (system, value) in [("dpdk", own), ("frames-memif", floor)] {
                results.figures.push(Figure {
                    experiment: Experiment::Echo,
                    system: system.to_owned(),
                    case: "udp".to_owned(),
                    metric: "p50".to_owned(),
                    round,
                    value,
                });
            }
        }
        let figures = Figures { results: &results };
        assert_eq!(figures.above_floor("dpdk", "udp").unwrap()[1], 400.0);
        assert_eq!(figures.share("dpdk", "udp").unwrap()[1], 100.0);
        let why = "no RDMA device: nothing in /sys/class/infiniband";
        assert_eq!(figures.share("rdma", "udp").unwrap_err(), why);
        assert_eq!(figures.share("tap", "udp").unwrap_err(), "not measured in this run");
    }
}
