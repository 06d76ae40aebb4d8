//! The text that Prometheus reads.

use super::{Latencies, Metrics};
use std::fmt::{self, Write};

/// What the response to a scrape says its body is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of histograms, in nanoseconds: powers of two from 1 us to 17 s. Those that there are
/// must be the same in every scrape.
const BOUNDS: std::ops::RangeInclusive<u32> = 10..=34;

type Value = fn(&Metrics) -> f64;

/// What each runtime has one figure of: the name, its type, what it is, and how to read it.
const FIGURES: &[(&str, &str, &str, Value)] = &[
    ("polls_total", "counter", "Polls of tasks.", |it| it.polls as f64),
    ("wakes_total", "counter", "Times a task was made ready.", |it| it.wakes as f64),
    ("remote_wakes_total", "counter", "Of these, by other threads.", |it| it.remote_wakes as f64),
    ("turns_total", "counter", "Turns of the loop.", |it| it.turns as f64),
    ("parks_total", "counter", "Times the thread was blocked.", |it| it.parks as f64),
    ("tasks_spawned_total", "counter", "Tasks that were spawned.", |it| it.spawned as f64),
    ("tasks", "gauge", "Tasks that have not ended.", |it| it.tasks as f64),
    ("tokens", "gauge", "Operations under way, without timers.", |it| it.tokens as f64),
    ("timers", "gauge", "Timers that are set.", |it| it.timers as f64),
    ("busy_seconds_total", "counter", "Time in turns with something to do.", |it| it.busy.as_secs_f64()),
    ("idle_seconds_total", "counter", "Time in turns with nothing to do.", |it| it.idle.as_secs_f64()),
    ("parked_seconds_total", "counter", "Of that, the time blocked.", |it| it.parked.as_secs_f64()),
    ("buffer_bytes_limit", "gauge", "Bytes that the pool may map.", |it| it.buffers.limit as f64),
    ("buffer_bytes_mapped", "gauge", "Bytes that the pool has mapped.", |it| it.buffers.mapped as f64),
    ("buffer_bytes_in_use", "gauge", "Bytes of buffers in use.", |it| it.buffers.in_use() as f64),
    ("buffer_waiters", "gauge", "Who waits for memory of the pool.", |it| it.buffers.waiting as f64),
];

/// Writes the metrics of runtimes in Prometheus' text format 0.0.4 ([`CONTENT_TYPE`]).
///
/// Names begin with `demikernel_`. Each figure has the label `core`; those of devices `device` and `counter`, those
/// of latencies `device` and `operation`, and those of the pool's size classes `class`. Runtimes of one core are told
/// apart by the label `runtime`.
///
/// ```
/// let runtime = demikernel_runtime::Runtime::new()?;
/// let text = demikernel_runtime::inspect::prometheus(&[runtime.metrics()]);
/// assert!(text.contains("# TYPE demikernel_polls_total counter\n"));
/// assert!(text.contains("demikernel_tasks{core=\"0\",runtime="));
/// # std::io::Result::Ok(())
/// ```
pub fn prometheus(metrics: &[Metrics]) -> String {
    let mut text = String::new();
    write(&mut text, metrics).expect("a string takes everything");
    text
}

