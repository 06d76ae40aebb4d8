//! hyper 1 on this runtime: [`Io`] around a stream, [`Executor`] and [`Timer`].
//!
//! hyper's HTTP/1 connections are `!Send` when their I/O is, and are run by [`spawn`](crate::spawn) as any other
//! future; HTTP/2, which spawns tasks of its own, is given an [`Executor`].
//!
//! ```no_run
//! use demikernel::hyper::{Io, Timer};
//! use demikernel::net::TcpListener;
//! use hyper::body::Bytes;
//! use hyper::{Response, server::conn::http1, service::service_fn};
//!
//! # async fn serve() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     let hello = service_fn(async |_| {
//!         Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Full::new(Bytes::from("hello\n"))))
//!     });
//!     let connection = http1::Builder::new().timer(Timer).serve_connection(Io::new(stream), hello);
//!     demikernel::spawn(connection);
//! }
//! # }
//! ```

use crate::OnThread;
use crate::forward::forward_write;
use crate::time::{self, Instant};
use futures_io::{AsyncBufRead, AsyncWrite};
use hyper::rt::{self, ReadBufCursor};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A stream as hyper wants it: [`rt::Read`] and [`rt::Write`] for what has the traits of `futures-io`, such as
/// [`TcpStream`](crate::net::TcpStream) and [`UnixStream`](crate::net::UnixStream). A TLS stream of futures-rustls needs a
/// `futures::io::BufReader` around it; hyper's own upgrades need an [`OnThread`].
///
/// What hyper reads is copied once, from the buffer that was received to hyper's own. What it writes is copied once,
/// head and body of a response into one buffer, which is pushed at once.
#[derive(Debug)]
pub struct Io<S> {
    stream: S,
}

impl<S> Io<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Io<S> {
        Io { stream }
    }

    /// The stream, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream, such as that of a connection that was upgraded.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: Unpin> Io<S> {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut S> {
        Pin::new(&mut Pin::get_mut(self).stream)
    }
}

impl<S: AsyncBufRead + Unpin> rt::Read for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stream = self.inner();
        let received = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let count = received.len().min(cursor.remaining());
        cursor.put_slice(&received[..count]);
        stream.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> rt::Write for Io<S> {
    forward_write!(poll_shutdown => poll_close);

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Spawns hyper's tasks on the current runtime. They need not be `Send`.
///
/// # Panics
/// `execute` panics outside of a runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F> rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        crate::spawn(future).detach();
    }
}

/// Gives hyper the runtime's clock and timers, so that its time limits hold in virtual time too.
///
/// # Panics
/// Sleeps panic outside of a runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep::new(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        // From `now` below, so the conversion is right for a virtual clock too.
        Box::pin(Sleep::new(time::sleep_until(Instant::from(deadline))))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

/// A timer of this thread's runtime, in the `Send` type that hyper asks for although it stays where it is.
type Sleep = OnThread<time::Sleep>;

impl rt::Sleep for Sleep {}
