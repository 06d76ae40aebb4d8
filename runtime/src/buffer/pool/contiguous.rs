//! Regions next to each other, for devices that register one range of addresses.

use std::ptr::NonNull;

use super::class::Class;
use super::error::PoolExhausted;
use super::hooks::Event;
use super::local::Pool;
use super::region::REGION;
use crate::buffer::BufferMut;
use crate::buffer::chunk::Chunk;

/// Regions of this thread's pool that lie next to each other, and stay mapped as long as this lives. See
/// [`contiguous`](super::contiguous).
#[derive(Debug)]
pub struct Contiguous {
    base: NonNull<u8>,
    len: usize,
    /// The ids of the regions.
    regions: Vec<u32>,
    /// Whose they are.
    pool: NonNull<Pool>,
}

// `Contiguous` is not `Send`, as pointers are not: it is dropped where the pool is.

impl Contiguous {
    /// The first byte, aligned to 2 MiB. All bytes are initialised, and belong to whoever has the buffers in which
    /// they are.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How many bytes there are, a multiple of 2 MiB.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds up to `count` buffers of at least `capacity` bytes in the range to `buffers`; returns how many there were.
    ///
    /// What was freed elsewhere is passed over: a look for many at once costs no more than for one.
    ///
    /// ```
    /// # use demikernel_runtime::buffer::pool;
    /// let range = pool::contiguous(2 << 20)?;
    /// let mut buffers = vec![];
    /// assert_eq!(range.allocate(2000, 5000, &mut buffers), 1024, "as many as there are");
    /// assert!(buffers.iter().all(|buffer| range.offset_of(buffer).is_some()));
    /// # Ok::<(), pool::PoolExhausted>(())
    /// ```
    pub fn allocate(&self, capacity: usize, count: usize, buffers: &mut Vec<BufferMut>) -> usize {
        let (pool, class) = (Pool::current(), Class::for_size(capacity));
        // One that outlived the clean-up of its thread's pool has no memory to give.
        if class == Class::Large || !Pool::is_current(self.pool) {
            return 0;
        }
        pool.collect_if_any();
        let before = buffers.len();
        loop {
            let left = count - (buffers.len() - before);
            let inside = |chunk: &Chunk| self.has(chunk.data.get());
            pool.list(class).take_some(left, inside, |chunk| {
                // SAFETY: chunks of a class are writable, and this one was in the list: nobody has a handle.
                buffers.push(unsafe { BufferMut::from_chunk(chunk) });
            });
            let taken = buffers.len() - before;
            let more = || pool.carve_in(&self.regions, class);
            if taken == count || !(more() || pool.reclaim() && more()) {
                return taken;
            }
        }
    }

    fn has(&self, data: NonNull<u8>) -> bool {
        (data.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize) < self.len
    }

    /// Where these bytes begin, if all of them are in the range.
    #[inline]
    pub fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        // Of what is below the base it is a large number.
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize);
        (offset < self.len && bytes.len() <= self.len - offset).then_some(offset)
    }
}

impl Drop for Contiguous {
    fn drop(&mut self) {
        if !Pool::is_current(self.pool) {
            return; // the thread ends, and its pool was put aside with these regions
        }
        let mut memory = Pool::current().memory.borrow_mut();
        for &id in &self.regions {
            memory.regions[id as usize].pinned = false;
        }
    }
}

impl Pool {
    /// See [`contiguous`](super::contiguous).
    pub(super) fn contiguous(&self, bytes: usize) -> Result<Contiguous, PoolExhausted> {
        self.trim();
        let whole = bytes.max(1).checked_next_multiple_of(REGION);
        let fitting = whole.filter(|&len| self.memory.borrow().has_room(len));
        self.refused.set(None);
        let Some(mapping) = fitting.and_then(|len| self.map_from(len, None)) else {
            return Err(self.exhausted(bytes));
        };
        let (base, len) = (mapping.at(0), mapping.len());
        let mut regions = Vec::with_capacity(len / REGION);
        for part in mapping.split() {
            let mut memory = self.memory.borrow_mut();
            let id = memory.add_shared(part);
            // Before anybody hears of it: hooks may allocate, and free.
            memory.regions[id as usize].pinned = true;
            drop(memory);
            self.announce(Event::Mapped(id));
            regions.push(id);
        }
        self.deliver();
        Ok(Contiguous { base, len, regions, pool: NonNull::from(self) })
    }
}
