//! Peers in threads, with sockets of the standard library.

use demikernel_runtime::net::{TcpListener, TcpStream};
use std::io::{self, Read, Write};
use std::net;
use std::thread::{self, JoinHandle};

/// A peer in a thread, which gets the other end of a connection.
pub(crate) struct Peer<T>(JoinHandle<T>);

impl<T: Send + 'static> Peer<T> {
    /// Waits for the thread without keeping the runtime from its work.
    pub(crate) async fn join(self) -> T {
        let joined = blocking::unblock(move || self.0.join()).await;
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs a client of the standard library in a thread; gives the accepted connection.
pub(crate) async fn client<T: Send + 'static>(
    run: impl FnOnce(net::TcpStream) -> T + Send + 'static,
) -> io::Result<(TcpStream, Peer<T>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let thread = thread::spawn(move || run(net::TcpStream::connect(address).unwrap()));
    let (stream, _) = listener.accept().await?;
    Ok((stream, Peer(thread)))
}

/// Runs a server of the standard library for one connection in a thread; gives the connection to it.
pub(crate) async fn server<T: Send + 'static>(
    run: impl FnOnce(net::TcpStream) -> T + Send + 'static,
) -> io::Result<(TcpStream, Peer<T>)> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let thread = thread::spawn(move || run(listener.accept().unwrap().0));
    Ok((TcpStream::connect(address).await?, Peer(thread)))
}

/// Two ends of a connection, both of the runtime.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let accept = listener.accept();
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, accept.await?.0))
}

/// All that the peer reads up to the end.
pub(crate) fn read_all(mut peer: net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    all
}

/// Echoes up to the end.
pub(crate) fn echo(mut peer: net::TcpStream) {
    let mut room = vec![0; 64 << 10];
    loop {
        match peer.read(&mut room).unwrap() {
            0 => break,
            count => peer.write_all(&room[..count]).unwrap(),
        }
    }
}
