//! The sending side of a byte stream: pushes of `AsyncWrite` and `Sink` that are under way.

use super::socket::Socket;
use crate::buffer::{BufferMut, Reservation, Sga};
use crate::executor::QToken;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The most that one write takes.
const CHUNK: usize = 64 << 10;

/// Once so many bytes are under way, the next write waits. A slow peer so holds less than twice of it in
/// this stream's buffers.
const BYTES: usize = 64 << 10;

/// Once so many pushes are under way, the next write waits: the smallest chunk of the pool has 256 bytes,
/// so writes of a byte each hold 16 KiB at most.
const PUSHES: usize = 64;

/// Writes are copied into buffers of the pool and pushed at once, so that the caller's memory is free again
/// and what is written needs no flush to be sent. An error of a push is found by the next call.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Pushes not known to be done, the oldest first, and their lengths.
    under_way: VecDeque<(QToken<io::Result<()>>, usize)>,
    bytes: usize,
    /// Waits when the pool is exhausted.
    memory: Reservation,
}

impl Writer {
    /// Forgets what is done; gives the first error.
    #[inline]
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while let Some((token, _)) = self.under_way.front_mut() {
            if !token.is_done() {
                break;
            }
            if let Some(result) = token.try_take() {
                self.finished(result)?;
            }
        }
        Ok(())
    }

    /// The oldest push is done.
    fn finished(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let Some((_, length)) = self.under_way.pop_front() {
            self.bytes -= length;
        }
        if result.is_err() {
            // Those behind it fail for the same reason, which is to be told once.
            self.detach();
        }
        result
    }

    fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let Some((token, _)) = self.under_way.front_mut() else { return Poll::Ready(None) };
        let result = ready!(Pin::new(token).poll(cx));
        Poll::Ready(Some(self.finished(result)))
    }

    /// Waits until more may be pushed.
    #[inline]
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.bytes >= BYTES || self.under_way.len() >= PUSHES {
            match ready!(self.poll_front(cx)) {
                Some(result) => result?,
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for nothing; gives an error that is known.
    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.memory.cancel();
        self.reap()
    }

    /// Waits until all is done.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.memory.cancel();
        while let Some(result) = ready!(self.poll_front(cx)) {
            result?;
        }
        Poll::Ready(Ok(()))
    }

    /// Copies the pieces, as far as they fit into one push, once there is room and memory for that.
    pub(super) fn poll_copy(
        &mut self,
        pieces: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<BufferMut>> {
        ready!(self.poll_room(cx))?;
        self.memory.poll_copy(pieces, CHUNK, cx)
    }

    /// Starts a push. An error that is known already is told at once.
    #[inline]
    pub(super) fn push(&mut self, socket: &Socket, data: Sga) -> io::Result<()> {
        let length = data.len();
        let mut token = socket.push(data);
        if token.is_done()
            && let Some(result) = token.try_take()
        {
            return result;
        }
        self.bytes += length;
        self.under_way.push_back((token, length));
        Ok(())
    }

    /// Lets the pushes run on without anybody waiting for them.
    fn detach(&mut self) {
        self.bytes = 0;
        self.under_way.drain(..).for_each(|(token, _)| token.detach());
    }
}

/// What was written is sent, though nobody learns of it any more.
impl Drop for Writer {
    fn drop(&mut self) {
        self.detach();
    }
}
