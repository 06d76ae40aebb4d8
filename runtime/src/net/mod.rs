//! Sockets: [`TcpStream`] and [`TcpListener`], [`UdpSocket`], [`UnixStream`] and [`UnixListener`].
//!
//! The names and the behaviour are those that servers in Rust know, on whatever transport the runtime has.
//! `bind` and `connect` use the transport that was attached first; `bind_on` and `connect_on` one that is
//! given, so that a program can use several at once. A socket stays on the one it was made with, and on
//! the thread of its runtime.
//!
//! ```
//! use demikernel_runtime::net::{TcpListener, TcpStream};
//! use futures_util::{AsyncReadExt, AsyncWriteExt};
//!
//! # let runtime = demikernel_runtime::Runtime::new()?;
//! # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
//! # runtime.block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (server, _) = listener.accept().await?;
//!
//! // Bytes on one side, which are copied; buffers on the other, which are not.
//! client.write_all(b"as you like it").await?;
//! let buffer = server.pop().await?;
//! server.push(buffer.slice(3..6)).await?;
//! drop(server);
//!
//! let mut reply = String::new();
//! client.read_to_string(&mut reply).await?;
//! assert_eq!(reply, "you");
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

// The map, from what users hold down to what asks the transport.
mod tcp; // streams, listeners, and sockets that are neither yet
mod udp; // datagrams
mod unix; // streams and listeners of one machine

mod buffers; // a byte stream as a stream and a sink of buffers
mod io; // `AsyncRead` and `AsyncWrite` of streams and halves
mod lookup; // names to addresses
mod options; // socket options as methods
mod split; // the halves of a stream
mod stream; // the methods that all byte streams have

mod accepting; // a listening socket
mod connection; // a stream's state: its reader, its writer, its socket
mod reader; // what was popped and not read yet
mod socket; // a socket of a transport
mod writer; // pushes under way

pub use buffers::Buffers;
pub use lookup::{ToSocketAddrs, lookup_host};
pub use options::Keepalive;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::ByteStream;
pub use tcp::{Accept, Incoming, TcpListener, TcpSocket, TcpStream};
pub use udp::UdpSocket;

pub(crate) use socket::Socket;
pub use unix::{UnixAccept, UnixIncoming, UnixListener, UnixStream};

pub use std::net::Shutdown;
