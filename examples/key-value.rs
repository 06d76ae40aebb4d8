//! A key-value server that speaks the Redis protocol, RESP2 and RESP3.
//!
//! It shows a server whose requests are parsed in the buffers they arrived in, whose replies leave as one push however
//! many requests were answered, and whose protocol and data know nothing of sockets or clocks, so that their tests
//! need none. From top to bottom: the server, then the modules `connection`, `commands`, `resp`, `store` and `journal`.
//!
//! ```text
//! $ cargo run --release --example key-value -- --listen 127.0.0.1:6379
//! key-value: listening on 127.0.0.1:6379
//!
//! $ redis-cli -p 6379
//! 127.0.0.1:6379> SET greeting hello EX 60
//! OK
//! 127.0.0.1:6379> GET greeting
//! "hello"
//!
//! $ redis-benchmark -p 6379 -t set,get -n 1000000 -q            # and with -P 16: requests per second
//! $ printf 'PING\r\nINCR visits\r\n' | nc -q 1 127.0.0.1 6379
//! +PONG
//! :1
//! ```
//!
//! With `--log FILE` every write is durable before its reply, as with Redis' `appendfsync always`, and back when the server
//! is started again, however it ended; writes of clients that are served together share one flush:
//!
//! ```text
//! $ cargo run --release --example key-value -- --log data.log --log-size 1024
//! ```
//!
//! Without, nothing is stored on disk. The store belongs to one core, as in Redis; `--cores` other than 1 is refused.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use commands::Server;
use connection::{Connection, Next};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::{Duration, Instant, interval, sleep, timeout};
use demikernel::{Buffer, Builder, Idle, default_network, spawn, yield_now};
use futures::future::{Either, select};
use journal::Journal;
use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use store::Store;

