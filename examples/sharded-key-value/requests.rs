//! What a client asks for, of what it has sent.

use super::resp::{Parser, Progress, Replies, Request, word};
use demikernel::net::TcpStream;
use std::io;

/// What is answered where a number is needed and is none, or its sum is too large.
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// What a request asks for.
pub(crate) enum Step {
    Change(Change),
    Read(Read),
    Info,
    Simple(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    Quit,
}

pub(crate) enum Change {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<Vec<u8>>),
    Add(Vec<u8>, i64),
}

pub(crate) enum Read {
    Get(Vec<u8>),
    /// How many of the keys there are.
    Exists(Vec<Vec<u8>>),
    /// How many keys there are.
    Size,
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

/// From the arguments of a request, of which there is one at least, to what it asks for.
fn step(request: &Request<'_>) -> Step {
    let key = || request[1].to_vec();
    let keys = || request.from(1).map(<[u8]>::to_vec).collect();
    let add = |number| Step::Change(Change::Add(key(), number));
    match (request.name(), request.len()) {
        (PING, 1) => Step::Simple("PONG"),
        (PING | ECHO, 2) => Step::Bulk(key()),
        (GET, 2) => Step::Read(Read::Get(key())),
        (SET, 3) => Step::Change(Change::Set(key(), request[2].to_vec())),
        (DEL, 2..) => Step::Change(Change::Delete(keys())),
        (EXISTS, 2..) => Step::Read(Read::Exists(keys())),
        (INCR, 2) => add(1),
        (DECR, 2) => add(-1),
        (INCRBY, 3) => match std::str::from_utf8(&request[2]).ok().and_then(|text| text.parse().ok()) {
            Some(number) => add(number),
            None => Step::Error(NOT_AN_INTEGER.into()),
        },
        (DBSIZE, 1) => Step::Read(Read::Size),
        (INFO, _) => Step::Info,
        (QUIT, _) => Step::Quit,
        _ => {
            let name = request[0][..request[0].len().min(64)].escape_ascii().to_string();
            Step::Error(format!("ERR unknown command '{name}', or not with so many arguments"))
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

/// Serves one client until its end. What it has sent together is carried out together, by a function that says whether the
/// client is to be listened to further.
pub(crate) async fn converse(
    stream: &TcpStream,
    longest: usize,
    carry_out: impl AsyncFn(Vec<Step>, &mut Replies) -> bool,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut parser = Parser::new(longest);
    let (mut input, mut replies) = (Vec::new(), Replies::new());
    loop {
        let received = stream.pop().await?;
        if received.is_empty() {
            return Ok(());
        }
        input.extend_from_slice(&received);
        let (steps, used) = parse(&mut parser, &input);
        input.drain(..used);
        let goes_on = carry_out(steps, &mut replies).await;
        if replies.len() > 0 {
            stream.push_sga(replies.take()).await?;
        }
        if !goes_on {
            return Ok(());
        }
    }
}
