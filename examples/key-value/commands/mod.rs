//! The commands: from the arguments of a request to changes of the store and a reply.

mod about; // of connections and the server
mod values; // of keys and values

use super::resp::{Replies, Request, word};
use super::store::Store;
use demikernel::time::Instant;

/// What a command may use.
pub(crate) struct Session<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) server: &'a mut Server,
    pub(crate) client: &'a mut Client,
    pub(crate) replies: &'a mut Replies,
    pub(crate) now: Instant,
}

/// What INFO and CONFIG tell.
pub(crate) struct Server {
    pub(crate) transport: &'static str,
    pub(crate) started: Instant,
    pub(crate) max_clients: usize,
    pub(crate) clients: usize,
    pub(crate) accepted: u64,
    pub(crate) commands: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) expired: u64,
}

impl Server {
    pub(crate) fn new(transport: &'static str, started: Instant, max_clients: usize) -> Server {
        Server {
            transport,
            started,
            max_clients,
            clients: 0,
            accepted: 0,
            commands: 0,
            hits: 0,
            misses: 0,
            expired: 0,
        }
    }
}

/// What belongs to one connection.
pub(crate) struct Client {
    pub(crate) id: i64,
    pub(crate) name: Vec<u8>,
    /// The connection ends when its replies have been sent.
    pub(crate) closing: bool,
}

type Flags = &'static [&'static str];
/// The first argument that is a key, the last one, and the step from one to the next.
type Keys = [i8; 3];
type Run = fn(&mut Session<'_>, Request<'_>);

/// One row of the table of commands.
struct Command {
    name: &'static str,
    /// Arguments with the name; negative: at least so many.
    arity: i8,
    flags: Flags,
    keys: Keys,
    summary: &'static str,
    run: Run,
}

const READ: Flags = &["readonly", "fast"];
const SET: Flags = &["write", "denyoom"];
const COUNT: Flags = &["write", "denyoom", "fast"];
const REMOVE: Flags = &["write"];
const EXPIRE: Flags = &["write", "fast"];
const ADMIN: Flags = &["fast", "loading", "stale"];

const NONE: Keys = [0, 0, 0];
const ONE: Keys = [1, 1, 1];
const ALL: Keys = [1, -1, 1];
const PAIRS: Keys = [1, -1, 2];

static COMMANDS: [Command; 28] = [
    row("client", -2, ADMIN, NONE, "Names and identifies the connection", about::client),
    row("command", -1, ADMIN, NONE, "Tells what commands there are", about::command),
    row("config", -2, ADMIN, NONE, "Tells the server's settings", about::config),
    row("dbsize", 1, READ, NONE, "Counts the keys", values::dbsize),
    row("decr", 2, COUNT, ONE, "Subtracts one from an integer", |s, r| values::add(s, r, Some(-1))),
    row("decrby", 3, COUNT, ONE, "Subtracts a number from an integer", values::decrby),
    row("del", -2, REMOVE, ALL, "Removes keys", values::del),
    row("echo", 2, ADMIN, NONE, "Returns its argument", |s, r| s.replies.bulk(&r[1])),
    row("exists", -2, READ, ALL, "Counts how many of the keys exist", values::exists),
    row("expire", -3, EXPIRE, ONE, "Lets a key expire after seconds", |s, r| values::expire(s, r, 1000)),
    row("flushdb", -1, REMOVE, NONE, "Removes all keys", values::flushdb),
    row("get", 2, READ, ONE, "Returns the value of a key", values::get),
    row("hello", -1, ADMIN, NONE, "Chooses the version of the protocol", about::hello),
    row("incr", 2, COUNT, ONE, "Adds one to an integer", |s, r| values::add(s, r, Some(1))),
    row("incrby", 3, COUNT, ONE, "Adds a number to an integer", values::incrby),
    row("info", -1, ADMIN, NONE, "Tells about the server", about::info),
    row("mget", -2, READ, ALL, "Returns the values of several keys", values::mget),
    row("mset", -3, SET, PAIRS, "Sets several keys", values::mset),
    row("persist", 2, EXPIRE, ONE, "Lets a key not expire", values::persist),
    row("pexpire", -3, EXPIRE, ONE, "Lets a key expire after milliseconds", |s, r| values::expire(s, r, 1)),
    row("ping", -1, ADMIN, NONE, "Answers PONG", about::ping),
    row("pttl", 2, READ, ONE, "Tells after how many milliseconds a key expires", |s, r| values::ttl(s, r, 1)),
    row("quit", -1, ADMIN, NONE, "Ends the connection", about::quit),
    row("reset", 1, ADMIN, NONE, "Forgets the name and the version of the connection", about::reset),
    row("select", 2, ADMIN, NONE, "Chooses the database, of which there is one", about::select),
    row("set", -3, SET, ONE, "Sets a key", values::set),
    row("strlen", 2, READ, ONE, "Tells the length of a value", values::strlen),
    row("ttl", 2, READ, ONE, "Tells after how many seconds a key expires", |s, r| values::ttl(s, r, 1000)),
];

