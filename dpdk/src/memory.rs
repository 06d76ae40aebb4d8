//! Memory that ports reach, under the runtime's buffers.

use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use demikernel_runtime::buffer::pool::RegionSource;

use crate::ffi;

/// The size of a region, and of a huge page.
const REGION: usize = 2 << 20;

/// Regions that are taken from DPDK at once: an aligned piece of its heap costs as much again as it is aligned to.
const SLAB: usize = 8;

/// The heap of EAL as the source of regions.
///
/// It takes from EAL and gives nothing back: what the runtime lets go of is kept for others of the same process.
#[derive(Debug)]
pub struct Memory {
    free: Mutex<Free>,
}

/// Addresses of regions that nobody uses.
#[derive(Debug)]
struct Free(Vec<NonNull<u8>>);

// SAFETY: the regions are nobody's, whichever thread looks at them.
unsafe impl Send for Free {}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory { free: Mutex::new(Free(Vec::new())) }
    }

    /// Whether ports reach the memory at `address`.
    pub fn contains(&self, address: NonNull<u8>) -> bool {
        ffi::dk_memory_is_reachable(address.as_ptr().cast()) != 0
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A zeroed region that was used before, or of a new slab.
    fn region(&self) -> Option<NonNull<u8>> {
        let mut free = self.free();
        if let Some(base) = free.0.pop() {
            // SAFETY: a region that is nobody's.
            unsafe { base.write_bytes(0, REGION) };
            return Some(base);
        }
        if let Some(slab) = allocate(SLAB * REGION) {
            // SAFETY: the offsets are inside of what was allocated.
            free.0.extend((1..SLAB).map(|index| unsafe { slab.add(index * REGION) }));
            return Some(slab);
        }
        allocate(REGION)
    }
}

fn allocate(len: usize) -> Option<NonNull<u8>> {
    NonNull::new(ffi::dk_memory_allocate(len, REGION).cast())
}

// SAFETY: `rte_zmalloc` gives zeroed memory that is aligned as asked and nobody else's until it is freed, and a slab is
// cut into regions that do not overlap.
unsafe impl RegionSource for Memory {
    fn map(&self, len: usize) -> io::Result<NonNull<u8>> {
        let base = if len == REGION { self.region() } else { allocate(len) };
        base.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }

    unsafe fn unmap(&self, base: NonNull<u8>, len: usize) {
        if len == REGION {
            self.free().0.push(base);
        } else {
            // SAFETY: allocated in `map` by itself, as it is longer than a region, and unused, as the caller promises.
            unsafe { ffi::dk_memory_free(base.as_ptr().cast()) }
        }
    }

    fn is_huge(&self) -> bool {
        ffi::dk_has_huge_pages() != 0
    }
}
