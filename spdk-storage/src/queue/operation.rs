//! One operation: what was asked for, its memory, and how it ends.

use super::driver::{Command, Piece};
use crate::Geometry;
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::time::Instant;
use std::io;

/// What was asked for.
pub(super) enum Work {
    Read { at: u64, length: usize, buffer: BufferMut, done: Completion<io::Result<BufferMut>> },
    ReadVectored { at: u64, buffers: Vec<BufferMut>, done: Completion<io::Result<Vec<BufferMut>>> },
    Write { at: u64, data: Sga, done: Completion<io::Result<()>> },
    WriteDurable { at: u64, data: Sga, done: Completion<io::Result<()>> },
    Flush { done: Completion<io::Result<()>> },
    Discard { at: u64, length: u64, done: Completion<io::Result<()>> },
    WriteZeroes { at: u64, length: u64, done: Completion<io::Result<()>> },
}

/// Work that is allowed, and the memory in whose place the device uses other, if it cannot reach it.
pub(super) struct Operation {
    pub(super) work: Work,
    pub(super) bounce: Option<BufferMut>,
    /// When it was asked for.
    pub(super) began: Instant,
}

impl Operation {
    /// Checks what was asked for, and provides memory if that is needed.
    #[inline]
    pub(super) fn admit(work: &Work, geometry: &Geometry, ended: bool) -> io::Result<Option<BufferMut>> {
        work.check(geometry, ended)?;
        if work.is_reachable(geometry) { Ok(None) } else { work.bounce().map(Some) }
    }

    /// Provides memory in place of what the device does not reach.
    #[cold]
    pub(super) fn bounce(&mut self) -> io::Result<()> {
        self.bounce = Some(self.work.bounce()?);
        Ok(())
    }

    pub(super) fn is_bounced(&self) -> bool {
        self.bounce.is_some()
    }

    /// What to tell the driver. The pieces are valid while the operation is, wherever it is moved.
    #[inline]
    pub(super) fn command<'a>(&mut self, pieces: &'a mut Vec<Piece>) -> Command<'a> {
        pieces.clear();
        let bounce = self.bounce.as_mut();
        match &mut self.work {
            Work::Read { at, length, buffer, .. } => {
                pieces.push(room(bounce.unwrap_or(buffer), *length));
                Command::Read(*at, pieces)
            }
            Work::ReadVectored { at, buffers, .. } => {
                match bounce {
                    Some(bounce) => pieces.push(room(bounce, total_room(buffers))),
                    None => pieces.extend(buffers.iter_mut().map(|buffer| {
                        let length = buffer.capacity() - buffer.len();
                        room(buffer, length)
                    })),
                }
                Command::Read(*at, pieces)
            }
            Work::Write { at, data, .. } => Command::Write(*at, memory_of(data, bounce, pieces)),
            Work::WriteDurable { at, data, .. } => {
                Command::WriteDurable(*at, memory_of(data, bounce, pieces))
            }
            Work::Flush { .. } => Command::Flush,
            Work::Discard { at, length, .. } => Command::Discard(*at, *length),
            Work::WriteZeroes { at, length, .. } => Command::WriteZeroes(*at, *length),
        }
    }

    /// Ends it. If it was a read without an error, the driver has written all of its memory.
    #[inline]
    pub(super) fn finish(self, result: io::Result<()>) {
        self.work.finish(self.bounce, result);
    }
}