const fn row(
    name: &'static str,
    arity: i8,
    flags: Flags,
    keys: Keys,
    summary: &'static str,
    run: Run,
) -> Command {
    Command { name, arity, flags, keys, summary, run }
}

/// A perfect hash of the commands' names, found while compiling: `word * factor >> 56` is the
/// index of a slot that holds the name and the row of the table.
struct Index {
    factor: u64,
    slots: [(u64, u8); 256],
}

static INDEX: Index = build_index();

const fn build_index() -> Index {
    let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
    'search: loop {
        let mut slots = [(0, 0); 256];
        let mut row = 0;
        while row < COMMANDS.len() {
            let word = word(COMMANDS[row].name.as_bytes());
            let slot = (word.wrapping_mul(factor) >> 56) as usize;
            if slots[slot].0 != 0 {
                factor = factor.wrapping_mul(0x2545_f491_4f6c_dd1d);
                continue 'search;
            }
            slots[slot] = (word, row as u8);
            row += 1;
        }
        return Index { factor, slots };
    }
}

/// The command whose name is this `word`.
#[inline]
fn find(word: u64) -> Option<&'static Command> {
    let (found, row) = INDEX.slots[(word.wrapping_mul(INDEX.factor) >> 56) as usize];
    (found == word && word != 0).then(|| &COMMANDS[usize::from(row)])
}

fn find_by_name(name: &[u8]) -> Option<&'static Command> {
    (name.len() <= 8).then(|| find(word(name))).flatten()
}

/// Carries out one request and writes its reply.
pub(crate) fn execute(session: &mut Session<'_>, request: Request<'_>) {
    if request.len() == 0 {
        return;
    }
    session.server.commands += 1;
    let Some(command) = find(request.name()) else { return unknown(session, request) };
    let arity = usize::from(command.arity.unsigned_abs());
    if request.len() == arity || command.arity < 0 && request.len() > arity {
        (command.run)(session, request);
    } else {
        wrong_arguments(session, command.name);
    }
}

fn unknown(session: &mut Session<'_>, request: Request<'_>) {
    let name = &request[0];
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        // A browser that was talked into sending HTTP here: its body might hold commands.
        session.client.closing = true;
        return;
    }
    let mut arguments = String::new();
    for argument in request.from(1) {
        if arguments.len() >= 128 {
            break;
        }
        arguments += &format!("'{}' ", head(argument));
    }
    let name = head(name);
    session
        .replies
        .error(format_args!("ERR unknown command '{name}', with args beginning with: {arguments}"));
}

/// The beginning of what a client sent, fit to be printed.
fn head(bytes: &[u8]) -> impl std::fmt::Display + '_ {
    bytes[..bytes.len().min(128)].escape_ascii()
}

fn wrong_arguments(session: &mut Session<'_>, name: &str) {
    session.replies.error(format_args!("ERR wrong number of arguments for '{name}' command"));
}

fn syntax_error(session: &mut Session<'_>) {
    session.replies.error("ERR syntax error");
}

fn not_an_integer(session: &mut Session<'_>) {
    session.replies.error("ERR value is not an integer or out of range");
}
