//! The tables, of the runtime and of the userspace stack: every operation with everybody's figures, the ratio to the
//! fastest peer, and the target.
//!
//! - A figure is the median over rounds.
//! - A ratio is the median of the ratios that were taken inside each round.
//! - The fastest peer is the one to which that ratio is worst for demikernel; a peer's variants each count.

mod rows;
mod stack;
mod web;

use crate::contenders::{PEERS, Peer, STACKS, peer_variants};
use crate::record::{Kind, Log};
use crate::stats::median;
use rows::{Better, Goal, Row};
use std::fmt::Write;

/// The tables as Markdown; rows without figures are left out, and tables without rows.
pub fn render(log: &Log) -> String {
    let runtime = section(log, &PEERS, &["floor", "floor 2"], &rows::all(), LEGEND);
    let stack = section(log, &STACKS, &[], &stack::rows(), STACK_LEGEND);
    let web = section(log, &PEERS, &[], &web::rows(), WEB_LEGEND);
    [runtime, stack, web].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn section(log: &Log, peers: &[Peer], floors: &[&str], rows: &[Row], legend: &str) -> Option<String> {
    let mut header = vec!["operation"];
    header.extend(floors);
    header.extend(peers.iter().map(|peer| peer.name));
    header.extend(["demikernel", "fastest peer", "ratio", "instructions", "allocations", "target", "met"]);
    let mut lines = vec![header.iter().map(|x| x.to_string()).collect()];
    let measured = rows.iter().filter(|row| is_measured(log, row));
    lines.extend(measured.map(|row| cells(log, row, peers, floors.len())));
    (lines.len() > 1).then(|| format!("{}\n{legend}", markdown(&lines)))
}

const LEGEND: &str = "\
Executor operations: CPU ns per operation; floors are a bare executor without and with atomic operations.
Echo: floors are raw epoll and raw io_uring with DEFER_TASKRUN, both spinning in the rows of servers that spin.
Key-value: the first floor is redis-server. Figures are medians over rounds, ratios medians of the ratios within
rounds; the fastest peer is the one against which demikernel does worst; a project's best variant is shown.
Instructions per operation in user space: demikernel's / those of the peer that is fastest.
";

const STACK_LEGEND: &str = "\
Two stacks of a kind in one thread, joined in memory: CPU time of both ends, but for receive (from the frame to what
wakes a task) and transmit (from the call to the frame), bursts of 32. Goodput is in virtual time.
";

const WEB_LEGEND: &str = "\
axum's hello under wrk, 64 connections, one core each; the same router and hyper for all. Where wrk is the limit, the
server's CPU per request tells more than requests/s.
";

fn is_measured(log: &Log, row: &Row) -> bool {
    std::iter::once(row.own).chain(peer_variants()).any(|contender| !series(log, row, contender).is_empty())
}

fn cells(log: &Log, row: &Row, peers: &[Peer], floors: usize) -> Vec<String> {
    let mut cells = vec![row.label.clone()];
    let floors = row.floors.iter().take(floors);
    cells.extend(floors.map(|floor| floor.map_or(String::new(), |floor| figure(log, row, floor))));
    cells.extend(peers.iter().map(|peer| {
        let best = peer.variants.iter().copied().max_by(|a, b| advantage(log, row, a, b));
        best.map_or(String::new(), |best| figure(log, row, best))
    }));
    let fastest = fastest_peer(log, row);
    cells.push(figure(log, row, row.own));
    cells.push(fastest.map_or(String::new(), |(name, _)| name.into()));
    cells.push(fastest.map_or(String::new(), |(_, ratio)| format!("{ratio:.2}")));
    cells.push(instructions(log, row, fastest.map(|x| x.0)));
    let allocations = allocations(log, row);
    cells.push(allocations.map_or(String::new(), |count| trimmed(format!("{count:.3}"))));
    let verdicts: Vec<_> = row.goals.iter().map(|goal| verdict(log, row, *goal, fastest)).collect();
    cells.push(join(&verdicts, |x| x.0.clone()));
    cells.push(join(&verdicts, |x| x.1.map_or("-", |met| if met { "yes" } else { "no" }).to_string()));
    cells
}

