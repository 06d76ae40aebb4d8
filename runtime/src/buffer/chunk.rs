//! The header of a chunk.
//!
//! Headers live apart from the memory that they describe: the data of a chunk keeps the natural
//! alignment of its size, and devices never see a count. Foreign memory (a `Vec`, a `Bytes`, a
//! `'static` slice) gets a header too, so that handles know only one kind of chunk.
//!
//! A chunk is *free* (count 0, linked in its pool's free list) or *in use* (count > 0). Who touches
//! what, while it is in use:
//!
//! | fields | written by | read by |
//! |---|---|---|
//! | `count` | the owner thread | the owner thread |
//! | `returned` | any thread that drops an exported count | the owner thread |
//! | the others | nobody | any thread that holds a count |
//!
//! The *owner thread* is the one whose pool the chunk belongs to. Every [`Buffer`](super::Buffer)
//! and [`BufferMut`](super::BufferMut) is on that thread, as they are not `Send`; counts that were
//! exported to other threads are given back through [`Link`].

use std::cell::Cell;
use std::process::abort;
use std::ptr::NonNull;

use bytes::Bytes;

use super::pool::class::Class;
use super::pool::local::Pool;
use super::pool::returns::{Link, Linked};

/// Header of a chunk; a cache line.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Handles to this chunk, exported ones included; 0 while it is free.
    pub(super) count: Cell<u32>,
    /// Bytes at `data`.
    pub(super) capacity: Cell<u32>,
    pub(super) data: Cell<NonNull<u8>>,
    /// The next chunk of the free list, while this one is free.
    pub(super) next: Cell<Option<NonNull<Chunk>>>,
    /// The pool that takes the chunk back. Pools are never freed.
    pub(super) pool: NonNull<Pool>,
    /// The region that `data` is in, or [`NO_REGION`].
    pub(super) region: Cell<u32>,
    /// The block of the region that the chunk was carved from.
    pub(super) block: u32,
    /// Where `data` is in the region.
    pub(super) offset: Cell<u32>,
    pub(super) class: Class,
    /// Whether the bytes may be written by a unique handle.
    pub(super) writable: Cell<bool>,
    /// Counts that other threads gave back.
    pub(super) returned: Link<Chunk>,
}

#[cfg(not(demikernel_loom))]
const _: () = assert!(size_of::<Chunk>() == 64);

/// Chunks whose memory is in no region that this thread's pool mapped.
pub(super) const NO_REGION: u32 = u32::MAX;

impl Linked for Chunk {
    fn link(&self) -> &Link<Chunk> {
        &self.returned
    }
}

impl Chunk {
    /// A free chunk that describes no memory yet.
    pub(super) fn new(pool: NonNull<Pool>, class: Class) -> Chunk {
        Chunk {
            count: Cell::new(0),
            capacity: Cell::new(0),
            data: Cell::new(NonNull::dangling()),
            next: Cell::new(None),
            pool,
            region: Cell::new(NO_REGION),
            block: 0,
            offset: Cell::new(0),
            class,
            writable: Cell::new(false),
            returned: Link::new(),
        }
    }

    /// One more handle.
    #[inline]
    pub(super) fn retain(&self) {
        let count = self.count.get().wrapping_add(1);
        // Handles can be leaked, so the count can wrap; going on would free memory that is in use.
        if count == 0 {
            abort();
        }
        self.count.set(count);
    }

    /// `count` handles less; true if no handle is left.
    #[inline]
    pub(super) fn release(&self, count: u32) -> bool {
        debug_assert!(self.count.get() >= count);
        self.count.set(self.count.get().wrapping_sub(count));
        self.count.get() == 0
    }
}

/// What keeps foreign memory alive.
pub(super) enum Owner {
    /// Nothing: the chunk is free, or its memory is `'static`.
    Nobody,
    /// The bytes may not be written.
    Bytes(Bytes),
    /// Only its allocation is used (its length is 0), through the chunk's `data` pointer.
    Vec(#[expect(dead_code, reason = "held for its destructor")] Vec<u8>),
}

/// Header of a chunk of foreign memory, with what keeps the memory alive.
#[repr(C)]
pub(super) struct ForeignChunk {
    /// First, so that a pointer to one is a pointer to the other. Its class is [`Class::Foreign`].
    pub(super) chunk: Chunk,
    pub(super) owner: Cell<Owner>,
}

impl ForeignChunk {
    /// A free header.
    pub(super) fn new(pool: NonNull<Pool>) -> ForeignChunk {
        ForeignChunk { chunk: Chunk::new(pool, Class::Foreign), owner: Cell::new(Owner::Nobody) }
    }

    /// The foreign chunk whose header this is.
    ///
    /// # Safety
    ///
    /// `chunk` points to a live header of class [`Class::Foreign`], derived from a pointer to the
    /// whole `ForeignChunk`.
    pub(super) unsafe fn of<'a>(chunk: NonNull<Chunk>) -> &'a ForeignChunk {
        // SAFETY: headers of this class are made only as the first field of a `ForeignChunk`
        // (`Pool::foreign_slow`), and the caller vouches for the rest.
        unsafe { chunk.cast::<ForeignChunk>().as_ref() }
    }
}
