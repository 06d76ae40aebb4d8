//! tokio's current-thread runtime, as its documentation has it.

use super::{End, Side, Times, announce};
use std::io;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

pub(super) fn run(end: &End) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match (end.side, end.udp) {
            (Side::Client, false) => drive(end).await,
            (Side::Client, true) => drive_datagrams(end).await,
            (Side::Server, false) => serve(end).await,
            (Side::Server, true) => serve_datagrams(end).await,
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    })
}

async fn serve(end: &End) -> io::Result<()> {
    let listener = TcpListener::bind(end.address).await?;
    announce(listener.local_addr()?);
    for &size in end.sizes.iter().cycle() {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut message = vec![0; size];
        while stream.read_exact(&mut message).await.is_ok() {
            stream.write_all(&message).await?;
        }
    }
    Ok(())
}

async fn drive(end: &End) -> io::Result<()> {
    for &size in &end.sizes {
        let mut stream = TcpStream::connect(end.address).await?;
        stream.set_nodelay(true)?;
        let mut message = vec![0x5a; size];
        let mut times = Times::start(size, end.time());
        loop {
            let start = Instant::now();
            stream.write_all(&message).await?;
            stream.read_exact(&mut message).await?;
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
    let mut message = vec![0; end.sizes[0]];
    loop {
        let (count, from) = socket.recv_from(&mut message).await?;
        socket.send_to(&message[..count], from).await?;
    }
}

/// On the loopback alone, where no neighbour is looked for.
async fn drive_datagrams(end: &End) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(end.address).await?;
    let mut message = vec![0x5a; end.sizes[0]];
    let mut times = Times::start(message.len(), end.time());
    loop {
        let start = Instant::now();
        socket.send(&message).await?;
        socket.recv(&mut message).await?;
        if !times.add(start) {
            times.print();
            return Ok(());
        }
    }
}
