//! What a client asks for, of what it has sent.

use super::resp::{Parser, Progress, Replies, Request, word};
use demikernel::net::TcpStream;
use std::io;

/// What is answered where a number is needed and is none, or its sum is too large.
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// What a request asks for. Keys and values are where they were received.
pub(crate) enum Asked<'a> {
    Change(Change<'a>),
    Read(Read<'a>),
    Info,
    Simple(&'static str),
    Bulk(&'a [u8]),
    Error(String),
    Quit,
}

pub(crate) enum Change<'a> {
    Set(&'a [u8], &'a [u8]),
    Delete(Vec<&'a [u8]>),
    Add(&'a [u8], i64),
}

pub(crate) enum Read<'a> {
    Get(&'a [u8]),
    /// How many of the keys there are.
    Exists(Vec<&'a [u8]>),
    /// How many keys there are.
    Size,
}

/// Who answers a client. What it has sent together is carried out together.
pub(crate) trait Session {
    /// Takes in a request.
    fn take_in(&mut self, asked: Asked<'_>);

    /// Answers what was taken in; whether the client is to be listened to further.
    async fn carry_out(&mut self, replies: &mut Replies) -> bool;
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
fn asked<'a>(request: &Request<'a>) -> Asked<'a> {
    let argument = |index| request.get(index).unwrap_or_default();
    let add = |number| Asked::Change(Change::Add(argument(1), number));
    match (request.name(), request.len()) {
        (PING, 1) => Asked::Simple("PONG"),
        (PING | ECHO, 2) => Asked::Bulk(argument(1)),
        (GET, 2) => Asked::Read(Read::Get(argument(1))),
        (SET, 3) => Asked::Change(Change::Set(argument(1), argument(2))),
        (DEL, 2..) => Asked::Change(Change::Delete(request.from(1).collect())),
        (EXISTS, 2..) => Asked::Read(Read::Exists(request.from(1).collect())),
        (INCR, 2) => add(1),
        (DECR, 2) => add(-1),
        (INCRBY, 3) => match std::str::from_utf8(argument(2)).ok().and_then(|text| text.parse().ok()) {
            Some(number) => add(number),
            None => Asked::Error(NOT_AN_INTEGER.into()),
        },
        (DBSIZE, 1) => Asked::Read(Read::Size),
        (INFO, _) => Asked::Info,
        (QUIT, _) => Asked::Quit,
        _ => {
            let name = argument(0)[..request[0].len().min(64)].escape_ascii().to_string();
            Asked::Error(format!("ERR unknown command '{name}', or not with so many arguments"))
        }
    }
}

/// Has the requests taken in that are complete; how many bytes they have.
fn parse(parser: &mut Parser, input: &[u8], session: &mut impl Session) -> usize {
    let mut used = 0;
    loop {
        let rest = &input[used..];
        match parser.parse(rest) {
            Ok(Progress::Request(length)) => {
                let request = parser.request(rest, None);
                if request.len() > 0 {
                    session.take_in(asked(&request));
                }
                used += length;
            }
            Ok(_) => return used,
            Err(error) => {
                session.take_in(Asked::Error(format!("ERR Protocol error: {error}")));
                session.take_in(Asked::Quit);
                return input.len();
            }
        }
    }
}

/// Serves one client until its end. Requests have `longest` bytes at most.
pub(crate) async fn converse(
    stream: &TcpStream,
    longest: usize,
    session: &mut impl Session,
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
        let used = parse(&mut parser, &input, session);
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