fn join<T>(list: &[T], text: impl Fn(&T) -> String) -> String {
    list.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// The figures by round of a contender in a row.
fn series(log: &Log, row: &Row, contender: &str) -> std::collections::BTreeMap<usize, f64> {
    let item = if contender == row.own { &row.item } else { &row.peer_item };
    // A floor is measured under the row's own name, where it has one.
    let item = if item.is_empty() { &row.item } else { item };
    log.series(row.kind, contender, item, row.index)
}

fn figure(log: &Log, row: &Row, contender: &str) -> String {
    let value = median(series(log, row, contender).into_values());
    if value.is_nan() { String::new() } else { format!("{:.*}", row.digits, value / row.scale) }
}

/// demikernel's figure divided by another's, inside rounds.
fn ratio(log: &Log, row: &Row, other: &str) -> Option<f64> {
    let (own, other) = (series(log, row, row.own), series(log, row, other));
    let ratios = own.iter().filter_map(|(round, value)| Some(value / other.get(round)?));
    Some(median(ratios)).filter(|ratio| ratio.is_finite())
}

/// How the figures of two contenders compare: greater is the better one, and nothing is the worst.
fn advantage(log: &Log, row: &Row, a: &str, b: &str) -> std::cmp::Ordering {
    let goodness = |contender| {
        let value = median(series(log, row, contender).into_values());
        match row.better {
            _ if value.is_nan() => f64::NEG_INFINITY,
            Better::Less => -value,
            Better::More => value,
        }
    };
    goodness(a).total_cmp(&goodness(b))
}

/// The peer against which demikernel does worst, with the ratio.
fn fastest_peer(log: &Log, row: &Row) -> Option<(&'static str, f64)> {
    let ratios = peer_variants().filter_map(|peer| Some((peer, ratio(log, row, peer)?)));
    match row.better {
        Better::Less => ratios.max_by(|a, b| a.1.total_cmp(&b.1)),
        Better::More => ratios.min_by(|a, b| a.1.total_cmp(&b.1)),
    }
}

/// The fastest peer of an operation, for those who want to look closer at it.
pub fn fastest_at(log: &Log, operation: &str) -> Option<&'static str> {
    let rows = rows::all();
    let row = rows.iter().find(|row| row.kind == Kind::Time && row.item == operation)?;
    fastest_peer(log, row).map(|fastest| fastest.0)
}

fn instructions(log: &Log, row: &Row, fastest: Option<&str>) -> String {
    let kind = match row.kind {
        Kind::Time => Kind::Instructions,
        Kind::Stack => Kind::StackInstructions,
        _ => return String::new(),
    };
    let count = |contender, item: &str| median(log.series(kind, contender, item, 0).into_values());
    let show = |count: f64| if count.is_nan() { "-".to_string() } else { format!("{count:.0}") };
    let own = count(row.own, &row.item);
    if own.is_nan() {
        return String::new();
    }
    let peer = fastest.map_or(f64::NAN, |fastest| count(fastest, &row.peer_item));
    format!("{} / {}", show(own), show(peer))
}

fn allocations(log: &Log, row: &Row) -> Option<f64> {
    let series = log.series(Kind::Allocations, row.own, &row.item, 0);
    Some(median(series.into_values())).filter(|count| row.kind == Kind::Time && count.is_finite())
}

/// 1.500 as 1.5, and 0.000 as 0.
fn trimmed(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').into()
}

