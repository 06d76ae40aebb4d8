//! `UdpSocket`.

use super::lookup::{ToSocketAddrs, try_each};
use super::options::option_methods;
use super::socket::Socket;
use crate::buffer::{Buffer, BufferMut, Sga};
use crate::executor::{QToken, default_network};
use crate::transport::{Domain, Endpoint, Network, SocketKind};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// No datagram is longer.
const LONGEST: usize = 64 << 10;

/// A UDP socket.
///
/// Datagrams are received and sent as buffers, without a copy ([`pop_from`](Self::pop_from),
/// [`push_to`](Self::push_to), and once it is [connected](Self::connect), [`pop`](Self::pop) and
/// [`push`](Self::push)), or as slices, which are copied.
///
/// ```
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::net::UdpSocket;
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.connect(server.local_addr()?).await?;
///
/// client.push(Buffer::from_static(b"ping")).await?;
/// let (datagram, from) = server.pop_from().await?;
/// server.push_to(datagram, from).await?; // the same memory goes back
/// assert_eq!(client.pop().await?, b"ping");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// A socket with an address, on the runtime's default transport. Port 0 has the system choose one.
    ///
    /// If the program runs on several cores, SO_REUSEPORT is set, and each peer's datagrams go to one of
    /// the sockets.
    ///
    /// ```
    /// # let runtime = demikernel_runtime::Runtime::new()?;
    /// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
    /// # runtime.block_on(async {
    /// use demikernel_runtime::net::UdpSocket;
    /// let socket = UdpSocket::bind("[::1]:0").await?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// # })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// As bind(2), those of the last address that was tried: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied`. Those of [`lookup_host`](super::lookup_host). `Unsupported` if the runtime has no
    /// transport for sockets.
    pub async fn bind<A: ToSocketAddrs>(local: A) -> io::Result<UdpSocket> {
        UdpSocket::bind_on(&default_network()?, local).await
    }

    /// A socket with an address, on the transport given; else as [`bind`](Self::bind).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_on<A: ToSocketAddrs>(network: &Rc<dyn Network>, local: A) -> io::Result<UdpSocket> {
        try_each(local, async |address: SocketAddr| {
            let socket = UdpSocket::unbound(network, address.is_ipv4())?;
            socket.socket.share_port_among_cores()?;
            socket.bind_to(address)?;
            Ok(socket)
        })
        .await
    }

    /// An IPv4 socket without an address on the runtime's default transport, for options that must be set
    /// before [`bind_to`](Self::bind_to).
    ///
    /// # Errors
    /// As socket(2); `Unsupported` if the runtime has no transport for sockets.
    pub fn new_v4() -> io::Result<UdpSocket> {
        UdpSocket::unbound(&default_network()?, true)
    }

    /// An IPv6 socket without an address on the runtime's default transport, for options that must be set
    /// before [`bind_to`](Self::bind_to).
    ///
    /// # Errors
    /// As socket(2); `Unsupported` if the runtime has no transport for sockets.
    pub fn new_v6() -> io::Result<UdpSocket> {
        UdpSocket::unbound(&default_network()?, false)
    }

    fn unbound(network: &Rc<dyn Network>, v4: bool) -> io::Result<UdpSocket> {
        let domain = if v4 { Domain::V4 } else { Domain::V6 };
        Ok(UdpSocket { socket: Socket::new(network, domain, SocketKind::Datagram)? })
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Gives a socket its address that was made without.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind_to(&self, local: SocketAddr) -> io::Result<()> {
        self.socket.bind(&Endpoint::Inet(local))
    }

    /// Sets the peer of [`pop`](Self::pop), [`push`](Self::push), [`recv`](Self::recv) and
    /// [`send`](Self::send); datagrams of others are no longer received. If the name has several addresses,
    /// the first that works is taken.
    ///
    /// # Errors
    /// As connect(2), and those of [`lookup_host`](super::lookup_host).
    pub async fn connect<A: ToSocketAddrs>(&self, peer: A) -> io::Result<()> {
        try_each(peer, async |address: SocketAddr| self.socket.connect(&Endpoint::Inet(address)).await).await
    }

    /// Receives a datagram, and says where it came from.
    ///
    /// # Cancel safety
    /// Dropping the token loses nothing: what arrives for it, or has arrived, goes to the next one.
    ///
    /// # Errors
    /// As recvfrom(2).
    #[inline]
    pub fn pop_from(&self) -> QToken<io::Result<(Buffer, SocketAddr)>> {
        self.socket.pop_from(LONGEST)
    }

    /// Sends a datagram. The token is done when the system has taken it.
    ///
    /// # Cancel safety
    /// A token that is dropped while it waits may take the datagram back.
    ///
    /// # Errors
    /// As sendto(2).
    #[inline]
    pub fn push_to(&self, datagram: Buffer, peer: SocketAddr) -> QToken<io::Result<()>> {
        self.socket.push_to(datagram.into(), peer)
    }

    /// Sends a list of buffers as one datagram; else as [`push_to`](Self::push_to).
    ///
    /// # Errors
    /// As sendmsg(2).
    #[inline]
    pub fn push_sga_to(&self, datagram: Sga, peer: SocketAddr) -> QToken<io::Result<()>> {
        self.socket.push_to(datagram, peer)
    }

    /// Receives a datagram of the peer that the socket is connected to; else as
    /// [`pop_from`](Self::pop_from). An empty buffer is an empty datagram.
    ///
    /// # Errors
    /// As recv(2): `ConnectionRefused` if the peer has told that nobody is there.
    #[inline]
    pub fn pop(&self) -> QToken<io::Result<Buffer>> {
        self.socket.pop(LONGEST)
    }

    /// Sends a datagram to the peer that the socket is connected to; else as [`push_to`](Self::push_to).
    ///
    /// # Errors
    /// As send(2): `ConnectionRefused` if the peer has told that nobody is there.
    #[inline]
    pub fn push(&self, datagram: Buffer) -> QToken<io::Result<()>> {
        self.socket.push(datagram.into())
    }

    /// Sends a list of buffers as one datagram; else as [`push`](Self::push).
    ///
    /// # Errors
    /// As sendmsg(2).
    #[inline]
    pub fn push_sga(&self, datagram: Sga) -> QToken<io::Result<()>> {
        self.socket.push(datagram)
    }

    /// Receives a datagram into `room`, and says how long it is and where it came from. What does not fit
    /// is lost.
    ///
    /// ```
    /// # let runtime = demikernel_runtime::Runtime::new()?;
    /// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
    /// # runtime.block_on(async {
    /// use demikernel_runtime::net::UdpSocket;
    /// let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// one.send_to(b"hi", other.local_addr()?).await?;
    /// let mut data = [0; 16];
    /// assert_eq!(other.recv_from(&mut data).await?, (2, one.local_addr()?));
    /// # std::io::Result::Ok(())
    /// # })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As recvfrom(2).
    pub async fn recv_from(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (datagram, from) = self.pop_from().await?;
        Ok((copy(&datagram, room), from))
    }

    /// Receives a datagram of the peer that the socket is connected to; else as
    /// [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As recv(2).
    pub async fn recv(&self, room: &mut [u8]) -> io::Result<usize> {
        let datagram = self.pop().await?;
        Ok(copy(&datagram, room))
    }

    /// Sends a copy of `datagram`, once the pool has memory for it. If the name has several addresses, the
    /// first is taken.
    ///
    /// # Errors
    /// As sendto(2), and those of [`lookup_host`](super::lookup_host).
    pub async fn send_to<A: ToSocketAddrs>(&self, datagram: &[u8], peer: A) -> io::Result<usize> {
        let copy = copied(datagram).await?;
        try_each(peer, async |address: SocketAddr| self.push_to(copy.clone(), address).await).await?;
        Ok(datagram.len())
    }

    /// Sends a copy of `datagram` to the peer that the socket is connected to, once the pool has memory for
    /// it.
    ///
    /// # Errors
    /// As send(2).
    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.push(copied(datagram).await?).await?;
        Ok(datagram.len())
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local()?.inet()
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    /// As getpeername(2): `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer()?.inet()
    }

    option_methods!(broadcast, ttl, buffer_sizes, reuse_address, reuse_port, only_v6);
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UdpSocket").field(&self.socket).finish()
    }
}

/// Copies as much as there is room for.
fn copy(datagram: &[u8], room: &mut [u8]) -> usize {
    let count = datagram.len().min(room.len());
    room[..count].copy_from_slice(&datagram[..count]);
    count
}

async fn copied(datagram: &[u8]) -> io::Result<Buffer> {
    let mut copy = BufferMut::allocate(datagram.len()).await?;
    copy.extend_from_slice(datagram);
    Ok(copy.freeze())
}