fn write(out: &mut String, metrics: &[Metrics]) -> fmt::Result {
    for (name, kind, help, value) in FIGURES {
        family(out, name, kind, help)?;
        for it in metrics {
            writeln!(out, "demikernel_{name}{{{}}} {}", labels(it), value(it))?;
        }
    }
    classes(out, metrics)?;
    family(out, "device_counter", "untyped", "What a device has counted, or has now.")?;
    for it in metrics {
        for (index, device) in it.devices.iter().enumerate() {
            for (counter, value) in &device.counters {
                let (labels, device) = (labels(it), Label(&device.name));
                let place = format_args!("device=\"{device}\",place=\"{index}\"");
                let counter = Label(counter);
                writeln!(out, "demikernel_device_counter{{{labels},{place},counter=\"{counter}\"}} {value}")?;
            }
        }
    }
    family(out, "turn_seconds", "histogram", "How long turns took that had something to do.")?;
    for it in metrics {
        histogram(out, "turn_seconds", &labels(it), &it.turn_times)?;
    }
    family(out, "operation_seconds", "histogram", "How long operations of a device took.")?;
    for it in metrics {
        for (index, device) in it.devices.iter().enumerate() {
            for latencies in &device.latencies {
                let (labels, device) = (labels(it), Label(&device.name));
                let operation = Label(latencies.name());
                let labels =
                    format!("{labels},device=\"{device}\",place=\"{index}\",operation=\"{operation}\"");
                histogram(out, "operation_seconds", &labels, latencies)?;
            }
        }
    }
    Ok(())
}

fn classes(out: &mut String, metrics: &[Metrics]) -> fmt::Result {
    type Of = fn(&crate::buffer::pool::ClassStats) -> u64;
    let figures: [(&str, &str, &str, Of); 4] = [
        ("buffers_in_use", "gauge", "Buffers in use, by size.", |it| it.in_use as u64),
        ("buffers", "gauge", "Buffers that exist, by size.", |it| it.total as u64),
        ("buffer_allocations_total", "counter", "Buffers that were taken, by size.", |it| it.allocations),
        ("buffer_misses_total", "counter", "Requests for which there was no memory.", |it| it.exhausted),
    ];
    for (name, kind, help, value) in figures {
        family(out, name, kind, help)?;
        for it in metrics {
            for class in &it.buffers.classes {
                let size = if class.size == 0 { "large".to_owned() } else { class.size.to_string() };
                writeln!(out, "demikernel_{name}{{{},class=\"{size}\"}} {}", labels(it), value(class))?;
            }
        }
    }
    Ok(())
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP demikernel_{name} {help}\n# TYPE demikernel_{name} {kind}")
}

fn labels(metrics: &Metrics) -> String {
    format!("core=\"{}\",runtime=\"{}\"", metrics.core, metrics.runtime)
}

fn histogram(out: &mut String, name: &str, labels: &str, latencies: &Latencies) -> fmt::Result {
    let mut buckets = latencies.buckets().iter().peekable();
    let mut count = 0u64;
    for bound in BOUNDS.map(|power| 1u64 << power) {
        while let Some((_, more)) = buckets.next_if(|(most, _)| *most <= bound) {
            count += more;
        }
        writeln!(out, "demikernel_{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(bound))?;
    }
    let (count, sum) = (latencies.count(), seconds(latencies.sum()));
    writeln!(out, "demikernel_{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
    writeln!(out, "demikernel_{name}_sum{{{labels}}} {sum}\ndemikernel_{name}_count{{{labels}}} {count}")
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The value of a label, in which three characters are special.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::DeviceMetrics;

    #[test]
    fn every_sample_belongs_to_the_family_before_it() {
        let device = DeviceMetrics {
            name: "di\"sk".into(),
            counters: vec![("reads\n".into(), 3)],
            latencies: vec![Latencies::new("read", 3_000, vec![(1024, 1), (2000, 1)])],
        };
        let text = prometheus(&[Metrics { devices: vec![device], ..Metrics::default() }]);
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => {
                    assert!(line.starts_with(family), "{line} after {family}");
                    let (_, value) = line.rsplit_once("} ").unwrap();
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        assert!(text.contains("device=\"di\\\"sk\",place=\"0\",counter=\"reads\\n\"} 3\n"), "{text}");
        let bucket = |le: &str| format!("operation=\"read\",le=\"{le}\"}} ");
        assert!(text.contains(&format!("{}1\n", bucket("0.000001024"))), "{text}");
        assert!(text.contains(&format!("{}2\n", bucket("0.000002048"))), "{text}");
        assert!(text.contains(&format!("{}2\n", bucket("+Inf"))), "{text}");
    }
}