/// A goal in words, with the ratio where no other column has it; and whether it is met, if that is known.
fn verdict(log: &Log, row: &Row, goal: Goal, fastest: Option<(&'static str, f64)>) -> (String, Option<bool>) {
    let sign = if row.better == Better::Less { "<=" } else { ">=" };
    let meets = |ratio: f64, target: f64| match row.better {
        Better::Less => ratio <= target,
        Better::More => ratio >= target,
    };
    match goal {
        Goal::FastestPeer(target) => {
            (format!("{sign} {target} x fastest peer"), fastest.map(|(_, ratio)| meets(ratio, target)))
        }
        Goal::Of(contender, target) => {
            let ratio = ratio(log, row, contender);
            let actual = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let text = format!("{sign} {target} x {contender} ({actual})");
            (text, ratio.map(|ratio| meets(ratio, target)))
        }
        Goal::Limit(limit) => {
            let value = median(series(log, row, row.own).into_values());
            (format!("{sign} {}", limit / row.scale), (!value.is_nan()).then(|| meets(value, limit)))
        }
        Goal::OfItem(item, target) => {
            let (own, base) = (series(log, row, row.own), log.series(row.kind, row.own, item, row.index));
            let ratio = median(own.iter().filter_map(|(round, value)| Some(value / base.get(round)?)));
            let text = format!("{sign} {target} x {item} ({ratio:.2})");
            (text, ratio.is_finite().then(|| meets(ratio, target)))
        }
        Goal::NoAllocations => {
            let none = allocations(log, row).map(|count| count < 0.0005);
            ("no allocations".into(), none)
        }
    }
}

/// Columns aligned, so that the text can be read as it stands.
fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").expect("a string takes all");
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    /// A log in memory of time records: contender, operation and one figure per round.
    fn log(records: &[(Kind, &str, &str, &[f64])]) -> Log {
        let mut log = Log::in_memory();
        for (kind, contender, item, rounds) in records {
            for (round, value) in rounds.iter().enumerate() {
                let (contender, item) = (contender.to_string(), item.to_string());
                log.push(Record { kind: *kind, contender, item, round, values: vec![*value] }).unwrap();
            }
        }
        log
    }

    fn line<'a>(table: &'a str, label: &str) -> Vec<&'a str> {
        let line = table.lines().find(|line| line.contains(label)).expect("there is such a row");
        line.split('|').map(str::trim).collect()
    }

    #[test]
    fn ratios_are_taken_inside_rounds() {
        // The second round was twice as slow for everybody; the third was so for tokio only.
        let log = log(&[
            (Kind::Time, "demikernel", "wake_1", &[40.0, 80.0, 40.0]),
            (Kind::Time, "tokio", "wake_1", &[100.0, 200.0, 400.0]),
            (Kind::Time, "tokio-local", "wake_1", &[90.0, 300.0, 300.0]),
            (Kind::Time, "glommio", "wake_1", &[200.0, 400.0, 400.0]),
        ]);
        let table = render(&log);
        let row = line(&table, "wake a sleeping task");
        assert!(row.contains(&"200.0"), "tokio's best variant by median: {row:?}");
        assert_eq!(row[row.len() - 7..], ["tokio", "0.40", "", "", "<= 0.5 x fastest peer", "yes", ""]);
        assert_eq!(fastest_at(&log, "wake_1"), Some("tokio"));
        assert!(!table.contains("spawn + join"), "rows without figures are left out");
    }

    #[test]
    fn tokens_stand_against_slots_and_must_not_allocate() {
        let log = log(&[
            (Kind::Time, "demikernel", TOKEN_ROW, &[30.0]),
            (Kind::Time, "monoio", "pp_slot", &[60.0]),
            (Kind::Allocations, "demikernel", TOKEN_ROW, &[0.25]),
            (Kind::Instructions, "demikernel", TOKEN_ROW, &[100.0]),
        ]);
        let table = render(&log);
        let row = line(&table, "a queue token each way");
        let expected = ["monoio", "0.50", "100 / -", "0.25", "<= 35; no allocations", "yes; no", ""];
        assert_eq!(row[row.len() - 7..], expected);
    }

    const TOKEN_ROW: &str = crate::operations::TOKEN;

    #[test]
    fn rates_are_better_when_greater() {
        let log = log(&[
            (Kind::Throughput, "demikernel-adaptive", "32x64", &[120_000.0]),
            (Kind::Throughput, "monoio", "32x64", &[100_000.0]),
            (Kind::Throughput, "glommio", "32x64", &[125_000.0]),
            (Kind::Throughput, "raw-uring-defer", "32x64", &[130_000.0]),
            (Kind::Requests, "key-value", "set-P1", &[99.0]),
            (Kind::Requests, "redis-server", "set-P1", &[100.0]),
        ]);
        let table = render(&log);
        let row = line(&table, "32 x 64 B: thousand");
        let target = ">= 1 x fastest peer; >= 0.95 x raw-uring-defer (0.92)";
        assert_eq!(row[row.len() - 7..], ["glommio", "0.96", "", "", target, "no; no", ""]);
        let row = line(&table, "key-value -P 1, SET: thousand");
        assert_eq!(row[row.len() - 3..], [">= 1 x redis-server (0.99)", "no", ""]);
    }
}
