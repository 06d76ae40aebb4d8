//! A client: its requests, and what they are answered.
//!
//! What a client has sent together is carried out together: writes that follow each other are proposed at once and share
//! their way to the other nodes and to the disks; reads that follow each other share the question whether this is the leader.

use super::machine::{Command, Reply};
use super::node::Node;
use super::requests::{self, Asked, Change, NOT_AN_INTEGER, Read, Session};
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

/// A request that has been received.
enum Step {
    Change(Command),
    Query(Query),
    Info,
    Simple(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    Quit,
}

enum Query {
    Get(Vec<u8>),
    Exists(Vec<Vec<u8>>),
    Size,
}

/// A client's requests that are not answered.
struct Client<'a> {
    node: &'a Node,
    steps: Vec<Step>,
}

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, node: &Node) -> io::Result<()> {
    requests::converse(stream, LONGEST, &mut Client { node, steps: Vec::new() }).await
}

impl Session for Client<'_> {
    fn take_in(&mut self, asked: Asked<'_>) {
        self.steps.push(match asked {
            Asked::Change(change) => Step::Change(change.into()),
            Asked::Read(read) => Step::Query(read.into()),
            Asked::Info => Step::Info,
            Asked::Simple(text) => Step::Simple(text),
            Asked::Bulk(bytes) => Step::Bulk(bytes.to_vec()),
            Asked::Error(text) => Step::Error(text),
            Asked::Quit => Step::Quit,
        });
    }

    /// In their order.
    async fn carry_out(&mut self, replies: &mut Replies) -> bool {
        let node = self.node;
        let mut steps = self.steps.drain(..).peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Change(change) => {
                    let mut changes = vec![change];
                    while let Some(Step::Change(change)) =
                        steps.next_if(|step| matches!(step, Step::Change(_)))
                    {
                        changes.push(change);
                    }
                    write(node, changes, replies).await;
                }
                Step::Query(query) => {
                    let mut queries = vec![query];
                    while let Some(Step::Query(query)) = steps.next_if(|step| matches!(step, Step::Query(_)))
                    {
                        queries.push(query);
                    }
                    answer(node, queries, replies).await;
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
}

fn owned(keys: &[&[u8]]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.to_vec()).collect()
}

impl From<Change<'_>> for Command {
    fn from(change: Change<'_>) -> Command {
        match change {
            Change::Set(key, value) => Command::Set(key.to_vec(), value.to_vec()),
            Change::Delete(keys) => Command::Delete(owned(&keys)),
            Change::Add(key, number) => Command::Add(key.to_vec(), number),
        }
    }
}

impl From<Read<'_>> for Query {
    fn from(read: Read<'_>) -> Query {
        match read {
            Read::Get(key) => Query::Get(key.to_vec()),
            Read::Exists(keys) => Query::Exists(owned(&keys)),
            Read::Size => Query::Size,
        }
    }
}

/// Writes, and answers when the changes are durable on most nodes.
async fn write(node: &Node, changes: Vec<Command>, replies: &mut Replies) {
    let count = changes.len();
    // Each is proposed when its future is first polled: in order.
    let proposed = join_all(changes.into_iter().map(|change| node.raft.client_write(change)));
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
async fn answer(node: &Node, queries: Vec<Query>, replies: &mut Replies) {
    match timeout(PATIENCE, node.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            for _ in queries {
                match error.forward_to_leader() {
                    Some(forward) => elsewhere(node, forward, replies),
                    None => replies.error(format_args!("CLUSTERDOWN {error}")),
                }
            }
            return;
        }
        Err(_) => return queries.iter().for_each(|_| replies.error("TIMEOUT most nodes do not answer")),
    }
    let machine = node.machine.get();
    for query in queries {
        match query {
            Query::Get(key) => match machine.get(&key) {
                Some(value) => replies.bulk(value),
                None => replies.null(),
            },
            Query::Exists(keys) => {
                replies.integer(keys.iter().filter(|key| machine.get(key).is_some()).count() as i64);
            }
            Query::Size => replies.integer(machine.len() as i64),
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
