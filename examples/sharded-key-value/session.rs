//! A client: its requests, and what they are answered.

use super::cores::{Asking, Core};
use super::requests::{self, Asked, Change, NOT_AN_INTEGER, Read, Session};
use super::resp::Replies;
use super::shard::{Answer, Op};
use demikernel::net::TcpStream;
use demikernel::{core_count, spawn_on};
use std::io;

/// The longest request.
const LONGEST: usize = 1 << 20;

/// How a request is answered.
enum Step {
    /// By the next answer of the cores.
    Key,
    /// By the sum of the next so many.
    Sum(usize),
    Info,
    Simple(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    Quit,
}

/// A client's requests that have been received and are not answered, in memory that is used again.
struct Client<'a> {
    core: &'a Core,
    steps: Vec<Step>,
    asking: Asking,
}

impl Client<'_> {
    fn key(&mut self, op: Op<'_>) -> Step {
        self.asking.push(self.core, op);
        Step::Key
    }

    fn each<'a>(&mut self, keys: &[&'a [u8]], op: fn(&'a [u8]) -> Op<'a>) -> Step {
        keys.iter().for_each(|key| self.asking.push(self.core, op(key)));
        Step::Sum(keys.len())
    }
}

impl Session for Client<'_> {
    fn take_in(&mut self, asked: Asked<'_>) {
        let step = match asked {
            Asked::Read(Read::Get(key)) => self.key(Op::Get(key)),
            Asked::Read(Read::Size) => self.key(Op::Size),
            Asked::Read(Read::Exists(keys)) => self.each(&keys, Op::Exists),
            Asked::Change(Change::Set(key, value)) => self.key(Op::Set(key, value)),
            Asked::Change(Change::Add(key, number)) => self.key(Op::Add(key, number)),
            Asked::Change(Change::Delete(keys)) => self.each(&keys, Op::Delete),
            Asked::Info => Step::Info,
            Asked::Simple(text) => Step::Simple(text),
            Asked::Bulk(bytes) => Step::Bulk(bytes.to_vec()),
            Asked::Error(text) => Step::Error(text),
            Asked::Quit => Step::Quit,
        };
        self.steps.push(step);
    }

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
    let mut client = Client { core, steps: Vec::new(), asking: Asking::new(core) };
    requests::converse(stream, LONGEST, &mut client).await
}

fn reply(answer: Answer<'_>, replies: &mut Replies) {
    match answer {
        Answer::Done => replies.ok(),
        Answer::Value(Some(value)) => replies.bulk(value),
        Answer::Value(None) => replies.null(),
        Answer::Integer(number) => replies.integer(number),
        Answer::NotAnInteger => replies.error(NOT_AN_INTEGER),
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
