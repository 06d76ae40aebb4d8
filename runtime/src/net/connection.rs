//! A connected stream of bytes, of whatever family: what TCP and Unix streams share.

use super::reader::{POP, Reader};
use super::socket::Socket;
use super::writer::Writer;
use crate::buffer::{Buffer, Sga};
use crate::executor::QToken;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

/// The state of a stream. Everything takes it by shared reference, so that halves can share it; each
/// direction has one user at a time who waits.
#[derive(Debug)]
pub struct Connection {
    // Dropped in this order: a pop is cancelled, pushes are detached, and then the socket closes, which
    // lets pushes go first.
    reader: RefCell<Reader>,
    writer: RefCell<Writer>,
    /// The sending direction has been shut down.
    shut: Cell<bool>,
    socket: Socket,
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Connection {
        Connection { reader: RefCell::default(), writer: RefCell::default(), shut: Cell::new(false), socket }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    #[inline]
    pub(super) fn push(&self, data: Sga) -> QToken<io::Result<()>> {
        self.socket.push(data)
    }

    #[inline]
    pub(super) fn pop(&self) -> QToken<io::Result<Buffer>> {
        self.pop_up_to(POP)
    }

    #[inline]
    pub(super) fn pop_up_to(&self, limit: usize) -> QToken<io::Result<Buffer>> {
        let mut reader = self.reader.borrow_mut();
        if reader.is_idle() { self.socket.pop(limit) } else { reader.pop(&self.socket, limit) }
    }

    /// As shutdown(2).
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let result = self.socket.shutdown(how);
        if how != Shutdown::Read {
            self.shut.set(true);
        }
        result
    }

    // For `AsyncRead`, `AsyncBufRead` and `Stream`.

    #[inline]
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        if room.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut reader = self.reader.borrow_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.read(room)))
    }

    pub(super) fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        rooms: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if rooms.iter().all(|room| room.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut reader = self.reader.borrow_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.read_vectored(rooms)))
    }

    pub(super) fn poll_peek(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        if room.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut reader = self.reader.borrow_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.peek(room)))
    }

    /// What is there to read, shared; empty at the end of the stream.
    pub(super) fn poll_share(&self, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        let mut reader = self.reader.borrow_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.rest().cloned().unwrap_or_default()))
    }

    /// What is there to read, for the only user.
    pub(super) fn poll_borrow(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.reader.get_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.rest().map_or(&[], Buffer::as_slice)))
    }

    pub(super) fn consume(&self, count: usize) {
        self.reader.borrow_mut().consume(count);
    }

    /// The next buffer; `None` at the end of the stream.
    #[inline]
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        let mut reader = self.reader.borrow_mut();
        ready!(reader.poll_fill(&self.socket, cx))?;
        Poll::Ready(Ok(reader.take()))
    }

    // For `AsyncWrite` and `Sink`.

    #[inline]
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut writer = self.writer.borrow_mut();
        writer.reap()?;
        self.check_open()?;
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let copy = ready!(writer.poll_copy(pieces, cx))?;
        let count = copy.len();
        writer.push(&self.socket, copy.freeze().into())?;
        Poll::Ready(Ok(count))
    }

    /// Waits until a buffer may be [sent](Self::send).
    #[inline]
    pub(super) fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.writer.borrow_mut();
        writer.reap()?;
        self.check_open()?;
        writer.poll_room(cx)
    }

    #[inline]
    pub(super) fn send(&self, buffer: Buffer) -> io::Result<()> {
        self.writer.borrow_mut().push(&self.socket, buffer.into())
    }

    /// For `AsyncWrite`: what was written is under way already, so there is nothing to wait for.
    ///
    /// Who writes a response waits for the next request then, and not for the system to have taken the response before: with
    /// hyper that is a poll less of the whole connection for each request.
    #[inline]
    pub(super) fn flush(&self) -> io::Result<()> {
        self.writer.borrow_mut().flush()
    }

    /// Waits until the system has taken everything.
    pub(super) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.borrow_mut().poll_sent(cx)
    }

    /// Ends the sending direction when the system has taken everything.
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        if self.shut.get() {
            return Poll::Ready(Ok(()));
        }
        match self.shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }

    /// The sending direction has no user any more.
    pub(super) fn end(&self) {
        if !self.shut.get() {
            // Whatever the error, there is nobody to tell, and nothing left to end.
            let _ = self.shutdown(Shutdown::Write);
        }
    }

    /// A write would be taken, and its error come with the next call. Where it is known, it comes at once.
    fn check_open(&self) -> io::Result<()> {
        if self.shut.get() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// What has a connection: streams and their halves.
pub trait HasConnection {
    /// The connection.
    fn connection(&self) -> &Connection;
}

impl<T: HasConnection + ?Sized> HasConnection for &T {
    #[inline]
    fn connection(&self) -> &Connection {
        (**self).connection()
    }
}
