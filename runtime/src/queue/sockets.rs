//! Connections and datagram sockets as queues of buffers.

use super::{PopError, PopQueue, PushQueue};
use crate::buffer::Buffer;
use crate::executor::QToken;
use crate::net::{ByteStream, OwnedReadHalf, OwnedWriteHalf, TcpStream, UdpSocket, UnixStream};
use std::io;

/// Whether a stream has ended: it gives an empty buffer.
fn stream_ended(result: &io::Result<Buffer>) -> bool {
    match result {
        Ok(buffer) => buffer.is_empty(),
        Err(error) => error.is_closed(),
    }
}

/// For a type with `pop` and `push` of its own.
macro_rules! stream_queue {
    ($stream:ty) => {
        impl PopQueue for $stream {
            type Item = Buffer;
            type Error = io::Error;

            #[inline]
            fn pop(&self) -> QToken<io::Result<Buffer>> {
                self.pop()
            }

            fn is_end(&self, result: &io::Result<Buffer>) -> bool {
                stream_ended(result)
            }
        }

        impl PushQueue for $stream {
            type Item = Buffer;
            type Error = io::Error;

            #[inline]
            fn push(&self, buffer: Buffer) -> QToken<io::Result<()>> {
                self.push(buffer)
            }
        }
    };
}

stream_queue!(TcpStream);
stream_queue!(UnixStream);

impl<S: ByteStream> PopQueue for OwnedReadHalf<S> {
    type Item = Buffer;
    type Error = io::Error;

    #[inline]
    fn pop(&self) -> QToken<io::Result<Buffer>> {
        self.pop()
    }

    fn is_end(&self, result: &io::Result<Buffer>) -> bool {
        stream_ended(result)
    }
}

impl<S: ByteStream> PushQueue for OwnedWriteHalf<S> {
    type Item = Buffer;
    type Error = io::Error;

    #[inline]
    fn push(&self, buffer: Buffer) -> QToken<io::Result<()>> {
        self.push(buffer)
    }
}

/// Of a connected socket. It never ends, and a datagram may be empty.
impl PopQueue for UdpSocket {
    type Item = Buffer;
    type Error = io::Error;

    #[inline]
    fn pop(&self) -> QToken<io::Result<Buffer>> {
        self.pop()
    }
}

impl PushQueue for UdpSocket {
    type Item = Buffer;
    type Error = io::Error;

    #[inline]
    fn push(&self, buffer: Buffer) -> QToken<io::Result<()>> {
        self.push(buffer)
    }
}
