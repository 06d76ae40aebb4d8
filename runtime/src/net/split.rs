//! The halves of a stream, for a task that reads and another that writes.

use super::buffers::Buffers;
use super::connection::{Connection, HasConnection};
use super::stream::ByteStream;
use crate::buffer::{Buffer, Sga};
use crate::executor::QToken;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

/// The receiving half of a stream, borrowed from it: see [`TcpStream::split_mut`](super::TcpStream::split_mut).
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::net::{TcpListener, TcpStream};
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
///
/// let (reading, writing) = client.split_mut();
/// writing.push("ping".into()).await?;
/// server.push(server.pop().await?).await?;
/// assert_eq!(reading.pop().await?, b"ping");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct ReadHalf<'a, S> {
    stream: &'a S,
    /// What `poll_fill_buf` has lent out.
    pub(super) lent: Option<Buffer>,
}

/// The sending half of a stream, borrowed from it: see [`TcpStream::split_mut`](super::TcpStream::split_mut).
#[derive(Debug)]
pub struct WriteHalf<'a, S> {
    stream: &'a S,
}

/// The receiving half of a stream: see [`TcpStream::into_split`](super::TcpStream::into_split).
///
/// Dropping it leaves the connection as it is.
#[derive(Debug)]
pub struct OwnedReadHalf<S> {
    stream: Rc<S>,
    pub(super) lent: Option<Buffer>,
}

/// The sending half of a stream: see [`TcpStream::into_split`](super::TcpStream::into_split).
///
/// Dropping it sends what was written and ends the sending direction, unless it is
/// [forgotten](OwnedWriteHalf::forget).
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
/// let (reading, writing) = client.into_split();
/// writing.push("a request".into()).await?;
/// drop(writing); // the end of what the client sends
/// assert_eq!(server.pop().await?, b"a request");
/// assert!(server.pop().await?.is_empty());
///
/// server.push("an answer".into()).await?;
/// assert_eq!(reading.pop().await?, b"an answer");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf<S: ByteStream> {
    stream: Rc<S>,
    /// Its drop ends the direction.
    shuts: bool,
}

pub(super) fn split_mut<S>(stream: &mut S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf { stream, lent: None }, WriteHalf { stream })
}

pub(super) fn into_split<S: ByteStream>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Rc::new(stream);
    (OwnedReadHalf { stream: stream.clone(), lent: None }, OwnedWriteHalf { stream, shuts: true })
}

impl<S: ByteStream> OwnedReadHalf<S> {
    /// Puts the two halves of a stream together again.
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
    /// let (reading, writing) = client.into_split();
    /// let client = reading.reunite(writing).expect("two halves of one stream");
    /// client.push("still whole".into()).await?;
    /// assert_eq!(server.pop().await?, b"still whole");
    /// # std::io::Result::Ok(())
    /// # })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Gives both back if they are not of one stream.
    pub fn reunite(self, mut other: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Rc::ptr_eq(&self.stream, &other.stream) {
            return Err(ReuniteError(self, other));
        }
        other.shuts = false;
        drop(other);
        Ok(Rc::into_inner(self.stream).expect("the two halves are the only owners of their stream"))
    }
}

impl<S: ByteStream> OwnedWriteHalf<S> {
    /// Puts the two halves of a stream together again.
    ///
    /// # Errors
    /// Gives both back if they are not of one stream.
    pub fn reunite(self, other: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        other.reunite(self)
    }

    /// Drops the half without ending the sending direction; the connection closes when the other half is
    /// dropped.
    pub fn forget(mut self) {
        self.shuts = false;
    }
}

impl<S: ByteStream> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shuts {
            self.connection().end();
        }
    }
}

/// Two halves are not of one stream; both are here.
pub struct ReuniteError<S: ByteStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: ByteStream> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: ByteStream> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are of two different streams")
    }
}

impl<S: ByteStream> std::error::Error for ReuniteError<S> {}

macro_rules! half {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> AsRef<S> for $type {
            /// The whole stream, for its addresses and options.
            fn as_ref(&self) -> &S {
                &self.stream
            }
        }

        impl<$($generics)*> HasConnection for $type {
            #[inline]
            fn connection(&self) -> &Connection {
                self.stream.connection()
            }
        }
    };
}

macro_rules! read_half {
    ([$($generics:tt)*] $type:ty) => {
        half!([$($generics)*] $type);

        impl<$($generics)*> $type {
            /// Receives what there is; see [`TcpStream::pop`](super::TcpStream::pop).
            #[inline]
            pub fn pop(&self) -> QToken<io::Result<Buffer>> {
                self.connection().pop()
            }

            /// Receives at most `limit` bytes; see [`TcpStream::pop_up_to`](super::TcpStream::pop_up_to).
            #[inline]
            pub fn pop_up_to(&self, limit: usize) -> QToken<io::Result<Buffer>> {
                self.connection().pop_up_to(limit)
            }

            /// The half as a [`Stream`](futures_core::Stream) of buffers; see
            /// [`TcpStream::buffers`](super::TcpStream::buffers).
            pub fn into_buffers(self) -> Buffers<$type> {
                Buffers::new(self)
            }

            /// Reads without taking; see [`TcpStream::peek`](super::TcpStream::peek).
            ///
            /// # Errors
            /// As recv(2).
            pub async fn peek(&mut self, room: &mut [u8]) -> io::Result<usize> {
                std::future::poll_fn(|cx| self.connection().poll_peek(cx, room)).await
            }
        }
    };
}

macro_rules! write_half {
    ([$($generics:tt)*] $type:ty) => {
        half!([$($generics)*] $type);

        impl<$($generics)*> $type {
            /// Sends all of a buffer; see [`TcpStream::push`](super::TcpStream::push).
            #[inline]
            pub fn push(&self, buffer: Buffer) -> QToken<io::Result<()>> {
                self.connection().push(buffer.into())
            }

            /// Sends a list of buffers; see [`TcpStream::push_sga`](super::TcpStream::push_sga).
            #[inline]
            pub fn push_sga(&self, buffers: Sga) -> QToken<io::Result<()>> {
                self.connection().push(buffers)
            }

            /// The half as a [`Sink`](futures_sink::Sink) for buffers; see
            /// [`TcpStream::buffers`](super::TcpStream::buffers).
            pub fn into_buffers(self) -> Buffers<$type> {
                Buffers::new(self)
            }

            /// Ends the sending direction after what was pushed and written.
            ///
            /// # Errors
            /// As shutdown(2).
            pub fn shutdown(&self) -> io::Result<()> {
                self.connection().shutdown(Shutdown::Write)
            }
        }
    };
}

read_half!(['a, S: ByteStream] ReadHalf<'a, S>);
read_half!([S: ByteStream] OwnedReadHalf<S>);
write_half!(['a, S: ByteStream] WriteHalf<'a, S>);
write_half!([S: ByteStream] OwnedWriteHalf<S>);
