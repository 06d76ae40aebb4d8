//! Regions: what is asked of the operating system, and what devices register.

use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::source::RegionSource;

/// Regions are aligned to this and multiples of it: the size of a huge page.
pub(super) const REGION: usize = 2 << 20;

/// A piece of memory that buffers are cut from, registered with each device once.
///
/// It is a description, not a handle: the pool keeps the memory mapped while any buffer in it is
/// alive, and tells the hooks ([`on_region`](super::on_region)) before it goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// Small and dense, so that it can index a device's table. The number of a region that was
    /// unmapped is used again.
    pub id: u32,
    /// Its first byte, aligned to 2 MiB.
    pub base: NonNull<u8>,
    /// Its length, a multiple of 2 MiB.
    pub len: usize,
    /// Whether it is made of reserved huge pages (`MAP_HUGETLB`). Transparent huge pages are asked
    /// for otherwise, which the system may or may not give. Of memory from a
    /// [source](super::set_source), what that says.
    pub huge: bool,
}

/// What [`on_region`](super::on_region) tells about.
#[derive(Clone, Copy, Debug)]
pub enum RegionEvent<'a> {
    /// The region exists. No buffer in it has been handed out yet, or the hook is younger than
    /// the region.
    Mapped(&'a Region),
    /// The region is about to be unmapped. No buffer in it is alive.
    Unmapping(&'a Region),
}

/// Memory of a region, unmapped when dropped.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    huge: bool,
    /// Who has given the memory, if the operating system has not.
    source: Option<Arc<dyn RegionSource>>,
}

impl Mapping {
    /// Maps `len` zeroed bytes, aligned to [`REGION`], of which `len` is a multiple.
    pub(super) fn new(len: usize, source: Option<Arc<dyn RegionSource>>) -> io::Result<Mapping> {
        assert!(len > 0 && len.is_multiple_of(REGION));
        let (base, huge) = match &source {
            Some(source) => (source.map(len)?, source.is_huge()),
            None => sys::map(len)?,
        };
        debug_assert!(base.addr().get().is_multiple_of(REGION));
        Ok(Mapping { base, len, huge, source })
    }

    /// Cuts it into mappings of one [`REGION`] each, which lie next to each other. It is the operating system's, which
    /// takes parts back.
    pub(super) fn split(self) -> impl Iterator<Item = Mapping> {
        assert!(self.source.is_none());
        let whole = ManuallyDrop::new(self);
        let (base, huge) = (whole.base, whole.huge);
        (0..whole.len).step_by(REGION).map(move |offset| {
            // SAFETY: the offset is inside the mapping, of which each part is given away once.
            Mapping { base: unsafe { base.add(offset) }, len: REGION, huge, source: None }
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A pointer to the byte at `offset`.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len);
        // SAFETY: the offset is inside the mapping.
        unsafe { self.base.add(offset) }
    }

    /// Where `len` bytes at `pointer` are in this mapping.
    pub(super) fn offset_of(&self, pointer: NonNull<u8>, len: usize) -> Option<usize> {
        let offset = pointer.addr().get().checked_sub(self.base.addr().get())?;
        (len <= self.len && offset <= self.len - len).then_some(offset)
    }

    pub(super) fn describe(&self, id: u32) -> Region {
        Region { id, base: self.base, len: self.len, huge: self.huge }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the source or `sys::map` gave this memory with this length, and nobody else
        // unmaps it. Who drops a mapping has made sure that no chunk in it is in use.
        unsafe {
            match &self.source {
                Some(source) => source.unmap(self.base, self.len),
                None => sys::unmap(self.base, self.len),
            }
        }
    }
}

#[cfg(not(miri))]
mod sys {
    use std::io;
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::REGION;

    /// Set once the system refused reserved huge pages, so that it is not asked again.
    static NO_HUGE_PAGES: AtomicBool = AtomicBool::new(false);

    /// `len` bytes aligned to [`REGION`], and whether they are reserved huge pages.
    pub(super) fn map(len: usize) -> io::Result<(NonNull<u8>, bool)> {
        if !NO_HUGE_PAGES.load(Ordering::Relaxed) {
            match anonymous(len, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) {
                Ok(base) => return Ok((base, true)),
                Err(error) => {
                    NO_HUGE_PAGES.store(true, Ordering::Relaxed);
                    tracing::debug!(%error, "no reserved huge pages, buffers use transparent ones if any");
                }
            }
        }
        aligned(len).map(|base| (base, false))
    }

    /// # Safety
    ///
    /// The memory came from `map` with this length, and nothing uses it any more.
    pub(super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        // SAFETY: the caller owns the range.
        let result = unsafe { libc::munmap(base.as_ptr().cast(), len) };
        debug_assert_eq!(result, 0, "munmap: {}", io::Error::last_os_error());
    }

    /// Maps more than is needed and gives back what is outside of the aligned part.
    fn aligned(len: usize) -> io::Result<NonNull<u8>> {
        let slack = REGION;
        let total = len.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
        let start = anonymous(total, 0)?;
        let before = start.align_offset(REGION);
        let after = slack - before;
        // SAFETY: `before <= slack`, so all of it is inside the mapping made above, of which the
        // parts before and after the aligned range are unmapped; each is whole pages, as both
        // ends of the mapping and of the range are page aligned.
        unsafe {
            let base = start.add(before);
            if before > 0 {
                unmap(start, before);
            }
            if after > 0 {
                unmap(base.add(len), after);
            }
            // Advice only: where there are no transparent huge pages, normal ones serve.
            libc::madvise(base.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            Ok(base)
        }
    }

    fn anonymous(len: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

/// Under Miri, which knows little of `mmap`, the allocator of the standard library.
#[cfg(miri)]
mod sys {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    pub(super) fn map(len: usize) -> io::Result<(NonNull<u8>, bool)> {
        // SAFETY: the length of a region is not zero.
        let base = unsafe { alloc_zeroed(layout(len)) };
        NonNull::new(base).map(|base| (base, false)).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    ///
    /// The memory came from `map` with this length, and nothing uses it any more.
    pub(super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        // SAFETY: allocated in `map` with this layout.
        unsafe { dealloc(base.as_ptr(), layout(len)) }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, super::REGION).expect("regions are smaller than the address space")
    }
}
