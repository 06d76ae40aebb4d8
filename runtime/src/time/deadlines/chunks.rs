//! [`Chunks`]: what the buckets of [`Deadlines`](super::Deadlines) are made of.

use super::DUE;

/// Entries in a chunk: so many fill four cache lines together with what leads to the next chunk.
const ROOM: usize = 15;

/// Chunks that are kept when all entries have gone.
const KEPT: usize = 64;

/// No chunk, or no place.
const NONE: u32 = u32::MAX;

/// A deadline in nanoseconds, and whose it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) when: u64,
    pub(super) number: u32,
}

/// Some entries of a bucket.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk {
    /// The next one of the bucket, which is full; or of those that are free.
    next: u32,
    bucket: u32,
    len: u32,
    entries: [Entry; ROOM],
}

const _: () = assert!(size_of::<Chunk>() == 256);

impl Chunk {
    const EMPTY: Chunk =
        Chunk { next: NONE, bucket: 0, len: 0, entries: [Entry { when: 0, number: 0 }; ROOM] };
}

/// Entries by bucket, and where each number's entry is.
///
/// Invariants, between calls:
/// - a number has one entry at most, and `places` says where it is: chunk and place within, or nowhere;
/// - of a bucket's chunks, the first has entries, and all others are full;
/// - a chunk is in one bucket, or free, or in [`Detached`].
pub(super) struct Chunks {
    /// The first chunk of each bucket.
    heads: Box<[u32; DUE as usize + 1]>,
    chunks: Vec<Chunk>,
    /// The first chunk that is free.
    free: u32,
    places: Vec<u32>,
    len: usize,
}

/// The entries of what was a bucket, on their way into others.
pub(super) struct Detached {
    chunk: u32,
    /// Entries of the chunk that are left.
    left: u32,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        let heads = Box::new([NONE; DUE as usize + 1]);
        Chunks { heads, chunks: Vec::new(), free: NONE, places: Vec::new(), len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn chunk(&self, index: u32) -> &Chunk {
        &self.chunks[index as usize]
    }

    #[inline]
    fn chunk_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.chunks[index as usize]
    }

    /// The number may have an entry from now on.
    #[inline]
    pub(super) fn reserve(&mut self, number: u32) {
        if number as usize >= self.places.len() {
            self.places.resize(number as usize + 1, NONE);
        }
    }

    /// Adds an entry of a number that has none; whether the bucket was empty.
    #[inline]
    pub(super) fn push(&mut self, bucket: u32, entry: Entry) -> bool {
        let head = self.heads[bucket as usize];
        let has_room = self.chunks.get(head as usize).is_some_and(|chunk| (chunk.len as usize) < ROOM);
        let index = if has_room { head } else { self.add_chunk(bucket) };
        let chunk = self.chunk_mut(index);
        let place = chunk.len;
        chunk.entries[place as usize] = entry;
        chunk.len += 1;
        self.places[entry.number as usize] = index * (ROOM + 1) as u32 + place;
        self.len += 1;
        head == NONE
    }

    /// A chunk without entries, at the head of a bucket.
    fn add_chunk(&mut self, bucket: u32) -> u32 {
        if self.free == NONE {
            self.free = self.chunks.len() as u32;
            self.chunks.push(Chunk::EMPTY);
        }
        let (index, head) = (self.free, self.heads[bucket as usize]);
        let chunk = self.chunk_mut(index);
        let free = std::mem::replace(&mut chunk.next, head);
        (chunk.bucket, chunk.len) = (bucket, 0);
        self.free = free;
        self.heads[bucket as usize] = index;
        index
    }

    #[inline]
    fn give_back(&mut self, index: u32) {
        self.chunk_mut(index).next = self.free;
        self.free = index;
    }

    /// Takes out the entry of a number, if it has one; the bucket, if that is empty now.
    #[inline]
    pub(super) fn remove(&mut self, number: u32) -> Option<u32> {
        let place = *self.places.get(number as usize)?;
        if place == NONE {
            return None;
        }
        let (index, within) = (place / (ROOM + 1) as u32, place % (ROOM + 1) as u32);
        let bucket = self.chunk(index).bucket;
        let (last, is_empty) = self.pop(bucket)?;
        if last.number != number {
            // Its place is taken by the one that was last.
            self.chunk_mut(index).entries[within as usize] = last;
            self.places[last.number as usize] = place;
            self.places[number as usize] = NONE;
        }
        is_empty.then_some(bucket)
    }

