//! The receiving side of a byte stream: what was popped and not read yet.

use super::socket::Socket;
use crate::buffer::Buffer;
use crate::executor::QToken;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How much is popped at once unless the caller says otherwise. Transports take smaller buffers where
/// little arrives.
pub(super) const POP: usize = 64 << 10;

/// A pop that outlives the future that started it, and the rest of the last one.
///
/// At most one of the two is there: a pop is only started when nothing is left to read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pending: Option<QToken<io::Result<Buffer>>>,
    /// Never empty.
    rest: Option<Buffer>,
}

impl Reader {
    /// Whether a pop of somebody else gets what comes next.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none() && self.rest.is_none()
    }

    /// Sees to it that there is something to read; if there is not, the stream has ended.
    #[inline]
    pub(super) fn poll_fill(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_some() {
            return Poll::Ready(Ok(()));
        }
        let token = self.pending.get_or_insert_with(|| socket.pop(POP));
        let result = ready!(Pin::new(token).poll(cx));
        self.pending = None;
        let buffer = result?;
        self.rest = (!buffer.is_empty()).then_some(buffer);
        Poll::Ready(Ok(()))
    }

    /// What is there to read.
    #[inline]
    pub(super) fn rest(&self) -> Option<&Buffer> {
        self.rest.as_ref()
    }

    /// Takes all that is there to read.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Buffer> {
        self.rest.take()
    }

    /// Drops the first bytes of what is there to read.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(rest) = &mut self.rest {
            if count < rest.len() {
                rest.advance(count);
            } else {
                self.rest = None;
            }
        }
    }

    /// Copies what is there to read, as far as there is room, and drops it.
    #[inline]
    pub(super) fn read(&mut self, room: &mut [u8]) -> usize {
        let count = self.peek(room);
        self.consume(count);
        count
    }

    /// Copies what is there to read, as far as there is room.
    #[inline]
    pub(super) fn peek(&self, room: &mut [u8]) -> usize {
        let Some(rest) = &self.rest else { return 0 };
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn read_vectored(&mut self, rooms: &mut [IoSliceMut<'_>]) -> usize {
        let mut count = 0;
        for room in rooms {
            if self.rest.is_none() {
                break;
            }
            count += self.read(room);
        }
        count
    }

    /// A pop for somebody else while this reader has a rest, or a pop of a read that was given up: what
    /// came for that read comes first.
    #[cold]
    pub(super) fn pop(&mut self, socket: &Socket, limit: usize) -> QToken<io::Result<Buffer>> {
        // The transport gives what has arrived for it, or will, to the next pop.
        self.pending = None;
        let Some(rest) = &mut self.rest else { return socket.pop(limit) };
        let part = rest.split_to(rest.len().min(limit.max(1)));
        if rest.is_empty() {
            self.rest = None;
        }
        QToken::ready(Ok(part))
    }
}
