//! What there is, as text.

use crate::figures::{Core, Sample, bytes, cores, powers, quantiles, short};
use demikernel_inspect::protocol::{Greeting, Of};
use demikernel_runtime::inspect::{Connection, Dump};
use std::fmt::Write;

/// What stands above everything.
pub(crate) fn title(greeting: &Greeting) -> String {
    format!("{} (process {})", greeting.program, greeting.pid)
}

/// The columns of the table of cores.
pub(crate) const COLUMNS: [&str; 11] = [
    "core", "busy", "blocked", "tasks", "tokens", "timers", "spawns/s", "polls/s", "wakes/s", "turns/s",
    "buffers",
];

/// A core's row.
pub(crate) fn row(core: &Core<'_>) -> [String; 11] {
    let now = core.now;
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    [
        now.core.to_string(),
        percent(core.share(|metrics| metrics.busy)),
        percent(core.share(|metrics| metrics.parked)),
        now.tasks.to_string(),
        now.tokens.to_string(),
        now.timers.to_string(),
        short(core.rate(|metrics| metrics.spawned)),
        short(core.rate(|metrics| metrics.polls)),
        short(core.rate(|metrics| metrics.wakes)),
        short(core.rate(|metrics| metrics.turns)),
        bytes(now.buffers.in_use()),
    ]
}

/// The metrics of all cores.
pub(crate) fn metrics(greeting: &Greeting, before: &Sample, now: &Sample) -> String {
    let mut out = format!("{}\n\n", title(greeting));
    let cores = cores(before, now);
    let line = |cells: [&str; 11]| cells.map(|cell| format!("{cell:>9}")).join(" ");
    out.push_str(&line(COLUMNS));
    out.push('\n');
    for core in &cores {
        let cells = row(core);
        out.push_str(&line(std::array::from_fn(|index| cells[index].as_str())));
        out.push('\n');
    }
    for core in &cores {
        let _ = writeln!(out, "\ncore {}", core.now.core);
        for (device, name, count, rate) in core.counters() {
            let _ = writeln!(out, "  {device:<12} {name:<32} {count:>16} {:>10}/s", short(rate));
        }
        for (name, latencies) in core.latencies() {
            let count = latencies.count();
            let _ = writeln!(out, "  {name:<24} {} times, {}", short(count as f64), quantiles(&latencies));
            let _ = writeln!(out, "  {:<24} [{}]", "256 ns ... 17 s", bars(&powers(&latencies)));
        }
    }
    silent(&mut out, &now.metrics.silent);
    out
}

/// One character for each, as high as there are many.
pub(crate) fn bars(counts: &[u64]) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    // The lowest is for any that is there.
    let height = |count: u64| (u128::from(count) * 8).div_ceil(u128::from(most)) as usize;
    counts.iter().map(|&count| HEIGHTS[height(count)]).collect()
}

/// The tasks of all cores.
pub(crate) fn tasks(dumps: &Of<Dump>) -> String {
    let mut out = dumps.runtimes.iter().map(Dump::to_string).collect::<Vec<_>>().join("\n");
    silent(&mut out, &dumps.silent);
    out
}

/// The connections of all cores.
pub(crate) fn connections(all: &Of<Vec<Connection>>) -> String {
    let mut out = String::new();
    for connection in all.runtimes.iter().flatten() {
        let place = |address: &Option<String>| address.clone().unwrap_or_else(|| "-".to_owned());
        let state = connection.state.as_deref().unwrap_or("-");
        let (local, peer) = (place(&connection.local), place(&connection.peer));
        let _ = write!(out, "{:<9} {:>5} {state:<12} {local} {peer}", connection.device, connection.socket);
        for (name, value) in connection.figures.iter().filter(|(_, value)| *value != 0) {
            let _ = write!(out, " {name}={value}");
        }
        out.push('\n');
    }
    silent(&mut out, &all.silent);
    out
}

fn silent(out: &mut String, reasons: &[String]) {
    for reason in reasons {
        let _ = writeln!(out, "\nno answer: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_whatever_is_there() {
        assert_eq!(bars(&[0, 1, 500, 1000]), " ▁▄█");
        assert_eq!(bars(&[0, 0]), "  ");
        assert_eq!(bars(&[u64::MAX]), "█");
    }
}