/// A key-value server that speaks the Redis protocol.
#[derive(Parser)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    listen: SocketAddr,
    /// The transport: io_uring, epoll, ...; chosen automatically without.
    #[arg(long)]
    transport: Option<String>,
    /// How many cores to use: 1, as the store belongs to one core.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// What to do when there is nothing to do: spin, block, adaptive or adaptive(TIME).
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
    /// How many clients may be connected; further ones are told so and sent away.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    max_clients: usize,
    /// How many MiB one request may have, and so a connection's memory.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_request: u32,
    /// A file, block device or address of an NVMe drive for a log of all writes; a file is made if it is not there.
    #[arg(long, value_name = "PATH")]
    log: Option<PathBuf>,
    /// How many MiB a log that is made has: several times what the keys and values have.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    log_size: u32,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = Args::parse();
    if args.cores != 1 {
        let message = "the store belongs to one core: --cores must be 1 (start more servers for more cores)";
        Args::command().error(ErrorKind::ValueValidation, message).exit();
    }
    let mut builder = Builder::new().idle(args.idle);
    if let Some(transport) = &args.transport {
        builder = builder.transport(transport);
    }
    match builder.build().and_then(|runtime| runtime.block_on(serve(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("key-value: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What all connections share. It is never borrowed across an await.
struct State {
    store: Store,
    server: Server,
    journal: Option<Rc<Journal>>,
}

type Shared = Rc<RefCell<State>>;

/// Serves until Ctrl-C or SIGTERM. Requests that were carried out are answered, as their replies have been pushed.
///
/// Also ends when the log fails: what is in memory then is more than what would be back.
pub(crate) async fn serve(args: &Args) -> io::Result<()> {
    let mut store = Store::default();
    let journal = match &args.log {
        Some(path) => Some(Journal::open(path, u64::from(args.log_size) << 20, &mut store).await?),
        None => None,
    };
    let listener = TcpListener::bind(args.listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("key-value: listening on {}", listener.local_addr()?);
    let server = Server::new(default_network()?.name(), Instant::now(), args.max_clients);
    let failed = {
        let journal = journal.clone();
        async move {
            match journal {
                Some(journal) => journal.failed().await,
                None => pending().await,
            }
        }
    };
    let shared = Rc::new(RefCell::new(State { store, server, journal: journal.clone() }));
    let limit = args.max_request as usize * 1024 * 1024;
    spawn(expire(shared.clone())).detach();
    match select(pin!(accept(listener, shared, limit)), select(end, pin!(failed))).await {
        Either::Right((Either::Right((error, _)), _)) => Err(error),
        _ => match journal {
            Some(journal) => journal.close().await,
            None => Ok(()),
        },
    }
}

/// Accepts connections, for ever.
async fn accept(listener: TcpListener, shared: Shared, limit: usize) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => spawn(attend(stream, peer, shared.clone(), limit)).detach(),
            Err(error) => {
                // Such as too many open files: clients may go meanwhile.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Gives the memory of expired keys back, some at a time so that clients do not wait.
async fn expire(shared: Shared) {
    const SOME: usize = 100;
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        while expire_some(&mut shared.borrow_mut(), SOME) == SOME {
            yield_now().await;
        }
    }
}

fn expire_some(state: &mut State, some: usize) -> usize {
    let removed = state.store.expire(Instant::now(), some);
    state.server.expired += removed as u64;
    removed
}

/// A place among the connected clients.
struct Place(Shared);

impl Place {
    fn take(shared: &Shared) -> Place {
        let server = &mut shared.borrow_mut().server;
        server.clients += 1;
        server.accepted += 1;
        Place(shared.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.borrow_mut().server.clients -= 1;
    }
}

/// Serves one client from its arrival to its end.
async fn attend(stream: TcpStream, peer: SocketAddr, shared: Shared, limit: usize) {
    let _place = Place::take(&shared);
    let (id, full) = {
        let server = &shared.borrow().server;
        (server.accepted as i64, server.clients > server.max_clients)
    };
    let result = match full {
        true => stream.push(Buffer::from_static(b"-ERR max number of clients reached\r\n")).await,
        false => converse(&stream, &shared, Connection::new(id, limit)).await,
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}

/// Answers requests until the client or the protocol ends the connection.
async fn converse(stream: &TcpStream, shared: &Shared, mut connection: Connection) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let received = stream.pop().await?;
        if received.is_empty() {
            return Ok(());
        }
        connection.receive(received);
        let mut next = Next::More;
        while next == Next::More {
            let (journal, changes);
            (next, journal, changes) = {
                let State { store, server, journal } = &mut *shared.borrow_mut();
                let next = connection.run(store, server, Instant::now());
                (next, journal.clone(), store.take_changes())
            };
            let replies = connection.replies.take();
            if let Some(journal) = journal {
                // Also what was only read: somebody else's write of it may not be durable yet.
                journal.commit(changes, shared).await?;
            }
            if !replies.is_empty() {
                stream.push_sga(replies).await?;
            }
        }
        if next == Next::Close {
            return close(stream).await;
        }
    }
}

/// Ends a connection after its last reply. What the client has sent meanwhile is read and forgotten, for a moment:
/// to close with bytes unread would be a reset, which can overtake the reply.
async fn close(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let drain = async { while stream.pop().await.is_ok_and(|received| !received.is_empty()) {} };
    _ = timeout(Duration::from_secs(1), drain).await;
    Ok(())
}

/// Writes an integer into the end of `line`, the part with its digits is returned.
fn decimal(value: i64, line: &mut [u8; 20]) -> &[u8] {
    let mut at = line.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        line[at] = b'-';
    }
    &line[at..]
}

/// One connection without its socket: bytes that were received go in, replies come out.
mod connection {
    use super::commands::{Client, Server, Session, execute};
    use super::resp::{LARGE, Parser, Progress, ProtocolError, Replies};
    use super::store::Store;
    use demikernel::Buffer;
    use demikernel::time::Instant;

    /// Replies are pushed when so many bytes have come together, before further requests run.
    const BATCH: usize = 64 * 1024;

    /// Why `Connection::run` has returned.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Next {
        /// The replies are many: push them, then call again.
        More,
        /// All that was received has been used.
        Receive,
        /// Push the replies, then close.
        Close,
    }

    pub(super) struct Connection {
        client: Client,
        parser: Parser,
        pub(super) replies: Replies,
        /// What has been received and not used.
        received: Buffer,
        /// The beginning of a request of which `wanted` is missing. Requests that arrive whole
        /// never come here.
        partial: Vec<u8>,
        wanted: Progress,
    }

    impl Connection {
        /// A connection whose requests may not be longer than `limit` bytes.
        pub(super) fn new(id: i64, limit: usize) -> Connection {
            Connection {
                client: Client { id, name: Vec::new(), closing: false },
                parser: Parser::new(limit),
                replies: Replies::new(),
                received: Buffer::new(),
                partial: Vec::new(),
                wanted: Progress::NeedsLine,
            }
        }

        /// Takes the next bytes of the stream; only after `run` has returned `Next::Receive`.
        pub(super) fn receive(&mut self, buffer: Buffer) {
            debug_assert!(self.received.is_empty(), "run has not used up the last buffer");
            self.received = buffer;
        }

        /// Carries out the requests that are complete.
        pub(super) fn run(&mut self, store: &mut Store, server: &mut Server, now: Instant) -> Next {
            loop {
                if self.client.closing {
                    return Next::Close;
                }
                if self.received.is_empty() {
                    return Next::Receive;
                }
                if self.replies.len() >= BATCH {
                    return Next::More;
                }
                let step = match self.partial.is_empty() {
                    true => self.run_in_place(store, server, now),
                    false => self.run_partial(store, server, now),
                };
                if let Err(error) = step {
                    self.replies.error(format_args!("ERR Protocol error: {error}"));
                    self.client.closing = true;
                }
            }
        }

        /// Takes requests from where they were received, until one is incomplete.
        fn run_in_place(
            &mut self,
            store: &mut Store,
            server: &mut Server,
            now: Instant,
        ) -> Result<(), ProtocolError> {
            let Connection { client, parser, replies, received, .. } = self;
            let mut used = 0;
            let wanted = loop {
                let rest = &received[used..];
                if rest.is_empty() || client.closing || replies.len() >= BATCH {
                    received.advance(used);
                    return Ok(());
                }
                match parser.parse(rest)? {
                    Progress::Request(len) => {
                        let mut session = Session { store, server, client, replies, now };
                        execute(&mut session, parser.request(rest, None));
                        used += len;
                    }
                    wanted => break wanted,
                }
            };
            received.advance(used);
            self.wanted = wanted;
            let count = self.received.len();
            let missing = if let Progress::NeedsBytes(missing) = wanted { missing } else { 0 };
            self.append(count, count + missing)
        }

        /// Completes the request that has begun, with no more of what was received than it needs.
        fn run_partial(
            &mut self,
            store: &mut Store,
            server: &mut Server,
            now: Instant,
        ) -> Result<(), ProtocolError> {
            let available = self.received.len();
            let missing = match self.wanted {
                Progress::NeedsBytes(count) => count,
                _ => self.received.iter().position(|&byte| byte == b'\n').map_or(available, |at| at + 1),
            };
            self.append(missing.min(available), missing)?;
            let Connection { client, parser, replies, partial, .. } = self;
            match parser.parse(partial)? {
                Progress::Request(len) => {
                    debug_assert_eq!(len, partial.len(), "more was taken than the request needed");
                    let mut session = Session { store, server, client, replies, now };
                    if len < LARGE {
                        execute(&mut session, parser.request(partial, None));
                        partial.clear();
                    } else {
                        let owner = Buffer::from(std::mem::take(partial));
                        execute(&mut session, parser.request(&owner, Some(&owner)));
                    }
                }
                wanted => self.wanted = wanted,
            }
            Ok(())
        }

        /// Moves the next `count` received bytes to the incomplete request, which is known to lack
        /// `missing` bytes.
        ///
        /// The memory there grows to what the request needs, but not to more than twice of what has
        /// arrived, so that a client cannot have much memory by announcing a large argument.
        fn append(&mut self, count: usize, missing: usize) -> Result<(), ProtocolError> {
            let Connection { partial, received, .. } = self;
            let len = partial.len() + count;
            if len > partial.capacity() {
                let most = (2 * len).max(64 * 1024);
                let wanted = (partial.len() + missing).min(most).max(len);
                partial.try_reserve_exact(wanted - partial.len()).map_err(|_| ProtocolError::NoMemory)?;
            }
            partial.extend_from_slice(&received[..count]);
            received.advance(count);
            Ok(())
        }
    }
}

/// The commands: from the arguments of a request to changes of the store and a reply.
mod commands {
    use super::resp::{LARGE, Replies, Request, Version, word};
    use super::store::{Blob, CountError, Expiry, Lifetime, Only, Store, parse_integer};
    use demikernel::time::{Duration, Instant};

    /// What a command may use.
    pub(super) struct Session<'a> {
        pub(super) store: &'a mut Store,
        pub(super) server: &'a mut Server,
        pub(super) client: &'a mut Client,
        pub(super) replies: &'a mut Replies,
        pub(super) now: Instant,
    }

    /// What INFO and CONFIG tell.
    pub(super) struct Server {
        pub(super) transport: &'static str,
        pub(super) started: Instant,
        pub(super) max_clients: usize,
        pub(super) clients: usize,
        pub(super) accepted: u64,
        pub(super) commands: u64,
        pub(super) hits: u64,
        pub(super) misses: u64,
        pub(super) expired: u64,
    }

    impl Server {
        pub(super) fn new(transport: &'static str, started: Instant, max_clients: usize) -> Server {
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
    pub(super) struct Client {
        pub(super) id: i64,
        pub(super) name: Vec<u8>,
        /// The connection ends when its replies have been sent.
        pub(super) closing: bool,
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
        row("client", -2, ADMIN, NONE, "Names and identifies the connection", client),
        row("command", -1, ADMIN, NONE, "Tells what commands there are", command),
        row("config", -2, ADMIN, NONE, "Tells the server's settings", config),
        row("dbsize", 1, READ, NONE, "Counts the keys", dbsize),
        row("decr", 2, COUNT, ONE, "Subtracts one from an integer", |s, r| add(s, r, Some(-1))),
        row("decrby", 3, COUNT, ONE, "Subtracts a number from an integer", decrby),
        row("del", -2, REMOVE, ALL, "Removes keys", del),
        row("echo", 2, ADMIN, NONE, "Returns its argument", |s, r| s.replies.bulk(&r[1])),
        row("exists", -2, READ, ALL, "Counts how many of the keys exist", exists),
        row("expire", -3, EXPIRE, ONE, "Lets a key expire after seconds", |s, r| expire(s, r, 1000)),
        row("flushdb", -1, REMOVE, NONE, "Removes all keys", flushdb),
        row("get", 2, READ, ONE, "Returns the value of a key", get),
        row("hello", -1, ADMIN, NONE, "Chooses the version of the protocol", hello),
        row("incr", 2, COUNT, ONE, "Adds one to an integer", |s, r| add(s, r, Some(1))),
        row("incrby", 3, COUNT, ONE, "Adds a number to an integer", incrby),
        row("info", -1, ADMIN, NONE, "Tells about the server", info),
        row("mget", -2, READ, ALL, "Returns the values of several keys", mget),
        row("mset", -3, SET, PAIRS, "Sets several keys", mset),
        row("persist", 2, EXPIRE, ONE, "Lets a key not expire", persist),
        row("pexpire", -3, EXPIRE, ONE, "Lets a key expire after milliseconds", |s, r| expire(s, r, 1)),
        row("ping", -1, ADMIN, NONE, "Answers PONG", ping),
        row("pttl", 2, READ, ONE, "Tells after how many milliseconds a key expires", |s, r| ttl(s, r, 1)),
        row("quit", -1, ADMIN, NONE, "Ends the connection", quit),
        row("reset", 1, ADMIN, NONE, "Forgets the name and the version of the connection", reset),
        row("select", 2, ADMIN, NONE, "Chooses the database, of which there is one", select),
        row("set", -3, SET, ONE, "Sets a key", set),
        row("strlen", 2, READ, ONE, "Tells the length of a value", strlen),
        row("ttl", 2, READ, ONE, "Tells after how many seconds a key expires", |s, r| ttl(s, r, 1000)),
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
    pub(super) fn execute(session: &mut Session<'_>, request: Request<'_>) {
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

    fn ping(session: &mut Session<'_>, request: Request<'_>) {
        match request.len() {
            1 => session.replies.simple("PONG"),
            2 => session.replies.bulk(&request[1]),
            _ => wrong_arguments(session, "ping"),
        }
    }

    fn quit(session: &mut Session<'_>, _: Request<'_>) {
        session.replies.ok();
        session.client.closing = true;
    }

    fn select(session: &mut Session<'_>, request: Request<'_>) {
        match parse_integer(&request[1]) {
            Some(0) => session.replies.ok(),
            Some(_) => session.replies.error("ERR DB index is out of range"),
            None => not_an_integer(session),
        }
    }

    fn get(session: &mut Session<'_>, request: Request<'_>) {
        look_up(session, &request[1]);
    }

    /// Replies the value of a key, and counts whether there was one.
    fn look_up(session: &mut Session<'_>, key: &[u8]) {
        let value = session.store.get(key, session.now);
        match value {
            Some(_) => session.server.hits += 1,
            None => session.server.misses += 1,
        }
        reply_value(session.replies, value);
    }

    fn reply_value(replies: &mut Replies, value: Option<&Blob>) {
        match value {
            Some(Blob::Shared(buffer)) => replies.bulk_shared(buffer),
            Some(value) => replies.bulk(value),
            None => replies.null(),
        }
    }

    fn mget(session: &mut Session<'_>, request: Request<'_>) {
        session.replies.array(request.len() - 1);
        request.from(1).for_each(|key| look_up(session, key));
    }

    fn strlen(session: &mut Session<'_>, request: Request<'_>) {
        let len = session.store.get(&request[1], session.now).map_or(0, |value| value.len());
        session.replies.integer(len as i64);
    }

    /// The value in an argument, as it is kept.
    fn value_of(request: Request<'_>, index: usize) -> Blob {
        let bytes = &request[index];
        if bytes.len() < LARGE { Blob::from(bytes) } else { Blob::Shared(request.buffer(index)) }
    }

    fn mset(session: &mut Session<'_>, request: Request<'_>) {
        if request.len().is_multiple_of(2) {
            return wrong_arguments(session, "mset");
        }
        for index in (1..request.len()).step_by(2) {
            let value = value_of(request, index + 1);
            session.store.set(&request[index], value, Expiry::Never, None, session.now);
        }
        session.replies.ok();
    }

    /// The options of SET.
    #[derive(Default)]
    struct SetOptions {
        expiry: Option<Expiry>,
        only: Option<Only>,
        get: bool,
    }

    enum SetError {
        Syntax,
        NotAnInteger,
        ExpireTime,
    }

    fn set(session: &mut Session<'_>, request: Request<'_>) {
        let options = match set_options(request, session.now) {
            Ok(options) => options,
            Err(SetError::Syntax) => return syntax_error(session),
            Err(SetError::NotAnInteger) => return not_an_integer(session),
            Err(SetError::ExpireTime) => {
                return session.replies.error("ERR invalid expire time in 'set' command");
            }
        };
        let expiry = options.expiry.unwrap_or(Expiry::Never);
        let value = value_of(request, 2);
        let (stored, previous) = session.store.set(&request[1], value, expiry, options.only, session.now);
        if options.get {
            reply_value(session.replies, previous.as_ref());
        } else if stored {
            session.replies.ok();
        } else {
            session.replies.null();
        }
    }

    fn set_options(request: Request<'_>, now: Instant) -> Result<SetOptions, SetError> {
        let mut options = SetOptions::default();
        let mut arguments = request.from(3);
        while let Some(option) = arguments.next() {
            let unit = match option {
                _ if option.eq_ignore_ascii_case(b"ex") => 1000,
                _ if option.eq_ignore_ascii_case(b"px") => 1,
                _ if option.eq_ignore_ascii_case(b"get") => {
                    options.get = true;
                    continue;
                }
                _ if option.eq_ignore_ascii_case(b"keepttl") && options.expiry.is_none() => {
                    options.expiry = Some(Expiry::Keep);
                    continue;
                }
                _ if option.eq_ignore_ascii_case(b"nx") && options.only != Some(Only::IfPresent) => {
                    options.only = Some(Only::IfMissing);
                    continue;
                }
                _ if option.eq_ignore_ascii_case(b"xx") && options.only != Some(Only::IfMissing) => {
                    options.only = Some(Only::IfPresent);
                    continue;
                }
                _ => return Err(SetError::Syntax),
            };
            if options.expiry.is_some() {
                return Err(SetError::Syntax);
            }
            let time = arguments.next().ok_or(SetError::Syntax)?;
            let time = parse_integer(time).ok_or(SetError::NotAnInteger)?;
            let at = deadline(time, unit, now).filter(|_| time > 0).ok_or(SetError::ExpireTime)?;
            options.expiry = Some(Expiry::At(at));
        }
        Ok(options)
    }

    /// `count` times `unit` milliseconds from now; `None` if no clock reaches that far. What lies
    /// in the past counts as now.
    fn deadline(count: i64, unit: i64, now: Instant) -> Option<Instant> {
        let millis = count.checked_mul(unit)?.max(0);
        now.checked_add(Duration::from_millis(millis as u64))
    }

    fn del(session: &mut Session<'_>, request: Request<'_>) {
        let removed = request.from(1).filter(|key| session.store.remove(key, session.now)).count();
        session.replies.integer(removed as i64);
    }

    fn exists(session: &mut Session<'_>, request: Request<'_>) {
        let found = request.from(1).filter(|key| session.store.get(key, session.now).is_some()).count();
        session.replies.integer(found as i64);
    }

    fn incrby(session: &mut Session<'_>, request: Request<'_>) {
        add(session, request, parse_integer(&request[2]));
    }

    fn decrby(session: &mut Session<'_>, request: Request<'_>) {
        let by = parse_integer(&request[2]);
        if by == Some(i64::MIN) {
            return session.replies.error("ERR decrement would overflow");
        }
        add(session, request, by.map(|by| -by));
    }

    fn add(session: &mut Session<'_>, request: Request<'_>, by: Option<i64>) {
        let Some(by) = by else { return not_an_integer(session) };
        match session.store.count(&request[1], by, session.now) {
            Ok(value) => session.replies.integer(value),
            Err(CountError::NotAnInteger) => not_an_integer(session),
            Err(CountError::Overflow) => {
                session.replies.error("ERR increment or decrement would overflow");
            }
        }
    }

    fn expire(session: &mut Session<'_>, request: Request<'_>, unit: i64) {
        if request.len() > 3 {
            return syntax_error(session);
        }
        let Some(count) = parse_integer(&request[2]) else { return not_an_integer(session) };
        let Some(at) = deadline(count, unit, session.now) else {
            let name = if unit == 1 { "pexpire" } else { "expire" };
            return session.replies.error(format_args!("ERR invalid expire time in '{name}' command"));
        };
        let found = session.store.set_deadline(&request[1], Some(at), session.now);
        session.replies.integer(found.into());
    }

    fn persist(session: &mut Session<'_>, request: Request<'_>) {
        let expires = matches!(session.store.lifetime(&request[1], session.now), Lifetime::Until(_));
        if expires {
            session.store.set_deadline(&request[1], None, session.now);
        }
        session.replies.integer(expires.into());
    }

    fn ttl(session: &mut Session<'_>, request: Request<'_>, unit: u128) {
        let reply = match session.store.lifetime(&request[1], session.now) {
            Lifetime::Missing => -2,
            Lifetime::Endless => -1,
            Lifetime::Until(at) => {
                let millis = at.saturating_duration_since(session.now).as_millis();
                ((millis + unit / 2) / unit) as i64
            }
        };
        session.replies.integer(reply);
    }

    fn dbsize(session: &mut Session<'_>, _: Request<'_>) {
        session.replies.integer(session.store.len() as i64);
    }

    fn flushdb(session: &mut Session<'_>, request: Request<'_>) {
        let known = |how: &[u8]| how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async");
        if request.len() > 2 || !request.from(1).all(known) {
            return syntax_error(session);
        }
        session.store.clear();
        session.replies.ok();
    }

    fn hello(session: &mut Session<'_>, request: Request<'_>) {
        let mut version = session.replies.version;
        if let Some(argument) = request.get(1) {
            version = match parse_integer(argument) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => return session.replies.error("NOPROTO unsupported protocol version"),
                None => {
                    return session.replies.error("ERR Protocol version is not an integer or out of range");
                }
            };
        }
        let mut options = request.from(2);
        let mut name = None;
        while let Some(option) = options.next() {
            match options.next() {
                Some(value) if option.eq_ignore_ascii_case(b"setname") => name = Some(value),
                _ => {
                    let option = head(option);
                    return session
                        .replies
                        .error(format_args!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if let Some(name) = name
            && !set_name(session, name)
        {
            return;
        }
        let replies = &mut *session.replies;
        replies.version = version;
        replies.map(6);
        for (key, value) in [("server", "demikernel-key-value"), ("version", env!("CARGO_PKG_VERSION"))] {
            replies.bulk(key.as_bytes());
            replies.bulk(value.as_bytes());
        }
        replies.bulk(b"proto");
        replies.integer(version as i64);
        replies.bulk(b"id");
        replies.integer(session.client.id);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            replies.bulk(key.as_bytes());
            replies.bulk(value.as_bytes());
        }
    }

    fn reset(session: &mut Session<'_>, _: Request<'_>) {
        session.client.name.clear();
        session.replies.version = Version::Resp2;
        session.replies.simple("RESET");
    }

    fn client(session: &mut Session<'_>, request: Request<'_>) {
        let subcommand = &request[1];
        match request.len() {
            2 if subcommand.eq_ignore_ascii_case(b"id") => session.replies.integer(session.client.id),
            2 if subcommand.eq_ignore_ascii_case(b"getname") => match session.client.name.is_empty() {
                true => session.replies.null(),
                false => session.replies.bulk(&session.client.name),
            },
            3 if subcommand.eq_ignore_ascii_case(b"setname") => {
                if set_name(session, &request[2]) {
                    session.replies.ok();
                }
            }
            // What library the client is made with is not kept: nothing here would show it.
            4 if subcommand.eq_ignore_ascii_case(b"setinfo") => session.replies.ok(),
            _ => unknown_subcommand(session, subcommand, "CLIENT"),
        }
    }

    /// Names the connection, or replies why not.
    fn set_name(session: &mut Session<'_>, name: &[u8]) -> bool {
        if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
            session.replies.error("ERR Client names cannot contain spaces, newlines or special characters.");
            return false;
        }
        if name.len() > 256 {
            session.replies.error("ERR Client names cannot be longer than 256 bytes");
            return false;
        }
        session.client.name = name.to_vec();
        true
    }

    fn unknown_subcommand(session: &mut Session<'_>, subcommand: &[u8], command: &str) {
        let subcommand = head(subcommand);
        session.replies.error(format_args!(
            "ERR unknown subcommand or wrong number of arguments for '{subcommand}' of {command}"
        ));
    }

    fn config(session: &mut Session<'_>, request: Request<'_>) {
        if request.len() < 3 || !request[1].eq_ignore_ascii_case(b"get") {
            return unknown_subcommand(session, &request[1], "CONFIG");
        }
        let max_clients = session.server.max_clients.to_string();
        let settings = [
            ("save", ""),
            ("appendonly", "no"),
            ("databases", "1"),
            ("maxclients", &max_clients),
            ("maxmemory", "0"),
            ("timeout", "0"),
        ];
        let asked = |name: &str| {
            request.from(2).any(|pattern| pattern == b"*" || pattern.eq_ignore_ascii_case(name.as_bytes()))
        };
        session.replies.map(settings.iter().filter(|(name, _)| asked(name)).count());
        for (name, value) in settings.iter().filter(|(name, _)| asked(name)) {
            session.replies.bulk(name.as_bytes());
            session.replies.bulk(value.as_bytes());
        }
    }

    fn command(session: &mut Session<'_>, request: Request<'_>) {
        let names = request.from(2);
        match request.get(1) {
            None => {
                session.replies.array(COMMANDS.len());
                COMMANDS.iter().for_each(|command| describe(session.replies, command));
            }
            Some(subcommand) if subcommand.eq_ignore_ascii_case(b"count") => {
                session.replies.integer(COMMANDS.len() as i64);
            }
            Some(subcommand) if subcommand.eq_ignore_ascii_case(b"info") => {
                session.replies.array(request.len() - 2);
                for name in names {
                    match find_by_name(name) {
                        Some(command) => describe(session.replies, command),
                        None => session.replies.null(),
                    }
                }
            }
            Some(subcommand) if subcommand.eq_ignore_ascii_case(b"docs") => {
                let all = request.len() == 2;
                let asked: Vec<_> =
                    if all { COMMANDS.iter().collect() } else { names.filter_map(find_by_name).collect() };
                session.replies.map(asked.len());
                asked.into_iter().for_each(|command| document(session.replies, command));
            }
            Some(subcommand) => unknown_subcommand(session, subcommand, "COMMAND"),
        }
    }

    fn describe(replies: &mut Replies, command: &Command) {
        replies.array(6);
        replies.bulk(command.name.as_bytes());
        replies.integer(command.arity.into());
        replies.array(command.flags.len());
        command.flags.iter().for_each(|flag| replies.simple(flag));
        command.keys.iter().for_each(|&key| replies.integer(key.into()));
    }

    fn document(replies: &mut Replies, command: &Command) {
        replies.bulk(command.name.as_bytes());
        replies.map(3);
        let group = if command.keys[0] == 0 { "server" } else { "string" };
        for (key, value) in [("summary", command.summary), ("since", "1.0.0"), ("group", group)] {
            replies.bulk(key.as_bytes());
            replies.bulk(value.as_bytes());
        }
    }

    fn info(session: &mut Session<'_>, request: Request<'_>) {
        let Session { store, server, now, .. } = session;
        let sections = [
            (
                "Server",
                format!(
                    "server_name:demikernel-key-value\r\nserver_version:{}\r\ntransport:{}\r\n\
                     process_id:{}\r\nuptime_in_seconds:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    server.transport,
                    std::process::id(),
                    now.saturating_duration_since(server.started).as_secs(),
                ),
            ),
            (
                "Clients",
                format!("connected_clients:{}\r\nmaxclients:{}\r\n", server.clients, server.max_clients),
            ),
            (
                "Stats",
                format!(
                    "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
                     expired_keys:{}\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\n",
                    server.accepted, server.commands, server.expired, server.hits, server.misses,
                ),
            ),
            (
                "Keyspace",
                match store.len() {
                    0 => String::new(),
                    keys => format!("db0:keys={keys},expires={},avg_ttl=0\r\n", store.expiring()),
                },
            ),
        ];
        let asked = |section: &str| {
            let all = ["all", "default", "everything"];
            request.len() == 1
                || request.from(1).any(|name| {
                    name.eq_ignore_ascii_case(section.as_bytes())
                        || all.iter().any(|all| name.eq_ignore_ascii_case(all.as_bytes()))
                })
        };
        let text: Vec<_> = sections
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, lines)| format!("# {name}\r\n{lines}"))
            .collect();
        session.replies.bulk(text.join("\r\n").as_bytes());
    }
}

/// The protocol: requests out of bytes and replies into buffers. Nothing here does I/O.
mod resp {
    use demikernel::{Buffer, BufferMut, Sga};
    use std::fmt;
    use std::ops::Index;

    /// Longest inline request, as in Redis.
    const INLINE: usize = 64 * 1024;
    /// One argument more than a request may have, as in Redis.
    const TOO_MANY: i64 = 1024 * 1024 + 1;
    /// Longest argument that the protocol has, as in Redis.
    const BULK: i64 = 512 * 1024 * 1024;
    /// Values from this size on are kept in a buffer of their own and pushed from there; copying a
    /// shorter one into the reply costs less than a further segment of the push does.
    pub(super) const LARGE: usize = 4 * 1024;

    /// What a client did against the protocol. It is told, and its connection ends.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum ProtocolError {
        ArgumentCount,
        BulkLength,
        ExpectedBulk(u8),
        ExpectedLineEnd,
        LongInline,
        UnbalancedQuotes,
        LongRequest(usize),
        NoMemory,
    }

    impl fmt::Display for ProtocolError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {
                Self::ArgumentCount => f.write_str("invalid multibulk length"),
                Self::BulkLength => f.write_str("invalid bulk length"),
                Self::ExpectedBulk(byte) => write!(f, "expected '$', got '{}'", byte.escape_ascii()),
                Self::ExpectedLineEnd => f.write_str("expected CR LF after an argument"),
                Self::LongInline => f.write_str("too big inline request"),
                Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
                Self::LongRequest(limit) => write!(f, "the request is longer than {limit} bytes"),
                Self::NoMemory => f.write_str("no memory for a request of this size"),
            }
        }
    }

    /// How far `Parser::parse` came.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Progress {
        /// The first so many bytes are a request; `Parser::request` gives its arguments.
        Request(usize),
        /// The rest of a line is missing.
        NeedsLine,
        /// At least so many bytes are missing.
        NeedsBytes(usize),
    }

    #[derive(Clone, Copy)]
    enum State {
        Start,
        Inline,
        /// So many arguments are missing.
        Arguments(u32),
    }

    /// Where an argument stands in the bytes of its request.
    type Span = (u32, u32);

    /// Finds the arguments of one request after the other in bytes that stay where they are.
    ///
    /// When a request is incomplete the parser remembers how far it came: the next call must pass
    /// the same bytes and more, and does not look at the old ones again. So a request that arrives
    /// byte by byte costs no more than one that arrives whole.
    pub(super) struct Parser {
        limit: usize,
        state: State,
        /// The first byte not yet understood.
        at: usize,
        spans: Vec<Span>,
        /// The arguments of an inline request with quotes and escapes resolved.
        unquoted: Vec<u8>,
        inline: bool,
    }

    impl Parser {
        /// A parser that refuses requests longer than `limit` bytes.
        pub(super) fn new(limit: usize) -> Parser {
            let limit = limit.min(u32::MAX as usize);
            Parser {
                limit,
                state: State::Start,
                at: 0,
                spans: Vec::new(),
                unquoted: Vec::new(),
                inline: false,
            }
        }

        /// Looks for one request at the start of `input`.
        pub(super) fn parse(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
            if let State::Start = self.state {
                self.forget();
                match input.first() {
                    None => return Ok(Progress::NeedsLine),
                    Some(b'*') => {}
                    Some(_) => self.state = State::Inline,
                }
            }
            match self.state {
                State::Start => match count_line(input) {
                    Err(Malformed) | Ok(Some((TOO_MANY.., _))) => Err(ProtocolError::ArgumentCount),
                    Ok(None) => Ok(Progress::NeedsLine),
                    Ok(Some((count, next))) => {
                        self.at = next;
                        self.arguments(input, count.max(0) as u32)
                    }
                },
                State::Arguments(left) => self.arguments(input, left),
                State::Inline => self.inline(input),
            }
        }

        /// The request that `parse` has found complete in `input`. `owner` is the buffer around
        /// `input` if a value may keep it.
        pub(super) fn request<'a>(&'a self, input: &'a [u8], owner: Option<&'a Buffer>) -> Request<'a> {
            let (bytes, owner) = if self.inline { (&self.unquoted[..], None) } else { (input, owner) };
            Request { bytes, spans: &self.spans, owner }
        }

        /// Reads what is missing of the arguments.
        fn arguments(&mut self, input: &[u8], left: u32) -> Result<Progress, ProtocolError> {
            let mut at = self.at;
            for left in (1..=left).rev() {
                let Some((len, start)) = argument_header(input, at)? else {
                    return Ok(self.pause(at, left, Progress::NeedsLine));
                };
                let end = start + len;
                if end + 2 > self.limit {
                    return Err(ProtocolError::LongRequest(self.limit));
                }
                match input.get(end..end + 2) {
                    Some(b"\r\n") => {}
                    Some(_) => return Err(ProtocolError::ExpectedLineEnd),
                    None => return Ok(self.pause(at, left, Progress::NeedsBytes(end + 2 - input.len()))),
                }
                self.spans.push((start as u32, end as u32));
                at = end + 2;
            }
            self.state = State::Start;
            Ok(Progress::Request(at))
        }

        /// Remembers where to go on.
        #[cold]
        fn pause(&mut self, at: usize, left: u32, progress: Progress) -> Progress {
            self.at = at;
            self.state = State::Arguments(left);
            progress
        }

        /// Reads a request that is a line of words, as people type it.
        fn inline(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
            let end = input[self.at..].iter().position(|&byte| byte == b'\n').map(|found| self.at + found);
            if end.unwrap_or(input.len()) > INLINE.min(self.limit) {
                return Err(ProtocolError::LongInline);
            }
            let Some(end) = end else {
                self.at = input.len();
                return Ok(Progress::NeedsLine);
            };
            let line = &input[..end];
            unquote(line.strip_suffix(b"\r").unwrap_or(line), &mut self.unquoted, &mut self.spans)?;
            self.inline = true;
            self.state = State::Start;
            Ok(Progress::Request(end + 1))
        }

        /// Drops the arguments of the last request, and the room for them if they were many.
        #[inline]
        fn forget(&mut self) {
            self.at = 0;
            self.spans.clear();
            if self.spans.capacity() > 64 {
                self.spans = Vec::new();
            }
            if self.inline {
                self.inline = false;
                self.unquoted = Vec::new();
            }
        }
    }

    /// Reads the `*count` line of a request: the count, and where the next line starts.
    #[inline]
    fn count_line(input: &[u8]) -> Result<Option<(i64, usize)>, Malformed> {
        match *input {
            [b'*', ones @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((i64::from(ones - b'0'), 4))),
            _ => number_line(input, 1),
        }
    }

    /// Reads the `$length` line of an argument: the length, and where the argument starts.
    #[inline]
    fn argument_header(input: &[u8], at: usize) -> Result<Option<(usize, usize)>, ProtocolError> {
        // Nearly all lengths have one digit or two.
        match *input.get(at..).unwrap_or_default() {
            [b'$', ones @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((usize::from(ones - b'0'), at + 4))),
            [b'$', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
                Ok(Some((usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), at + 5)))
            }
            [b'$', ..] => match number_line(input, at + 1) {
                Ok(Some((len @ 0..=BULK, start))) => Ok(Some((len as usize, start))),
                Ok(None) => Ok(None),
                Ok(Some(_)) | Err(Malformed) => Err(ProtocolError::BulkLength),
            },
            [] => Ok(None),
            [other, ..] => Err(ProtocolError::ExpectedBulk(other)),
        }
    }

    struct Malformed;

    /// Reads `[-]digits CR LF` at `at`: the number and where the next line starts, or `None` if the
    /// line is not complete.
    fn number_line(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, Malformed> {
        let mut digits = input.get(at..).unwrap_or_default();
        let negative = digits.first() == Some(&b'-');
        if negative {
            digits = &digits[1..];
        }
        let start = at + negative as usize;
        let mut value = 0;
        for (index, &byte) in digits.iter().enumerate() {
            match byte {
                // Eighteen digits cannot overflow, and no valid length has as many.
                b'0'..=b'9' if index < 18 => value = value * 10 + i64::from(byte - b'0'),
                b'\r' if index > 0 => {
                    return match digits.get(index + 1) {
                        Some(b'\n') => Ok(Some((if negative { -value } else { value }, start + index + 2))),
                        Some(_) => Err(Malformed),
                        None => Ok(None),
                    };
                }
                _ => return Err(Malformed),
            }
        }
        Ok(None)
    }

    /// Splits a line into words. Words may be quoted: with `"` as in C, with `'` literally.
    fn unquote(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
        let mut at = 0;
        loop {
            while line.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            if at == line.len() {
                return Ok(());
            }
            let start = words.len() as u32;
            while let Some(&byte) = line.get(at).filter(|byte| !byte.is_ascii_whitespace()) {
                if byte == b'"' || byte == b'\'' {
                    at = unquote_part(line, at, words).ok_or(ProtocolError::UnbalancedQuotes)?;
                } else {
                    words.push(byte);
                    at += 1;
                }
            }
            spans.push((start, words.len() as u32));
        }
    }

    /// Reads the quoted part that begins at `at`, and returns where it ends; `None` if it does not
    /// end, or if no space follows.
    fn unquote_part(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Option<usize> {
        let quote = line[at];
        at += 1;
        loop {
            let (byte, used) = match line[at..] {
                [b'\\', b'x', high, low, ..]
                    if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    let digit = |byte| (byte as char).to_digit(16).unwrap_or(0) as u8;
                    (digit(high) << 4 | digit(low), 4)
                }
                [b'\\', escaped, ..] if quote == b'"' => {
                    let byte = match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    };
                    (byte, 2)
                }
                [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
                [byte, ref rest @ ..] if byte == quote => {
                    return rest.first().is_none_or(u8::is_ascii_whitespace).then_some(at + 1);
                }
                [byte, ..] => (byte, 1),
                [] => return None,
            };
            words.push(byte);
            at += used;
        }
    }

    /// What makes letters lower case.
    const LOWER_CASE: u64 = 0x2020_2020_2020_2020;

    /// A name of up to eight letters as a number, whatever the case of the letters.
    ///
    /// Bit 5 is all that differs between the cases, and only letters become lower-case letters when it is set. The
    /// bytes after the name are zero, which no byte of a name can be then.
    pub(super) const fn word(name: &[u8]) -> u64 {
        let mut word = 0;
        let mut index = 0;
        while index < name.len() {
            word |= ((name[index] | 0x20) as u64) << (8 * index);
            index += 1;
        }
        word
    }

    /// The arguments of one request, the command's name first.
    #[derive(Clone, Copy)]
    pub(super) struct Request<'a> {
        bytes: &'a [u8],
        spans: &'a [Span],
        owner: Option<&'a Buffer>,
    }

    impl<'a> Request<'a> {
        pub(super) fn len(&self) -> usize {
            self.spans.len()
        }

        pub(super) fn get(&self, index: usize) -> Option<&'a [u8]> {
            let (start, end) = *self.spans.get(index)?;
            Some(&self.bytes[start as usize..end as usize])
        }

        /// The command's name as a number, see `word`; zero if no command has such a name.
        #[inline]
        pub(super) fn name(&self) -> u64 {
            let (start, end) = self.spans[0];
            let (start, len) = (start as usize, (end - start) as usize);
            // What follows the name in memory makes it one load, mostly.
            match self.bytes.get(start..start + 8) {
                Some(bytes) if (1..=8).contains(&len) => {
                    let bytes = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
                    (bytes | LOWER_CASE) & (u64::MAX >> (64 - 8 * len))
                }
                None if len <= 8 => word(&self[0]),
                _ => 0,
            }
        }

        /// The arguments from `first` on.
        pub(super) fn from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> {
            let Request { bytes, spans, .. } = *self;
            spans.iter().skip(first).map(move |&(start, end)| &bytes[start as usize..end as usize])
        }

        /// An argument as a buffer: without a copy if the argument is most of what was received
        /// for this request alone, so that it keeps hardly more than itself in memory.
        pub(super) fn buffer(&self, index: usize) -> Buffer {
            let (start, end) = self.spans[index];
            let (start, end) = (start as usize, end as usize);
            match self.owner {
                Some(owner) if (end - start) * 2 >= owner.len() => owner.slice(start..end),
                _ => Buffer::from(self.bytes[start..end].to_vec()),
            }
        }
    }

    impl Index<usize> for Request<'_> {
        type Output = [u8];

        fn index(&self, index: usize) -> &[u8] {
            let (start, end) = self.spans[index];
            &self.bytes[start as usize..end as usize]
        }
    }

    /// Writes replies one behind the other, so that those of many requests leave as one push.
    ///
    /// Short replies are written into one buffer. A large value is not copied: it stands between
    /// two such buffers as a segment of its own.
    pub(super) struct Replies {
        out: Out,
        /// What is complete, before `out`.
        segments: Sga,
        pub(super) version: Version,
    }

    /// The dialect that a client has asked for with HELLO.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Version {
        Resp2 = 2,
        Resp3 = 3,
    }

    enum Out {
        None,
        Pool(BufferMut),
        /// The pool was exhausted in the middle of a batch: commands that have been carried out
        /// must be answered, so the heap serves until the batch has been pushed.
        Heap(Vec<u8>),
    }

    impl Replies {
        pub(super) fn new() -> Replies {
            Replies { out: Out::None, segments: Sga::new(), version: Version::Resp2 }
        }

        /// Bytes written since the last `take`.
        pub(super) fn len(&self) -> usize {
            let out = match &self.out {
                Out::None => 0,
                Out::Pool(buffer) => buffer.len(),
                Out::Heap(bytes) => bytes.len(),
            };
            self.segments.len() + out
        }

        /// Takes what has been written.
        pub(super) fn take(&mut self) -> Sga {
            self.close_segment();
            std::mem::take(&mut self.segments)
        }

        pub(super) fn ok(&mut self) {
            self.write(b"+OK\r\n");
        }

        pub(super) fn simple(&mut self, text: &str) {
            self.write(b"+");
            self.write(text.as_bytes());
            self.write(b"\r\n");
        }

        /// An error reply. Line ends in `message`, which may quote the client, become spaces.
        pub(super) fn error(&mut self, message: impl fmt::Display) {
            let mut line = format!("-{message}\r\n").into_bytes();
            let end = line.len() - 2;
            line[..end].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
            self.write(&line);
        }

        pub(super) fn integer(&mut self, value: i64) {
            self.prefixed(b':', value);
        }

        pub(super) fn bulk(&mut self, bytes: &[u8]) {
            self.prefixed(b'$', bytes.len() as i64);
            self.write(bytes);
            self.write(b"\r\n");
        }

        /// As `bulk`, without copying the bytes.
        pub(super) fn bulk_shared(&mut self, bytes: &Buffer) {
            self.prefixed(b'$', bytes.len() as i64);
            self.close_segment();
            self.segments.push(bytes.clone());
            self.write(b"\r\n");
        }

        pub(super) fn null(&mut self) {
            self.write(match self.version {
                Version::Resp2 => b"$-1\r\n",
                Version::Resp3 => b"_\r\n",
            });
        }

        /// The head of a list; its `len` elements follow as replies of their own.
        pub(super) fn array(&mut self, len: usize) {
            self.prefixed(b'*', len as i64);
        }

        /// The head of a map; `len` times a key and a value follow.
        pub(super) fn map(&mut self, len: usize) {
            match self.version {
                Version::Resp2 => self.prefixed(b'*', 2 * len as i64),
                Version::Resp3 => self.prefixed(b'%', len as i64),
            }
        }

        /// `kind`, a number, and the end of the line.
        #[inline]
        fn prefixed(&mut self, kind: u8, value: i64) {
            match value {
                0..=9 => self.write(&[kind, b'0' + value as u8, b'\r', b'\n']),
                _ => self.prefixed_longer(kind, value),
            }
        }

        fn prefixed_longer(&mut self, kind: u8, value: i64) {
            let mut line = [0; 23];
            line[21..].copy_from_slice(b"\r\n");
            let digits = super::decimal(value, line[1..].first_chunk_mut().expect("20 of 22 bytes")).len();
            line[20 - digits] = kind;
            self.write(&line[20 - digits..]);
        }

        #[inline]
        fn write(&mut self, bytes: &[u8]) {
            match &mut self.out {
                Out::Pool(buffer) if buffer.capacity() - buffer.len() >= bytes.len() => {
                    buffer.extend_from_slice(bytes);
                }
                Out::Heap(buffer) => buffer.extend_from_slice(bytes),
                _ => self.write_elsewhere(bytes),
            }
        }

        /// Goes on in a new buffer: the first of a batch is small, as most batches are one short
        /// reply; the others are not.
        #[cold]
        fn write_elsewhere(&mut self, bytes: &[u8]) {
            let capacity =
                if matches!(self.out, Out::None) && self.segments.is_empty() { 256 } else { 16 * 1024 };
            self.close_segment();
            self.out = match BufferMut::with_capacity(capacity.max(bytes.len())) {
                Ok(buffer) => Out::Pool(buffer),
                Err(_) => Out::Heap(Vec::with_capacity(capacity.max(bytes.len()))),
            };
            self.write(bytes);
        }

        fn close_segment(&mut self) {
            match std::mem::replace(&mut self.out, Out::None) {
                Out::None => {}
                Out::Pool(buffer) => self.segments.push(buffer.freeze()),
                Out::Heap(bytes) => self.segments.push(Buffer::from(bytes)),
            }
        }
    }
}

