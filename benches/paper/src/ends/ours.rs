//! demikernel, on the transport and with the configuration that it is told.

use super::{End, PATIENCE, Side, Times, announce};
use demikernel::buffer::Sga;
use demikernel::net::{TcpListener, TcpStream, UdpSocket};
use demikernel::storage::{self, Log};
use demikernel::time::timeout;
use demikernel::{Buffer, Builder};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// As in `wire`.
const HELLO: Duration = Duration::from_millis(100);

/// Bytes of a log's file, and how many records are kept.
const LOG_BYTES: u64 = 64 << 20;
const LOG_KEPT: u64 = 4096;

pub(super) fn run(end: &End) -> io::Result<()> {
    let runtime = Builder::new().transport(&end.transport).idle(end.idle).build()?;
    runtime.block_on(async {
        match (end.side, end.udp) {
            (Side::Client, false) => drive(end).await,
            (Side::Client, true) => drive_datagrams(end).await,
            (Side::Server, false) => serve(end).await,
            (Side::Server, true) => serve_datagrams(end).await,
            (Side::Generator, _) => generate(end).await,
            (Side::Relay, _) => Err(io::Error::new(ErrorKind::Unsupported, "ours is the example udp-relay")),
        }
    })
}

async fn serve(end: &End) -> io::Result<()> {
    let log = match &end.log {
        Some(path) => {
            let store = storage::open(path, LOG_BYTES).await?;
            Some(store.log("echo").await?)
        }
        None => None,
    };
    let listener = TcpListener::bind(end.address).await?;
    announce(listener.local_addr()?);
    for &size in end.sizes.iter().cycle() {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while let Some(message) = message(&stream, size).await? {
            if let Some(log) = &log {
                append(log, message.clone()).await?;
            }
            stream.push_sga(message).await?;
        }
    }
    Ok(())
}

/// Durably. The log keeps the last records only.
async fn append(log: &Log, message: Sga) -> io::Result<()> {
    let appended = log.push(message).await?;
    if appended.number.is_multiple_of(LOG_KEPT) {
        log.truncate(appended.number).await?;
    }
    Ok(())
}

/// A message, in the pieces in which it came; none at the end of the stream.
async fn message(stream: &TcpStream, size: usize) -> io::Result<Option<Sga>> {
    let mut message = Sga::new();
    while message.len() < size {
        let data = stream.pop().await?;
        if data.is_empty() {
            return Ok(None);
        }
        message.push(data);
    }
    Ok(Some(message))
}

fn data(size: usize) -> io::Result<Buffer> {
    Buffer::copy_from_slice(&vec![0x5a; size]).map_err(io::Error::other)
}

async fn drive(end: &End) -> io::Result<()> {
    for &size in &end.sizes {
        let stream = TcpStream::connect(end.address).await?;
        stream.set_nodelay(true)?;
        let data = data(size)?;
        let mut times = Times::start(size, end.time());
        loop {
            let start = Instant::now();
            stream.push(data.clone()).await?;
            if message(&stream, size).await?.is_none() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if !times.add(start) {
                break times.print();
            }
        }
    }
    Ok(())
}

async fn serve_datagrams(end: &End) -> io::Result<()> {
    let socket = UdpSocket::bind(end.address).await?;
    announce(socket.local_addr()?);
    loop {
        let (data, from) = socket.pop_from().await?;
        socket.push_to(data, from).await?;
    }
}

/// Sends until something comes, then waits until nothing more does.
async fn hello(send: &UdpSocket, receive: &UdpSocket, data: &Buffer, address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if Instant::now() > deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "no datagram comes back"));
        }
        send.push_to(data.clone(), address).await?;
        if timeout(HELLO, receive.pop_from()).await.is_ok() {
            break;
        }
    }
    while timeout(HELLO, receive.pop_from()).await.is_ok() {}
    Ok(())
}

async fn exchange(end: &End, send: &UdpSocket, receive: &UdpSocket) -> io::Result<()> {
    let data = data(end.sizes[0])?;
    hello(send, receive, &data, end.address).await?;
    let mut times = Times::start(data.len(), end.time());
    loop {
        let start = Instant::now();
        send.push_to(data.clone(), end.address).await?;
        receive.pop_from().await?;
        if !times.add(start) {
            times.print();
            return Ok(());
        }
    }
}

/// An address of the same machine as the other end's client: any.
fn any(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    }
}

async fn drive_datagrams(end: &End) -> io::Result<()> {
    let socket = UdpSocket::bind(any(end.address)).await?;
    exchange(end, &socket, &socket).await
}

async fn generate(end: &End) -> io::Result<()> {
    let back = end.back.ok_or(io::Error::new(ErrorKind::InvalidInput, "a generator takes --back"))?;
    let receive = UdpSocket::bind(back).await?;
    let send = UdpSocket::bind(any(end.address)).await?;
    exchange(end, &send, &receive).await
}
