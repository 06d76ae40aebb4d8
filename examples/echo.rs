//! TCP echo: a server, a load generator, and both at once.
//!
//! ```text
//! cargo run --release --example echo                            # serves and drives itself, prints a table
//! cargo run --release --example echo -- serve --listen 127.0.0.1:7000
//! nc 127.0.0.1 7000                                             # what you type comes back
//! cargo run --release --example echo -- bench --connect 127.0.0.1:7000 --connections 32
//! ```
//!
//! Without a subcommand every transport that is compiled in and can start here gets a row for one
//! connection, which shows its latency, and one for 32, which shows its throughput. The transport of
//! `serve` and `bench` is chosen with `--transport NAME` or `DEMIKERNEL_TRANSPORT`.

use clap::{Args, Parser, Subcommand};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::{Instant, sleep};
use demikernel::{Buffer, Builder, Idle, spawn};
use futures::channel::oneshot;
use futures::future::{Either, select};
use hdrhistogram::Histogram;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "TCP echo: a server, a load generator, and both at once")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until Ctrl-C or SIGTERM
    Serve {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:7000")]
        listen: SocketAddr,
        /// Cores to serve on, one runtime each
        #[arg(long, default_value_t = 1)]
        cores: usize,
    },
    /// Drive a server, and print latencies
    Bench {
        /// Address of the server
        #[arg(long, default_value = "127.0.0.1:7000")]
        connect: SocketAddr,
        #[command(flatten)]
        load: Load,
    },
}

#[derive(Args, Clone, Copy)]
struct Load {
    /// Connections, each with one message under way
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// For how long
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Args, Clone)]
struct RuntimeArgs {
    /// Transport: io_uring, epoll, ... or auto
    #[arg(long, global = true)]
    transport: Option<String>,
    /// What to do when nothing is ready: spin, block, adaptive, adaptive(50us)
    #[arg(long, global = true, default_value = "adaptive")]
    idle: Idle,
}

impl RuntimeArgs {
    fn builder(&self) -> Builder {
        let builder = Builder::new().idle(self.idle);
        match &self.transport {
            Some(name) => builder.transport(name),
            None => builder,
        }
    }
}

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let cli = Cli::parse();
    let result = match cli.command {
        None => demonstrate(&cli.runtime),
        Some(Command::Serve { listen, cores }) => {
            return cli.runtime.builder().cores(cores).run(move || serve(listen));
        }
        Some(Command::Bench { connect, load }) => bench(&cli.runtime, connect, load),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("echo: listening on {}", listener.local_addr()?);
    match select(pin!(accept_all(listener)), end).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Ok(()),
    }
}

async fn accept_all(listener: TcpListener) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => spawn(async move {
                if let Err(error) = echo(stream).await {
                    tracing::debug!(%peer, %error, "connection ended");
                }
            })
            .detach(),
            Err(error) => {
                // Out of descriptors, most likely: connections that end will give some back.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Sends back what comes. The bytes are never copied here: the buffer that was received is what is sent.
async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(data).await?;
    }
}

struct Measured {
    latencies: Histogram<u64>,
    seconds: f64,
}

/// Drives `server` with `load.connections` connections, one message under way on each.
async fn drive(server: SocketAddr, load: Load) -> io::Result<Measured> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(load.seconds);
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(server).await?;
        clients.push(spawn(ping_pong(stream, load.size, end)));
    }
    let mut latencies = histogram();
    for client in clients {
        latencies.add(client.await??).map_err(io::Error::other)?;
    }
    Ok(Measured { latencies, seconds: start.elapsed().as_secs_f64() })
}

async fn ping_pong(stream: TcpStream, size: usize, end: Instant) -> io::Result<Histogram<u64>> {
    stream.set_nodelay(true)?;
    let message = Buffer::from(vec![b'x'; size]);
    let mut latencies = histogram();
    let mut sent = Instant::now();
    while sent < end {
        stream.push(message.clone()).await?;
        let mut missing = size;
        while missing > 0 {
            let data = stream.pop().await?;
            if data.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            missing = missing.saturating_sub(data.len());
        }
        let now = Instant::now();
        latencies.saturating_record((now - sent).as_nanos() as u64);
        sent = now;
    }
    Ok(latencies)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constants")
}

fn bench(runtime: &RuntimeArgs, server: SocketAddr, load: Load) -> io::Result<()> {
    let measured = runtime.builder().build()?.block_on(drive(server, load))?;
    print_head();
    print_row(runtime.transport.as_deref().unwrap_or("auto"), load, &measured);
    Ok(())
}