/// The data: keys, values and when they expire. It reads no clock; `now` is passed in.
mod store {
    use super::journal::Changes;
    use demikernel::Buffer;
    use demikernel::time::Instant;
    use std::borrow::Borrow;
    use std::collections::{BTreeSet, HashMap};
    use std::hash::{Hash, Hasher};
    use std::ops::Deref;

    /// Bytes that a key or a value consists of. Short ones, the most common, need no allocation.
    #[derive(Clone)]
    pub(super) enum Blob {
        Short { len: u8, bytes: [u8; Blob::SHORT] },
        Long(Box<[u8]>),
        Shared(Buffer),
    }

    impl Blob {
        const SHORT: usize = 22;
    }

    const _: () = assert!(size_of::<Blob>() == 24);

    impl From<&[u8]> for Blob {
        fn from(from: &[u8]) -> Blob {
            if from.len() > Blob::SHORT {
                return Blob::Long(from.into());
            }
            let mut bytes = [0; Blob::SHORT];
            bytes[..from.len()].copy_from_slice(from);
            Blob::Short { len: from.len() as u8, bytes }
        }
    }

    impl Deref for Blob {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            match self {
                Blob::Short { len, bytes } => &bytes[..usize::from(*len)],
                Blob::Long(bytes) => bytes,
                Blob::Shared(buffer) => buffer,
            }
        }
    }

    impl Borrow<[u8]> for Blob {
        fn borrow(&self) -> &[u8] {
            self
        }
    }

    impl Hash for Blob {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (**self).hash(state);
        }
    }

    impl PartialEq for Blob {
        fn eq(&self, other: &Blob) -> bool {
            **self == **other
        }
    }

    impl Eq for Blob {}

    impl PartialOrd for Blob {
        fn partial_cmp(&self, other: &Blob) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Blob {
        fn cmp(&self, other: &Blob) -> std::cmp::Ordering {
            (**self).cmp(&**other)
        }
    }

    struct Entry {
        value: Blob,
        expires: Option<Instant>,
    }

    impl Entry {
        fn is_alive(&self, now: Instant) -> bool {
            self.expires.is_none_or(|at| at > now)
        }
    }

    /// What a SET does with the time at which the key expires.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Expiry {
        Never,
        At(Instant),
        Keep,
    }

    /// On what a SET depends.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Only {
        IfMissing,
        IfPresent,
    }

    /// Why a value could not be counted up or down.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum CountError {
        NotAnInteger,
        Overflow,
    }

    /// When a key expires.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Lifetime {
        Missing,
        Endless,
        Until(Instant),
    }

    /// Keys and values.
    ///
    /// A key that has expired is as good as absent from that instant on, whether or not its memory
    /// has been given back, which `expire` does, in the order of the deadlines.
    ///
    /// The hash is keyed at random for each process, so a client cannot prepare keys that collide;
    /// SipHash, the standard library's, does the same for three times the price.
    #[derive(Default)]
    pub(super) struct Store {
        entries: HashMap<Blob, Entry, ahash::RandomState>,
        /// One element for each entry that expires.
        deadlines: BTreeSet<(Instant, Blob)>,
        /// What has changed since somebody asked last, if anybody asks.
        changes: Option<Changes>,
    }

    impl Store {
        /// Keys, including those that have expired but have not been removed.
        pub(super) fn len(&self) -> usize {
            self.entries.len()
        }

        /// Keys that expire.
        pub(super) fn expiring(&self) -> usize {
            self.deadlines.len()
        }

        pub(super) fn clear(&mut self) {
            let mut changes = self.changes.take();
            changes.iter_mut().for_each(Changes::clear);
            *self = Store { changes, ..Store::default() };
        }

        /// Notes changes from now on, for `take_changes`.
        pub(super) fn note_changes(&mut self) {
            self.changes.get_or_insert_default();
        }

        /// What has changed since the last call.
        pub(super) fn take_changes(&mut self) -> Changes {
            self.changes.as_mut().map(std::mem::take).unwrap_or_default()
        }

        /// All that there is, as changes of an empty store.
        pub(super) fn snapshot(&self, now: Instant) -> Changes {
            let mut changes = Changes::default();
            let alive = self.entries.iter().filter(|(_, entry)| entry.is_alive(now));
            alive.for_each(|(key, entry)| changes.put(key, &entry.value, entry.expires));
            changes
        }

        fn note_entry(&mut self, key: &[u8]) {
            if let Some(changes) = &mut self.changes
                && let Some(entry) = self.entries.get(key)
            {
                changes.put(key, &entry.value, entry.expires);
            }
        }

        pub(super) fn get(&self, key: &[u8], now: Instant) -> Option<&Blob> {
            self.entries.get(key).filter(|entry| entry.is_alive(now)).map(|entry| &entry.value)
        }

        /// Sets `key` if `only` allows it: whether it did, and the value before.
        pub(super) fn set(
            &mut self,
            key: &[u8],
            value: Blob,
            expiry: Expiry,
            only: Option<Only>,
            now: Instant,
        ) -> (bool, Option<Blob>) {
            let result = self.set_quietly(key, value, expiry, only, now);
            if result.0 {
                self.note_entry(key);
            }
            result
        }

        fn set_quietly(
            &mut self,
            key: &[u8],
            value: Blob,
            expiry: Expiry,
            only: Option<Only>,
            now: Instant,
        ) -> (bool, Option<Blob>) {
            let Some(entry) = self.entries.get_mut(key) else {
                if only == Some(Only::IfPresent) {
                    return (false, None);
                }
                let expires = match expiry {
                    Expiry::At(at) => Some(at),
                    Expiry::Never | Expiry::Keep => None,
                };
                if let Some(at) = expires {
                    self.deadlines.insert((at, key.into()));
                }
                self.entries.insert(key.into(), Entry { value, expires });
                return (true, None);
            };
            let alive = entry.is_alive(now);
            if only == Some(if alive { Only::IfMissing } else { Only::IfPresent }) {
                return (false, alive.then(|| entry.value.clone()));
            }
            let expires = match expiry {
                Expiry::Never => None,
                Expiry::At(at) => Some(at),
                Expiry::Keep => entry.expires.filter(|_| alive),
            };
            let old = std::mem::replace(&mut entry.value, value);
            move_deadline(&mut self.deadlines, key, &mut entry.expires, expires);
            (true, alive.then_some(old))
        }

        /// Removes `key`; whether it was there.
        pub(super) fn remove(&mut self, key: &[u8], now: Instant) -> bool {
            let Some((key, mut entry)) = self.entries.remove_entry(key) else { return false };
            let alive = entry.is_alive(now);
            move_deadline(&mut self.deadlines, &key, &mut entry.expires, None);
            if let Some(changes) = &mut self.changes {
                changes.remove(&key);
            }
            alive
        }

        /// Adds to the integer that a key holds (zero if it is missing).
        pub(super) fn count(&mut self, key: &[u8], by: i64, now: Instant) -> Result<i64, CountError> {
            let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_alive(now)) else {
                self.set(key, decimal(by), Expiry::Never, None, now);
                return Ok(by);
            };
            let old = parse_integer(&entry.value).ok_or(CountError::NotAnInteger)?;
            let new = old.checked_add(by).ok_or(CountError::Overflow)?;
            entry.value = decimal(new);
            self.note_entry(key);
            Ok(new)
        }

        pub(super) fn lifetime(&self, key: &[u8], now: Instant) -> Lifetime {
            match self.entries.get(key).filter(|entry| entry.is_alive(now)) {
                None => Lifetime::Missing,
                Some(Entry { expires: None, .. }) => Lifetime::Endless,
                Some(Entry { expires: Some(at), .. }) => Lifetime::Until(*at),
            }
        }

        /// Lets a key expire at `at`, or not at all; whether it was there. A time that has passed removes it at once.
        pub(super) fn set_deadline(&mut self, key: &[u8], at: Option<Instant>, now: Instant) -> bool {
            let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_alive(now)) else {
                return false;
            };
            move_deadline(&mut self.deadlines, key, &mut entry.expires, at);
            match entry.is_alive(now) {
                true => self.note_entry(key),
                false => drop(self.remove(key, now)),
            }
            true
        }

        /// Removes up to `budget` keys that have expired, and returns how many.
        pub(super) fn expire(&mut self, now: Instant, budget: usize) -> usize {
            let mut removed = 0;
            while removed < budget
                && let Some((at, _)) = self.deadlines.first()
                && *at <= now
                && let Some((_, key)) = self.deadlines.pop_first()
            {
                self.entries.remove(&*key);
                removed += 1;
            }
            removed
        }
    }

    /// Changes when an entry expires, in the entry and in the set of deadlines.
    fn move_deadline(
        deadlines: &mut BTreeSet<(Instant, Blob)>,
        key: &[u8],
        expires: &mut Option<Instant>,
        new: Option<Instant>,
    ) {
        if *expires == new {
            return;
        }
        let key = Blob::from(key);
        let key = match std::mem::replace(expires, new) {
            Some(old) => deadlines.take(&(old, key.clone())).map_or(key, |(_, key)| key),
            None => key,
        };
        if let Some(at) = new {
            deadlines.insert((at, key));
        }
    }

    fn decimal(value: i64) -> Blob {
        let mut line = [0; 20];
        Blob::from(super::decimal(value, &mut line))
    }

    /// An integer exactly as `decimal` writes it: no leading zero, plus or space.
    pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let canonical = match digits {
            [b'0'] => digits.len() == text.len(),
            [b'1'..=b'9', ..] => digits.len() <= 19,
            _ => false,
        };
        if !canonical {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

/// The log of all writes.
///
/// A batch of changes is one record, or several if one is too small for it; each begins with a byte that says whether it
/// is the first and whether it is the last of its batch. When the log has grown, the whole store is written into it once
/// more, as changes like others, and what was before is truncated: so replaying from the beginning of the log is right at
/// any moment.
mod journal {
    use super::store::{Expiry, Store};
    use super::{Shared, State};
    use demikernel::storage::{self, Log};
    use demikernel::time::{Duration, Instant};
    use demikernel::{Buffer, Completion, QToken, operation, spawn, wait_all};
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::path::Path;
    use std::rc::Rc;
    use std::time::SystemTime;

    const FIRST: u8 = 1;
    const LAST: u8 = 2;

    const PUT: u8 = 1;
    const REMOVE: u8 = 2;
    const CLEAR: u8 = 3;

    /// The name of the log in its store.
    const NAME: &str = "key-value";

    /// The most bytes of a record: what many clients write together is one batch of the log all the same.
    const RECORD: usize = 256 * 1024;

    /// Changes of a store, as bytes.
    #[derive(Default)]
    pub(super) struct Changes(Vec<u8>);

    impl Changes {
        /// A key has this value, and expires then.
        pub(super) fn put(&mut self, key: &[u8], value: &[u8], expires: Option<Instant>) {
            self.0.push(PUT);
            let millis = expires.map_or(0, |at| {
                let left = at.saturating_duration_since(Instant::now());
                (since_1970() + left).as_millis().max(1) as u64
            });
            self.0.extend_from_slice(&millis.to_le_bytes());
            self.bytes(key);
            self.bytes(value);
        }

        pub(super) fn remove(&mut self, key: &[u8]) {
            self.0.push(REMOVE);
            self.bytes(key);
        }

        /// Everything is gone, with what was changed before.
        pub(super) fn clear(&mut self) {
            self.0.clear();
            self.0.push(CLEAR);
        }

        fn bytes(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            self.0.extend_from_slice(bytes);
        }

        /// Makes the changes; `None` if they are no changes.
        fn apply(&self, store: &mut Store, now: Instant) -> Option<()> {
            let mut rest = self.0.as_slice();
            while let Some((kind, after)) = rest.split_first() {
                rest = after;
                match *kind {
                    PUT => {
                        let millis = number(&mut rest)?;
                        let (key, value) = (part(&mut rest)?, part(&mut rest)?);
                        let left = Duration::from_millis(millis).saturating_sub(since_1970());
                        match millis {
                            0 => drop(store.set(key, value.into(), Expiry::Never, None, now)),
                            _ if left.is_zero() => drop(store.remove(key, now)),
                            _ => drop(store.set(key, value.into(), Expiry::At(now + left), None, now)),
                        }
                    }
                    REMOVE => drop(store.remove(part(&mut rest)?, now)),
                    CLEAR => store.clear(),
                    _ => return None,
                }
            }
            Some(())
        }
    }

    fn number(rest: &mut &[u8]) -> Option<u64> {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u64::from_le_bytes(*number))
    }

    fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(number(rest)?).ok()?;
        let (part, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(part)
    }

    /// Times are of the calendar, as instants mean nothing to the next process.
    fn since_1970() -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    pub(super) struct Journal {
        log: Log,
        /// Commits that are not durable yet.
        under_way: Cell<usize>,
        /// The store is written once more when the log has so many segments.
        limit: Cell<usize>,
        writing_all: Cell<bool>,
        failure: RefCell<Option<Completion<io::Error>>>,
        failed: RefCell<Option<QToken<io::Error>>>,
    }

    impl Journal {
        /// Opens the log, and brings the store to what it says.
        pub(super) async fn open(path: &Path, bytes: u64, store: &mut Store) -> io::Result<Rc<Journal>> {
            let mut log = storage::open(path, bytes).await?.log(NAME).await?;
            replay(&mut log, store).await?;
            store.note_changes();
            let (failed, failure) = operation();
            let journal = Journal {
                limit: Cell::new(log.store().info().segments / 2),
                log,
                under_way: Cell::new(0),
                writing_all: Cell::new(false),
                failure: RefCell::new(Some(failure)),
                failed: RefCell::new(Some(failed)),
            };
            Ok(Rc::new(journal))
        }

        /// Waits until these changes, and all before them, are durable.
        pub(super) async fn commit(self: Rc<Journal>, changes: Changes, shared: &Shared) -> io::Result<()> {
            if changes.0.is_empty() && self.under_way.get() == 0 {
                return Ok(());
            }
            self.under_way.set(self.under_way.get() + 1);
            let result = match changes.0.is_empty() {
                true => self.log.sync().await,
                false => self.append(&changes).await.map(drop),
            };
            self.under_way.set(self.under_way.get() - 1);
            if self.log.segments() > self.limit.get() && !self.writing_all.replace(true) {
                spawn(self.clone().write_all(shared.clone())).detach();
            }
            result.map_err(|error| self.fail(error))
        }

        /// Appends changes; the number of the first record.
        async fn append(&self, changes: &Changes) -> io::Result<u64> {
            let most = RECORD.min(self.log.store().info().longest_record) - 1;
            let pieces = changes.0.chunks(most).enumerate();
            let last = changes.0.len().div_ceil(most).saturating_sub(1);
            // All are pushed before anything is waited for, so nobody else's come between them.
            let mut tokens: Vec<_> = pieces
                .map(|(index, piece)| {
                    let flags = if index == 0 { FIRST } else { 0 } | if index == last { LAST } else { 0 };
                    self.log.push(Buffer::from([&[flags], piece].concat()))
                })
                .collect();
            let appended = wait_all(&mut tokens).await.into_iter().collect::<io::Result<Vec<_>>>()?;
            Ok(appended.first().map_or(0, |first| first.number))
        }

        /// Writes the whole store once more, and gives up what is before that.
        async fn write_all(self: Rc<Journal>, shared: Shared) {
            let mut all = {
                let State { store, .. } = &*shared.borrow();
                store.snapshot(Instant::now())
            };
            if all.0.is_empty() {
                all.clear();
            }
            let result = async {
                let first = self.append(&all).await?;
                self.log.truncate(first).await
            };
            let result = result.await;
            let segments = self.log.store().info().segments;
            // If the store itself needs as much, it is written anew when a quarter of the log has been used since.
            self.limit.set((segments / 2).max(self.log.segments() + segments / 4));
            self.writing_all.set(false);
            match result {
                Ok(()) => {
                    tracing::debug!(segments = self.log.segments(), "the log begins with the whole store")
                }
                Err(error) => drop(self.fail(error)),
            }
        }

        /// The log can take nothing more: the server ends.
        fn fail(&self, error: io::Error) -> io::Error {
            let again = io::Error::new(error.kind(), error.to_string());
            if let Some(failure) = self.failure.take() {
                failure.complete(io::Error::new(error.kind(), format!("log: {error}")));
            }
            again
        }

        /// Why the log can take nothing more.
        pub(super) async fn failed(&self) -> io::Error {
            let failed = self.failed.take();
            match failed {
                Some(failed) => failed.await,
                None => std::future::pending().await,
            }
        }

        pub(super) async fn close(&self) -> io::Result<()> {
            self.log.store().close().await
        }
    }

    /// Makes all changes in the log. What lacks its end was never acknowledged.
    async fn replay(log: &mut Log, store: &mut Store) -> io::Result<()> {
        let (mut batch, mut batches) = (Changes::default(), 0u64);
        while let Some(record) = log.next().await? {
            let Some((flags, piece)) = record.data.split_first() else { continue };
            if flags & FIRST != 0 {
                batch.0.clear();
            }
            batch.0.extend_from_slice(piece);
            if flags & LAST != 0 {
                batches += 1;
                batch.apply(store, Instant::now()).ok_or_else(|| {
                    let text = format!("record {} of the log is not a key-value server's", record.number);
                    io::Error::new(io::ErrorKind::InvalidData, text)
                })?;
            }
        }
        tracing::info!(batches, keys = store.len(), "replayed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::commands::Server;
    use super::connection::{Connection, Next};
    use super::store::Store;
    use demikernel::Buffer;
    use demikernel::time::{Duration, Instant};
    use proptest::prelude::*;

    const LIMIT: usize = 100_000;

    /// A server with one client, without sockets and with a clock that the test sets.
    struct Rig {
        store: Store,
        server: Server,
        connection: Connection,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            let now = Instant::now();
            Rig {
                store: Store::default(),
                server: Server::new("none", now, 1),
                connection: Connection::new(7, LIMIT),
                now,
            }
        }

        /// Sends bytes as one received buffer: the replies, and whether the connection ended.
        fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
            self.connection.receive(Buffer::from(bytes.to_vec()));
            let mut replies = Vec::new();
            loop {
                let next = self.connection.run(&mut self.store, &mut self.server, self.now);
                replies.extend(self.connection.replies.take().to_vec());
                if next != Next::More {
                    return (replies, next == Next::Close);
                }
            }
        }

        /// Sends a line as a person would: the replies, with `|` for the line ends.
        fn say(&mut self, line: &str) -> String {
            let (replies, _) = self.send(format!("{line}\r\n").as_bytes());
            String::from_utf8_lossy(&replies).replace("\r\n", "|")
        }

        fn wait(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    /// Plays requests and compares each reply.
    fn play(script: &[(&str, &str)]) {
        let mut rig = Rig::new();
        for (line, reply) in script {
            assert_eq!(rig.say(line), *reply, "{line}");
        }
    }

    fn request(arguments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn strings() {
        play(&[
            ("PING", "+PONG|"),
            ("ping hello", "$5|hello|"),
            ("ECHO x", "$1|x|"),
            ("GET a", "$-1|"),
            ("SET a 1", "+OK|"),
            ("gEt a", "$1|1|"),
            ("SET a 2 NX", "$-1|"),
            ("SET b 2 XX", "$-1|"),
            ("SET b 2 NX", "+OK|"),
            ("SET a 3 XX GET", "$1|1|"),
            ("SET c 3 GET", "$-1|"),
            ("MGET a b c d", "*4|$1|3|$1|2|$1|3|$-1|"),
            ("EXISTS a a d", ":2|"),
            ("STRLEN a", ":1|"),
            ("DBSIZE", ":3|"),
            ("DEL a b d", ":2|"),
            ("MSET a 1 b 2 a 3", "+OK|"),
            ("MGET a b", "*2|$1|3|$1|2|"),
            ("FLUSHDB", "+OK|"),
            ("DBSIZE", ":0|"),
        ]);
    }

    #[test]
    fn counters() {
        play(&[
            ("INCR a", ":1|"),
            ("INCRBY a 41", ":42|"),
            ("DECR a", ":41|"),
            ("DECRBY a 50", ":-9|"),
            ("GET a", "$2|-9|"),
            ("SET a 9223372036854775807", "+OK|"),
            ("INCR a", "-ERR increment or decrement would overflow|"),
            ("DECRBY b -9223372036854775808", "-ERR decrement would overflow|"),
            ("SET a 01", "+OK|"),
            ("INCR a", "-ERR value is not an integer or out of range|"),
            ("INCRBY b 1x", "-ERR value is not an integer or out of range|"),
        ]);
    }

    #[test]
    fn keys_expire() {
        let mut rig = Rig::new();
        assert_eq!(rig.say("SET a 1 EX 2"), "+OK|");
        assert_eq!(rig.say("SET b 1 PX 1500"), "+OK|");
        assert_eq!(rig.say("SET c 1"), "+OK|");
        assert_eq!(rig.say("PEXPIRE c 3000"), ":1|");
        assert_eq!(rig.say("EXPIRE d 3"), ":0|");
        assert_eq!(rig.say("PTTL b"), ":1500|");
        assert_eq!(rig.say("TTL b"), ":2|", "rounded to the nearest second");
        assert_eq!(rig.say("TTL d"), ":-2|");
        rig.wait(1500);
        assert_eq!(rig.say("GET b"), "$-1|");
        assert_eq!(rig.say("SET b 2 XX"), "$-1|", "an expired key is absent");
        assert_eq!(rig.say("INCR b"), ":1|");
        assert_eq!(rig.say("TTL b"), ":-1|", "and its deadline does not pass on");
        assert_eq!(rig.say("SET a 2 KEEPTTL"), "+OK|");
        assert_eq!(rig.say("PTTL a"), ":500|");
        assert_eq!(rig.say("PERSIST a"), ":1|");
        assert_eq!(rig.say("TTL a"), ":-1|");
        assert_eq!(rig.say("EXPIRE a -1"), ":1|");
        assert_eq!(rig.say("EXISTS a"), ":0|");
        assert_eq!(rig.store.len(), 2, "a is removed at once");
        assert_eq!(rig.store.expire(rig.now, 10), 0);
        rig.wait(1500);
        assert_eq!(rig.store.expire(rig.now, 10), 1, "c is removed");
        assert_eq!((rig.store.len(), rig.store.expiring()), (1, 0));
    }

    #[test]
    fn wrong_use_gets_an_error_and_the_connection_goes_on() {
        play(&[
            ("GET", "-ERR wrong number of arguments for 'get' command|"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
            ("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' |"),
            ("SET a 1 EX", "-ERR syntax error|"),
            ("SET a 1 EX 1 PX 1", "-ERR syntax error|"),
            ("SET a 1 NX XX", "-ERR syntax error|"),
            ("SET a 1 EX x", "-ERR value is not an integer or out of range|"),
            ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command|"),
            ("SET a 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command|"),
            ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
            ("SELECT 1", "-ERR DB index is out of range|"),
            ("HELLO 4", "-NOPROTO unsupported protocol version|"),
            (
                "CLIENT SETNAME \"a b\"",
                "-ERR Client names cannot contain spaces, newlines or special characters.|",
            ),
            ("\"a\\r\\nb\"", "-ERR unknown command 'a\\r\\nb', with args beginning with: |"),
            ("", ""),
            ("PING", "+PONG|"),
        ]);
    }

    #[test]
    fn clients_introduce_themselves() {
        let mut rig = Rig::new();
        assert_eq!(rig.say("CLIENT SETINFO LIB-NAME x"), "+OK|");
        assert_eq!(rig.say("CLIENT GETNAME"), "$-1|");
        assert!(rig.say("HELLO 3 SETNAME me").starts_with("%6|$6|server|"));
        assert_eq!(rig.say("CLIENT GETNAME"), "$2|me|");
        assert_eq!(rig.say("CLIENT ID"), ":7|");
        assert_eq!(rig.say("GET a"), "_|");
        assert_eq!(rig.say("CONFIG GET save appendonly"), "%2|$4|save|$0||$10|appendonly|$2|no|");
        assert!(rig.say("HELLO 2").starts_with("*12|"));
        assert_eq!(rig.say("CONFIG GET save"), "*2|$4|save|$0||");
        assert_eq!(rig.say("COMMAND INFO get nosuch"), "*2|*6|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|$-1|");
        assert!(rig.say("COMMAND DOCS").starts_with("*56|$6|client|*6|$7|summary|"));
        assert!(rig.say("COMMAND").starts_with("*28|*6|"));
        assert!(rig.say("INFO").contains("total_commands_processed:13|"));
        assert_eq!(rig.say("INFO keyspace"), "$12|# Keyspace||");
    }

    #[test]
    fn quotes_of_inline_requests() {
        play(&[
            (r#"ECHO "a b\x41\n""#, "$5|a bA\n|"),
            (r"ECHO 'a\'b\n'", "$5|a'b\\n|"),
            (r#"ECHO """#, "$0||"),
            (r#"  ECHO   a"b"c "#, "-ERR Protocol error: unbalanced quotes in request|"),
        ]);
        assert_eq!(Rig::new().say("ECHO 'a"), "-ERR Protocol error: unbalanced quotes in request|");
    }

    #[test]
    fn what_is_not_the_protocol_ends_the_connection() {
        let cases: [(&[u8], &str); 10] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"*1\r\n$536870912\r\n", "the request is longer than 100000 bytes"),
            (b"*1\r\n$4\r\nPINGxx", "expected CR LF after an argument"),
            (b"GET \"a\r\n", "unbalanced quotes in request"),
            (&[b'a'; 65537], "too big inline request"),
        ];
        for (bytes, message) in cases {
            let mut input = b"PING\r\n".to_vec();
            input.extend_from_slice(bytes);
            let (replies, closed) = Rig::new().send(&input);
            let expected = format!("+PONG\r\n-ERR Protocol error: {message}\r\n");
            assert_eq!(String::from_utf8_lossy(&replies), expected);
            assert!(closed);
        }
        assert_eq!(Rig::new().send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"), (Vec::new(), true));
        assert_eq!(Rig::new().send(b"QUIT\r\nPING\r\n"), (b"+OK\r\n".to_vec(), true));
    }

    #[test]
    fn nothing_to_do_gets_no_reply() {
        for bytes in [&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b"\n", b"*", b"*1\r\n$4\r\nPING", b"GET a"] {
            assert_eq!(Rig::new().send(bytes), (Vec::new(), false));
        }
    }

    #[test]
    fn large_values_come_back_whole_however_they_arrived() {
        for len in [0, 22, 23, 4095, 4096, 10_000, 90_000] {
            let value: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mut input = request(&[b"SET", b"key", &value]);
            input.extend_from_slice(&request(&[b"MGET", b"key", b"key"]));
            let bulk = [format!("${len}\r\n").as_bytes(), &value, b"\r\n"].concat();
            let expected = [b"+OK\r\n*2\r\n", &bulk[..], &bulk].concat();
            for chunk in [1, 1000, 16 * 1024, input.len()] {
                let mut rig = Rig::new();
                let replies: Vec<u8> = input.chunks(chunk).flat_map(|part| rig.send(part).0).collect();
                assert!(replies == expected, "{len} bytes in parts of {chunk}");
            }
        }
    }

    #[test]
    fn many_replies_are_pushed_in_batches() {
        let mut rig = Rig::new();
        rig.send(&request(&[b"SET", b"key", &[b'v'; 4000]]));
        rig.connection.receive(Buffer::from(request(&[b"GET", b"key"]).repeat(100)));
        let mut batches = 0;
        while rig.connection.run(&mut rig.store, &mut rig.server, rig.now) == Next::More {
            let len = rig.connection.replies.take().len();
            assert!((64 * 1024..70_000).contains(&len));
            batches += 1;
        }
        assert_eq!(batches, 100 * 4009 / (17 * 4009));
    }

    /// Requests and what is nearly a request: whole, cut short, with wrong lengths, and noise.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            prop::sample::select(
                &[
                    "GET", "set", "DEL", "incr", "MGET", "MSET", "PING", "EX", "NX", "GET", "a", "b", "10",
                    "-1", "COMMAND"
                ][..]
            )
            .prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
            (0..9000_usize).prop_map(|len| vec![b'v'; len]),
        ];
        let whole = prop::collection::vec(word.clone(), 0..6)
            .prop_map(|words| request(&words.iter().map(|word| &word[..]).collect::<Vec<_>>()));
        let inline =
            prop::collection::vec(word, 0..4).prop_map(|words| [&words.join(&b' ')[..], b"\r\n"].concat());
        let near =
            (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            });
        let noise = prop::collection::vec(any::<u8>(), 0..30);
        let piece = prop_oneof![6 => whole, 2 => inline, 1 => near, 1 => noise];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However the bytes are cut, the replies and the end are the same, and nothing panics.
        #[test]
        fn cuts_do_not_matter(input in input(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let expected = Rig::new().send(&input);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let mut rig = Rig::new();
            let (mut replies, mut closed) = (Vec::new(), false);
            for cut in cuts.windows(2) {
                if !closed {
                    let (more, end) = rig.send(&input[cut[0]..cut[1]]);
                    replies.extend(more);
                    closed = end;
                }
            }
            prop_assert_eq!((replies, closed), expected);
        }

        /// Each byte on its own.
        #[test]
        fn bytes_may_come_one_by_one(input in input()) {
            let expected = Rig::new().send(&input);
            let mut rig = Rig::new();
            let mut replies = Vec::new();
            let closed = input.iter().any(|byte| {
                let (more, closed) = rig.send(std::slice::from_ref(byte));
                replies.extend(more);
                closed
            });
            prop_assert_eq!((replies, closed), expected);
        }

        /// The set of deadlines and the entries say the same after any commands.
        #[test]
        fn deadlines_match_the_entries(commands in prop::collection::vec((0..9, 0..3, 1..50_u64), 0..60)) {
            let mut rig = Rig::new();
            for (command, key, number) in commands {
                match command {
                    0 => rig.say(&format!("SET {key} x PX {number}")),
                    1 => rig.say(&format!("SET {key} x")),
                    2 => rig.say(&format!("SET {key} x KEEPTTL")),
                    3 => rig.say(&format!("DEL {key}")),
                    4 => rig.say(&format!("PEXPIRE {key} {number}")),
                    5 => rig.say(&format!("PERSIST {key}")),
                    6 => rig.say(&format!("INCR {key}")),
                    7 => { rig.store.expire(rig.now, number as usize % 3); String::new() }
                    _ => { rig.wait(number); String::new() }
                };
            }
            rig.store.expire(rig.now, usize::MAX);
            let alive = (0..3).map(|key| rig.say(&format!("PTTL {key}"))).collect::<Vec<_>>();
            prop_assert_eq!(rig.store.len(), alive.iter().filter(|ttl| *ttl != ":-2|").count());
            prop_assert_eq!(rig.store.expiring(), alive.iter().filter(|ttl| !ttl.starts_with(":-")).count());
        }
    }
}
