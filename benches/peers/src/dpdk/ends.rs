//! The processes at the ends of a cable.

use crate::machine;
use demikernel::net::{TcpListener, TcpStream, UdpSocket};
use demikernel::time::Instant;
use demikernel::{Buffer, Builder, Idle, spawn};
use demikernel_dpdk::{Eal, EalConfig, Port, PortConfig, Queue};
use demikernel_runtime::buffer::pool;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) const SIZE: usize = 64;
const WARM_UP: usize = 20_000;
const ROUND_TRIPS: usize = 200_000;
const MESSAGE: usize = 256 << 10;
const CONNECTIONS: usize = 1000;
/// How long throughput is measured, after as much again to warm up.
const TIME: Duration = Duration::from_secs(2);

/// Shared memory with a port at either end.
#[derive(clap::Args, Clone, Debug)]
pub struct Cable {
    /// The abstract Unix socket at which the ends meet
    #[arg(long)]
    socket: String,
    /// The MTU
    #[arg(long)]
    mtu: u16,
}

impl Cable {
    /// One of its own for each use.
    pub fn new(kind: &str, round: usize, mtu: u16) -> Cable {
        Cable { socket: format!("demikernel-bench-{}-{kind}-{round}-{mtu}", std::process::id()), mtu }
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        vec!["--socket".to_owned(), self.socket.clone(), "--mtu".to_owned(), self.mtu.to_string()]
    }

    /// At this socket.
    pub(super) fn at(socket: &str, mtu: u16) -> Cable {
        Cable { socket: socket.to_owned(), mtu }
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    fn port(&self, end: usize) -> String {
        let role = ["server", "client"][end];
        // Room for a packet in one buffer of the device.
        let size = if self.mtu > 1600 { 16384 } else { 2048 };
        format!("net_memif{end},role={role},id=0,bsize={size},socket={}", self.socket)
    }

    /// The file for the stack at an end, 0 or 1.
    pub fn configuration(&self, end: usize) -> String {
        format!(
            "[network]\naddresses = [\"10.66.0.{}/24\"]\nmtu = {}\nduplicate-detection = \"off\"\n\
             [dpdk]\nport = \"{}\"\n[tcp]\nno-delay = true\n",
            end + 1,
            self.mtu,
            self.port(end)
        )
    }

    fn run<F: Future<Output = io::Result<()>>>(&self, end: usize, main: F) -> io::Result<()> {
        let builder = Builder::new().transport("dpdk").idle(Idle::Spin);
        builder.configuration(&self.configuration(end)).build()?.block_on(main)
    }

    pub(super) fn queue(&self, end: usize) -> io::Result<Queue> {
        let eal = Eal::start(&EalConfig::default())?;
        pool::set_source(eal.memory());
        let mut config = PortConfig::new(self.port(end));
        config.mtu = Some(self.mtu);
        let mut queue = Port::open(eal, &config)?;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // A server's start is over when it is open, as the client comes later.
        while end == 1 && !queue.port().link().up {
            if std::time::Instant::now() > deadline {
                return Err(io::Error::other("the link does not come up"));
            }
            queue.receive(drop);
        }
        Ok(queue)
    }
}

/// What is at the ends.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Kind {
    /// Frames, one at a time
    Raw,
    /// Datagrams, one at a time
    Udp,
    /// Messages over TCP, one at a time
    Tcp,
    /// Frames as fast as they go
    Flood,
    /// TCP as fast as it goes
    Stream,
    /// Both ends in one thread
    Solo,
    /// Requests to a key-value server
    Kv,
}

/// A child's command line.
#[derive(clap::Args)]
pub struct Child {
    kind: Kind,
    #[arg(long)]
    server: bool,
    #[command(flatten)]
    cable: Cable,
    #[arg(long, default_value = "dpdk")]
    transport: String,
    #[arg(long, default_value = "10.66.0.1:7000")]
    address: SocketAddr,
    /// Bytes of a bare frame
    #[arg(long, default_value_t = SIZE as u16)]
    size: u16,
    /// Of both ends in one thread, nothing but this: for a profile
    #[arg(long)]
    only: Option<super::solo::Item>,
}

/// Serves until it is killed, or drives a server and prints figures.
///
/// # Errors
/// Those of DPDK and of sockets.
pub fn run(child: &Child) -> io::Result<()> {
    machine::pin(if child.server { machine::SERVER_CORE } else { machine::CLIENT_CORE });
    let (cable, server, address) = (&child.cable, child.server, child.address);
    let end = usize::from(!server);
    match child.kind {
        Kind::Raw | Kind::Flood => raw(child, cable.queue(end)?),
        Kind::Solo => super::solo::run(cable, child.only),
        Kind::Udp if server => cable.run(end, serve_udp(address)),
        Kind::Udp => cable.run(end, drive_udp(address)),
        Kind::Tcp if server => cable.run(end, serve_tcp(address, true)),
        Kind::Tcp => cable.run(end, drive_tcp(address)),
        Kind::Stream if server => cable.run(end, serve_tcp(address, false)),
        Kind::Stream => cable.run(end, stream(address)),
        Kind::Kv => {
            let builder = Builder::new().transport(&child.transport).idle(Idle::Spin);
            builder.configuration(&cable.configuration(1)).build()?.block_on(requests(address))
        }
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn raw(child: &Child, mut queue: Queue) -> io::Result<()> {
    match (child.kind, child.server) {
        (Kind::Raw, true) => {
            println!("ready");
            queue.raw_echo(&NEVER);
        }
        (Kind::Raw, false) => {
            queue.raw_ping(child.size, WARM_UP);
            let mut times = queue.raw_ping(child.size, ROUND_TRIPS);
            print_quantiles(&mut times);
        }
        (_, true) => {
            println!("ready");
            queue.raw_flood(child.cable.mtu + 14, &NEVER);
        }
        (_, false) => {
            sink_for(&mut queue, TIME);
            let start = Instant::now();
            let bytes = sink_for(&mut queue, TIME);
            println!("{}", gigabits(bytes, start));
        }
    }
    Ok(())
}

fn sink_for(queue: &mut Queue, time: Duration) -> u64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::pin(machine::CLIENT_CORE);
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
        });
        queue.raw_sink(&stop)
    })
}

