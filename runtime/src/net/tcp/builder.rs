//! `TcpSocket`: options before there is a connection.

use super::listener::TcpListener;
use super::stream::TcpStream;
use crate::executor::default_network;
use crate::net::options::option_methods;
use crate::net::socket::Socket;
use crate::transport::{Domain, Endpoint, Network, SocketKind};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// A TCP socket that is neither connected nor listening yet, to set what must be set before.
///
/// ```
/// use demikernel_runtime::net::TcpSocket;
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// let socket = TcpSocket::new_v6()?;
/// socket.set_only_v6(true)?;
/// socket.set_recv_buffer_size(1 << 20)?;
/// socket.bind("[::1]:0".parse().unwrap())?;
/// let listener = socket.listen(64)?;
/// # assert!(listener.local_addr()?.is_ipv6());
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    socket: Socket,
}

impl TcpSocket {
    /// An IPv4 socket on the runtime's default transport.
    ///
    /// # Errors
    /// As socket(2); `Unsupported` if the runtime has no transport for sockets.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new_v4_on(&default_network()?)
    }

    /// An IPv6 socket on the runtime's default transport.
    ///
    /// # Errors
    /// As socket(2); `Unsupported` if the runtime has no transport for sockets.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new_v6_on(&default_network()?)
    }

    /// An IPv4 socket on the transport given.
    ///
    /// # Errors
    /// As socket(2).
    pub fn new_v4_on(network: &Rc<dyn Network>) -> io::Result<TcpSocket> {
        Ok(TcpSocket { socket: Socket::new(network, Domain::V4, SocketKind::Stream)? })
    }

    /// An IPv6 socket on the transport given.
    ///
    /// # Errors
    /// As socket(2).
    pub fn new_v6_on(network: &Rc<dyn Network>) -> io::Result<TcpSocket> {
        Ok(TcpSocket { socket: Socket::new(network, Domain::V6, SocketKind::Stream)? })
    }

    /// A socket of the family of the address.
    pub(super) fn on(network: &Rc<dyn Network>, address: SocketAddr) -> io::Result<TcpSocket> {
        if address.is_ipv4() { TcpSocket::new_v4_on(network) } else { TcpSocket::new_v6_on(network) }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Gives the socket its address.
    ///
    /// # Errors
    /// As bind(2): `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
    pub fn bind(&self, local: SocketAddr) -> io::Result<()> {
        self.socket.bind(&Endpoint::Inet(local))
    }

    /// The address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local()?.inet()
    }

    /// Connects.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up, and the socket.
    ///
    /// # Errors
    /// As connect(2): `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`.
    pub async fn connect(self, peer: SocketAddr) -> io::Result<TcpStream> {
        self.socket.connect(&Endpoint::Inet(peer)).await?;
        Ok(TcpStream::from_socket(self.socket))
    }

    /// Listens, with at most `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.socket.listen(backlog)?;
        Ok(TcpListener::from_socket(self.socket))
    }

    option_methods!(nodelay, ttl, linger, keepalive, buffer_sizes, reuse_address, reuse_port, only_v6);
}
