//! The slow path: where chunks come from when a free list is empty.
//!
//! In this order: a block that no class has taken; a new region, within the limit; blocks that
//! other classes no longer use; the room of large chunks that are kept unused; a free chunk of a
//! larger class. Mapping comes before taking blocks back, so that classes whose use alternates do
//! not carve the same blocks over and over while there is room.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use super::class::Class;
use super::error::{Figures, PoolExhausted};
use super::hooks::Event;
use super::local::Pool;
use super::memory::{Block, Headers};
use super::region::{Mapping, REGION};
use super::retire;
use super::source::RegionSource;
use crate::buffer::chunk::{Chunk, ForeignChunk, NO_REGION, Owner};

/// Unused large chunks are kept up to this fraction of the limit: mapping and zeroing megabytes
/// costs far more than to hold on to some.
const KEPT_LARGE: usize = 8;

/// Headers looked at per failing request, on average, in search of unused blocks.
const SCAN_RATE: usize = 64;

/// Headers for foreign memory made at once.
const FOREIGN_HEADERS: usize = 32;

impl Pool {
    #[cold]
    pub(super) fn allocate_slow(&self, bytes: usize) -> Result<NonNull<Chunk>, PoolExhausted> {
        let class = Class::for_size(bytes);
        self.refused.set(None);
        let chunk = match class {
            Class::Large => self.take_large(bytes),
            _ => self.take_sized(class),
        };
        chunk.ok_or_else(|| {
            let list = self.list(class);
            list.exhausted.set(list.exhausted.get() + 1);
            self.exhausted(bytes)
        })
    }

    fn take_sized(&self, class: Class) -> Option<NonNull<Chunk>> {
        if self.restock(class) {
            return self.list(class).take();
        }
        class.larger().iter().find_map(|&larger| self.list(larger).take())
    }

    /// Makes chunks of the class, whose list is empty; false if there is no memory for them.
    fn restock(&self, class: Class) -> bool {
        self.carve(class)
            || (self.map_shared() && self.carve(class))
            || (self.reclaim() && self.carve(class))
            || (self.evict(REGION) && self.map_shared() && self.carve(class))
    }

    /// Whether a request for so many bytes would succeed now. Spares no effort to find memory.
    pub(super) fn can_serve(&self, bytes: usize) -> bool {
        self.collect();
        let class = Class::for_size(bytes);
        if class == Class::Large {
            let Some(len) = large_len(bytes) else { return false };
            let cached = self.memory.borrow().cached_large(len).is_some();
            return cached || (self.refused.get().is_none() && self.make_room(len));
        }
        if !self.list(class).is_empty() || class.larger().iter().any(|&class| !self.list(class).is_empty()) {
            return true;
        }
        self.reclaimable.set(true);
        self.restock(class)
    }

    /// Makes a free block into chunks.
    fn carve(&self, class: Class) -> bool {
        let mut memory = self.memory.borrow_mut();
        memory.carve(class, self.empty.pool).is_some_and(|block| self.list_all(class, block))
    }

    /// Makes a free block of one of these regions into chunks.
    pub(super) fn carve_in(&self, regions: &[u32], class: Class) -> bool {
        regions.iter().any(|&id| {
            let mut memory = self.memory.borrow_mut();
            let block = memory.carve_in(id as usize, class, self.empty.pool);
            block.is_some_and(|block| self.list_all(class, block))
        })
    }

    /// Adds the chunks of a block to the list of their class.
    fn list_all(&self, class: Class, block: &Block) -> bool {
        let list = self.list(class);
        // Backwards, so that the lowest address is used first.
        block.headers.iter().rev().for_each(|chunk| list.push(chunk));
        list.total.set(list.total.get() + block.headers.len() as u32);
        true
    }

    /// Maps a region for classes to share, if the limit and the system allow it.
    fn map_shared(&self) -> bool {
        retire::reap();
        if !self.memory.borrow().has_room(REGION) {
            return false;
        }
        let Some(mapping) = self.map(REGION) else { return false };
        let id = self.memory.borrow_mut().add_shared(mapping);
        self.announce(Event::Mapped(id));
        self.deliver();
        true
    }

    /// Asks the system for memory. No borrow may be held: there is logging in it, which is
    /// anybody's code.
    fn map(&self, len: usize) -> Option<Mapping> {
        let source = self.memory.borrow().source.clone();
        self.map_from(len, source)
    }

