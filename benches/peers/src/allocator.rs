//! A global allocator that counts, for the binary `allocations` only: the timed runs do without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Bytes allocated and not freed; wraps on the way, as a difference of two sums.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// Allocations of the whole process so far; always zero if [`Counting`] is not the global allocator.
pub fn count() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Bytes of the whole process that are allocated now.
pub fn live() -> u64 {
    LIVE.load(Relaxed)
}

/// Whether [`Counting`] is the global allocator.
pub fn is_counting() -> bool {
    let before = count();
    drop(std::hint::black_box(Box::new(0_u8)));
    count() > before
}

/// The system's allocator, counted. Growing in place or by moving counts as one allocation.
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: `block` came from this allocator, hence from the system's, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE.fetch_add((size as u64).wrapping_sub(layout.size() as u64), Relaxed);
        // SAFETY: as for `dealloc`; the caller vouches for the size.
        unsafe { System.realloc(block, layout, size) }
    }
}
