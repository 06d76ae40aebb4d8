//! A client: its requests, and what they are answered.

use super::cores::Core;
use super::resp::{Parser, Progress, Replies, Request, word};
use super::shard::{Answer, Op};
use demikernel::net::TcpStream;
use demikernel::{core_count, spawn_on};
use std::io;

/// The longest request.
const LONGEST: usize = 1 << 20;

/// What a request asks for.
enum Step {
    Key(Op),
    /// So many keys follow, whose answers are summed.
    Sum(usize),
    Info,
    Simple(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    Quit,
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
fn steps(request: &Request<'_>, steps: &mut Vec<Step>) {
    let key = || request[1].to_vec();
    let each = |steps: &mut Vec<Step>, op: fn(Vec<u8>) -> Op| {
        steps.push(Step::Sum(request.len() - 1));
        steps.extend(request.from(1).map(|key| Step::Key(op(key.to_vec()))));
    };
    let step = match (request.name(), request.len()) {
        (_, 0) => return,
        (PING, 1) => Step::Simple("PONG"),
        (PING | ECHO, 2) => Step::Bulk(key()),
        (GET, 2) => Step::Key(Op::Get(key())),
        (SET, 3) => Step::Key(Op::Set(key(), request[2].to_vec())),
        (DEL, 2..) => return each(steps, Op::Delete),
        (EXISTS, 2..) => return each(steps, Op::Exists),
        (INCR, 2) => Step::Key(Op::Add(key(), 1)),
        (DECR, 2) => Step::Key(Op::Add(key(), -1)),
        (INCRBY, 3) => match std::str::from_utf8(&request[2]).ok().and_then(|text| text.parse().ok()) {
            Some(number) => Step::Key(Op::Add(key(), number)),
            None => Step::Error("ERR value is not an integer or out of range".into()),
        },
        (DBSIZE, 1) => Step::Key(Op::Size),
        (INFO, _) => Step::Info,
        (QUIT, _) => Step::Quit,
        _ => {
            let name = request[0][..request[0].len().min(64)].escape_ascii().to_string();
            Step::Error(format!("ERR unknown command '{name}', or not with so many arguments"))
        }
    };
    steps.push(step);
}

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, core: &Core) -> io::Result<()> {
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
        let goes_on = carry_out(core, steps, &mut replies).await;
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
    let (mut all, mut used) = (Vec::new(), 0);
    loop {
        let rest = &input[used..];
        match parser.parse(rest) {
            Ok(Progress::Request(length)) => {
                steps(&parser.request(rest, None), &mut all);
                used += length;
            }
            Ok(_) => return (all, used),
            Err(error) => {
                all.push(Step::Error(format!("ERR Protocol error: {error}")));
                all.push(Step::Quit);
                return (all, input.len());
            }
        }
    }
}

/// Carries requests out; whether the client is to be listened to further.
async fn carry_out(core: &Core, mut steps: Vec<Step>, replies: &mut Replies) -> bool {
    let take = |step: &mut Step| match step {
        Step::Key(op) => Some(std::mem::replace(op, Op::Size)),
        _ => None,
    };
    let ops: Vec<Op> = steps.iter_mut().filter_map(take).collect();
    let mut answers = if ops.is_empty() { Vec::new() } else { core.ask(ops).await }.into_iter();
    let mut steps = steps.into_iter();
    while let Some(step) = steps.next() {
        match step {
            Step::Key(_) => reply(answers.next().expect("each is answered"), replies),
            Step::Sum(count) => {
                let integer = |answer| if let Answer::Integer(number) = answer { number } else { 0 };
                replies.integer(answers.by_ref().take(count).map(integer).sum());
                steps.by_ref().take(count).for_each(drop);
            }
            Step::Info => replies.bulk(info().await.as_bytes()),
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

fn reply(answer: Answer, replies: &mut Replies) {
    match answer {
        Answer::Done => replies.ok(),
        Answer::Value(Some(value)) => replies.bulk(&value),
        Answer::Value(None) => replies.null(),
        Answer::Integer(number) => replies.integer(number),
        Answer::NotAnInteger => replies.error("ERR value is not an integer or out of range"),
    }
}

/// What each core has counted, a line for each.
async fn info() -> String {
    let tasks: Vec<_> = (0..core_count())
        .map(|core| spawn_on(core, async || Core::here().map(|core| core.describe())))
        .collect();
    let mut text = String::new();
    for (core, task) in tasks.into_iter().enumerate() {
        // One that has ended, or not begun, has nothing to tell.
        let line = task.await.ok().flatten().unwrap_or_default();
        text += &format!("core:{core} {line}\r\n");
    }
    text
}