    /// The same of this source.
    pub(super) fn map_from(&self, len: usize, source: Option<Arc<dyn RegionSource>>) -> Option<Mapping> {
        let refuse = |error: &io::Error| self.refused.set(error.raw_os_error().or(Some(libc::ENOMEM)));
        Mapping::new(len, source).inspect_err(refuse).ok()
    }

    /// Gives blocks that are not used back to their regions, for any class. The search takes time,
    /// so without a sign of success it is skipped until enough requests have failed to pay for it.
    pub(super) fn reclaim(&self) -> bool {
        if self.reclaimable.take() {
            return self.reclaim_now();
        }
        match self.scan_debt.get().checked_sub(1) {
            None => self.reclaim_now(),
            Some(debt) => {
                self.scan_debt.set(debt);
                false
            }
        }
    }

    /// Failing requests to go until unused blocks are looked for again.
    #[cfg(all(test, not(demikernel_loom)))]
    pub(in crate::buffer) fn scan_debt(&self) -> usize {
        self.scan_debt.get()
    }

    /// Searches all blocks; true if any was given back.
    fn reclaim_now(&self) -> bool {
        let mut memory = self.memory.borrow_mut();
        let mut found = [false; Class::COUNT];
        let mut scanned = 0;
        for (_, block) in &mut memory.blocks {
            let list = self.list(block.class);
            let free = (list.total.get() - list.in_use.get()) as usize;
            if free < block.headers.len() {
                continue;
            }
            let in_use = block.first_in_use();
            scanned += in_use.map_or(block.headers.len(), |index| index + 1);
            block.doomed = in_use.is_none();
            found[block.class as usize] |= block.doomed;
        }
        for class in Class::SIZED.into_iter().filter(|&class| found[class as usize]) {
            let list = self.list(class);
            list.retain(|chunk| !memory.blocks[chunk.block as usize].doomed);
            let doomed = memory.blocks.iter().filter(|(_, block)| block.class == class && block.doomed);
            let chunks: usize = doomed.map(|(_, block)| block.headers.len()).sum();
            list.total.set(list.total.get() - chunks as u32);
        }
        memory.uncarve_doomed();
        let any = found.contains(&true);
        self.scan_debt.set(if any { 0 } else { scanned / SCAN_RATE });
        any
    }

    /// Unmaps unused large chunks until so much can be mapped.
    fn evict(&self, len: usize) -> bool {
        loop {
            let memory = self.memory.borrow();
            if memory.has_room(len) {
                return true;
            }
            let Some(id) = memory.unused_large() else { return false };
            drop(memory);
            self.release(id);
        }
    }

    /// Unmaps whatever is not used until so much can be mapped.
    fn make_room(&self, len: usize) -> bool {
        if self.evict(len) {
            return true;
        }
        if len > self.memory.borrow().limit {
            return false;
        }
        self.reclaim_now();
        loop {
            let memory = self.memory.borrow();
            if memory.has_room(len) {
                return true;
            }
            let Some(id) = memory.free_region() else { return false };
            drop(memory);
            self.release(id);
        }
    }

    /// Unmaps all that is not used.
    pub(super) fn trim(&self) {
        self.collect();
        self.reclaim_now();
        loop {
            let memory = self.memory.borrow();
            let Some(id) = memory.unused_large().or_else(|| memory.free_region()) else { return };
            drop(memory);
            self.release(id);
        }
    }

    /// Unmaps a region that is not used, after the hooks have heard of it.
    fn release(&self, id: u32) {
        let large = self.memory.borrow_mut().leave(id);
        if large {
            let list = self.list(Class::Large);
            list.total.set(list.total.get() - 1);
        }
        self.announce(Event::Unmapping(id));
        self.deliver();
    }

    /// A chunk with a region of its own.
    fn take_large(&self, bytes: usize) -> Option<NonNull<Chunk>> {
        let len = large_len(bytes)?;
        let list = self.list(Class::Large);
        let memory = self.memory.borrow();
        if let Some(chunk) = memory.cached_large(len) {
            // SAFETY: the header lives as long as its region.
            unsafe { chunk.as_ref() }.count.set(1);
            list.count_taken();
            return Some(chunk);
        }
        drop(memory);
        if !self.make_room(len) {
            return None;
        }
        let mapping = self.map(len)?;
        let (id, chunk) = self.memory.borrow_mut().add_large(mapping, self.empty.pool);
        list.total.set(list.total.get() + 1);
        list.count_taken();
        // It is in use already, so hooks that allocate cannot have it evicted.
        self.announce(Event::Mapped(id));
        self.deliver();
        Some(chunk)
    }

