//! `Buffer`: shared, immutable bytes.

use std::mem::ManuallyDrop;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;
use std::slice;

use super::chunk::{Chunk, NO_REGION, Owner};
use super::pool::error::PoolExhausted;
use super::pool::local::Pool;
use super::unique::BufferMut;

/// Shared, immutable bytes: a part of a chunk of memory, which lives as long as any part of it.
///
/// To clone, slice or split one copies no bytes. It is not `Send`; bytes leave their thread as
/// [`bytes::Bytes`], see [`into_bytes`](Buffer::into_bytes).
///
/// ```
/// use demikernel_runtime::buffer::Buffer;
///
/// # fn main() -> Result<(), demikernel_runtime::buffer::PoolExhausted> {
/// let mut message = Buffer::copy_from_slice(b"header:body")?;
/// let header = message.split_to(6);
/// message.advance(1);
/// assert_eq!(header, b"header");
/// assert_eq!(message, b"body");
/// # Ok(())
/// # }
/// ```
pub struct Buffer {
    /// In use: this handle is one of its count. On the thread of its pool.
    chunk: NonNull<Chunk>,
    span: Span,
}

/// Which part of its chunk a buffer is. The end is within the chunk's capacity, and the bytes
/// before it are initialised.
///
/// Offset (the lower half) and length in one word: so a buffer is two words, which travel in
/// registers, where three fields would be put together in memory each time.
#[derive(Clone, Copy)]
struct Span(u64);

impl Span {
    #[inline]
    fn new(offset: u32, len: u32) -> Span {
        Span(u64::from(offset) | u64::from(len) << 32)
    }

