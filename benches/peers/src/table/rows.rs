//! The rows of the table of the runtime: what each compares, and what it is to reach.

use crate::echo::rounds::{CELLS, cell};
use crate::instructions;
use crate::key_value;
use crate::operations::{SLOT, TOKEN};
use crate::record::Kind;
use crate::sharded;

/// Whether little or much is good.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Better {
    /// Times, instructions.
    Less,
    /// Rates.
    More,
}

/// What is to be reached.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    /// At least or at most so much of the fastest peer's figure.
    FastestPeer(f64),
    /// At least or at most so much of this contender's figure.
    Of(&'static str, f64),
    /// At most or at least this, in the unit of the records.
    Limit(f64),
    /// At least or at most so much of demikernel's own figure of another item.
    OfItem(&'static str, f64),
    /// No allocation per operation.
    NoAllocations,
}

/// One row.
pub struct Row {
    /// What the reader sees.
    pub label: String,
    /// What is compared: the records' kind, and which of their figures.
    pub kind: Kind,
    /// Index into a record's figures.
    pub index: usize,
    /// The operation or configuration.
    pub item: String,
    /// The peers' one, where it has another name.
    pub peer_item: String,
    /// Records are divided by this for display.
    pub scale: f64,
    /// Digits after the point.
    pub digits: usize,
    /// Direction.
    pub better: Better,
    /// demikernel's contender.
    pub own: &'static str,
    /// The two columns of floors.
    pub floors: [Option<&'static str>; 2],
    /// What is to be reached.
    pub goals: Vec<Goal>,
}

/// Who spins, whom a server that spins is measured by.
const SPINNING: &str = "raw-epoll-spin";
/// The floor of everybody who sleeps.
const DEFERRED: &str = "raw-uring-defer";

/// All rows, in order.
pub fn all() -> Vec<Row> {
    let mut rows = operations();
    rows.extend(latencies());
    rows.extend(throughputs());
    rows.extend(requests());
    rows.extend(shards());
    rows
}

fn operations() -> Vec<Row> {
    let peer = |target| vec![Goal::FastestPeer(target)];
    let tokens = vec![Goal::Limit(35.0), Goal::NoAllocations];
    let rows = [
        ("spawn + join", "spawn_join", peer(0.75)),
        ("spawn + join, 1,024 at a time", "spawn_join_1024", peer(0.75)),
        ("yield, 1 task", "yield_1", peer(0.6)),
        ("yield among 64 tasks", "yield_64", peer(0.6)),
        ("yield among 1,024 tasks", "yield_1024", peer(0.6)),
        ("wake a sleeping task", "wake_1", peer(0.5)),
        ("wake one of 1,024 sleeping tasks", "wake_1024", peer(0.6)),
        ("wake one of 65,536 sleeping tasks", "wake_65536", peer(0.9)),
        ("ping-pong through a slot and wakers", SLOT, vec![]),
        ("ping-pong, a queue token each way", TOKEN, tokens),
        ("ping-pong through the own local mpsc", "mpsc", peer(0.45)),
        ("ping-pong through futures' oneshot", "futures_oneshot", peer(0.8)),
        ("ping-pong through futures' mpsc", "futures_mpsc", peer(0.8)),
        ("timer: insert", "timer_insert", peer(0.5)),
        ("timer: cancel", "timer_cancel", peer(0.6)),
        ("timer: insert and cancel", "timer_insert_cancel", vec![]),
        ("timer: expire", "timer_expire", peer(1.0)),
    ];
    rows.into_iter().map(|(label, item, goals)| operation(label, item, goals)).collect()
}

fn operation(label: &str, item: &str, goals: Vec<Goal>) -> Row {
    Row {
        label: format!("{label}, ns"),
        kind: Kind::Time,
        index: 0,
        item: item.into(),
        // The nearest thing that peers have.
        peer_item: if item == TOKEN { SLOT } else { item }.into(),
        scale: 1.0,
        digits: 1,
        better: Better::Less,
        own: "demikernel",
        floors: [Some("mini"), Some("mini-atomic")],
        goals,
    }
}

fn latencies() -> Vec<Row> {
    let row = |label: &str, own, floors, goals| Row {
        label: format!("TCP echo 64 B, {label}: p50, us"),
        kind: Kind::Latency,
        index: 0,
        item: "1x64".into(),
        peer_item: "1x64".into(),
        scale: 1e3,
        digits: 1,
        better: Better::Less,
        own,
        floors,
        goals,
    };
    let spinning = [Some(SPINNING), Some("raw-uring-defer-spin")];
    let sleeping = [Some("raw-epoll"), Some(DEFERRED)];
    vec![
        row("spin", "demikernel-spin", spinning, vec![Goal::Of(SPINNING, 1.1)]),
        row("block", "demikernel-block", sleeping, vec![Goal::FastestPeer(1.05)]),
        row("adaptive", "demikernel-adaptive", sleeping, vec![]),
        row("epoll transport, spin", "demikernel-epoll-spin", spinning, vec![]),
        row("epoll transport, block", "demikernel-epoll-block", sleeping, vec![]),
    ]
}

fn throughputs() -> Vec<Row> {
    let size =
        |bytes: usize| if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) };
    let row = |label: &str, item: String, kind, index, better, own, goals| Row {
        label: label.into(),
        kind,
        index,
        peer_item: item.clone(),
        item,
        scale: if kind == Kind::MessageInstructions { 1.0 } else { 1e3 },
        digits: if kind == Kind::MessageInstructions { 0 } else { 1 },
        better,
        own,
        floors: [Some("raw-epoll"), Some(DEFERRED)],
        goals,
    };
    let mut rows = vec![];
    for (connections, bytes) in CELLS {
        let label = format!("TCP echo {connections} x {}", size(bytes));
        let item = cell(connections, bytes);
        let goals = vec![Goal::FastestPeer(1.0), Goal::Of(DEFERRED, 0.95)];
        let own = "demikernel-adaptive";
        let title = format!("{label}: thousand messages/s");
        rows.push(row(&title, item.clone(), Kind::Throughput, 0, Better::More, own, goals));
        let title = format!("{label}, epoll transport");
        let epoll = "demikernel-epoll-block";
        rows.push(row(&title, item.clone(), Kind::Throughput, 0, Better::More, epoll, vec![]));
        // A server that spins between messages would be charged for it.
        let title = format!("{label}: server's CPU per message, us");
        rows.push(row(&title, item, Kind::Throughput, 1, Better::Less, "demikernel-block", vec![]));
    }
    for connections in instructions::CONNECTIONS {
        let title = format!("TCP echo {connections} x 64 B: user-space instructions per message");
        let item = cell(connections, 64);
        let goals = vec![Goal::FastestPeer(0.5)];
        rows.push(row(&title, item, Kind::MessageInstructions, 0, Better::Less, "demikernel-block", goals));
    }
    rows
}

