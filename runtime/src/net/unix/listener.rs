//! `UnixListener`.

use super::stream::UnixStream;
use super::{BACKLOG, to_std};
use crate::executor::default_network_for;
use crate::net::accepting::Accepting;
use crate::net::socket::Socket;
use crate::transport::{Domain, Endpoint, Network, SocketKind};
use futures_core::{FusedFuture, FusedStream, Stream};
use std::fmt;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A socket that accepts connections from processes of this machine.
///
/// As in the standard library, its file is neither replaced when it exists already nor removed in the end.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::net::{UnixListener, UnixStream};
/// let name = format!("\0demikernel-example-{}", std::process::id()); // abstract: no file
/// let listener = UnixListener::bind(&name)?;
/// let client = UnixStream::connect(&name).await?;
/// let (server, _) = listener.accept().await?;
/// client.push("hello".into()).await?;
/// assert_eq!(server.pop().await?, b"hello");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixListener {
    socket: Socket,
}

impl UnixListener {
    /// Listens on the runtime's default transport. A path that begins with a NUL byte is a name in the
    /// abstract namespace.
    ///
    /// # Errors
    /// As bind(2): `AddrInUse` if the file exists, `PermissionDenied`, `NotFound`. `Unsupported` if the
    /// transport has no Unix sockets, or the runtime no transport for sockets.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_on(&default_network_for(Domain::Unix)?, path)
    }

    /// Listens on the transport given; else as [`bind`](Self::bind).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_on<P: AsRef<Path>>(network: &Rc<dyn Network>, path: P) -> io::Result<UnixListener> {
        let socket = Socket::new(network, Domain::Unix, SocketKind::Stream)?;
        socket.bind(&Endpoint::Unix(Some(path.as_ref().to_path_buf())))?;
        socket.listen(BACKLOG)?;
        Ok(UnixListener { socket })
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
    /// As accept(2); see [`TcpListener::accept`](crate::net::TcpListener::accept).
    #[inline]
    pub fn accept(&self) -> UnixAccept<'_> {
        UnixAccept { accepting: Accepting::new(&self.socket) }
    }

    /// The connections as a stream, which never ends. Its items are the results of
    /// [`accept`](Self::accept), without addresses.
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self, accept: None }
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_std(&self.socket().local()?)
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixListener").field(self.socket()).finish()
    }
}

/// The future of [`UnixListener::accept`].
#[derive(Debug)]
#[must_use = "dropping it gives up the accept"]
pub struct UnixAccept<'a> {
    accepting: Accepting<'a>,
}

impl Future for UnixAccept<'_> {
    type Output = io::Result<(UnixStream, SocketAddr)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (socket, peer) = ready!(Pin::new(&mut self.accepting).poll(cx))?;
        Poll::Ready(to_std(&peer).map(|peer| (UnixStream::from_socket(socket), peer)))
    }
}

impl FusedFuture for UnixAccept<'_> {
    fn is_terminated(&self) -> bool {
        self.accepting.is_terminated()
    }
}

/// The stream of [`UnixListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
    accept: Option<UnixAccept<'a>>,
}

impl Stream for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let accept = this.accept.get_or_insert_with(|| this.listener.accept());
        let result = ready!(Pin::new(accept).poll(cx));
        this.accept = None;
        Poll::Ready(Some(result.map(|(stream, _)| stream)))
    }
}

impl FusedStream for UnixIncoming<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}