    #[inline]
    fn offset(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    fn len(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Without the first `count` bytes, of which there are as many.
    #[inline]
    fn skip(self, count: usize) -> Span {
        Span::new(self.offset() + count as u32, self.len() - count as u32)
    }

    /// Only the first `len` bytes, of which there are as many.
    #[inline]
    fn first(self, len: usize) -> Span {
        Span::new(self.offset(), len as u32)
    }
}

impl Buffer {
    /// An empty buffer; allocates nothing.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// assert!(Buffer::new().is_empty());
    /// ```
    #[inline]
    pub fn new() -> Buffer {
        Buffer::empty_of(Pool::current())
    }

    /// The empty buffer of a pool, which is this thread's.
    #[inline]
    fn empty_of(pool: &Pool) -> Buffer {
        pool.empty.retain();
        Buffer { chunk: NonNull::from(&pool.empty), span: Span::new(0, 0) }
    }

    /// A buffer of bytes that live forever, which are not copied.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let pong = Buffer::from_static(b"+PONG\r\n");
    /// assert_eq!(pong.len(), 7);
    /// ```
    ///
    /// # Panics
    ///
    /// If there are 4 GiB or more.
    pub fn from_static(bytes: &'static [u8]) -> Buffer {
        if bytes.is_empty() {
            return Buffer::new();
        }
        // SAFETY: the bytes live forever, and are not written: `Owner::Nobody` is not writable.
        unsafe { Buffer::foreign(NonNull::from(bytes).cast(), bytes.len(), bytes.len(), Owner::Nobody) }
    }

    /// A buffer on memory from elsewhere.
    ///
    /// # Safety
    ///
    /// The first `len` of `capacity` bytes at `data` are initialised, and stay where they are and
    /// readable until `owner` is dropped. If the owner is a `Vec`, nobody else uses the bytes.
    pub(super) unsafe fn foreign(data: NonNull<u8>, len: usize, capacity: usize, owner: Owner) -> Buffer {
        let len = u32::try_from(len).expect("a buffer has less than 4 GiB");
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Buffer { chunk: Pool::current().foreign(data, capacity, owner), span: Span::new(0, len) }
    }

    /// A buffer with a copy of the bytes.
    ///
    /// # Errors
    ///
    /// If the pool has no memory for them.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let name = String::from("demikernel");
    /// let buffer = Buffer::copy_from_slice(name.as_bytes())?;
    /// assert_eq!(buffer, name);
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn copy_from_slice(bytes: &[u8]) -> Result<Buffer, PoolExhausted> {
        if bytes.is_empty() {
            return Ok(Buffer::new());
        }
        let mut buffer = BufferMut::with_capacity(bytes.len())?;
        buffer.extend_from_slice(bytes);
        Ok(buffer.freeze())
    }

    /// The buffer with these parts.
    ///
    /// # Safety
    ///
    /// They fulfil what the fields say; the caller gives up a count of the chunk.
    #[inline]
    pub(super) unsafe fn from_parts(chunk: NonNull<Chunk>, offset: u32, len: u32) -> Buffer {
        Buffer { chunk, span: Span::new(offset, len) }
    }

    /// The parts of the buffer; the caller becomes responsible for its count.
    #[inline]
    pub(super) fn into_parts(self) -> (NonNull<Chunk>, u32, u32) {
        let this = ManuallyDrop::new(self);
        (this.chunk, this.span.offset(), this.span.len())
    }

    #[inline]
    pub(super) fn chunk(&self) -> &Chunk {
        // SAFETY: headers of chunks in use are alive, and allow shared access.
        unsafe { self.chunk.as_ref() }
    }

    /// Where the header is, to reach what lies around it.
    pub(super) fn chunk_pointer(&self) -> NonNull<Chunk> {
        self.chunk
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.span.len() as usize
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.span.len() == 0
    }

    /// The first byte.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.chunk().data.get().as_ptr().wrapping_add(self.offset())
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: see `Span`. Nobody writes while a shared handle exists.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// A part of the bytes, which shares the memory.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let line = Buffer::from_static(b"GET /index.html");
    /// assert_eq!(line.slice(4..), b"/index.html");
    /// ```
    ///
    /// # Panics
    ///
    /// If the range is not within the buffer.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Buffer {
        let (start, end) = bounds(range, self.len());
        self.part(start, end)
    }

    /// The bytes between `start` and `end`, which are in order and within the buffer.
    #[inline]
    fn part(&self, start: usize, end: usize) -> Buffer {
        if start == end {
            return self.empty();
        }
        self.chunk().retain();
        Buffer { chunk: self.chunk, span: self.span.skip(start).first(end - start) }
    }

    /// An empty buffer, which keeps no memory in use.
    fn empty(&self) -> Buffer {
        // SAFETY: pools are never freed, and a buffer is on the thread of its pool.
        Buffer::empty_of(unsafe { self.chunk().pool.as_ref() })
    }

    /// Splits off and returns the first `at` bytes; the others stay.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let mut stream = Buffer::from_static(b"onetwo");
    /// assert_eq!(stream.split_to(3), b"one");
    /// assert_eq!(stream, b"two");
    /// ```
    ///
    /// # Panics
    ///
    /// If there are fewer bytes.
    #[inline]
    pub fn split_to(&mut self, at: usize) -> Buffer {
        check(at, self.len());
        if at == self.len() {
            let empty = self.empty();
            return std::mem::replace(self, empty);
        }
        let front = self.part(0, at);
        self.span = self.span.skip(at);
        front
    }

    /// Splits off and returns what follows the first `at` bytes, which stay.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let mut frame = Buffer::from_static(b"payloadCRC");
    /// assert_eq!(frame.split_off(7), b"CRC");
    /// assert_eq!(frame, b"payload");
    /// ```
    ///
    /// # Panics
    ///
    /// If there are fewer bytes.
    #[inline]
    pub fn split_off(&mut self, at: usize) -> Buffer {
        check(at, self.len());
        if at == 0 {
            let empty = self.empty();
            return std::mem::replace(self, empty);
        }
        let back = self.part(at, self.len());
        self.span = self.span.first(at);
        back
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        check(count, self.len());
        self.span = self.span.skip(count);
    }

    /// Drops all but the first `len` bytes; nothing happens if there are not more.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.span = self.span.first(self.len().min(len));
    }

    /// Drops all bytes, and gives up the memory.
    pub fn clear(&mut self) {
        *self = self.empty();
    }

