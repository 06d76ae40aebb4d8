//! The pool of buffer memory of this thread.
//!
//! Each thread has one pool, made when it is first used, independent of any runtime. Memory is
//! mapped in *regions* of 2 MiB (of huge pages if there are any), which devices register once
//! ([`on_region`]). Requests are served in size classes of 256 B, 2 KiB, 4 KiB, 16 KiB, 64 KiB and
//! 1 MiB; chunks are aligned to their size, so that buffers of 4 KiB and more serve direct I/O. The
//! chunk that was freed last is used first, while it is in the cache. A larger request gets a
//! region of its own, of which some are kept when freed. What one class no longer uses, others get
//! when the limit ([`set_limit`]) is reached.
//!
//! When the pool is exhausted, requests end in [`PoolExhausted`], or wait
//! ([`BufferMut::allocate`](super::BufferMut::allocate), [`on_available`]).
//!
//! When a thread ends, the memory of its pool is unmapped, unless some is in use as
//! [`bytes::Bytes`] on other threads. Then a later thread inherits the pool.

pub(in crate::buffer) mod class; // size classes
mod contiguous; // regions next to each other, for devices that register one range
pub(in crate::buffer) mod error; // `PoolExhausted`
mod hooks; // telling devices about regions
pub(in crate::buffer) mod local; // the pool of a thread, and its hot path
mod memory; // regions and the blocks that they are divided into
mod region; // what is asked of the operating system
mod retire; // the end of a thread
pub(in crate::buffer) mod returns; // counts that come back from other threads
mod source; // memory that is not the operating system's
mod stats; // figures
mod supply; // the slow path
mod table; // what a device keeps of each region
pub(in crate::buffer) mod waiters; // back-pressure

use std::sync::Arc;
use std::task::Waker;

use local::Pool;

pub use contiguous::Contiguous;
pub use error::PoolExhausted;
pub use hooks::RegionHook;
pub use region::{Region, RegionEvent};
pub use source::RegionSource;
pub use stats::{ClassStats, Stats};
pub use table::{RegionTable, RegionUser};
pub use waiters::Waiting;

/// Figures of this thread's pool.
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
///
/// let buffer = BufferMut::with_capacity(3000)?;
/// let stats = pool::stats();
/// assert_eq!(stats.in_use(), 4096);
/// assert_eq!((stats.classes[2].size, stats.classes[2].in_use), (4096, 1));
/// assert!(stats.mapped <= stats.limit);
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
pub fn stats() -> Stats {
    Pool::current().stats()
}

/// Sets how many bytes this thread's pool may map; 256 MiB unless set.
///
/// Nothing is unmapped if more is in use already.
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
///
/// pool::set_limit(2 << 20);
/// assert!(BufferMut::with_capacity(1 << 20).is_ok());
/// assert!(BufferMut::with_capacity(3 << 20).is_err());
/// ```
pub fn set_limit(bytes: usize) {
    let pool = Pool::current();
    pool.memory.borrow_mut().limit = bytes;
    pool.wake_all();
}

/// How many bytes this thread's pool may map.
pub fn limit() -> usize {
    Pool::current().memory.borrow().limit
}

/// Has regions that this thread's pool maps from now on made of memory from `source`. Those that there are stay what
/// they are; a call of [`trim`] before lets go of those that nothing uses.
///
/// For whoever drives a device from user space that reaches memory of its own kind only.
pub fn set_source(source: Arc<dyn RegionSource>) {
    let before = Pool::current().memory.borrow_mut().source.replace(source);
    // Its destructor is anybody's code.
    drop(before);
}

/// The regions of this thread's pool.
pub fn regions() -> Vec<Region> {
    Pool::current().announced()
}

/// Calls `hook` for each region of this thread's pool, those that exist now and those to come, and
/// before a region is unmapped, until the returned guard is dropped.
///
/// A device registers regions once instead of each buffer, and finds the region of a buffer with
/// [`Buffer::region`](super::Buffer::region); a [`RegionTable`] keeps what it has of each. A hook may use buffers; regions that are mapped
/// meanwhile are announced when it has returned. It must not panic when a thread ends, as that ends
/// the process.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use demikernel_runtime::buffer::{BufferMut, pool};
/// use pool::RegionEvent;
///
/// let registered = Rc::new(Cell::new(0));
/// let count = registered.clone();
/// let guard = pool::on_region(move |event| match event {
///     RegionEvent::Mapped(region) => count.set(count.get() + region.len),
///     RegionEvent::Unmapping(region) => count.set(count.get() - region.len),
/// });
/// let buffer = BufferMut::with_capacity(100)?.freeze();
/// assert_eq!(registered.get(), pool::stats().mapped);
/// # drop(guard);
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
pub fn on_region(hook: impl FnMut(RegionEvent<'_>) + 'static) -> RegionHook {
    Pool::current().on_region(Box::new(hook))
}

/// Maps regions that lie next to each other, `bytes` in all at least, for a device that can be told of one range of
/// memory only, and only once. What the pool maps elsewhere is out of its reach.
///
/// It is the operating system's, whatever the [source](set_source) of other regions. Buffers come from there before they
/// come from elsewhere, and the regions stay mapped until the result is dropped.
/// What was mapped and is not used goes, so this is best called before buffers are.
///
/// ```
/// use demikernel_runtime::buffer::{Buffer, pool};
///
/// let range = pool::contiguous(3 << 20)?;
/// assert_eq!(range.len(), 4 << 20);
/// let buffer = Buffer::copy_from_slice(b"within reach")?;
/// assert!(range.offset_of(&buffer).is_some());
/// assert!(range.offset_of(b"elsewhere").is_none());
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
///
/// # Errors
///
/// If the limit or the system does not allow so much.
pub fn contiguous(bytes: usize) -> Result<Contiguous, PoolExhausted> {
    Pool::current().contiguous(bytes)
}

/// Wakes `waker` once when a request for `bytes` may succeed that failed before, which can be at
/// once. Somebody else may be faster, so a failure after that means to wait anew.
///
/// This is for state machines such as devices; tasks use
/// [`BufferMut::allocate`](super::BufferMut::allocate). The waker may be woken on another thread
/// (when `Bytes` are dropped there) and while a buffer is being dropped.
///
/// ```
/// use std::task::Waker;
///
/// use demikernel_runtime::buffer::{BufferMut, pool};
///
/// pool::set_limit(2 << 20);
/// let first = BufferMut::with_capacity(1 << 20)?;
/// let second = BufferMut::with_capacity(1 << 20)?;
/// assert!(BufferMut::with_capacity(100).is_err());
///
/// let waiting = pool::on_available(100, Waker::noop());
/// assert!(waiting.is_pending());
/// drop(first);
/// assert!(!waiting.is_pending()); // the waker has been called
/// assert!(BufferMut::with_capacity(100).is_ok());
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
pub fn on_available(bytes: usize, waker: &Waker) -> Waiting {
    Pool::current().on_available(bytes, waker)
}

/// Takes back what other threads have dropped. Allocations do it too; a runtime calls this before
/// it goes to sleep, so that foreign memory is not held until it wakes. Cheap when there is none.
#[inline]
pub fn collect() {
    if let Some(pool) = Pool::current_if_any() {
        pool.collect_if_any();
    }
}

/// Unmaps regions of which nothing is in use.
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
///
/// drop(BufferMut::with_capacity(100)?);
/// assert!(pool::stats().mapped > 0);
/// pool::trim();
/// assert_eq!(pool::stats().mapped, 0);
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
pub fn trim() {
    if let Some(pool) = Pool::current_if_any() {
        pool.trim();
    }
}
