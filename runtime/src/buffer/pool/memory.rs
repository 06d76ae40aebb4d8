//! Regions and the blocks that they are divided into.
//!
//! A region that classes share is divided into 32 blocks of 64 KiB, whose state is one word of
//! bits. A class that has no free chunk takes a block (the 1 MiB class takes 16) and carves it into
//! chunks. A block all of whose chunks are free can be given back to its region, for another class.

use std::ptr::NonNull;
use std::sync::Arc;

use slab::Slab;

use super::class::Class;
use super::local::Pool;
use super::region::{Mapping, REGION, Region};
use super::source::RegionSource;
use crate::buffer::chunk::{Chunk, ForeignChunk};

/// What classes take from a region.
pub(super) const BLOCK: usize = REGION / u32::BITS as usize;

/// Bytes that a pool maps unless told otherwise.
pub(super) const DEFAULT_LIMIT: usize = 256 << 20;

/// The memory of a pool. Borrowed only for short steps that run no foreign code.
pub(super) struct Memory {
    /// Indexed by the region's id.
    pub(super) regions: Slab<Mapped>,
    /// Indexed by the `block` of their chunks.
    pub(super) blocks: Slab<Block>,
    /// Headers for foreign memory.
    pub(super) foreign: Vec<Headers<ForeignChunk>>,
    pub(super) mapped: usize,
    pub(super) limit: usize,
    /// Who gives memory, if the operating system does not.
    pub(super) source: Option<Arc<dyn RegionSource>>,
}

/// A region and the state of its blocks.
pub(super) struct Mapped {
    pub(super) mapping: Mapping,
    /// Bits of the blocks that nobody has taken.
    free: u32,
    /// The one chunk that covers the region, if it is not shared by classes.
    pub(super) large: Option<Headers<Chunk>>,
    /// Whether hooks have been told of it.
    pub(super) announced: bool,
    /// Whether it waits for hooks to be told that it goes.
    leaving: bool,
    /// Whether somebody needs it to stay mapped, and to be used before others.
    pub(super) pinned: bool,
}

/// Blocks that were carved into chunks of one class.
pub(super) struct Block {
    pub(super) class: Class,
    region: u32,
    /// Bits of the region's blocks that it is made of.
    bits: u32,
    pub(super) headers: Headers<Chunk>,
    /// Set while the block is taken apart.
    pub(super) doomed: bool,
}

/// Headers in one allocation, addressed by raw pointers which handles copy.
pub(super) struct Headers<T>(NonNull<[T]>);

impl<T> Headers<T> {
    pub(super) fn new(headers: impl Iterator<Item = T>) -> Headers<T> {
        let headers: Box<[T]> = headers.collect();
        Headers(NonNull::from(Box::leak(headers)))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = NonNull<T>> + use<T> {
        let first = self.0.cast::<T>();
        // SAFETY: the indices are inside the slice.
        (0..self.0.len()).map(move |index| unsafe { first.add(index) })
    }

    pub(super) fn first(&self) -> NonNull<T> {
        self.0.cast()
    }
}

impl<T> Drop for Headers<T> {
    fn drop(&mut self) {
        // SAFETY: leaked from a box in `new`. Who drops headers has made sure that they are free
        // (count 0) and in no free list, so no pointer to them is used again.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Block {
    /// The first chunk of it that is in use.
    pub(super) fn first_in_use(&self) -> Option<usize> {
        // SAFETY: headers live as long as their block, and all their fields allow shared access.
        self.headers.iter().position(|chunk| unsafe { chunk.as_ref() }.count.get() > 0)
    }
}

impl Mapped {
    /// Takes the lowest free blocks that the class needs, as bits.
    fn take(&mut self, class: Class) -> Option<u32> {
        let bits = self.span(class)?;
        self.free &= !bits;
        Some(bits)
    }

    /// Whether the class could take blocks of it.
    fn has_room(&self, class: Class) -> bool {
        self.span(class).is_some()
    }

    /// The lowest free blocks that the class could take.
    fn span(&self, class: Class) -> Option<u32> {
        if self.leaving {
            return None;
        }
        match class.blocks() {
            1 => (self.free != 0).then_some(self.free & self.free.wrapping_neg()),
            // Aligned, so that chunks keep the alignment of their size.
            span => (0..u32::BITS / span)
                .map(|index| ((1 << span) - 1) << (index * span))
                .find(|bits| self.free & bits == *bits),
        }
    }

    /// Whether no class uses any of it, nor does anybody else.
    fn is_free(&self) -> bool {
        self.large.is_none() && self.free == u32::MAX && !self.leaving && !self.pinned
    }

    /// Whether its one chunk is free, and kept for the next request.
    fn is_unused_large(&self) -> bool {
        !self.leaving && self.large_chunk().is_some_and(|chunk| chunk.count.get() == 0)
    }

    /// The chunk that covers the region, if there is one.
    fn large_chunk(&self) -> Option<&Chunk> {
        // SAFETY: the header lives as long as the region, and allows shared access.
        self.large.as_ref().map(|headers| unsafe { headers.first().as_ref() })
    }
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory {
            regions: Slab::new(),
            blocks: Slab::new(),
            foreign: Vec::new(),
            mapped: 0,
            limit: DEFAULT_LIMIT,
            source: None,
        }
    }

    /// Whether the limit allows to map so much more.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.limit.checked_sub(self.mapped).is_some_and(|room| room >= len)
    }

    /// Adds a region that classes share; the caller announces it.
    pub(super) fn add_shared(&mut self, mapping: Mapping) -> u32 {
        self.insert(mapping, None)
    }