impl Work {
    #[inline]
    fn check(&self, geometry: &Geometry, ended: bool) -> io::Result<()> {
        if ended {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the runtime of this device has ended"));
        }
        let (at, length, writes) = match self {
            Work::Read { at, length, buffer, .. } => {
                let room = buffer.capacity() - buffer.len();
                if *length > room {
                    return Err(no_room(*length, room));
                }
                (*at, *length as u64, false)
            }
            Work::ReadVectored { at, buffers, .. } => (*at, total_room(buffers) as u64, false),
            Work::Write { at, data, .. } | Work::WriteDurable { at, data, .. } => {
                (*at, only(data).map_or_else(|| data.len(), |one| one.len()) as u64, true)
            }
            Work::Flush { .. } => return Ok(()),
            Work::Discard { at, length, .. } | Work::WriteZeroes { at, length, .. } => (*at, *length, true),
        };
        if matches!(self, Work::WriteDurable { .. }) && !geometry.durable_writes {
            let text = "the device has no durable writes: flush it";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if writes && geometry.read_only {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the device is read-only"));
        }
        geometry.check(at, length)
    }

    /// Whether the device can use the memory as it is.
    #[inline]
    fn is_reachable(&self, geometry: &Geometry) -> bool {
        let alignment = geometry.memory_alignment as usize;
        if alignment == 1 {
            return true;
        }
        let block = geometry.logical_block as usize;
        let fits =
            |address: usize, length: usize| address.is_multiple_of(alignment) && length.is_multiple_of(block);
        match self {
            // The length of the only piece has been checked.
            Work::Read { buffer, .. } => fits(buffer.as_ptr() as usize + buffer.len(), 0),
            Work::ReadVectored { buffers, .. } => buffers.iter().all(|buffer| {
                fits(buffer.as_ptr() as usize + buffer.len(), buffer.capacity() - buffer.len())
            }),
            Work::Write { data, .. } | Work::WriteDurable { data, .. } => {
                data.iter().all(|piece| fits(piece.as_ptr() as usize, piece.len()))
            }
            Work::Flush { .. } | Work::Discard { .. } | Work::WriteZeroes { .. } => true,
        }
    }

    /// Memory that the device can use, with the data if it is a write.
    #[cold]
    fn bounce(&self) -> io::Result<BufferMut> {
        // Chunks of this size and above are aligned to it, which is as much as any device asks for.
        const ALIGNED: usize = 4096;
        let length = match self {
            Work::Read { length, .. } => *length,
            Work::ReadVectored { buffers, .. } => total_room(buffers),
            Work::Write { data, .. } | Work::WriteDurable { data, .. } => data.len(),
            Work::Flush { .. } | Work::Discard { .. } | Work::WriteZeroes { .. } => 0,
        };
        let mut bounce = BufferMut::with_capacity(length.max(ALIGNED))?;
        if let Work::Write { data, .. } | Work::WriteDurable { data, .. } = self {
            data.iter().for_each(|piece| bounce.extend_from_slice(piece));
        }
        Ok(bounce)
    }

    #[inline]
    pub(super) fn finish(self, bounce: Option<BufferMut>, result: io::Result<()>) {
        match self {
            Work::Read { length, mut buffer, done, .. } => done.complete(result.map(|()| {
                // SAFETY: the driver has written so many bytes behind those that were there: here, or there.
                unsafe { fill(&mut buffer, bounce.as_ref().map(|bounce| bounce.as_ptr()), length) };
                buffer
            })),
            Work::ReadVectored { mut buffers, done, .. } => done.complete(result.map(|()| {
                let mut from = bounce.as_ref().map(|bounce| bounce.as_ptr());
                for buffer in &mut buffers {
                    let length = buffer.capacity() - buffer.len();
                    // SAFETY: the driver has filled the room of each: here, or there, where one lies behind the other.
                    unsafe {
                        fill(buffer, from, length);
                        from = from.map(|from| from.add(length));
                    }
                }
                buffers
            })),
            Work::Write { data, done, .. } | Work::WriteDurable { data, done, .. } => {
                // Before the one who waits may look whether the pool has memory again.
                drop((data, bounce));
                done.complete(result);
            }
            Work::Flush { done } | Work::Discard { done, .. } | Work::WriteZeroes { done, .. } => {
                done.complete(result);
            }
        }
    }
}

/// The pieces of what is to be written, or of what is in its place.
#[inline]
fn memory_of<'a>(data: &Sga, bounce: Option<&mut BufferMut>, pieces: &'a mut Vec<Piece>) -> &'a [Piece] {
    match (bounce, only(data)) {
        (Some(copy), _) => {
            let (length, region) = (copy.len(), copy.region());
            pieces.push(Piece { address: copy.as_mut_ptr(), length, region });
        }
        (None, Some(buffer)) => pieces.push(piece(buffer)),
        (None, None) => data.iter().for_each(|buffer| pieces.push(piece(buffer))),
    }
    pieces
}

/// The only buffer of a list, as nearly all have one.
#[inline]
fn only(data: &Sga) -> Option<&Buffer> {
    data.first().filter(|_| data.segments() == 1)
}

#[inline]
fn piece(buffer: &Buffer) -> Piece {
    Piece { address: buffer.as_ptr().cast_mut(), length: buffer.len(), region: buffer.region() }
}

#[cold]
fn no_room(length: usize, room: usize) -> io::Error {
    let text = format!("{length} bytes are to be read into a buffer that has room for {room}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn room(buffer: &mut BufferMut, length: usize) -> Piece {
    let filled = buffer.len();
    let region = buffer.region().map(|(region, offset)| (region, offset + filled));
    let spare = buffer.spare_capacity_mut();
    debug_assert!(length <= spare.len());
    Piece { address: spare.as_mut_ptr().cast(), length, region }
}

fn total_room(buffers: &[BufferMut]) -> usize {
    buffers.iter().map(|buffer| buffer.capacity() - buffer.len()).sum()
}

/// Makes a buffer longer by what was read.
///
/// # Safety
/// The buffer has room for `length` bytes. They are initialised: at `from`, if there is such a place, else in the buffer.
#[inline]
unsafe fn fill(buffer: &mut BufferMut, from: Option<*const u8>, length: usize) {
    // SAFETY: the buffer has room for so many bytes, which are initialised there or at `from`, as the caller says.
    unsafe {
        if let Some(from) = from {
            from.copy_to_nonoverlapping(buffer.spare_capacity_mut().as_mut_ptr().cast(), length);
        }
        buffer.set_len(buffer.len() + length);
    }
}
