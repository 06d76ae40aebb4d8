//! Memory that somebody else gives.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::buffer::pool::{self, RegionSource};
use crate::buffer::{Buffer, BufferMut};

/// The allocator of the standard library, up to so many bytes.
struct Allocator {
    limit: usize,
    given: AtomicUsize,
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 2 << 20).unwrap()
}

// SAFETY: fresh memory of the layout that is asked for, which is the same when it comes back.
unsafe impl RegionSource for Allocator {
    fn map(&self, len: usize) -> io::Result<NonNull<u8>> {
        if self.given.load(Ordering::Relaxed) + len > self.limit {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.given.fetch_add(len, Ordering::Relaxed);
        // SAFETY: the length of a region is not zero.
        NonNull::new(unsafe { alloc_zeroed(layout(len)) }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    unsafe fn unmap(&self, base: NonNull<u8>, len: usize) {
        self.given.fetch_sub(len, Ordering::Relaxed);
        // SAFETY: from `map`, as the caller promises.
        unsafe { dealloc(base.as_ptr(), layout(len)) }
    }

    fn is_huge(&self) -> bool {
        true
    }
}

#[test]
fn regions_come_from_the_source_and_go_back_to_it() {
    let source = Arc::new(Allocator { limit: 6 << 20, given: AtomicUsize::new(0) });
    let before = Buffer::copy_from_slice(&[1; 2048]).unwrap();
    pool::set_source(source.clone());
    // The region that there was still has room.
    let kept = BufferMut::with_capacity(2048).unwrap();
    assert_eq!(source.given.load(Ordering::Relaxed), 0);
    drop((before, kept));
    pool::trim();

    let small = Buffer::copy_from_slice(&[2; 2048]).unwrap();
    assert!(pool::regions().iter().all(|region| region.huge));
    assert_eq!(source.given.load(Ordering::Relaxed), 2 << 20);
    let large = BufferMut::with_capacity(3 << 20).unwrap();
    assert_eq!(source.given.load(Ordering::Relaxed), 6 << 20);
    // It has no more, and nobody else is asked.
    assert!(BufferMut::with_capacity(3 << 20).is_err());
    assert_eq!(small, [2; 2048]);
    drop((small, large));
    pool::trim();
    assert_eq!(source.given.load(Ordering::Relaxed), 0);
}