    /// Adds a region for one chunk, which has one handle; the caller announces the region.
    pub(super) fn add_large(&mut self, mapping: Mapping, pool: NonNull<Pool>) -> (u32, NonNull<Chunk>) {
        let chunk = Chunk::new(pool, Class::Large);
        chunk.count.set(1);
        chunk.data.set(mapping.at(0));
        chunk.capacity.set(u32::try_from(mapping.len()).unwrap_or(u32::MAX));
        chunk.writable.set(true);
        let headers = Headers::new([chunk].into_iter());
        let chunk = headers.first();
        let id = self.insert(mapping, Some(headers));
        // SAFETY: made above, and not used by anybody yet.
        unsafe { chunk.as_ref() }.region.set(id);
        (id, chunk)
    }

    fn insert(&mut self, mapping: Mapping, large: Option<Headers<Chunk>>) -> u32 {
        self.mapped += mapping.len();
        let free = if large.is_some() { 0 } else { u32::MAX };
        let mapped = Mapped { mapping, free, large, announced: false, leaving: false, pinned: false };
        let id = self.regions.insert(mapped);
        u32::try_from(id).expect("that many regions do not fit the address space")
    }

    /// Makes chunks of the class out of a free block, if there is one. They are in no list yet.
    pub(super) fn carve(&mut self, class: Class, pool: NonNull<Pool>) -> Option<&Block> {
        let fitting = |pinned| {
            let mut regions = self.regions.iter();
            regions.find_map(|(id, region)| (region.pinned == pinned && region.has_room(class)).then_some(id))
        };
        let id = fitting(true).or_else(|| fitting(false))?;
        self.carve_in(id, class, pool)
    }

    /// The same with a block of this region.
    pub(super) fn carve_in(&mut self, id: usize, class: Class, pool: NonNull<Pool>) -> Option<&Block> {
        let bits = self.regions[id].take(class)?;
        let base = &self.regions[id].mapping;
        let start = bits.trailing_zeros() as usize * BLOCK;
        let length = bits.count_ones() as usize * BLOCK;
        let block = self.blocks.vacant_key() as u32;
        let headers = Headers::new((start..start + length).step_by(class.size()).map(|offset| {
            let mut chunk = Chunk::new(pool, class);
            chunk.block = block;
            chunk.region.set(id as u32);
            chunk.offset.set(offset as u32);
            chunk.data.set(base.at(offset));
            chunk.capacity.set(class.size() as u32);
            chunk.writable.set(true);
            chunk
        }));
        let key = self.blocks.insert(Block { class, region: id as u32, bits, headers, doomed: false });
        self.blocks.get(key)
    }

    /// Gives the doomed blocks back to their regions. Their chunks are in no list any more.
    pub(super) fn uncarve_doomed(&mut self) {
        let Memory { regions, blocks, .. } = self;
        blocks.retain(|_, block| {
            if block.doomed {
                regions[block.region as usize].free |= block.bits;
            }
            !block.doomed
        });
    }

    /// A shared region of which no class holds a part.
    pub(super) fn free_region(&self) -> Option<u32> {
        self.regions.iter().find(|(_, region)| region.is_free()).map(|(id, _)| id as u32)
    }

    /// The smallest unused large chunk of at least so many bytes, and not much larger.
    pub(super) fn cached_large(&self, len: usize) -> Option<NonNull<Chunk>> {
        let unused = self.regions.iter().filter(|(_, region)| region.is_unused_large());
        let fitting =
            unused.filter(|(_, region)| (len..=len.saturating_mul(2)).contains(&region.mapping.len()));
        let (_, region) = fitting.min_by_key(|(_, region)| region.mapping.len())?;
        region.large.as_ref().map(Headers::first)
    }

    /// A region of an unused large chunk.
    pub(super) fn unused_large(&self) -> Option<u32> {
        self.regions.iter().find(|(_, region)| region.is_unused_large()).map(|(id, _)| id as u32)
    }

    /// Bytes of unused large chunks.
    pub(super) fn unused_large_bytes(&self) -> usize {
        let unused = self.regions.iter().filter(|(_, region)| region.is_unused_large());
        unused.map(|(_, region)| region.mapping.len()).sum()
    }

    /// Bytes of large chunks that are in use.
    pub(super) fn large_in_use(&self) -> usize {
        let in_use = |region: &&Mapped| region.large_chunk().is_some_and(|chunk| chunk.count.get() > 0);
        self.regions.iter().map(|(_, region)| region).filter(in_use).map(|region| region.mapping.len()).sum()
    }

    /// Takes the region out of use; the caller announces that it is going to be unmapped.
    /// True if it is the region of a large chunk.
    pub(super) fn leave(&mut self, id: u32) -> bool {
        let region = &mut self.regions[id as usize];
        debug_assert!(region.is_free() || region.is_unused_large());
        region.leaving = true;
        region.large.is_some()
    }

    /// Hooks are about to be told that the region exists.
    pub(super) fn announce(&mut self, id: u32) -> Region {
        let region = &mut self.regions[id as usize];
        region.announced = true;
        region.mapping.describe(id)
    }

    /// Hooks are about to be told that the region goes.
    pub(super) fn withdraw(&mut self, id: u32) -> Region {
        let region = &mut self.regions[id as usize];
        debug_assert!(region.leaving);
        region.announced = false;
        region.mapping.describe(id)
    }

    /// Forgets a region that is leaving; dropping the result unmaps it.
    pub(super) fn unmap(&mut self, id: u32) -> Mapped {
        let region = self.regions.remove(id as usize);
        self.mapped -= region.mapping.len();
        region
    }

    /// The region that contains the bytes, and where they are in it.
    pub(super) fn locate(&self, data: NonNull<u8>, len: usize) -> Option<(u32, usize)> {
        self.regions.iter().find_map(|(id, region)| Some((id as u32, region.mapping.offset_of(data, len)?)))
    }
}
