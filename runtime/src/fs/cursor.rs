//! Reading and writing at a position that moves, as `AsyncRead`, `AsyncWrite` and `AsyncSeek` want it.

use super::handle::Handle;
use crate::buffer::{BufferMut, Reservation};
use crate::executor::QToken;
use std::io::{self, IoSlice, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The most that one read or write takes.
const CHUNK: usize = 1 << 20;

/// The position, and the one operation that is under way there.
///
/// Nothing is read ahead: what a read has got and its caller did not take is read again, so that reads see
/// what was written meanwhile. A write is under way when it returns, and done before anything else begins.
#[derive(Debug)]
pub(super) struct Cursor {
    position: u64,
    work: Work,
    /// Waits when the pool is exhausted.
    memory: Reservation,
    /// Writes go to the end of the file wherever the position is, and take it there.
    appends: bool,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    None,
    /// At the position.
    Read(QToken<io::Result<BufferMut>>),
    /// Before the position.
    Write(QToken<io::Result<()>>),
}

impl Cursor {
    pub(super) fn new(appends: bool) -> Cursor {
        Cursor { position: 0, work: Work::None, memory: Reservation::default(), appends }
    }

    pub(super) fn poll_read(
        &mut self,
        file: &Handle,
        room: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(file, cx))?;
        if room.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !matches!(self.work, Work::Read(_)) {
            let wanted = room.len().min(CHUNK);
            let buffer = exactly(ready!(self.memory.poll(wanted, cx))?, wanted)?;
            self.work = Work::Read(file.read_at(buffer, self.position));
        }
        let Work::Read(token) = &mut self.work else { return Poll::Ready(Ok(0)) };
        let result = ready!(Pin::new(token).poll(cx));
        self.work = Work::None;
        let data = result?;
        // A read that was given up may have been for more.
        let count = data.len().min(room.len());
        room[..count].copy_from_slice(&data[..count]);
        self.position += count as u64;
        Poll::Ready(Ok(count))
    }

    pub(super) fn poll_write(
        &mut self,
        file: &Handle,
        pieces: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(file, cx))?;
        self.work = Work::None;
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let copy = ready!(self.memory.poll_copy(pieces, CHUNK, cx))?;
        let count = copy.len();
        let mut token = file.write_at(copy.freeze().into(), self.position);
        if token.is_done()
            && let Some(result) = token.try_take()
        {
            // An error that is known already is told by the write that caused it.
            result?;
            self.written(file, count)?;
        } else {
            self.position += count as u64;
            self.work = Work::Write(token);
        }
        Poll::Ready(Ok(count))
    }

    fn written(&mut self, file: &Handle, count: usize) -> io::Result<()> {
        self.position = if self.appends { file.length()? } else { self.position + count as u64 };
        Ok(())
    }

    /// Waits until what was written is done.
    pub(super) fn poll_flush(&mut self, file: &Handle, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Work::Write(token) = &mut self.work else { return Poll::Ready(Ok(())) };
        let result = ready!(Pin::new(token).poll(cx));
        self.work = Work::None;
        if self.appends && result.is_ok() {
            self.position = file.length()?;
        }
        Poll::Ready(result)
    }

    pub(super) fn poll_seek(
        &mut self,
        file: &Handle,
        to: SeekFrom,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        // The end is behind what was written.
        ready!(self.poll_flush(file, cx))?;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => file.length()?.checked_add_signed(by),
        };
        let Some(position) = position.filter(|&position| i64::try_from(position).is_ok()) else {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a seek to a negative or overflowing position",
            )));
        };
        self.work = Work::None;
        self.position = position;
        Poll::Ready(Ok(position))
    }
}

/// What was written reaches the file, though nobody learns of it any more.
impl Drop for Cursor {
    fn drop(&mut self) {
        if let Work::Write(token) = std::mem::take(&mut self.work) {
            token.detach();
        }
    }
}

/// A buffer with room for `wanted` bytes and no more: a read fills all the room that there is, and chunks of
/// the pool are often larger than what was asked for.
fn exactly(buffer: BufferMut, wanted: usize) -> io::Result<BufferMut> {
    match buffer.capacity().checked_sub(wanted) {
        // Memory of an earlier, smaller wish.
        None | Some(0) => Ok(buffer),
        Some(excess) => {
            drop(buffer);
            // The chunk that was freed last is the one that is used next.
            Ok(BufferMut::with_headroom(excess, wanted)?)
        }
    }
}
