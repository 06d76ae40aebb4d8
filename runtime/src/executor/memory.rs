//! Memory in bulk for pages and task cells.
//!
//! Chunks double up to 2 MiB, so that small runtimes stay small. The largest are aligned to their size and
//! offered to the kernel as huge pages: with tens of thousands of tasks woken at random, misses in the
//! translation look-aside buffer would otherwise be a good part of the cost of a wake.

use super::page::PAGE_SIZE;
use std::alloc::{Layout, alloc, handle_alloc_error};
use std::ptr::NonNull;

/// The size of a huge page, and of the largest chunk.
pub(super) const HUGE: usize = 2 << 20;
const SMALLEST: usize = 16 << 10;

/// The layout of the next chunk after `chunks` others of its kind, of at least `size` bytes.
pub(super) fn next_layout(chunks: usize, size: usize) -> Layout {
    let bytes = (SMALLEST << chunks.min(7)).max(size.next_power_of_two()).min(HUGE);
    let align = if bytes == HUGE { HUGE } else { PAGE_SIZE };
    Layout::from_size_align(bytes, align).expect("powers of two")
}

/// A new chunk. Frees are the caller's, with the same layout.
pub(super) fn allocate_chunk(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout of `next_layout` is empty.
    let Some(chunk) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
    if layout.size() == HUGE {
        // SAFETY: the range is ours. This is advice: it may fail.
        unsafe { libc::madvise(chunk.as_ptr().cast(), HUGE, libc::MADV_HUGEPAGE) };
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_to_a_huge_page() {
        let sizes: Vec<_> = (0..10).map(|chunks| next_layout(chunks, 64).size() >> 10).collect();
        assert_eq!(sizes, [16, 32, 64, 128, 256, 512, 1024, 2048, 2048, 2048]);
        assert_eq!(next_layout(0, 60_000).size(), 64 << 10);
        assert_eq!(next_layout(9, 64).align(), HUGE);
    }
}
