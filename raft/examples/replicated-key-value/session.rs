//! A client: its requests, and what they are answered.
//!
//! What a client has sent together is carried out together: writes that follow each other are proposed at once and share
//! their way to the other nodes and to the disks; reads that follow each other share the question whether this is the leader.

use super::machine::{Command, Reply};
use super::node::Node;
use super::requests::{self, Change, NOT_AN_INTEGER, Read, Step};
use super::resp::Replies;
use demikernel::net::TcpStream;
use demikernel::time::{Duration, timeout};
use demikernel_raft::openraft::ReadPolicy;
use demikernel_raft::openraft::async_runtime::WatchReceiver;
use demikernel_raft::openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};
use futures::future::join_all;
use std::io;

/// The longest request, and so the longest entry.
const LONGEST: usize = 512 << 10;

/// After how long a client is told that nobody knows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, node: &Node) -> io::Result<()> {
    requests::converse(stream, LONGEST, async |steps, replies| carry_out(node, steps, replies).await).await
}

/// Carries requests out in their order; whether the client is to be listened to further.
async fn carry_out(node: &Node, steps: Vec<Step>, replies: &mut Replies) -> bool {
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Change(change) => {
                let mut changes = vec![change];
                while let Some(Step::Change(change)) = steps.next_if(|step| matches!(step, Step::Change(_))) {
                    changes.push(change);
                }
                write(node, changes, replies).await;
            }
            Step::Read(read) => {
                let mut reads = vec![read];
                while let Some(Step::Read(read)) = steps.next_if(|step| matches!(step, Step::Read(_))) {
                    reads.push(read);
                }
                answer(node, reads, replies).await;
            }
            Step::Info => replies.bulk(info(node).as_bytes()),
            Step::Simple(text) => replies.simple(text),
            Step::Bulk(bytes) => replies.bulk(&bytes),
            Step::Error(text) => replies.error(text),
            Step::Quit => {
                replies.ok();
                return false;
            }
        }
    }
    true
}

impl From<Change> for Command {
    fn from(change: Change) -> Command {
        match change {
            Change::Set(key, value) => Command::Set(key, value),
            Change::Delete(keys) => Command::Delete(keys),
            Change::Add(key, number) => Command::Add(key, number),
        }
    }
}

/// Writes, and answers when the changes are durable on most nodes.
async fn write(node: &Node, changes: Vec<Change>, replies: &mut Replies) {
    let count = changes.len();
    // Each is proposed when its future is first polled: in order.
    let proposed = join_all(changes.into_iter().map(|change| node.raft.client_write(change.into())));
    let Ok(results) = timeout(PATIENCE, proposed).await else {
        (0..count).for_each(|_| replies.error("UNKNOWN the write may have been made, or yet be"));
        return;
    };
    for result in results {
        match result.map(|response| response.data) {
            Ok(Reply::Done) => replies.ok(),
            Ok(Reply::Integer(number)) => replies.integer(number),
            Ok(Reply::NotAnInteger) => replies.error(NOT_AN_INTEGER),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                elsewhere(node, &forward, replies);
            }
            // Also of a leader that was replaced: its successor may have the entry.
            Err(error) => replies.error(format_args!("UNKNOWN the write may have been made: {error}")),
        }
    }
}

/// Says who is the leader.
fn elsewhere(node: &Node, forward: &ForwardToLeader<super::machine::Types>, replies: &mut Replies) {
    match forward.leader_id.and_then(|id| node.address(id)) {
        Some(address) => replies.error(format_args!("MOVED 0 {address}")),
        None => replies.error("CLUSTERDOWN there is no leader"),
    }
}

/// Answers reads, when it is known that this is the leader and that it has applied all that was acknowledged.
async fn answer(node: &Node, reads: Vec<Read>, replies: &mut Replies) {
    match timeout(PATIENCE, node.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            for _ in reads {
                match error.forward_to_leader() {
                    Some(forward) => elsewhere(node, forward, replies),
                    None => replies.error(format_args!("CLUSTERDOWN {error}")),
                }
            }
            return;
        }
        Err(_) => return reads.iter().for_each(|_| replies.error("TIMEOUT most nodes do not answer")),
    }
    let machine = node.machine.get();
    for read in reads {
        match read {
            Read::Get(key) => match machine.get(&key) {
                Some(value) => replies.bulk(value),
                None => replies.null(),
            },
            Read::Exists(keys) => {
                replies.integer(keys.iter().filter(|key| machine.get(key).is_some()).count() as i64);
            }
            Read::Size => replies.integer(machine.len() as i64),
        }
    }
}

/// What the node knows.
fn info(node: &Node) -> String {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    let number = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
    format!(
        "id:{}\r\nleader:{}\r\nterm:{}\r\nstate:{:?}\r\nlast_log:{}\r\napplied:{}\r\nsnapshot:{}\r\npurged:{}\r\nkeys:{}\r\n",
        node.id,
        number(metrics.current_leader),
        metrics.current_term,
        metrics.state,
        number(metrics.last_log_index),
        number(metrics.last_applied.as_ref().map(|id| id.index)),
        number(metrics.snapshot.as_ref().map(|id| id.index)),
        number(metrics.purged.as_ref().map(|id| id.index)),
        node.machine.get().len(),
    )
}
