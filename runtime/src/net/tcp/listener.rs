//! `TcpListener`.

use super::BACKLOG;
use super::builder::TcpSocket;
use super::stream::TcpStream;
use crate::executor::default_network;
use crate::net::ToSocketAddrs;
use crate::net::accepting::Accepting;
use crate::net::lookup::try_each;
use crate::net::options::option_methods;
use crate::net::socket::Socket;
use crate::transport::Network;
use futures_core::{FusedFuture, FusedStream, Stream};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A socket that accepts TCP connections.
///
/// ```
/// use demikernel_runtime::net::{TcpListener, TcpStream};
/// use demikernel_runtime::spawn;
/// use futures_util::{StreamExt, TryStreamExt};
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let client = TcpStream::connect(listener.local_addr()?).await?;
/// let mut connections = listener.incoming();
/// while let Some(stream) = connections.try_next().await? {
///     spawn(async move { stream.push(b"hello and goodbye\n".to_vec().into()).await }).detach();
/// #   break;
/// }
/// # assert_eq!(client.pop().await?, b"hello and goodbye\n");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct TcpListener {
    socket: Socket,
}

impl TcpListener {
    /// Listens on the runtime's default transport. Port 0 has the system choose one.
    ///
    /// SO_REUSEADDR is set, so that a server which is started anew gets its address. If the program runs on
    /// several cores, so is SO_REUSEPORT: each core listens on its own, and connections are spread over
    /// them (with port 0, each core has another port). [`TcpSocket`] gives a choice.
    ///
    /// # Errors
    /// As bind(2), those of the last address that was tried: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied`. Those of [`lookup_host`](crate::net::lookup_host). `Unsupported` if the runtime
    /// has no transport for sockets.
    pub async fn bind<A: ToSocketAddrs>(local: A) -> io::Result<TcpListener> {
        TcpListener::bind_on(&default_network()?, local).await
    }

    /// Listens on the transport given; else as [`bind`](Self::bind).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_on<A: ToSocketAddrs>(network: &Rc<dyn Network>, local: A) -> io::Result<TcpListener> {
        try_each(local, async |address: SocketAddr| {
            let socket = TcpSocket::on(network, address)?;
            socket.set_reuse_address(true)?;
            socket.socket().share_port_among_cores()?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        })
        .await
    }

    pub(super) fn from_socket(socket: Socket) -> TcpListener {
        TcpListener { socket }
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Accepts a connection, and says where it came from. It starts with this call, not with the first
    /// poll.
    ///
    /// # Cancel safety
    /// Dropping the future loses no connection: it goes to the next accept.
    ///
    /// # Errors
    /// As accept(2). After those of the process and the system (too many files, no memory) the listener
    /// goes on as before; a server logs them, waits a little and accepts again.
    #[inline]
    pub fn accept(&self) -> Accept<'_> {
        Accept { accepting: Accepting::new(&self.socket) }
    }

    /// The connections as a stream, which never ends. Its items are the results of
    /// [`accept`](Self::accept), without addresses.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self, accept: None }
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local()?.inet()
    }

    option_methods!(ttl, only_v6);
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpListener").field(self.socket()).finish()
    }
}

/// The future of [`TcpListener::accept`].
#[derive(Debug)]
#[must_use = "dropping it gives up the accept"]
pub struct Accept<'a> {
    accepting: Accepting<'a>,
}

impl Future for Accept<'_> {
    type Output = io::Result<(TcpStream, SocketAddr)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (socket, peer) = ready!(Pin::new(&mut self.accepting).poll(cx))?;
        Poll::Ready(peer.inet().map(|peer| (TcpStream::from_socket(socket), peer)))
    }
}

impl FusedFuture for Accept<'_> {
    fn is_terminated(&self) -> bool {
        self.accepting.is_terminated()
    }
}

/// The stream of [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    accept: Option<Accept<'a>>,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let accept = this.accept.get_or_insert_with(|| this.listener.accept());
        let result = ready!(Pin::new(accept).poll(cx));
        this.accept = None;
        Poll::Ready(Some(result.map(|(stream, _)| stream)))
    }
}

impl FusedStream for Incoming<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}
