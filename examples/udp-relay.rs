//! The UDP relay of the Demikernel paper (SOSP 2021, section 7): datagrams that arrive at one address leave for another.
//!
//! It shows datagrams that are passed on without a copy: the buffer that was popped is the buffer that is pushed. What
//! the other side answers goes back to the client that asked, for which each client has a socket of its own towards it.
//! Clients are forgotten when nothing has passed for a while, and there is a limit to their number, as the addresses of
//! datagrams can be forged.
//!
//! ```text
//! $ nc -u -l 127.0.0.1 7001
//!
//! $ RUST_LOG=info cargo run --release --example udp-relay -- --listen 127.0.0.1:7000 --forward 127.0.0.1:7001
//! core 0 relays 127.0.0.1:7000 to 127.0.0.1:7001
//! ... INFO udp_relay: core=0 clients=1 forwarded=1 returned=0 bytes=6 dropped=0
//!
//! $ nc -u 127.0.0.1 7000
//! hello                                          (appears in the first terminal; so does an answer, here)
//! ```

use clap::Parser;
use demikernel::net::UdpSocket;
use demikernel::signal::shutdown;
use demikernel::time::{Duration, Instant, interval, sleep};
use demikernel::{Builder, Idle, JoinHandle, QToken, core_index, spawn};
use futures::future::select;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;

/// Pushes under way at once, so that a burst leaves as one.
const BURST: usize = 32;

/// Passes datagrams on from one address to another, and the answers back.
#[derive(Clone, Parser)]
pub(crate) struct Args {
    /// Where datagrams arrive.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    /// Where they go.
    #[arg(long, value_name = "ADDR")]
    forward: SocketAddr,
    /// The transport: io_uring, epoll, ...; chosen automatically without.
    #[arg(long)]
    transport: Option<String>,
    /// How many cores to use, each with a runtime of its own.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// What to do when there is nothing to do: spin, block, adaptive or adaptive(TIME).
    #[arg(long, default_value = "adaptive")]
    idle: Idle,
    /// How many clients a core remembers; datagrams of further ones are dropped.
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// After how many seconds without a datagram a client is forgotten.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    age: u64,
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = Args::parse();
    let mut builder = Builder::new().cores(args.cores).idle(args.idle);
    if let Some(transport) = &args.transport {
        builder = builder.transport(transport);
    }
    builder.run(move || relay(args.clone()))
}

/// What a core has done since it started.
#[derive(Default)]
struct Stats {
    forwarded: Cell<u64>,
    returned: Cell<u64>,
    bytes: Cell<u64>,
    dropped: Cell<u64>,
}

fn add(counter: &Cell<u64>, count: usize) {
    counter.set(counter.get() + count as u64);
}

/// A client, and its way to the other side.
struct Client {
    upstream: UdpSocket,
    last_used: Cell<Instant>,
}

/// A client that is remembered, and the task that passes the answers on to it.
struct Known {
    client: Rc<Client>,
    answers: JoinHandle<()>,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

struct Relay {
    args: Args,
    socket: UdpSocket,
    clients: RefCell<HashMap<SocketAddr, Known>>,
    stats: Stats,
}

/// Relays on one core until Ctrl-C or SIGTERM.
pub(crate) async fn relay(args: Args) -> io::Result<()> {
    let socket = UdpSocket::bind(args.listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("core {} relays {} to {}", core_index(), socket.local_addr()?, args.forward);
    let relay = Rc::new(Relay { args, socket, clients: RefCell::default(), stats: Stats::default() });
    spawn(relay.clone().look_after()).detach();
    select(pin!(relay.forward()), end).await;
    Ok(())
}

impl Relay {
    /// Passes on what clients send.
    async fn forward(self: &Rc<Relay>) {
        let mut pushes = Pushes::default();
        loop {
            let (datagram, from) = match self.socket.pop_from().await {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive");
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Some(client) = self.client(from).await else {
                add(&self.stats.dropped, 1);
                continue;
            };
            client.last_used.set(Instant::now());
            let len = datagram.len();
            pushes.start(client.upstream.push(datagram), len, &self.stats.forwarded, &self.stats).await;
        }
    }

    /// The client with this address, a new one if it is not known; `None` if there are too many.
    async fn client(self: &Rc<Relay>, from: SocketAddr) -> Option<Rc<Client>> {
        if let Some(known) = self.clients.borrow().get(&from) {
            return Some(known.client.clone());
        }
        if self.clients.borrow().len() >= self.args.clients {
            return None;
        }
        let upstream = match connect(self.args.forward).await {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::warn!(%error, "cannot open a socket for a client");
                return None;
            }
        };
        let client = Rc::new(Client { upstream, last_used: Cell::new(Instant::now()) });
        let answers = spawn(self.clone().answer(from, client.clone()));
        self.clients.borrow_mut().insert(from, Known { client: client.clone(), answers });
        Some(client)
    }

    /// Passes on to one client what the other side answers.
    async fn answer(self: Rc<Relay>, to: SocketAddr, client: Rc<Client>) {
        let mut pushes = Pushes::default();
        loop {
            match client.upstream.pop().await {
                Ok(datagram) => {
                    client.last_used.set(Instant::now());
                    let len = datagram.len();
                    let push = self.socket.push_to(datagram, to);
                    pushes.start(push, len, &self.stats.returned, &self.stats).await;
                }
                // Nobody listens there (now): an earlier push is lost, later ones may not be.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => add(&self.stats.dropped, 1),
                Err(error) => {
                    tracing::warn!(%error, client = %to, "cannot receive an answer");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Each second, says what has happened, and forgets clients that were silent for too long.
    async fn look_after(self: Rc<Relay>) {
        let age = Duration::from_secs(self.args.age);
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            let now = seconds.tick().await;
            self.clients
                .borrow_mut()
                .retain(|_, known| now.saturating_duration_since(known.client.last_used.get()) < age);
            tracing::info!(
                core = core_index(),
                clients = self.clients.borrow().len(),
                forwarded = self.stats.forwarded.get(),
                returned = self.stats.returned.get(),
                bytes = self.stats.bytes.get(),
                dropped = self.stats.dropped.get(),
            );
        }
    }
}

/// A socket that exchanges datagrams with one peer.
async fn connect(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

/// Pushes under way. To drop a token would be to cancel its push, so the oldest is waited for when there are many.
#[derive(Default)]
struct Pushes {
    tokens: VecDeque<QToken<io::Result<()>>>,
}

impl Pushes {
    async fn start(&mut self, push: QToken<io::Result<()>>, len: usize, counter: &Cell<u64>, stats: &Stats) {
        self.tokens.push_back(push);
        add(counter, 1);
        add(&stats.bytes, len);
        if self.tokens.len() > BURST
            && let Some(oldest) = self.tokens.pop_front()
            && let Err(error) = oldest.await
        {
            tracing::debug!(%error, "a datagram was not sent");
            add(&stats.dropped, 1);
        }
    }
}
