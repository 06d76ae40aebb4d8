//! What a connection is made of: a stream, with TLS or without.

use demikernel::net::TcpStream;
use demikernel::{Buffer, Sga};
use futures::{AsyncRead, AsyncWriteExt};
use futures_rustls::server::TlsStream;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Poll, ready};

/// Bytes to and from a client. The protocol is compiled for each kind: plain streams pay nothing for the other.
pub(crate) trait Wire {
    /// What has come; an empty buffer is the end.
    async fn pop(&mut self) -> io::Result<Buffer>;

    /// Sends all of it.
    async fn push(&mut self, replies: Sga) -> io::Result<()>;

    /// Ends the sending direction.
    async fn end(&mut self) -> io::Result<()>;
}

/// Received and sent without a copy.
impl Wire for TcpStream {
    async fn pop(&mut self) -> io::Result<Buffer> {
        TcpStream::pop(self).await
    }

    async fn push(&mut self, replies: Sga) -> io::Result<()> {
        self.push_sga(replies).await
    }

    async fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Wire for Box<TlsStream<TcpStream>> {
    async fn pop(&mut self) -> io::Result<Buffer> {
        poll_fn(|cx| {
            // On the stack, so that clients who say nothing keep no room.
            let mut room = [0; 4096];
            let count = ready!(Pin::new(&mut **self).poll_read(cx, &mut room))?;
            let received = &room[..count];
            // What has been deciphered cannot wait for the pool.
            let copy = Buffer::copy_from_slice(received).unwrap_or_else(|_| received.to_vec().into());
            Poll::Ready(Ok(copy))
        })
        .await
    }

    async fn push(&mut self, replies: Sga) -> io::Result<()> {
        for piece in replies {
            self.write_all(&piece).await?;
        }
        self.flush().await
    }

    async fn end(&mut self) -> io::Result<()> {
        self.close().await
    }
}
