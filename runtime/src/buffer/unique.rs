//! `BufferMut`: bytes with one owner, who may write them.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use super::chunk::Chunk;
use super::pool::error::PoolExhausted;
use super::pool::local::Pool;
use super::pool::waiters::Allocate;
use super::shared::{Buffer, check};

/// The only handle to a chunk of memory: bytes that can be written, with room before and behind.
///
/// It does not grow by itself: what the chunk holds is decided when it is made, or by
/// [`reserve`](BufferMut::reserve). [`freeze`](BufferMut::freeze) makes it a [`Buffer`], which
/// can be shared.
///
/// ```
/// use demikernel_runtime::buffer::BufferMut;
///
/// # fn main() -> Result<(), demikernel_runtime::buffer::PoolExhausted> {
/// // A payload, and a header in front of it once its length is known.
/// let mut packet = BufferMut::with_headroom(8, 1500)?;
/// packet.extend_from_slice(b"payload");
/// let len = packet.len() as u16;
/// packet.prepend(2).copy_from_slice(&len.to_be_bytes());
/// assert_eq!(packet.freeze(), b"\0\x07payload");
/// # Ok(())
/// # }
/// ```
pub struct BufferMut {
    /// The only handle to its chunk, which is writable.
    buffer: Buffer,
}

impl BufferMut {
    /// An empty buffer with room for at least `capacity` bytes.
    ///
    /// # Errors
    ///
    /// If the pool has no memory for them.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let buffer = BufferMut::with_capacity(1000)?;
    /// assert!(buffer.is_empty() && buffer.capacity() >= 1000);
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn with_capacity(capacity: usize) -> Result<BufferMut, PoolExhausted> {
        let chunk = Pool::current().allocate(capacity)?;
        // SAFETY: the chunk was just allocated with one handle, which this becomes.
        Ok(BufferMut { buffer: unsafe { Buffer::from_parts(chunk, 0, 0) } })
    }

    /// An empty buffer with room for at least `capacity` bytes and, in front of them, `headroom`
    /// more for [`prepend`](BufferMut::prepend).
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let buffer = BufferMut::with_headroom(14, 100)?;
    /// assert!(buffer.headroom() == 14 && buffer.capacity() >= 100);
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the pool has no memory for them.
    #[inline]
    pub fn with_headroom(headroom: usize, capacity: usize) -> Result<BufferMut, PoolExhausted> {
        let mut this = BufferMut::with_capacity(headroom.saturating_add(capacity))?;
        // SAFETY: the chunk has at least the sum, and no bytes are between the ends.
        unsafe { this.buffer.set_ends(headroom, 0) };
        Ok(this)
    }

    /// An empty buffer with room for at least `capacity` bytes, as soon as the pool has the memory.
    ///
    /// # Errors
    ///
    /// If the pool can never have it: more than its limit is wanted, or the system refuses memory
    /// and nothing is in use that could come back.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::{BufferMut, PoolExhausted};
    /// async fn reply(text: &str) -> Result<BufferMut, PoolExhausted> {
    ///     let mut reply = BufferMut::allocate(text.len()).await?;
    ///     reply.extend_from_slice(text.as_bytes());
    ///     Ok(reply)
    /// }
    /// # assert_eq!(futures::executor::block_on(reply("ok")).unwrap(), b"ok");
    /// ```
    pub fn allocate(capacity: usize) -> Allocate {
        Allocate::new(capacity)
    }

    /// All of a chunk, empty.
    ///
    /// # Safety
    ///
    /// The caller has the only handle to the chunk, which is writable, and gives it up.
    pub(super) unsafe fn from_chunk(chunk: NonNull<Chunk>) -> BufferMut {
        // SAFETY: no bytes are between the ends.
        BufferMut { buffer: unsafe { Buffer::from_parts(chunk, 0, 0) } }
    }

    /// The buffer as its only owner.
    ///
    /// # Safety
    ///
    /// It is the only handle to its chunk, which is writable.
    #[inline]
    pub(super) unsafe fn from_unique(buffer: Buffer) -> BufferMut {
        BufferMut { buffer }
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many bytes there can be, without the headroom.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.buffer.chunk().capacity.get() as usize - self.buffer.offset()
    }

