//! `UnixStream`.

use super::to_std;
use crate::executor::default_network_for;
use crate::net::connection::Connection;
use crate::net::options::option_methods;
use crate::net::socket::Socket;
use crate::net::stream::byte_stream;
use crate::transport::{Domain, Endpoint, Network, SocketKind};
use std::fmt;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// A connection between processes of one machine.
///
/// All that [`TcpStream`](crate::net::TcpStream) says of buffers, bytes, directions and dropping holds
/// here.
///
/// ```
/// use demikernel_runtime::net::{UnixListener, UnixStream};
/// use futures_util::{AsyncBufReadExt, AsyncWriteExt};
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # let directory = std::env::temp_dir().join(format!("demikernel-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("stream");
/// # runtime.block_on(async {
/// let listener = UnixListener::bind(&path)?;
/// let mut client = UnixStream::connect(&path).await?;
/// let (mut server, _) = listener.accept().await?;
///
/// client.write_all(b"PING\n").await?;
/// let mut line = String::new();
/// server.read_line(&mut line).await?;
/// assert_eq!(line, "PING\n");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::fs::remove_dir_all(&directory)?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    pub(in crate::net) connection: Connection,
}

byte_stream!(UnixStream);

impl UnixStream {
    /// Connects on the runtime's default transport. A path that begins with a NUL byte is a name in the
    /// abstract namespace.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// As connect(2): `NotFound`, `ConnectionRefused`, `PermissionDenied`. `Unsupported` if the transport
    /// has no Unix sockets, or the runtime no transport for sockets.
    pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_on(&default_network_for(Domain::Unix)?, path).await
    }

    /// Connects on the transport given; else as [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_on<P: AsRef<Path>>(network: &Rc<dyn Network>, path: P) -> io::Result<UnixStream> {
        let socket = Socket::new(network, Domain::Unix, SocketKind::Stream)?;
        socket.connect(&Endpoint::Unix(Some(path.as_ref().to_path_buf()))).await?;
        Ok(UnixStream::from_socket(socket))
    }

    /// The address of this side.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_std(&self.socket().local()?)
    }

    /// The address of the peer, which has a name only if it was bound to one.
    ///
    /// # Errors
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        to_std(&self.socket().peer()?)
    }

    option_methods!(buffer_sizes);
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixStream").field(self.socket()).finish()
    }
}