fn gigabits(bytes: u64, start: Instant) -> f64 {
    bytes as f64 * 8.0 / start.elapsed().as_nanos() as f64
}

fn print_quantiles(times: &mut [u32]) {
    times.sort_unstable();
    let quantile = |q: f64| times.get((times.len() as f64 * q) as usize).copied().unwrap_or(u32::MAX);
    println!("{} {}", quantile(0.5), quantile(0.99));
}

async fn serve_udp(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    println!("ready");
    echo_datagrams(socket).await
}

pub(super) async fn echo_datagrams(socket: UdpSocket) -> io::Result<()> {
    loop {
        let (data, from) = socket.pop_from().await?;
        socket.push_to(data, from).await?;
    }
}

async fn drive_udp(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind("10.66.0.2:0".parse::<SocketAddr>().expect("an address")).await?;
    let message = Buffer::from(vec![0x5a; SIZE]);
    let message = Buffer::copy_from_slice(&message).map_err(io::Error::other)?;
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..WARM_UP + ROUND_TRIPS {
        let start = Instant::now();
        socket.push_to(message.clone(), address).await?;
        let (data, _) = socket.pop_from().await?;
        assert_eq!(data.len(), SIZE);
        if number >= WARM_UP {
            times.push(start.elapsed().as_nanos() as u32);
        }
    }
    print_quantiles(&mut times);
    Ok(())
}

async fn serve_tcp(address: SocketAddr, echo: bool) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move { if echo { echo_all(stream).await } else { send_all(stream).await } }).detach();
    }
}

pub(super) async fn echo_all(stream: TcpStream) -> io::Result<()> {
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(data).await?;
    }
}

pub(super) async fn send_all(stream: TcpStream) -> io::Result<()> {
    let message = Buffer::copy_from_slice(&vec![0x5a; MESSAGE]).map_err(io::Error::other)?;
    loop {
        stream.push(message.clone()).await?;
    }
}

pub(super) async fn round_trip(stream: &TcpStream, message: &Buffer) -> io::Result<()> {
    stream.push(message.clone()).await?;
    let mut missing = SIZE;
    while missing > 0 {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        missing = missing.saturating_sub(data.len());
    }
    Ok(())
}

async fn drive_tcp(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let message = Buffer::copy_from_slice(&[0x5a; SIZE]).map_err(io::Error::other)?;
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..WARM_UP + ROUND_TRIPS {
        let start = Instant::now();
        round_trip(&stream, &message).await?;
        if number >= WARM_UP {
            times.push(start.elapsed().as_nanos() as u32);
        }
    }
    print_quantiles(&mut times);
    Ok(())
}

async fn stream(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    for measured in [false, true] {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            for _ in 0..64 {
                bytes += stream.pop().await?.len() as u64;
            }
        }
        if measured {
            println!("{}", gigabits(bytes, start));
        }
    }
    Ok(())
}

/// SET and GET in turn on each of many connections, one request under way on each.
async fn requests(address: SocketAddr) -> io::Result<()> {
    let begin = Instant::now() + TIME;
    let end = begin + TIME;
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        clients.push(spawn(ask(stream, number, begin, end)));
    }
    let mut count = 0;
    for client in clients {
        count += client.await??;
    }
    println!("{}", count as f64 / TIME.as_secs_f64());
    Ok(())
}

async fn ask(stream: TcpStream, number: usize, begin: Instant, end: Instant) -> io::Result<u64> {
    let key = format!("key-{number:06}");
    let value = "v".repeat(64);
    let set = format!("*3\r\n$3\r\nSET\r\n$10\r\n{key}\r\n$64\r\n{value}\r\n");
    let get = format!("*2\r\n$3\r\nGET\r\n$10\r\n{key}\r\n");
    let requests = [(set, "+OK\r\n".len()), (get, "$64\r\n\r\n".len() + 64)];
    let mut buffers = Vec::new();
    for (request, reply) in requests {
        buffers.push((Buffer::copy_from_slice(request.as_bytes()).map_err(io::Error::other)?, reply));
    }
    let mut count = 0;
    loop {
        for (request, reply) in &buffers {
            stream.push(request.clone()).await?;
            let mut missing = *reply;
            while missing > 0 {
                let data = stream.pop().await?;
                if data.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                missing = missing.saturating_sub(data.len());
            }
            let now = Instant::now();
            if now >= end {
                return Ok(count);
            }
            count += u64::from(now >= begin);
        }
    }
}