    /// Room in front of the bytes.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.buffer.offset()
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// The bytes.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the only handle to a writable chunk.
        unsafe { self.buffer.as_mut_slice() }
    }

    /// The first byte; `capacity` bytes from it are valid for writes. It stays the same until the
    /// headroom changes, or `reserve` moves the bytes.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buffer.as_ptr().cast_mut()
    }

    /// The room behind the bytes.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut buffer = BufferMut::with_capacity(16)?;
    /// buffer.spare_capacity_mut()[0].write(b'x');
    /// // SAFETY: one byte was written.
    /// unsafe { buffer.set_len(1) };
    /// assert_eq!(buffer, b"x");
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len();
        let spare = self.capacity() - len;
        // SAFETY: within the chunk, of which this is the only handle.
        unsafe { slice::from_raw_parts_mut(self.as_mut_ptr().add(len).cast(), spare) }
    }

    /// Sets the number of bytes.
    ///
    /// # Safety
    ///
    /// There is capacity for them, and they are initialised.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity());
        let offset = self.buffer.offset();
        // SAFETY: as the caller promises.
        unsafe { self.buffer.set_ends(offset, len) };
    }

    /// Adds a copy of the bytes behind those that are there.
    ///
    /// # Panics
    ///
    /// If there is no room for them; see [`capacity`](BufferMut::capacity) and
    /// [`reserve`](BufferMut::reserve).
    #[inline(always)]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let len = self.len();
        check(bytes.len(), self.capacity() - len);
        // SAFETY: there is room, and the bytes are elsewhere, as this is the only handle to the
        // memory, and is borrowed.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_mut_ptr().add(len), bytes.len());
            self.set_len(len + bytes.len());
        }
    }

    /// Takes `count` bytes of the headroom and returns them, as zeros, to be written.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut frame = BufferMut::with_headroom(4, 100)?;
    /// frame.extend_from_slice(b"data");
    /// frame.prepend(4).copy_from_slice(&4u32.to_be_bytes());
    /// assert_eq!(frame, b"\0\0\0\x04data");
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there is less headroom.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> &mut [u8] {
        let headroom = self.headroom();
        check(count, headroom);
        // SAFETY: the bytes are in the chunk, before those that are there. Zeroing them makes them
        // initialised whatever an earlier owner of the chunk did, and shows nobody's data.
        unsafe {
            self.buffer.set_ends(headroom - count, self.len() + count);
            ptr::write_bytes(self.as_mut_ptr(), 0, count);
        }
        &mut self.as_mut_slice()[..count]
    }

    /// Drops the first `count` bytes; they become headroom.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Drops all but the first `len` bytes; nothing happens if there are not more.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// Drops all bytes and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.buffer.truncate(0);
    }

    /// Makes the buffer `len` bytes long, with copies of `value` if it has fewer.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut buffer = BufferMut::with_capacity(4)?;
    /// buffer.resize(4, b'-');
    /// assert_eq!(buffer, b"----");
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no room for them.
    pub fn resize(&mut self, len: usize, value: u8) {
        check(len, self.capacity());
        if let Some(more) = len.checked_sub(self.len()) {
            self.spare_capacity_mut()[..more].fill(MaybeUninit::new(value));
        }
        // SAFETY: there is room, and what was not there before has just been written.
        unsafe { self.set_len(len) };
    }

    /// Sees to it that there is room for `additional` more bytes: if there is not, copies the bytes
    /// to a larger chunk, with as much headroom.
    ///
    /// # Errors
    ///
    /// If the pool has no memory for them; the buffer is as it was.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut buffer = BufferMut::with_capacity(2)?;
    /// buffer.extend_from_slice(b"ab");
    /// buffer.reserve(100_000)?;
    /// buffer.resize(100_002, b'c');
    /// assert!(buffer.starts_with(b"abcc"));
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    pub fn reserve(&mut self, additional: usize) -> Result<(), PoolExhausted> {
        if additional <= self.capacity() - self.len() {
            return Ok(());
        }
        let mut larger = BufferMut::with_headroom(self.headroom(), self.len().saturating_add(additional))?;
        larger.extend_from_slice(self);
        *self = larger;
        Ok(())
    }

    /// Drops all bytes, and makes the room in front of them room behind them.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut buffer = BufferMut::with_headroom(14, 100)?;
    /// buffer.extend_from_slice(b"data");
    /// buffer.reset();
    /// assert!(buffer.is_empty() && buffer.headroom() == 0 && buffer.capacity() >= 114);
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn reset(&mut self) {
        // SAFETY: no bytes are between the ends.
        unsafe { self.buffer.set_ends(0, 0) };
    }

    /// Gives up the right to write, for that to share.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::BufferMut;
    /// let mut buffer = BufferMut::with_capacity(5)?;
    /// buffer.extend_from_slice(b"hello");
    /// let buffer = buffer.freeze();
    /// let other = buffer.clone();
    /// assert_eq!(buffer, other);
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    #[inline]
    pub fn freeze(self) -> Buffer {
        self.buffer
    }

    /// The region that the bytes are in, and where they begin in it; none for foreign memory. See
    /// [`Buffer::region`].
    #[inline]
    pub fn region(&self) -> Option<(u32, usize)> {
        self.buffer.region()
    }
}

impl Deref for BufferMut {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for BufferMut {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for BufferMut {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsMut<[u8]> for BufferMut {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

/// Writes what there is room for.
impl io::Write for BufferMut {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.capacity() - self.len());
        self.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<BufferMut> for Buffer {
    #[inline]
    fn from(buffer: BufferMut) -> Buffer {
        buffer.freeze()
    }
}