    /// Takes out the last entry of the first chunk of a bucket, which alone need not be full; and whether the bucket is empty
    /// now.
    #[inline]
    pub(super) fn pop(&mut self, bucket: u32) -> Option<(Entry, bool)> {
        let head = self.heads[bucket as usize];
        let chunk = self.chunks.get_mut(head as usize)?;
        chunk.len -= 1;
        let (entry, len, next) = (chunk.entries[chunk.len as usize], chunk.len, chunk.next);
        self.places[entry.number as usize] = NONE;
        self.len -= 1;
        if len > 0 {
            return Some((entry, false));
        }
        self.heads[bucket as usize] = next;
        self.give_back(head);
        if self.len == 0 && self.chunks.len() > KEPT {
            self.shrink();
        }
        Some((entry, next == NONE))
    }

    /// There are no entries: most of the memory is given back.
    #[cold]
    fn shrink(&mut self) {
        self.chunks = Vec::new();
        self.free = NONE;
    }

    /// The entry of a bucket in which there is one.
    #[inline]
    pub(super) fn only(&self, bucket: u32) -> Option<Entry> {
        let chunk = self.chunks.get(self.heads[bucket as usize] as usize)?;
        (chunk.len == 1 && chunk.next == NONE).then_some(chunk.entries[0])
    }

    /// The entry that was added last to a bucket, or took its place.
    #[inline]
    pub(super) fn last(&self, bucket: u32) -> Option<Entry> {
        let chunk = self.chunks.get(self.heads[bucket as usize] as usize)?;
        Some(chunk.entries[chunk.len as usize - 1])
    }

    /// All entries of a bucket.
    pub(super) fn entries(&self, bucket: u32) -> impl Iterator<Item = &Entry> {
        let first = self.heads[bucket as usize];
        let known = |index: u32| (index != NONE).then(|| self.chunk(index));
        let chunks = std::iter::successors(known(first), move |chunk| known(chunk.next));
        chunks.flat_map(|chunk| &chunk.entries[..chunk.len as usize])
    }

    /// Empties a bucket; all its entries are to be [taken](Self::next_of) and put in again at once.
    #[inline]
    pub(super) fn detach(&mut self, bucket: u32) -> Detached {
        let chunk = std::mem::replace(&mut self.heads[bucket as usize], NONE);
        Detached { chunk, left: if chunk == NONE { 0 } else { self.chunk(chunk).len } }
    }

    /// The next entry of what was a bucket.
    #[inline]
    pub(super) fn next_of(&mut self, entries: &mut Detached) -> Option<Entry> {
        if entries.left == 0 {
            return None;
        }
        entries.left -= 1;
        let chunk = self.chunk(entries.chunk);
        let (entry, next) = (chunk.entries[entries.left as usize], chunk.next);
        if entries.left == 0 {
            self.give_back(entries.chunk);
            entries.chunk = next;
            entries.left = if next == NONE { 0 } else { ROOM as u32 };
        }
        self.len -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The invariants of [`Chunks`].
    fn check(chunks: &Chunks) {
        let mut found = 0;
        for bucket in 0..=DUE {
            let mut index = chunks.heads[bucket as usize];
            while index != NONE {
                let chunk = chunks.chunk(index);
                let first = index == chunks.heads[bucket as usize];
                assert!(chunk.len as usize == ROOM || first && chunk.len > 0);
                for (place, entry) in chunk.entries[..chunk.len as usize].iter().enumerate() {
                    assert_eq!(chunks.places[entry.number as usize], index * 16 + place as u32);
                    found += 1;
                }
                index = chunk.next;
            }
        }
        assert_eq!(found, chunks.len);
        assert_eq!(chunks.places.iter().filter(|place| **place != NONE).count(), found);
    }

    #[test]
    fn entries_are_where_their_numbers_say_and_memory_comes_back() {
        let mut chunks = Chunks::new();
        for number in 0..2_000u32 {
            chunks.reserve(number);
            chunks.push(number % 3, Entry { when: 7, number });
        }
        check(&chunks);
        assert!(chunks.chunks.len() <= 2_000_usize.div_ceil(ROOM) + 3);
        for step in 0..1_000u32 {
            assert_eq!(chunks.remove(step * 7 % 2_000), None);
            if step % 100 == 0 {
                check(&chunks);
            }
        }
        let mut entries = chunks.detach(1);
        while let Some(entry) = chunks.next_of(&mut entries) {
            chunks.push(DUE, entry);
        }
        check(&chunks);
        assert!(chunks.last(1).is_none() && chunks.last(DUE).is_some());
        let emptied: Vec<_> = (0..2_000).filter_map(|number| chunks.remove(number)).collect();
        assert_eq!(emptied.len(), 3);
        check(&chunks);
        assert!(chunks.is_empty() && chunks.chunks.is_empty());
    }
}
