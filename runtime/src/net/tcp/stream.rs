//! `TcpStream`.

use super::builder::TcpSocket;
use crate::executor::default_network;
use crate::net::ToSocketAddrs;
use crate::net::connection::Connection;
use crate::net::lookup::try_each;
use crate::net::options::option_methods;
use crate::net::stream::byte_stream;
use crate::transport::{Network, Qd};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// A TCP connection.
///
/// Buffers are [received](Self::pop) and [sent](Self::push) without a copy. Bytes are read and written
/// through [`AsyncRead`](futures_io::AsyncRead), [`AsyncBufRead`](futures_io::AsyncBufRead) and
/// [`AsyncWrite`](futures_io::AsyncWrite), by the stream or by a reference to it. Both may be mixed. Each
/// direction has one reader or writer that waits at a time; [`split_mut`](Self::split_mut) and
/// [`into_split`](Self::into_split) give the directions to different hands.
///
/// Dropping it sends what was written, and closes. On other transports than the kernel's it is what comes
/// closest: on RDMA, a reliable connection.
///
/// ```
/// use demikernel_runtime::net::{TcpListener, TcpStream};
/// use futures_util::{AsyncReadExt, AsyncWriteExt};
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// let listener = TcpListener::bind("localhost:0").await?;
/// let address = listener.local_addr()?;
/// demikernel_runtime::spawn(async move {
///     let (stream, _peer) = listener.accept().await?;
///     loop {
///         let buffer = stream.pop().await?;
///         if buffer.is_empty() {
///             return std::io::Result::Ok(());
///         }
///         stream.push(buffer).await?; // the same memory goes back
///     }
/// })
/// .detach();
///
/// let mut stream = TcpStream::connect(address).await?;
/// stream.write_all(b"hello").await?;
/// let mut reply = [0; 5];
/// stream.read_exact(&mut reply).await?;
/// assert_eq!(&reply, b"hello");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct TcpStream {
    pub(in crate::net) connection: Connection,
}

byte_stream!(TcpStream);

impl TcpStream {
    /// Connects on the runtime's default transport. If the name has several addresses, they are tried in
    /// their order.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// Those of the last address that was tried, as connect(2): `ConnectionRefused`, `TimedOut`,
    /// `NetworkUnreachable`. Those of [`lookup_host`](crate::net::lookup_host). `Unsupported` if the runtime
    /// has no transport for sockets.
    pub async fn connect<A: ToSocketAddrs>(peer: A) -> io::Result<TcpStream> {
        TcpStream::connect_on(&default_network()?, peer).await
    }

    /// Connects on the transport given; else as [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_on<A: ToSocketAddrs>(network: &Rc<dyn Network>, peer: A) -> io::Result<TcpStream> {
        try_each(peer, async |address: SocketAddr| TcpSocket::on(network, address)?.connect(address).await)
            .await
    }

    /// The transport that the stream is on. One that can do more than sockets is found by what it really is (as an
    /// `Rc<dyn Any>`), and knows the stream by its [number](Self::qd).
    pub fn network(&self) -> &Rc<dyn Network> {
        self.socket().network()
    }

    /// The stream's number on its transport, which is another's when the stream is closed.
    pub fn qd(&self) -> Qd {
        self.socket().qd()
    }

    /// The address of this side.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local()?.inet()
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// As getpeername(2): `NotConnected` when the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer()?.inet()
    }

    option_methods!(nodelay, ttl, linger, keepalive, buffer_sizes);
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpStream").field(self.socket()).finish()
    }
}