    /// Takes back a chunk that belongs to no free list of a size.
    #[cold]
    pub(super) fn free_special(&self, chunk: NonNull<Chunk>) {
        // SAFETY: called with a chunk whose last handle is gone; its header is still there.
        let header = unsafe { chunk.as_ref() };
        match header.class {
            Class::Large => self.free_large(header.region.get()),
            Class::Foreign => self.free_foreign(chunk),
            _ => unreachable!("the empty chunk keeps a count of its own"),
        }
    }

    fn free_large(&self, id: u32) {
        let list = self.list(Class::Large);
        list.in_use.set(list.in_use.get() - 1);
        let memory = self.memory.borrow();
        let keep = memory.unused_large_bytes() <= memory.limit / KEPT_LARGE;
        drop(memory);
        if !keep {
            self.release(id);
        }
        if self.shared.waiters.any() {
            self.shared.waiters.notify(|_| true);
        }
    }

    /// A header for memory from elsewhere, with one handle, which the caller becomes.
    pub(in crate::buffer) fn foreign(
        &self,
        data: NonNull<u8>,
        capacity: u32,
        owner: Owner,
    ) -> NonNull<Chunk> {
        let list = self.list(Class::Foreign);
        let chunk = match list.take() {
            Some(chunk) => chunk,
            None => self.foreign_slow(),
        };
        // SAFETY: a header of this class, just taken from the list, so nobody else uses it.
        let foreign = unsafe { ForeignChunk::of(chunk) };
        foreign.chunk.data.set(data);
        foreign.chunk.capacity.set(capacity);
        foreign.chunk.writable.set(matches!(owner, Owner::Vec(_)));
        foreign.chunk.region.set(NO_REGION);
        if let Owner::Bytes(_) = owner {
            // They may be a view of a buffer of this thread, whose region devices know.
            let found = self.memory.borrow().locate(data, capacity as usize);
            if let Some((region, offset)) = found {
                foreign.chunk.region.set(region);
                foreign.chunk.offset.set(offset as u32);
            }
        }
        foreign.owner.set(owner);
        chunk
    }

    #[cold]
    fn foreign_slow(&self) -> NonNull<Chunk> {
        let list = self.list(Class::Foreign);
        let headers = Headers::new((0..FOREIGN_HEADERS).map(|_| ForeignChunk::new(self.empty.pool)));
        headers.iter().rev().for_each(|header| list.push(header.cast()));
        self.memory.borrow_mut().foreign.push(headers);
        list.total.set(list.total.get() + FOREIGN_HEADERS as u32);
        list.take().expect("headers were just added")
    }

    fn free_foreign(&self, chunk: NonNull<Chunk>) {
        // SAFETY: called with a chunk of this class.
        let owner = unsafe { ForeignChunk::of(chunk) }.owner.replace(Owner::Nobody);
        self.list(Class::Foreign).put(chunk);
        // Last, as its destructor may be anybody's code, which may use the pool.
        drop(owner);
    }

    /// Somebody waits, and a chunk of this class has become free: passes the news on.
    #[cold]
    pub(super) fn freed_while_waiting(&self, class: Class, block: u32) {
        if self.shared.waiters.notify(|wanted| wanted <= class) {
            return;
        }
        // Too small for anybody, but its block may have become free for other classes. Looking at
        // one block after each free finds all that become free while somebody waits; those that
        // were free before have been found when the first began to wait.
        let is_free = self.memory.borrow().blocks[block as usize].first_in_use().is_none();
        if is_free {
            self.reclaimable.set(true);
            self.shared.waiters.notify(|_| true);
        }
    }

    /// The error of a request that failed.
    pub(super) fn exhausted(&self, bytes: usize) -> PoolExhausted {
        let needed = match Class::for_size(bytes) {
            Class::Large => large_len(bytes).unwrap_or(bytes),
            class => class.size(),
        };
        let in_use = self.in_use_bytes();
        let memory = self.memory.borrow();
        PoolExhausted::new(Figures {
            wanted: bytes,
            needed,
            in_use,
            mapped: memory.mapped,
            limit: memory.limit,
            errno: self.refused.get(),
        })
    }
}

/// Length of the region for a chunk of so many bytes. Lengths of buffers have 32 bits.
fn large_len(bytes: usize) -> Option<usize> {
    u32::try_from(bytes).ok()?;
    bytes.checked_next_multiple_of(REGION)
}
