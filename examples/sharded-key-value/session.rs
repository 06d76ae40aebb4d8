//! A client: its requests, and what they are answered.

use super::cores::Core;
use super::requests::{self, Change, NOT_AN_INTEGER, Read, Step};
use super::resp::Replies;
use super::shard::{Answer, Op};
use demikernel::net::TcpStream;
use demikernel::{core_count, spawn_on};
use std::io;
use std::mem::take;

/// The longest request.
const LONGEST: usize = 1 << 20;

/// Serves one client until its end.
pub(crate) async fn converse(stream: &TcpStream, core: &Core) -> io::Result<()> {
    requests::converse(stream, LONGEST, async |steps, replies| carry_out(core, steps, replies).await).await
}

/// Takes out of a request what is asked of its keys, each of which may be of another core.
fn ask(step: &mut Step, ops: &mut Vec<Op>) {
    match step {
        Step::Change(Change::Set(key, value)) => ops.push(Op::Set(take(key), take(value))),
        Step::Change(Change::Delete(keys)) => ops.extend(keys.iter_mut().map(take).map(Op::Delete)),
        Step::Change(Change::Add(key, number)) => ops.push(Op::Add(take(key), *number)),
        Step::Read(Read::Get(key)) => ops.push(Op::Get(take(key))),
        Step::Read(Read::Exists(keys)) => ops.extend(keys.iter_mut().map(take).map(Op::Exists)),
        Step::Read(Read::Size) => ops.push(Op::Size),
        Step::Info | Step::Simple(_) | Step::Bulk(_) | Step::Error(_) | Step::Quit => {}
    }
}

/// Carries requests out; whether the client is to be listened to further.
async fn carry_out(core: &Core, mut steps: Vec<Step>, replies: &mut Replies) -> bool {
    let mut ops = Vec::new();
    steps.iter_mut().for_each(|step| ask(step, &mut ops));
    let mut answers = if ops.is_empty() { Vec::new() } else { core.ask(ops).await }.into_iter();
    for step in steps {
        match step {
            Step::Change(Change::Delete(keys)) | Step::Read(Read::Exists(keys)) => {
                let integer = |answer| if let Answer::Integer(number) = answer { number } else { 0 };
                replies.integer(answers.by_ref().take(keys.len()).map(integer).sum());
            }
            Step::Change(_) | Step::Read(_) => reply(answers.next().expect("each is answered"), replies),
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
