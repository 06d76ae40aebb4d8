//! A client: its requests, and what they are answered.

use super::cores::{Asking, Core};
use super::resp::{Parser, Progress, Replies, Request, word};
use super::shard::{Answer, Op};
use demikernel::net::TcpStream;
use demikernel::{core_count, spawn_on};
use std::io;

/// The longest request.
const LONGEST: usize = 1 << 20;

/// What a request asks for.
enum Step {
    /// The next answer of the cores.
    Key,
    /// The sum of the next so many.
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

/// A client's requests that have been received and are not answered, in memory that is used again.
struct Session<'a> {
    core: &'a Core,
    steps: Vec<Step>,
    asking: Asking,
}

impl Session<'_> {
    /// From the arguments of a request to what it asks for.
    fn request(&mut self, request: &Request<'_>) {
        let step = match (request.name(), request.len()) {
            (_, 0) => return,
            (PING, 1) => Step::Simple("PONG"),
            (PING | ECHO, 2) => Step::Bulk(request[1].to_vec()),
            (GET, 2) => self.key(Op::Get(&request[1])),
            (SET, 3) => self.key(Op::Set(&request[1], &request[2])),
            (DEL, 2..) => self.each(request, Op::Delete),
            (EXISTS, 2..) => self.each(request, Op::Exists),
            (INCR, 2) => self.key(Op::Add(&request[1], 1)),
            (DECR, 2) => self.key(Op::Add(&request[1], -1)),
            (INCRBY, 3) => match std::str::from_utf8(&request[2]).ok().and_then(|text| text.parse().ok()) {
                Some(number) => self.key(Op::Add(&request[1], number)),
                None => Step::Error("ERR value is not an integer or out of range".into()),
            },
            (DBSIZE, 1) => self.key(Op::Size),
            (INFO, _) => Step::Info,
            (QUIT, _) => Step::Quit,
            _ => {
                let name = request[0][..request[0].len().min(64)].escape_ascii().to_string();
                Step::Error(format!("ERR unknown command '{name}', or not with so many arguments"))
            }
        };
        self.steps.push(step);
    }

    fn key(&mut self, op: Op<'_>) -> Step {
        self.asking.push(self.core, op);
        Step::Key
    }

    fn each<'a>(&mut self, request: &Request<'a>, op: fn(&'a [u8]) -> Op<'a>) -> Step {
        request.from(1).for_each(|key| self.asking.push(self.core, op(key)));
        Step::Sum(request.len() - 1)
    }

    /// Takes in the requests that are complete; how many bytes they have.
    fn parse(&mut self, parser: &mut Parser, input: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match parser.parse(rest) {
                Ok(Progress::Request(length)) => {
                    self.request(&parser.request(rest, None));
                    used += length;
                }
                Ok(_) => return used,
                Err(error) => {
                    self.steps.push(Step::Error(format!("ERR Protocol error: {error}")));
                    self.steps.push(Step::Quit);
                    return input.len();
                }
            }
        }
    }

    /// Carries requests out; whether the client is to be listened to further.
    async fn carry_out(&mut self, replies: &mut Replies) -> bool {
        self.core.ask(&mut self.asking).await;
        let mut goes_on = true;
        for step in self.steps.drain(..) {
            match step {
                Step::Key => reply(self.asking.next(), replies),
                Step::Sum(count) => replies.integer(sum(&mut self.asking, count)),
                Step::Info => replies.bulk(info().await.as_bytes()),
                Step::Simple(text) => replies.simple(text),
                Step::Bulk(bytes) => replies.bulk(&bytes),
                Step::Error(text) => replies.error(text),
                Step::Quit => {
                    replies.ok();
                    goes_on = false;
                    break;
                }
            }
        }
        self.asking.clear();
        goes_on
    }
}

/// The sum of the next so many answers.
fn sum(asking: &mut Asking, count: usize) -> i64 {
    (0..count).map(|_| if let Answer::Integer(number) = asking.next() { number } else { 0 }).sum()
}

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, core: &Core) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut parser = Parser::new(LONGEST);
    let (mut input, mut replies) = (Vec::new(), Replies::new());
    let mut session = Session { core, steps: Vec::new(), asking: Asking::new(core) };
    loop {
        let received = stream.pop().await?;
        if received.is_empty() {
            return Ok(());
        }
        input.extend_from_slice(&received);
        let used = session.parse(&mut parser, &input);
        input.drain(..used);
        let goes_on = session.carry_out(&mut replies).await;
        if replies.len() > 0 {
            stream.push_sga(replies.take()).await?;
        }
        if !goes_on {
            return Ok(());
        }
    }
}

fn reply(answer: Answer<'_>, replies: &mut Replies) {
    match answer {
        Answer::Done => replies.ok(),
        Answer::Value(Some(value)) => replies.bulk(value),
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