fn requests() -> Vec<Row> {
    let mut rows = vec![];
    for ((pipeline, _), target) in key_value::PIPELINES.into_iter().zip([1.0, 1.8]) {
        for command in key_value::COMMANDS {
            let name = command.to_uppercase();
            let row = |what: &str, index, better, goals| Row {
                label: format!("key-value -P {pipeline}, {name}: {what}"),
                kind: Kind::Requests,
                index,
                item: key_value::item(command, pipeline),
                peer_item: String::new(),
                scale: 1e3,
                digits: if index == 0 { 1 } else { 2 },
                better,
                own: key_value::OURS,
                floors: [Some(key_value::REDIS), None],
                goals,
            };
            let goals = vec![Goal::Of(key_value::REDIS, target)];
            rows.push(row("thousand requests/s", 0, Better::More, goals));
            rows.push(row("server's CPU per request, us", 1, Better::Less, vec![]));
        }
    }
    rows
}

/// What a request costs with two cores may be so many times what it costs with one: then two do 1.8 times its work.
const TWO_CORES: f64 = 1.11;

fn shards() -> Vec<Row> {
    let mut rows = vec![];
    for command in sharded::COMMANDS {
        // A goal names the item it stands against.
        let alone = if command == "set" { "set-1" } else { "get-1" };
        for cores in sharded::CORES {
            let name = command.to_uppercase();
            let plural = if cores == 1 { "core" } else { "cores" };
            let row = |what: &str, kind, scale| Row {
                label: format!("sharded-key-value, {cores} {plural}, -P 16, {name}: {what}"),
                kind,
                index: usize::from(kind == Kind::Shards),
                item: sharded::item(command, cores),
                peer_item: String::new(),
                scale,
                digits: if scale == 1.0 { 0 } else { 2 },
                better: Better::Less,
                own: sharded::OURS,
                floors: [None, None],
                goals: if cores == 1 { vec![] } else { vec![Goal::OfItem(alone, TWO_CORES)] },
            };
            rows.push(row("server's CPU per request, us", Kind::Shards, 1e3));
            rows.push(row("user-space instructions per request", Kind::ShardInstructions, 1.0));
        }
    }
    rows
}
