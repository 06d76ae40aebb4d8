//! The methods that all byte streams have, written once.

use super::connection::HasConnection;

/// A connection of bytes: [`TcpStream`](super::TcpStream) or [`UnixStream`](super::UnixStream).
///
/// For code that is generic over them; it cannot be implemented by others.
pub trait ByteStream: HasConnection {}

/// For a type with a field `connection`.
macro_rules! byte_stream {
    ($type:ident) => {
        impl $type {
            pub(in crate::net) fn from_socket(socket: $crate::net::socket::Socket) -> $type {
                $type { connection: $crate::net::connection::Connection::new(socket) }
            }

            fn socket(&self) -> &$crate::net::socket::Socket {
                self.connection.socket()
            }

            /// Receives what there is, without copying; waits if there is nothing. An empty buffer is the
            /// end of the stream.
            ///
            /// Several may be under way, and are served in their order. What [`AsyncRead`] has received
            /// and not given out comes first.
            ///
            /// # Cancel safety
            /// Dropping the token loses nothing: what arrives for it, or has arrived, goes to the next one.
            ///
            /// # Errors
            /// As recv(2).
            ///
            /// [`AsyncRead`]: futures_io::AsyncRead
            #[inline]
            pub fn pop(&self) -> $crate::QToken<std::io::Result<$crate::buffer::Buffer>> {
                self.connection.pop()
            }

            /// Receives as [`pop`](Self::pop), but at most `limit` bytes, and at least one unless the
            /// stream has ended.
            ///
            /// # Errors
            /// As recv(2).
            #[inline]
            pub fn pop_up_to(&self, limit: usize) -> $crate::QToken<std::io::Result<$crate::buffer::Buffer>> {
                self.connection.pop_up_to(limit)
            }

            /// Sends all of a buffer, without copying. The token is done when the system has taken it.
            ///
            /// Several may be under way, and are sent in their order.
            ///
            /// # Cancel safety
            /// A token that is dropped while it waits takes the buffer back unless some of it was sent:
            /// then the rest is sent, too, since a stream with a hole would be of no use. To send without
            /// waiting use [`QToken::detach`](crate::QToken::detach).
            ///
            /// # Errors
            /// As send(2); `BrokenPipe` after [`shutdown`](Self::shutdown).
            #[inline]
            pub fn push(&self, buffer: $crate::buffer::Buffer) -> $crate::QToken<std::io::Result<()>> {
                self.connection.push(buffer.into())
            }

            /// Sends a list of buffers as if they were one; else as [`push`](Self::push).
            ///
            /// # Errors
            /// As sendmsg(2).
            #[inline]
            pub fn push_sga(&self, buffers: $crate::buffer::Sga) -> $crate::QToken<std::io::Result<()>> {
                self.connection.push(buffers)
            }

            /// Copies what comes next without taking it; waits if there is nothing. 0 is the end of the
            /// stream.
            ///
            /// # Cancel safety
            /// Dropping the future loses nothing.
            ///
            /// # Errors
            /// As recv(2).
            pub async fn peek(&self, room: &mut [u8]) -> std::io::Result<usize> {
                std::future::poll_fn(|cx| self.connection.poll_peek(cx, room)).await
            }

            /// The connection as a [`Stream`](futures_core::Stream) of the buffers that arrive, and a
            /// [`Sink`](futures_sink::Sink) of those to send.
            pub fn buffers(&self) -> $crate::net::Buffers<&$type> {
                $crate::net::Buffers::new(self)
            }

            /// The same as [`buffers`](Self::buffers), with the connection in it.
            pub fn into_buffers(self) -> $crate::net::Buffers<$type> {
                $crate::net::Buffers::new(self)
            }

            /// The two directions, to read and write at the same time in one task.
            ///
            /// (`split` would be the usual name, but [`AsyncReadExt`] of `futures` has a method of that
            /// name, which takes the stream by value and therefore comes first.)
            ///
            /// [`AsyncReadExt`]: https://docs.rs/futures/latest/futures/io/trait.AsyncReadExt.html
            pub fn split_mut(
                &mut self,
            ) -> ($crate::net::ReadHalf<'_, $type>, $crate::net::WriteHalf<'_, $type>) {
                $crate::net::split::split_mut(self)
            }

            /// The two directions, each for a task of its own. Dropping the sending half ends its
            /// direction; the connection closes when both are dropped.
            /// [`reunite`](crate::net::OwnedReadHalf::reunite) puts them together again.
            pub fn into_split(
                self,
            ) -> ($crate::net::OwnedReadHalf<$type>, $crate::net::OwnedWriteHalf<$type>) {
                $crate::net::split::into_split(self)
            }

            /// Ends one direction or both. What was pushed and written goes first.
            ///
            /// After the sending direction has ended, writes give `BrokenPipe`; the peer reads the end of
            /// the stream. After the receiving one has, reads give the end of the stream.
            ///
            /// # Errors
            /// As shutdown(2): `NotConnected` when the connection is gone.
            pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                self.connection.shutdown(how)
            }
        }

        impl $crate::net::connection::HasConnection for $type {
            #[inline]
            fn connection(&self) -> &$crate::net::connection::Connection {
                &self.connection
            }
        }

        impl $crate::net::ByteStream for $type {}
    };
}

pub(super) use byte_stream;
