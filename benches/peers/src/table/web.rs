//! The rows of web servers.

use super::rows::{Better, Goal, Row};
use crate::record::Kind;

/// demikernel's server on io_uring, and on epoll; and who is measured in time: one that spins between requests would be
/// charged for it.
const OURS: [(&str, &str, &str); 2] =
    [("demikernel", "demikernel-block", ""), ("demikernel-epoll", "demikernel-epoll", ", epoll transport")];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (item, title, target) in [("http", "axum", 1.2), ("https", "axum, TLS", 1.1)] {
        for (own, sleeper, transport) in OURS {
            let row = |own, what: &str, kind, index, scale, better, goals| Row {
                label: format!("{title}{transport}: {what}"),
                kind,
                index,
                item: item.into(),
                peer_item: item.into(),
                scale,
                digits: if scale == 1.0 { 0 } else { 1 },
                better,
                own,
                floors: [None, None],
                goals,
            };
            let goals = if transport.is_empty() { vec![Goal::FastestPeer(target)] } else { vec![] };
            rows.push(row(own, "thousand requests/s", Kind::Web, 0, 1e3, Better::More, goals));
            rows.push(row(sleeper, "server's CPU per request, us", Kind::Web, 1, 1e3, Better::Less, vec![]));
            let instructions = "user-space instructions per request";
            rows.push(row(sleeper, instructions, Kind::WebInstructions, 0, 1.0, Better::Less, vec![]));
        }
    }
    rows
}
