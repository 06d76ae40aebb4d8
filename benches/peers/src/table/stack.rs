//! The rows of the table of the userspace stack.

use super::rows::{Better, Goal, Row};
use crate::record::Kind;
use crate::stack::{MEMORY, OURS};

/// All rows, in order.
pub fn rows() -> Vec<Row> {
    let less = Better::Less;
    let twice = || vec![Goal::OfItem("tcp_echo_1", 2.0)];
    let at_least = |least| vec![Goal::Limit(least)];
    vec![
        row("TCP echo 64 B, 1 connection, ns", "tcp_echo_1", less, vec![Goal::Limit(300.0)]),
        row("TCP echo 64 B, 1,000 connections, ns", "tcp_echo_1000", less, twice()),
        row("TCP echo 64 B, 100,000 connections, ns", "tcp_echo_100000", less, twice()),
        row("UDP echo 64 B, ns", "udp_echo", less, vec![Goal::Limit(150.0)]),
        row("receive, ns", "receive", less, vec![Goal::Limit(60.0)]),
        row("transmit, ns", "transmit", less, vec![Goal::Limit(80.0)]),
        row("streaming, one full segment, ns", "streaming", less, vec![Goal::Limit(400.0)]),
        Row {
            scale: 1e3,
            ..row(
                "connections set up and torn down, thousand/s",
                "connections",
                Better::More,
                at_least(500e3),
            )
        },
        row("memory of an idle connection, bytes", MEMORY, less, vec![Goal::Limit(512.0)]),
        goodput("Reno", "goodput_reno", vec![]),
        goodput("CUBIC", "goodput_cubic", at_least(4.0)),
        goodput("BBR", "goodput_bbr", at_least(60.0)),
    ]
}

fn goodput(control: &str, item: &str, goals: Vec<Goal>) -> Row {
    let label = format!("goodput at 2 % loss and 20 ms, {control}, Mb/s");
    Row { digits: 2, ..row(&label, item, Better::More, goals) }
}

fn row(label: &str, item: &str, better: Better, goals: Vec<Goal>) -> Row {
    Row {
        label: label.into(),
        kind: Kind::Stack,
        index: 0,
        item: item.into(),
        peer_item: item.into(),
        scale: 1.0,
        digits: 0,
        better,
        own: OURS,
        floors: [None, None],
        goals,
    }
}
