//! tokio's libraries on this runtime, and beside it.
//!
//! Many libraries take a stream with tokio's [`AsyncRead`] and [`AsyncWrite`] and need nothing else of tokio: protocols
//! such as TLS, HTTP/2, WebSocket, or drivers of databases. They run here, on streams in [`ForTokio`]:
//!
//! ```
//! use demikernel::compat::ForTokio;
//! use demikernel::net::{TcpListener, TcpStream};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
//!
//! # demikernel::Builder::new().transport("memory").build()?.block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = ForTokio::new(TcpStream::connect(listener.local_addr()?).await?);
//! let (mut server, _) = listener.accept().await?;
//! server.push("hello\n".into()).await?;
//! let mut line = String::new();
//! client.read_line(&mut line).await?;
//! client.write_all(line.as_bytes()).await?;
//! let mut reply = [0; 6];
//! futures::AsyncReadExt::read_exact(&mut server, &mut reply).await?;
//! assert_eq!(&reply, b"hello\n");
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! Where a library wants streams that are `Send`, [`OnThread`](crate::OnThread) makes them so. [`FromTokio`] is the other
//! way round: a stream of tokio for what is written with the traits of `futures`.
//!
//! Others open their own sockets or start timers and tasks of tokio: most clients of services. They need a runtime of
//! tokio, and have it on a thread of its own, [`TokioThread`], whose results are awaited here.
//!
//! tokio-util has adapters between the two families of traits, too. [`ForTokio`] saves what they have to do for every
//! reader: zeroing the room to read into.

use crate::forward::{forward_buf_read, forward_write};
use futures_io as futures;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A stream with tokio's traits: around one that has those of `futures`, such as [`TcpStream`](crate::net::TcpStream),
/// [`UnixStream`](crate::net::UnixStream) and their halves.
///
/// Reading asks for `AsyncBufRead`, so that what came is copied straight to where it is wanted. A stream without, such as
/// a TLS stream of futures-rustls, gets it from `futures::io::BufReader`.
#[derive(Debug)]
pub struct ForTokio<S> {
    stream: S,
}

/// A stream with the traits of `futures`: around one that has tokio's.
///
/// A socket of tokio needs tokio's runtime somewhere, as [`TokioThread`] has it; a stream of another library may not.
#[derive(Debug)]
pub struct FromTokio<S> {
    stream: S,
}

macro_rules! wrapper {
    ($type:ident) => {
        impl<S> $type<S> {
            /// Wraps a stream.
            pub fn new(stream: S) -> $type<S> {
                $type { stream }
            }

            /// The stream inside, for its addresses and options.
            pub fn get_ref(&self) -> &S {
                &self.stream
            }

            /// The stream without the wrapper, which keeps nothing of what was read or written.
            pub fn into_inner(self) -> S {
                self.stream
            }
        }

        impl<S: Unpin> $type<S> {
            fn inner(self: Pin<&mut Self>) -> Pin<&mut S> {
                Pin::new(&mut Pin::get_mut(self).stream)
            }
        }
    };
}

wrapper!(ForTokio);
wrapper!(FromTokio);

impl<S: futures::AsyncBufRead + Unpin> AsyncRead for ForTokio<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if room.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut stream = self.inner();
        let received = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let count = received.len().min(room.remaining());
        room.put_slice(&received[..count]);
        stream.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: futures::AsyncBufRead + Unpin> AsyncBufRead for ForTokio<S> {
    forward_buf_read!();
}

impl<S: futures::AsyncWrite + Unpin> AsyncWrite for ForTokio<S> {
    forward_write!(poll_shutdown => poll_close);

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl<S: AsyncRead + Unpin> futures::AsyncRead for FromTokio<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        ready!(self.inner().poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }
}

impl<S: AsyncBufRead + Unpin> futures::AsyncBufRead for FromTokio<S> {
    forward_buf_read!();
}

impl<S: AsyncWrite + Unpin> futures::AsyncWrite for FromTokio<S> {
    forward_write!(poll_close => poll_shutdown);
}

/// A runtime of tokio on a thread of its own, for clients that cannot do without.
///
/// It has those drivers that the program's own dependency on tokio compiles in (its features `net`, `time`). What is
/// handed over must be `Send`, as must be what comes back; the task here that awaits it is woken across threads, which
/// takes microseconds where a wake within a core takes nanoseconds. Dropping it ends the thread, and with it all that
/// still runs there.
///
/// ```
/// use demikernel::compat::TokioThread;
///
/// # demikernel::Builder::new().transport("memory").build()?.block_on(async {
/// let tokio = TokioThread::start()?;
/// let answer = tokio.spawn(async {
///     // What only runs on tokio: its sockets, its timers, clients made of them.
///     tokio::task::yield_now().await;
///     42
/// });
/// assert_eq!(answer.await?, 42); // awaited in a task of this runtime, which goes on with others meanwhile
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TokioThread {
    handle: Handle,
    // Nothing is sent: the thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl TokioThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread, or nothing for tokio's own descriptors.
    pub fn start() -> io::Result<TokioThread> {
        let tokio = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = tokio.handle().clone();
        let (sender, end) = oneshot::channel();
        // That the sender is gone is what is waited for.
        let serve = move || _ = tokio.block_on(end);
        thread::Builder::new().name("tokio".to_owned()).spawn(serve)?;
        Ok(TokioThread { handle, _end: sender })
    }

    /// Runs a future there. The handle can be awaited on any runtime; dropping it lets the future go on.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// tokio's own handle, to enter its context or to have in other threads.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
