//! Streams of buffers: the view of a byte stream that copies nothing.

use super::connection::{Connection, HasConnection};
use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::stream::ByteStream;
use super::{TcpStream, UnixStream};
use crate::buffer::Buffer;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A byte stream, or a half of one, as a [`Stream`] of the buffers that arrive and a [`Sink`] for those to
/// send: see [`TcpStream::buffers`](super::TcpStream::buffers).
///
/// As a stream it ends at the end of the connection, and after an error. Where buffers begin and end says
/// nothing about how the peer has written them. Dropping the adapter or a future of it loses no data.
///
/// As a sink it pushes each buffer at once; [`poll_ready`](Sink::poll_ready) waits while 64 KiB or 64
/// buffers are under way. Errors come with the next call. Closing it ends the sending direction.
///
/// It is a type of its own because byte streams have methods of the same names as sinks, from
/// [`AsyncWrite`](futures_io::AsyncWrite).
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::net::{TcpListener, TcpStream};
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
///
/// use futures::{SinkExt, StreamExt};
///
/// let mut outgoing = client.into_buffers();
/// outgoing.send("all at once".into()).await?;
/// outgoing.close().await?;
/// let incoming: Vec<_> = server.into_buffers().collect().await;
/// assert_eq!(incoming.into_iter().collect::<Result<Vec<_>, _>>()?.concat(), b"all at once");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
#[must_use = "streams and sinks do nothing unless polled"]
pub struct Buffers<T> {
    inner: T,
    ended: bool,
}

impl<T> Buffers<T> {
    pub(super) fn new(inner: T) -> Buffers<T> {
        Buffers { inner, ended: false }
    }

    /// What the buffers come from and go to.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The byte stream again. Nothing is lost.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: HasConnection> Buffers<T> {
    #[inline]
    fn connection(&self) -> &Connection {
        self.inner.connection()
    }
}

/// What buffers can be received from: streams, references to them, and their receiving halves.
pub trait Receive: HasConnection {}

/// What buffers can be sent on: streams, references to them, and their sending halves.
pub trait Transmit: HasConnection {}

impl Receive for TcpStream {}
impl Receive for UnixStream {}
impl<S: ByteStream> Receive for ReadHalf<'_, S> {}
impl<S: ByteStream> Receive for OwnedReadHalf<S> {}
impl<T: Receive + ?Sized> Receive for &T {}

impl Transmit for TcpStream {}
impl Transmit for UnixStream {}
impl<S: ByteStream> Transmit for WriteHalf<'_, S> {}
impl<S: ByteStream> Transmit for OwnedWriteHalf<S> {}
impl<T: Transmit + ?Sized> Transmit for &T {}

impl<T: Receive + Unpin> Stream for Buffers<T> {
    type Item = io::Result<Buffer>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.connection().poll_pop(cx)).transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl<T: Receive + Unpin> FusedStream for Buffers<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T: Transmit + Unpin> Sink<Buffer> for Buffers<T> {
    type Error = io::Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection().poll_send_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, buffer: Buffer) -> io::Result<()> {
        self.connection().send(buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection().poll_sent(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection().poll_close(cx)
    }
}
