//! Memory of regions that is not mapped here.

use std::io;
use std::ptr::NonNull;

/// Where the memory of regions comes from, in place of the operating system: whoever drives a device from user space may
/// have memory of its own that the device reaches.
///
/// It is asked from any thread, at most once for 2 MiB of buffers.
///
/// # Safety
///
/// What [`map`](RegionSource::map) returns is valid for reads and writes of `len` bytes on every thread, aligned to
/// 2 MiB, zeroed, and nobody else's, until it is given to [`unmap`](RegionSource::unmap).
pub unsafe trait RegionSource: Send + Sync {
    /// `len` bytes, a multiple of 2 MiB.
    ///
    /// # Errors
    ///
    /// If there are no more. Buffers are exhausted then, until some come back.
    fn map(&self, len: usize) -> io::Result<NonNull<u8>>;

    /// Takes back what `map` returned.
    ///
    /// # Safety
    ///
    /// `map` returned `base` for this length, it was not given back before, and nothing uses it any more.
    unsafe fn unmap(&self, base: NonNull<u8>, len: usize);

    /// Whether the memory is made of huge pages.
    fn is_huge(&self) -> bool;
}
