//! A global allocator that counts: what tests and benches say of allocations is counted by it.
//!
//! A program has it by `#[global_allocator] static ALLOCATOR: Counting = Counting;`. Growing in place or by moving counts
//! as one allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

thread_local! {
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
}

static OF_PROCESS: AtomicU64 = AtomicU64::new(0);

/// Bytes allocated and not freed; wraps on the way, as a difference of two sums.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// Allocations of this thread so far: other tests of the same process are not in it.
pub fn of_thread() -> u64 {
    OF_THREAD.get()
}

/// Allocations of the whole process so far.
pub fn of_process() -> u64 {
    OF_PROCESS.load(Relaxed)
}

/// Bytes of the whole process that are allocated now.
pub fn live() -> u64 {
    LIVE.load(Relaxed)
}

/// Whether [`Counting`] is the global allocator; nothing is counted without.
pub fn is_counting() -> bool {
    let before = of_thread();
    drop(std::hint::black_box(Box::new(0_u8)));
    of_thread() > before
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

fn counted(more: usize, less: usize) {
    OF_THREAD.set(OF_THREAD.get() + 1);
    OF_PROCESS.fetch_add(1, Relaxed);
    LIVE.fetch_add((more as u64).wrapping_sub(less as u64), Relaxed);
}

// SAFETY: every call is passed on to the system's allocator unchanged, and counting neither allocates nor panics: the
// thread's counter is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: `memory` came from this allocator, hence from the system's, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(size, layout.size());
        // SAFETY: as for `dealloc`; the caller vouches for the size.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn a_thread_counts_its_own() {
        assert!(is_counting());
        let before = (of_thread(), of_process());
        let other = std::thread::spawn(|| {
            let before = of_thread();
            let mut bytes = std::hint::black_box(Vec::<u8>::with_capacity(1));
            bytes.reserve_exact(100);
            drop(std::hint::black_box(bytes));
            of_thread() - before
        });
        assert_eq!(other.join().unwrap(), 2, "one allocation, and one that made it larger");
        assert!(of_process() - before.1 >= 2 + (of_thread() - before.0));
    }

    #[test]
    fn what_is_freed_is_not_live() {
        const LARGE: usize = 64 << 20;
        let before = live();
        let large = std::hint::black_box(vec![1_u8; LARGE]);
        assert!(live() - before > LARGE as u64 / 2);
        drop(large);
        assert!(
            live().wrapping_sub(before) as i64 > -(LARGE as i64) / 2 && live() < before + LARGE as u64 / 2
        );
    }
}
