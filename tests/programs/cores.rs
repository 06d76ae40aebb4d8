//! Both ends of connections between programs on several cores, for tests that ask which core has what.
//!
//! ```text
//! cores serve ADDRESS CORES [only CORE]
//! cores connect ADDRESS CORES CONNECTIONS
//! ```
//!
//! The server answers what it gets with the same, by TCP and UDP; `core` with the number of its core, and `counters` with
//! what that core's devices have counted, a line each, the last of which is empty. With `only`, one core listens.
//! The client opens connections on each core and keeps them; each asks for the core, then sends and gets back more than
//! goes into a segment. A core's last line says with which cores of the server it had to do.

use demikernel::net::{TcpListener, TcpStream, UdpSocket};
use demikernel::{Buffer, Builder, core_index, device_counters, spawn};
use futures::future::{Either, join_all, select};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than a segment, and than a frame.
const LONG: usize = 5000;

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_writer(io::stderr);
    log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let address = |word: &str| word.parse::<SocketAddr>().expect("an address and a port");
    match words[..] {
        ["serve", at, cores, ref only @ ..] => {
            let (at, cores, only) = (address(at), number(cores), only.get(1).map(|core| number(core)));
            Builder::new().cores(cores).run(move || serve(at, cores, only))
        }
        ["connect", to, cores, count] => {
            let (to, count) = (address(to), number(count));
            Builder::new().cores(number(cores)).run(move || connect(to, count))
        }
        _ => panic!("serve ADDRESS CORES [only CORE], or connect ADDRESS CORES CONNECTIONS"),
    }
}

/// Cores that listen.
static READY: AtomicUsize = AtomicUsize::new(0);

async fn serve(at: SocketAddr, cores: usize, only: Option<usize>) -> io::Result<()> {
    let end = demikernel::signal::shutdown()?;
    if only.is_some_and(|only| only != core_index()) {
        end.await;
        return Ok(());
    }
    let (listener, socket) = (TcpListener::bind(at).await?, UdpSocket::bind(at).await?);
    if only.is_some() || READY.fetch_add(1, Ordering::SeqCst) + 1 == cores {
        println!("listens on {at}");
    }
    let streams = pin!(answer_streams(listener));
    let datagrams = pin!(answer_datagrams(socket));
    let serving = pin!(async { select(streams, datagrams).await.factor_first().0 });
    match select(serving, end).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Ok(()),
    }
}

async fn answer_streams(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(answer(stream)).detach();
    }
}

async fn answer_datagrams(socket: UdpSocket) -> io::Result<()> {
    loop {
        let (data, peer) = socket.pop_from().await?;
        socket.push_to(reply(data), peer).await?;
    }
}

fn reply(data: Buffer) -> Buffer {
    match &data[..] {
        b"core" => Buffer::from(core_index().to_string().into_bytes()),
        b"counters" => {
            let mut text = String::new();
            for (name, value) in device_counters().into_iter().flat_map(|(_, counters)| counters) {
                let _ = writeln!(text, "{name}: {value}");
            }
            Buffer::from((text + "\n").into_bytes())
        }
        _ => data,
    }
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    loop {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(());
        }
        stream.push(reply(data)).await?;
    }
}

async fn connect(to: SocketAddr, count: usize) -> io::Result<()> {
    let results = join_all((0..count).map(|_| spawn(exchange(to)))).await;
    let (mut cores, mut streams) = (BTreeMap::<String, usize>::new(), Vec::new());
    for result in results {
        let (core, stream) = result.map_err(|error| io::Error::other(error.to_string()))??;
        *cores.entry(core).or_default() += 1;
        streams.push(stream);
    }
    let counters = device_counters().into_iter().flat_map(|(_, counters)| counters);
    let of_cores: Vec<_> = counters.filter(|(name, _)| name.contains("cores")).collect();
    println!("core {}: {cores:?} {of_cores:?}", core_index());
    Ok(())
}

async fn exchange(to: SocketAddr) -> io::Result<(String, TcpStream)> {
    let stream = TcpStream::connect(to).await?;
    stream.push(Buffer::from_static(b"core")).await?;
    let core = stream.pop().await?;
    let sent: Vec<u8> = (0..LONG).map(|index| index as u8).collect();
    stream.push(Buffer::from(sent.clone())).await?;
    let mut received = Vec::new();
    while received.len() < LONG {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&data);
    }
    if received != sent {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what came back is not what was sent"));
    }
    Ok((String::from_utf8_lossy(&core).into_owned(), stream))
}
