//! A client: its requests, and what they are answered.
//!
//! What a client has sent together is carried out together: writes that follow each other are proposed at once and share
//! their way to the other nodes and to the disks; reads that follow each other share the question whether this is the leader.

use super::machine::{Command, Reply};
use super::node::Node;
use super::resp::{Parser, Progress, Replies, Request, word};
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

/// What a request asks for.
enum Step {
    Write(Command, Kind),
    Get(Vec<u8>),
    Exists(Vec<Vec<u8>>),
    Size,
    Info,
    Simple(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    Quit,
}

/// How a change is answered.
#[derive(Clone, Copy)]
enum Kind {
    Ok,
    Integer,
}

impl Step {
    fn is_read(&self) -> bool {
        matches!(self, Step::Get(_) | Step::Exists(_) | Step::Size)
    }
}

const PING: u64 = word(b"ping");
const ECHO: u64 = word(b"echo");
const GET: u64 = word(b"get");
const SET: u64 = word(b"set");
const DEL: u64 = word(b"del");
const INCR: u64 = word(b"incr");
const DECR: u64 = word(b"decr");
const INCRBY: u64 = word(b"incrby");
const EXISTS: u64 = word(b"exists");
const DBSIZE: u64 = word(b"dbsize");
const INFO: u64 = word(b"info");
const QUIT: u64 = word(b"quit");

/// From the arguments of a request to what it asks for.
fn step(request: &Request<'_>) -> Step {
    let key = || request[1].to_vec();
    let rest = || request.from(1).map(<[u8]>::to_vec).collect();
    let add = |number| Step::Write(Command::Add(key(), number), Kind::Integer);
    match (request.name(), request.len()) {
        (PING, 1) => Step::Simple("PONG"),
        (PING | ECHO, 2) => Step::Bulk(key()),
        (GET, 2) => Step::Get(key()),
        (SET, 3) => Step::Write(Command::Set(key(), request[2].to_vec()), Kind::Ok),
        (DEL, 2..) => Step::Write(Command::Delete(rest()), Kind::Integer),
        (INCR, 2) => add(1),
        (DECR, 2) => add(-1),
        (INCRBY, 3) => match std::str::from_utf8(&request[2]).ok().and_then(|text| text.parse().ok()) {
            Some(number) => add(number),
            None => Step::Error("ERR value is not an integer or out of range".into()),
        },
        (EXISTS, 2..) => Step::Exists(rest()),
        (DBSIZE, 1) => Step::Size,
        (INFO, _) => Step::Info,
        (QUIT, _) => Step::Quit,
        _ => {
            let name = request[0][..request[0].len().min(64)].escape_ascii().to_string();
            Step::Error(format!("ERR unknown command '{name}', or not with so many arguments"))
        }
    }
}

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, node: &Node) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut parser = Parser::new(LONGEST);
    let (mut input, mut replies) = (Vec::new(), Replies::new());
    loop {
        let received = stream.pop().await?;
        if received.is_empty() {
            return Ok(());
        }
        input.extend_from_slice(&received);
        let (steps, used) = parse(&mut parser, &input);
        input.drain(..used);
        let goes_on = carry_out(node, steps, &mut replies).await;
        if replies.len() > 0 {
            stream.push_sga(replies.take()).await?;
        }
        if !goes_on {
            return Ok(());
        }
    }
}

/// The requests that are complete, and how many bytes they have.
fn parse(parser: &mut Parser, input: &[u8]) -> (Vec<Step>, usize) {
    let (mut steps, mut used) = (Vec::new(), 0);
    loop {
        let rest = &input[used..];
        match parser.parse(rest) {
            Ok(Progress::Request(length)) => {
                let request = parser.request(rest, None);
                if request.len() > 0 {
                    steps.push(step(&request));
                }
                used += length;
            }
            Ok(_) => return (steps, used),
            Err(error) => {
                steps.push(Step::Error(format!("ERR Protocol error: {error}")));
                steps.push(Step::Quit);
                return (steps, input.len());
            }
        }
    }
}

/// Carries requests out in their order; whether the client is to be listened to further.
async fn carry_out(node: &Node, steps: Vec<Step>, replies: &mut Replies) -> bool {
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Write(command, kind) => {
                let mut writes = vec![(command, kind)];
                while let Some(Step::Write(command, kind)) =
                    steps.next_if(|step| matches!(step, Step::Write(..)))
                {
                    writes.push((command, kind));
                }
                write(node, writes, replies).await;
            }
            Step::Info => replies.bulk(info(node).as_bytes()),
            Step::Simple(text) => replies.simple(text),
            Step::Bulk(bytes) => replies.bulk(&bytes),
            Step::Error(text) => replies.error(text),
            Step::Quit => {
                replies.ok();
                return false;
            }
            read => {
                let mut reads = vec![read];
                while let Some(read) = steps.next_if(Step::is_read) {
                    reads.push(read);
                }
                answer(node, reads, replies).await;
            }
        }
    }
    true
}

/// Writes, and answers when the changes are durable on most nodes.
async fn write(node: &Node, writes: Vec<(Command, Kind)>, replies: &mut Replies) {
    let (commands, kinds): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
    // Each is proposed when its future is first polled: in order.
    let proposed = join_all(commands.into_iter().map(|command| node.raft.client_write(command)));
    let Ok(results) = timeout(PATIENCE, proposed).await else {
        kinds.iter().for_each(|_| replies.error("UNKNOWN the write may have been made, or yet be"));
        return;
    };
    for (result, kind) in results.into_iter().zip(kinds) {
        match (result.map(|response| response.data), kind) {
            (Ok(Reply::Integer(number)), Kind::Integer) => replies.integer(number),
            (Ok(Reply::NotAnInteger), _) => replies.error("ERR value is not an integer or out of range"),
            (Ok(_), _) => replies.ok(),
            (Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))), _) => {
                elsewhere(node, &forward, replies);
            }
            // Also of a leader that was replaced: its successor may have the entry.
            (Err(error), _) => replies.error(format_args!("UNKNOWN the write may have been made: {error}")),
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
async fn answer(node: &Node, reads: Vec<Step>, replies: &mut Replies) {
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
            Step::Get(key) => match machine.get(&key) {
                Some(value) => replies.bulk(value),
                None => replies.null(),
            },
            Step::Exists(keys) => {
                replies.integer(keys.iter().filter(|key| machine.get(key).is_some()).count() as i64);
            }
            _ => replies.integer(machine.len() as i64),
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
