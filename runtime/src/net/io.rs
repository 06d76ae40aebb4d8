//! `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of streams, of references to them, and of their halves.

use super::connection::HasConnection;
use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::stream::ByteStream;
use super::{TcpStream, UnixStream};
use crate::buffer::Buffer;
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

macro_rules! async_read {
    ([$($generics:tt)*] $type:ty) => {
        /// Dropping a future that reads loses no data: what arrives for it goes to the next one.
        impl<$($generics)*> AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                room: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.connection().poll_read(cx, room)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                rooms: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                self.connection().poll_read_vectored(cx, rooms)
            }
        }
    };
}

async_read!([] TcpStream);
async_read!([] & TcpStream);
async_read!([] UnixStream);
async_read!([] & UnixStream);
async_read!(['a, S: ByteStream] ReadHalf<'a, S>);
async_read!([S: ByteStream] OwnedReadHalf<S>);

macro_rules! async_write {
    ([$($generics:tt)*] $type:ty) => {
        /// A write copies at most 64 KiB into buffers of the pool and pushes them at once: no flush is
        /// needed for the data to be sent, and dropping the stream right after a write loses nothing.
        ///
        /// A write waits while 64 KiB or 64 writes are under way, and while the pool is exhausted. An
        /// error is given by the write that caused it if it is known by then, else by the next write,
        /// flush or close. A flush therefore waits for nothing. Closing waits until the system has taken
        /// everything, and ends the sending direction; a program that must know when that is without closing
        /// pushes instead.
        impl<$($generics)*> AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.connection().poll_write(cx, &[IoSlice::new(data)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.connection().poll_write(cx, data)
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.connection().flush())
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.connection().poll_close(cx)
            }
        }
    };
}

async_write!([] TcpStream);
async_write!([] & TcpStream);
async_write!([] UnixStream);
async_write!([] & UnixStream);
async_write!(['a, S: ByteStream] WriteHalf<'a, S>);
async_write!([S: ByteStream] OwnedWriteHalf<S>);

macro_rules! buf_read_of_streams {
    ($($type:ty),+) => {
        $(
            impl AsyncBufRead for $type {
                fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                    self.get_mut().connection.poll_borrow(cx)
                }

                fn consume(self: Pin<&mut Self>, count: usize) {
                    self.connection().consume(count);
                }
            }
        )+
    };
}

buf_read_of_streams!(TcpStream, UnixStream);

macro_rules! buf_read_of_halves {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> AsyncBufRead for $type {
            // The bytes are the stream's, and the other half can reach that, so they are lent out from a
            // handle of this half's own.
            fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                let this = self.get_mut();
                let shared = ready!(this.connection().poll_share(cx))?;
                Poll::Ready(Ok(this.lent.insert(shared)))
            }

            fn consume(mut self: Pin<&mut Self>, count: usize) {
                let lent = self.lent.take();
                debug_assert!(count <= lent.as_ref().map_or(0, Buffer::len));
                self.connection().consume(count);
            }
        }
    };
}

buf_read_of_halves!(['a, S: ByteStream] ReadHalf<'a, S>);
buf_read_of_halves!([S: ByteStream] OwnedReadHalf<S>);