    /// Whether this is the only handle to its memory.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let buffer = Buffer::from(vec![1, 2, 3]);
    /// let part = buffer.slice(1..);
    /// assert!(!buffer.is_unique());
    /// drop(part);
    /// assert!(buffer.is_unique());
    /// ```
    #[inline]
    pub fn is_unique(&self) -> bool {
        if self.chunk().count.get() != 1 {
            // Other threads may have given back theirs.
            // SAFETY: pools are never freed, and a buffer is on the thread of its pool.
            unsafe { self.chunk().pool.as_ref() }.collect_if_any();
        }
        self.chunk().count.get() == 1
    }

    /// The right to write the bytes, if this is the only handle to their memory.
    ///
    /// Room behind and before them in the same chunk can be used too.
    ///
    /// # Errors
    ///
    /// The buffer, if it is shared, empty, or its memory is not ours to write (`'static` data and
    /// `Bytes`).
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// # fn main() -> Result<(), demikernel_runtime::buffer::PoolExhausted> {
    /// let buffer = Buffer::copy_from_slice(b"ping")?;
    /// let other = buffer.clone();
    /// let buffer = buffer.try_into_mut().unwrap_err();
    /// drop(other);
    /// let mut buffer = buffer.try_into_mut().unwrap();
    /// buffer[1] = b'o';
    /// assert_eq!(buffer, b"pong");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_into_mut(self) -> Result<BufferMut, Buffer> {
        if self.chunk().writable.get() && self.is_unique() {
            // SAFETY: the only handle to writable memory.
            Ok(unsafe { BufferMut::from_unique(self) })
        } else {
            Err(self)
        }
    }

    /// The region that the bytes are in, and where they begin in it; none for foreign memory.
    ///
    /// Regions are those of this thread's pool ([`pool::regions`](super::pool::regions)). Bytes
    /// that are a view of a buffer of this thread are found, too.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::{Buffer, pool};
    /// let buffer = Buffer::copy_from_slice(b"registered")?;
    /// let (id, offset) = buffer.region().unwrap();
    /// let region = pool::regions().into_iter().find(|region| region.id == id).unwrap();
    /// assert_eq!(region.base.as_ptr() as usize + offset, buffer.as_ptr() as usize);
    ///
    /// assert_eq!(Buffer::from_static(b"elsewhere").region(), None);
    /// # Ok::<(), pool::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn region(&self) -> Option<(u32, usize)> {
        let chunk = self.chunk();
        let region = chunk.region.get();
        (region != NO_REGION).then(|| (region, chunk.offset.get() as usize + self.offset()))
    }

    /// The bytes, writable.
    ///
    /// # Safety
    ///
    /// This is the only handle to a writable chunk.
    #[inline]
    pub(super) unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`, and nobody else has access.
        unsafe { slice::from_raw_parts_mut(self.as_ptr().cast_mut(), self.len()) }
    }

    /// Where the bytes begin in the chunk.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.span.offset() as usize
    }

    /// Moves the ends of the buffer in its chunk.
    ///
    /// # Safety
    ///
    /// They are in order and within the chunk, and the bytes between are initialised.
    #[inline]
    pub(super) unsafe fn set_ends(&mut self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.chunk().capacity.get() as usize);
        self.span = Span::new(offset as u32, len as u32);
    }
}

impl Default for Buffer {
    #[inline]
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Buffer {
        self.chunk().retain();
        Buffer { ..*self }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.chunk().release(1) {
            // SAFETY: it was the last handle, and is on the thread of its pool.
            unsafe { Pool::free(self.chunk) };
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Buffer {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

#[cold]
#[track_caller]
fn out_of_bounds(at: usize, len: usize) -> ! {
    panic!("position {at} is outside of a buffer of {len} bytes")
}

/// Panics if a position is behind the end.
#[inline]
#[track_caller]
pub(super) fn check(at: usize, len: usize) {
    if at > len {
        out_of_bounds(at, len);
    }
}

/// First and last position (exclusive) of a range, checked.
#[inline]
#[track_caller]
fn bounds(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    check(end, len);
    assert!(start <= end, "a range of a buffer begins at {start}, behind its end {end}");
    (start, end)
}
