//! The pool of a thread: free lists, and the hot path.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::class::Class;
use super::error::PoolExhausted;
use super::hooks::Hooks;
use super::memory::Memory;
use super::returns::Returns;
use super::waiters::Waiters;
use crate::buffer::chunk::Chunk;

/// The pool of a thread.
///
/// A pool is allocated once and never freed: when its thread has ended, a later one inherits it
/// ([`retire`](super::retire)). So chunks may point to their pool, and a thread that gave back the
/// last count of a pool may still look at its [`Shared`] part.
pub(in crate::buffer) struct Pool {
    lists: [List; Class::COUNT],
    /// All that other threads may touch.
    pub(super) shared: Shared,
    /// What empty buffers point to: it is never free, and has no memory.
    pub(in crate::buffer) empty: Chunk,
    pub(super) memory: RefCell<Memory>,
    pub(super) hooks: Hooks,
    /// Failing requests to go until unused blocks are looked for again.
    pub(super) scan_debt: Cell<usize>,
    /// Set when a block became unused while somebody waits for it.
    pub(super) reclaimable: Cell<bool>,
    /// What the system answered when it last refused a region.
    pub(super) refused: Cell<Option<i32>>,
    /// Whether the thread's clean-up has run, so that no more hooks are kept.
    pub(super) retired: Cell<bool>,
}

/// The part of a pool that any thread may use.
pub(in crate::buffer) struct Shared {
    pub(super) returns: Returns<Chunk>,
    pub(super) waiters: Waiters,
}

/// Free chunks of a class, the last freed first, and figures. A cache line.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct List {
    free: Cell<Option<NonNull<Chunk>>>,
    pub(super) total: Cell<u32>,
    pub(super) in_use: Cell<u32>,
    pub(super) high_water: Cell<u32>,
    pub(super) allocations: Cell<u64>,
    pub(super) exhausted: Cell<u64>,
}

thread_local! {
    /// Constant and without destructor, so that to reach it is one load from thread-local storage.
    /// What a destructor has to do, a guard does that is touched only when the pool is made.
    pub(super) static CURRENT: Cell<Option<&'static Pool>> = const { Cell::new(None) };
}

impl Pool {
    /// The pool of this thread; made, or inherited, when first asked for.
    #[inline]
    pub(in crate::buffer) fn current() -> &'static Pool {
        match CURRENT.get() {
            Some(pool) => pool,
            None => Pool::begin(),
        }
    }

    /// The pool of this thread, if it has one.
    pub(super) fn current_if_any() -> Option<&'static Pool> {
        CURRENT.get()
    }

    /// Whether it is the pool of this thread.
    pub(in crate::buffer) fn is_current(pool: NonNull<Pool>) -> bool {
        CURRENT.get().is_some_and(|current| NonNull::from(current) == pool)
    }

    /// A new pool, which has no memory yet.
    pub(super) fn leak() -> &'static Pool {
        let place = NonNull::from(Box::leak(Box::<Pool>::new_uninit())).cast::<Pool>();
        let pool = Pool {
            lists: Default::default(),
            shared: Shared { returns: Returns::new(), waiters: Waiters::default() },
            empty: Chunk::new(place, Class::Empty),
            memory: RefCell::new(Memory::new()),
            hooks: Hooks::default(),
            scan_debt: Cell::new(0),
            reclaimable: Cell::new(false),
            refused: Cell::new(None),
            retired: Cell::new(false),
        };
        pool.empty.count.set(1); // never released
        // SAFETY: the place is large enough and aligned, was leaked, and nobody else knows of it.
        unsafe {
            place.write(pool);
            place.as_ref()
        }
    }

    /// The part of the pool that this thread, which need not be the owner, may use.
    ///
    /// # Safety
    ///
    /// The pointer is that of a pool's chunk.
    pub(in crate::buffer) unsafe fn shared(pool: NonNull<Pool>) -> &'static Shared {
        // SAFETY: pools are never freed, and `Shared` is `Sync`. The rest of the pool belongs to
        // another thread, so no reference to the whole may be made here.
        unsafe { &(*pool.as_ptr()).shared }
    }

    #[inline]
    pub(super) fn list(&self, class: Class) -> &List {
        &self.lists[class as usize]
    }

    /// A chunk of at least so many bytes, with one handle, which the caller becomes.
    #[inline]
    pub(in crate::buffer) fn allocate(&self, bytes: usize) -> Result<NonNull<Chunk>, PoolExhausted> {
        self.collect_if_any();
        // The list of large chunks is always empty, so they need no test here.
        match self.list(Class::for_size(bytes)).take() {
            Some(chunk) => Ok(chunk),
            None => self.allocate_slow(bytes),
        }
    }

    /// Takes back a chunk that has no handle any more.
    ///
    /// # Safety
    ///
    /// The chunk's count became zero just now, by the caller, on the thread of its pool.
    pub(in crate::buffer) unsafe fn free(chunk: NonNull<Chunk>) {
        // SAFETY: headers are not freed while their chunk is in use, and it is only about to be
        // freed. Pools never are, and this is its thread.
        let (header, pool) = unsafe { (chunk.as_ref(), chunk.as_ref().pool.as_ref()) };
        debug_assert_eq!(header.count.get(), 0);
        if header.class >= Class::Large {
            return pool.free_special(chunk);
        }
        pool.list(header.class).put(chunk);
        if pool.shared.waiters.any() {
            pool.freed_while_waiting(header.class, header.block);
        }
    }

    /// Takes back the counts that other threads gave back, if there are any.
    #[inline]
    pub(in crate::buffer) fn collect_if_any(&self) {
        if !self.shared.returns.is_empty() {
            self.collect();
        }
    }

    #[cold]
    pub(super) fn collect(&self) {
        for (chunk, counts) in self.shared.returns.take() {
            // SAFETY: the counts that just came back were still part of the chunk's count, so the
            // header is alive; and this is the thread of the pool, to which all of the stack
            // belongs.
            unsafe {
                if chunk.as_ref().release(counts) {
                    Pool::free(chunk);
                }
            }
        }
    }
}

