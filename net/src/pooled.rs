//! [`Pooled`]: a box among others of its kind, in huge pages once there are many.
//!
//! Of a hundred thousand connections that are served in any order none is in a cache, and with memory in small pages
//! not even the way to it is: each would wait for the page tables before it waits for the memory itself.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::thread::LocalKey;

/// The size of a huge page, and of the largest chunk.
const HUGE: usize = 2 << 20;
const SMALLEST: usize = 16 << 10;

/// Of a cache line: a value begins with one.
const LINE: usize = 64;

/// What has a pool in each thread.
///
/// # Safety
/// The pool is that of this kind alone: its places are as large as this kind's values.
pub(crate) unsafe trait Kind: Sized + 'static {
    /// This thread's pool.
    fn pool() -> &'static LocalKey<Pool>;
}

/// Memory for values of one kind. It is used again, the latest first; given back when none is left, if it was much.
pub(crate) struct Pool {
    /// Free places, each of which begins with the address of the next.
    free: Cell<*mut Free>,
    /// What was never used of the last chunk.
    fresh: Cell<*mut u8>,
    fresh_len: Cell<usize>,
    chunks: RefCell<Vec<(NonNull<u8>, Layout)>>,
    used: Cell<usize>,
}

struct Free {
    next: *mut Free,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool {
            free: Cell::new(ptr::null_mut()),
            fresh: Cell::new(ptr::null_mut()),
            fresh_len: Cell::new(0),
            chunks: RefCell::new(Vec::new()),
            used: Cell::new(0),
        }
    }

    /// A place of `size` bytes, the same at each call: whole cache lines.
    fn take(&self, size: usize) -> NonNull<u8> {
        self.used.set(self.used.get() + 1);
        if let Some(free) = NonNull::new(self.free.get()) {
            // SAFETY: places in the list are of this pool's chunks, `give_back` wrote the link, and nobody has them.
            self.free.set(unsafe { free.as_ref().next });
            return free.cast();
        }
        if self.fresh_len.get() < size {
            self.grow(size);
        }
        let place = self.fresh.get();
        self.fresh.set(place.wrapping_add(size));
        self.fresh_len.set(self.fresh_len.get() - size);
        NonNull::new(place).expect("a chunk is no null pointer")
    }

    #[cold]
    fn grow(&self, size: usize) {
        let mut chunks = self.chunks.borrow_mut();
        let bytes = (SMALLEST << chunks.len().min(7)).max(size.next_power_of_two());
        let align = if bytes >= HUGE { HUGE } else { LINE };
        let layout = Layout::from_size_align(bytes, align).expect("powers of two");
        // SAFETY: the layout is not empty.
        let Some(chunk) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        if align == HUGE {
            // SAFETY: the range is ours. This is advice: it may fail.
            unsafe { libc::madvise(chunk.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        chunks.push((chunk, layout));
        self.fresh.set(chunk.as_ptr());
        self.fresh_len.set(bytes);
    }

    /// # Safety
    /// The place was taken from this pool, and nobody uses it any more.
    unsafe fn give_back(&self, place: NonNull<u8>) {
        let free = place.cast::<Free>();
        // SAFETY: a place is large enough and aligned to cache lines, and the caller has left it to us.
        unsafe { free.write(Free { next: self.free.get() }) };
        self.free.set(free.as_ptr());
        self.used.set(self.used.get() - 1);
        if self.used.get() == 0
            && self.chunks.borrow().last().is_some_and(|(_, layout)| layout.size() >= HUGE)
        {
            self.give_all_back();
        }
    }

    #[cold]
    fn give_all_back(&self) {
        self.free.set(ptr::null_mut());
        self.fresh_len.set(0);
        for (chunk, layout) in self.chunks.borrow_mut().drain(..) {
            // SAFETY: it was allocated with this layout, and no place in it is in use.
            unsafe { dealloc(chunk.as_ptr(), layout) };
        }
    }
}

impl Drop for Pool {
    /// The thread ends. What is still in use is leaked: its owner may live longer.
    fn drop(&mut self) {
        if self.used.get() == 0 {
            self.give_all_back();
        }
    }
}

/// A box. It cannot leave its thread, as the pool cannot.
pub(crate) struct Pooled<T: Kind> {
    value: NonNull<T>,
    _owns: PhantomData<T>,
}

impl<T: Kind> Pooled<T> {
    const SIZE: usize = size_of::<T>().next_multiple_of(LINE);

    pub(crate) fn new(value: T) -> Pooled<T> {
        const { assert!(align_of::<T>() <= LINE && size_of::<T>() > 0) };
        let place = T::pool().with(|pool| pool.take(Self::SIZE)).cast::<T>();
        // SAFETY: the place is of this kind's size, aligned to a cache line, and ours alone.
        unsafe { place.write(value) };
        Pooled { value: place, _owns: PhantomData }
    }
}

impl<T: Kind> Deref for Pooled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value was written in `new`, and is dropped with this box only, which alone has it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Kind> DerefMut for Pooled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.value.as_mut() }
    }
}

impl<T: Kind> Drop for Pooled<T> {
    fn drop(&mut self) {
        // SAFETY: nobody sees the value after this.
        unsafe { self.value.drop_in_place() };
        // A thread that is ending has no pool any more, and its memory was leaked for us.
        let _ = T::pool().try_with(|pool| {
            // SAFETY: it came from this pool, as neither leaves its thread, and its value is gone.
            unsafe { pool.give_back(self.value.cast()) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    struct Thing {
        number: u64,
        _shared: Rc<()>,
        _large: [u8; 500],
    }

    thread_local! {
        static THINGS: Pool = const { Pool::new() };
    }

    // SAFETY: nobody else takes things out of it.
    unsafe impl Kind for Thing {
        fn pool() -> &'static LocalKey<Pool> {
            &THINGS
        }
    }

    #[test]
    fn values_keep_their_places_and_memory_is_used_again() {
        let shared = Rc::new(());
        let thing = |number| Pooled::new(Thing { number, _shared: shared.clone(), _large: [0; 500] });
        let mut things: Vec<_> = (0..10_000).map(thing).collect();
        assert!(things.iter().all(|thing| thing.value.as_ptr().addr() % LINE == 0));
        let bytes =
            || THINGS.with(|pool| pool.chunks.borrow().iter().map(|(_, it)| it.size()).sum::<usize>());
        let most = bytes();
        for round in 0..50_000 {
            let index = round * 7919 % things.len();
            drop(things.swap_remove(index));
            things.push(thing(round as u64));
            if let Some(first) = things.first_mut() {
                first.number += 0;
            }
        }
        assert_eq!((bytes(), Rc::strong_count(&shared)), (most, 10_001));
        let mut numbers: Vec<_> = things.iter().map(|thing| thing.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.len() > 9_000 && numbers.iter().all(|number| *number < 50_000));
        drop(things);
        assert_eq!((bytes(), Rc::strong_count(&shared)), (0, 1));
    }

    /// The order in which a thread's destructors run is nobody's business.
    #[test]
    fn a_thread_may_end_in_any_order() {
        thread_local! {
            static KEPT: RefCell<Option<Pooled<Thing>>> = const { RefCell::new(None) };
        }
        for kept_first in [false, true] {
            let run = move || {
                let keep = |thing| KEPT.with(|kept| *kept.borrow_mut() = thing);
                if kept_first {
                    keep(None);
                }
                keep(Some(Pooled::new(Thing { number: 1, _shared: Rc::new(()), _large: [0; 500] })));
            };
            std::thread::spawn(run).join().expect("nothing panics");
        }
    }
}