fn demonstrate(runtime: &RuntimeArgs) -> io::Result<()> {
    if runtime.transport.as_deref().is_some_and(|name| ["memory", "sim"].contains(&name)) {
        let why = "the simulated network is inside one runtime: a server and a client on two cores cannot meet there";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    // The delays of the simulated network are made up, so its figures would say nothing; others have a far end.
    let here = |name: &&str| ["io_uring", "epoll", "dpdk", "rdma"].contains(name);
    let names: Vec<&str> = match &runtime.transport {
        Some(name) => vec![name],
        None => demikernel::transports().iter().copied().filter(here).collect(),
    };
    println!("64-byte messages, server and client on one core each, idle policy {};", runtime.idle);
    match names.contains(&"dpdk") {
        true => println!("over the kernel's loopback, and on dpdk over shared memory (memif)"),
        false => println!("over the kernel's loopback; built with --features dpdk, on dpdk too"),
    }
    if names.contains(&"rdma") {
        println!("on rdma over a device that sends to itself");
    }
    print_head();
    for &name in &names {
        for connections in [1, 32] {
            let load = Load { connections, size: 64, seconds: 1.5 };
            match Ends::new(name, runtime.idle, connections).and_then(|ends| measure(&ends, load)) {
                Ok(measured) => print_row(name, load, &measured),
                Err(error) if names.len() == 1 => return Err(error),
                Err(error) => {
                    println!("{name:<12} {error}");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The runtimes of a server and a client, and where they meet.
struct Ends {
    server: Builder,
    client: Builder,
    listen: SocketAddr,
}

impl Ends {
    fn new(transport: &str, idle: Idle, number: usize) -> io::Result<Ends> {
        let builder = Builder::new().transport(transport).idle(idle);
        if transport != "dpdk" {
            let listen = if transport == "rdma" { rdma_address()? } else { Ipv4Addr::LOCALHOST.into() };
            return Ok(Ends { server: builder.clone(), client: builder, listen: (listen, 0).into() });
        }
        // Two stacks of their own, on the ports at the ends of a cable in shared memory.
        let socket = format!("demikernel-echo-{}-{number}", std::process::id());
        let configuration = |host: u8, role: &str| {
            format!(
                "[network]\naddresses = [\"10.88.0.{host}/24\"]\nduplicate-detection = \"off\"\n\
                 [dpdk]\nport = \"net_memif{host},role={role},id=0,socket={socket}\"\n"
            )
        };
        Ok(Ends {
            server: builder.clone().configuration(&configuration(1, "server")),
            client: builder.configuration(&configuration(2, "client")),
            listen: ([10, 88, 0, 1], 0).into(),
        })
    }
}

/// An address of a device, at which both ends meet.
#[cfg(feature = "rdma")]
fn rdma_address() -> io::Result<IpAddr> {
    let addresses = demikernel::rdma::transport::addresses()?;
    addresses.into_iter().next().ok_or_else(|| io::Error::other("no RDMA device here has an address"))
}

#[cfg(not(feature = "rdma"))]
fn rdma_address() -> io::Result<IpAddr> {
    Err(io::Error::other("rdma is not compiled in: build with --features rdma"))
}

/// Runs a server in a thread of its own, and drives it from this one.
fn measure(ends: &Ends, load: Load) -> io::Result<Measured> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, address) = std::sync::mpsc::channel();
    let (builder, listen) = (ends.server.clone(), ends.listen);
    let server = thread::Builder::new().name("server".to_owned()).spawn(move || {
        pin(0);
        builder.build()?.block_on(async move {
            let listener = TcpListener::bind(listen).await?;
            let _ = ready.send(listener.local_addr()?);
            match select(pin!(accept_all(listener)), stopped).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Ok(()),
            }
        })
    })?;
    pin(1);
    let measured = match address.recv() {
        Ok(address) => ends.client.build().and_then(|client| client.block_on(drive(address, load))),
        Err(_) => Err(io::Error::other("the server did not start")),
    };
    let _ = stop.send(());
    let served = server.join().unwrap_or_else(|_| Err(io::Error::other("the server panicked")));
    served.and(measured)
}

fn pin(core: usize) {
    if let Err(error) = demikernel::pin_to_core(core) {
        eprintln!("cannot pin a thread, which makes the figures less steady: {error}");
    }
}

fn print_head() {
    println!(
        "{:<12} {:>11} {:>12} {:>10} {:>10} {:>10}",
        "transport", "connections", "messages/s", "p50 us", "p99 us", "p99.9 us"
    );
}

fn print_row(transport: &str, load: Load, measured: &Measured) {
    let rate = measured.latencies.len() as f64 / measured.seconds;
    let quantile = |q| measured.latencies.value_at_quantile(q) as f64 / 1000.0;
    println!(
        "{transport:<12} {:>11} {rate:>12.0} {:>10.1} {:>10.1} {:>10.1}",
        load.connections,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999)
    );
}