impl Shared {
    /// Gives back one count of a chunk of this pool, from any thread.
    ///
    /// # Safety
    ///
    /// The caller holds the count and does not use it again. `self` is the shared part of the
    /// chunk's pool.
    pub(in crate::buffer) unsafe fn give_back(&self, chunk: NonNull<Chunk>) {
        // SAFETY: as the caller promises; a `Shared` is never freed.
        unsafe { self.returns.give(chunk) };
        self.waiters.returned();
    }
}

impl List {
    /// Takes the chunk that was freed last, and counts one handle for the caller.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Chunk>> {
        let chunk = self.free.get()?;
        // SAFETY: the headers of chunks in the list are alive (`Pool::remove_doomed` takes them
        // out of the list first).
        let header = unsafe { chunk.as_ref() };
        debug_assert_eq!(header.count.get(), 0);
        self.free.set(header.next.get());
        header.count.set(1);
        self.count_taken();
        Some(chunk)
    }

    /// Takes up to `count` chunks that pass the test, the first of them first, and counts one handle of each for who is
    /// `given` them, who uses no list. Those that do not pass stay in their order.
    pub(super) fn take_some(
        &self,
        count: usize,
        test: impl Fn(&Chunk) -> bool,
        mut given: impl FnMut(NonNull<Chunk>),
    ) {
        let (mut end, mut left) = (&self.free, count);
        while let Some(chunk) = end.get().filter(|_| left > 0) {
            // SAFETY: the headers of chunks in the list are alive.
            let header = unsafe { chunk.as_ref() };
            if !test(header) {
                end = &header.next;
                continue;
            }
            debug_assert_eq!(header.count.get(), 0);
            end.set(header.next.get());
            header.count.set(1);
            self.count_taken();
            given(chunk);
            left -= 1;
        }
    }

    #[inline]
    pub(super) fn count_taken(&self) {
        self.allocations.set(self.allocations.get() + 1);
        let in_use = self.in_use.get() + 1;
        self.in_use.set(in_use);
        if in_use > self.high_water.get() {
            self.high_water.set(in_use);
        }
    }

    /// Takes a chunk back that was in use.
    #[inline]
    pub(super) fn put(&self, chunk: NonNull<Chunk>) {
        self.push(chunk);
        self.in_use.set(self.in_use.get() - 1);
    }

    /// Adds a free chunk on top.
    #[inline]
    pub(super) fn push(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller passes a live header.
        unsafe { chunk.as_ref() }.next.set(self.free.get());
        self.free.set(Some(chunk));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.get().is_none()
    }

    /// Keeps only the chunks that pass the test, in their order.
    pub(super) fn retain(&self, keep: impl Fn(&Chunk) -> bool) {
        let mut end = &self.free;
        let mut next = self.free.get();
        while let Some(chunk) = next {
            // SAFETY: the headers of chunks in the list are alive.
            let header = unsafe { chunk.as_ref() };
            next = header.next.get();
            if keep(header) {
                end.set(Some(chunk));
                end = &header.next;
            }
        }
        end.set(None);
    }

    /// Forgets the free chunks, whose headers are about to be freed.
    pub(super) fn forget(&self) {
        self.free.set(None);
    }
}
