//! To and from memory of other kinds, without copying: [`bytes::Bytes`], `Vec`, `'static` data;
//! and the traits [`Buf`] and [`BufMut`].

use std::ptr::NonNull;
use std::slice;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes};

use super::chunk::{Chunk, ForeignChunk, Owner};
use super::pool::class::Class;
use super::pool::local::Pool;
use super::shared::check;
use super::{Buffer, BufferMut};

/// A count of a chunk that may be on any thread.
struct Exported {
    /// In use: this is one of its count.
    chunk: NonNull<Chunk>,
    /// As in a `Buffer`.
    offset: u32,
    len: u32,
}

// SAFETY: it reads only what nobody writes while the chunk is in use, and gives its count back
// through the lock-free stack unless it is on the thread of the pool, at that moment.
unsafe impl Send for Exported {}

impl AsRef<[u8]> for Exported {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the chunk is in use, shared, and so nobody writes to it; the part is within it.
        unsafe {
            let data = (*self.chunk.as_ptr()).data.get();
            slice::from_raw_parts(data.as_ptr().add(self.offset as usize), self.len as usize)
        }
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // SAFETY: the chunk is in use, and its pool is never written. Then the count goes back one
        // way or the other: on the thread of the pool as a buffer's would, otherwise to the shared
        // part of the chunk's pool.
        unsafe {
            let pool = (*self.chunk.as_ptr()).pool;
            if Pool::is_current(pool) {
                drop(Buffer::from_parts(self.chunk, self.offset, self.len));
            } else {
                Pool::shared(pool).give_back(self.chunk);
            }
        }
    }
}

impl Buffer {
    /// The bytes in a form that can go to other threads; they are not copied.
    ///
    /// They can be dropped on any thread, also when this one has ended; the memory comes back to
    /// the pool that it is from.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::Buffer;
    /// let buffer = Buffer::copy_from_slice(b"to another thread")?;
    /// let bytes = buffer.into_bytes();
    /// std::thread::spawn(move || assert_eq!(&bytes[..2], b"to")).join().unwrap();
    /// # Ok::<(), demikernel_runtime::buffer::PoolExhausted>(())
    /// ```
    pub fn into_bytes(self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        if self.chunk().class == Class::Foreign
            && let Some(bytes) = self.original()
        {
            return bytes;
        }
        let (chunk, offset, len) = self.into_parts();
        Bytes::from_owner(Exported { chunk, offset, len })
    }

    /// The same part of the foreign bytes that the buffer is a view of.
    fn original(&self) -> Option<Bytes> {
        // SAFETY: a header of this class.
        let foreign = unsafe { ForeignChunk::of(self.chunk_pointer()) };
        let owner = foreign.owner.replace(Owner::Nobody);
        let (offset, len) = (self.offset(), self.len());
        let part = match &owner {
            Owner::Bytes(bytes) => Some(bytes.slice(offset..offset + len)),
            // SAFETY: a foreign chunk in use whose owner is nobody is of a `'static` slice.
            Owner::Nobody => Some(Bytes::from_static(unsafe { slice::from_raw_parts(self.as_ptr(), len) })),
            Owner::Vec(_) => None,
        };
        foreign.owner.set(owner);
        part
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Bytes {
        buffer.into_bytes()
    }
}

impl From<BufferMut> for Bytes {
    fn from(buffer: BufferMut) -> Bytes {
        buffer.freeze().into_bytes()
    }
}

/// Without copying.
///
/// # Panics
///
/// If there are 4 GiB or more.
impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        if bytes.is_empty() {
            return Buffer::new();
        }
        let data = NonNull::from(&bytes[..]).cast();
        let len = bytes.len();
        // SAFETY: `Bytes` neither moves nor changes its bytes while it lives.
        unsafe { Buffer::foreign(data, len, len, Owner::Bytes(bytes)) }
    }
}

/// Without copying.
///
/// # Panics
///
/// If there are 4 GiB or more.
impl From<Vec<u8>> for Buffer {
    fn from(mut vec: Vec<u8>) -> Buffer {
        if vec.is_empty() {
            return Buffer::new();
        }
        let (len, capacity) = (vec.len(), vec.capacity());
        vec.clear(); // which leaves the bytes as they are
        // SAFETY: the pointer of a vector is not null. Its allocation stays where it is until it is
        // dropped, and nobody touches the vector in between. Its first bytes are initialised.
        unsafe {
            let data = NonNull::new_unchecked(vec.as_mut_ptr());
            Buffer::foreign(data, len, capacity, Owner::Vec(vec))
        }
    }
}

/// Without copying.
///
/// # Panics
///
/// If there are 4 GiB or more.
impl From<String> for Buffer {
    fn from(string: String) -> Buffer {
        string.into_bytes().into()
    }
}

impl From<&'static [u8]> for Buffer {
    fn from(bytes: &'static [u8]) -> Buffer {
        Buffer::from_static(bytes)
    }
}

impl From<&'static str> for Buffer {
    fn from(string: &'static str) -> Buffer {
        Buffer::from_static(string.as_bytes())
    }
}

impl Buf for Buffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.as_slice()
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        Buffer::advance(self, count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.split_to(len).into_bytes()
    }
}

// SAFETY: `chunk_mut` is the room behind the bytes, always the same until `advance_mut` makes its
// beginning part of them.
unsafe impl BufMut for BufferMut {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.capacity() - self.len()
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::uninit(self.spare_capacity_mut())
    }

    #[inline]
    unsafe fn advance_mut(&mut self, count: usize) {
        check(count, self.remaining_mut());
        // SAFETY: checked above, and the caller has initialised the bytes.
        unsafe { self.set_len(self.len() + count) };
    }
}
