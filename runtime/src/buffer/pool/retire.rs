//! What happens to a pool when its thread ends.
//!
//! Buffers may outlive the clean-up of their thread: as `Bytes` on other threads, and on the thread
//! itself in thread-locals whose destructors run later. Therefore the clean-up never invalidates
//! anything that is in use:
//!
//! - If no chunk is in use, all regions are unmapped, and the empty pool is put aside for the next
//!   thread that needs one.
//! - Otherwise the pool is put aside as it is, with the number of its thread, and stays the pool
//!   of the thread for the destructors that are still to run. When the kernel no longer knows the
//!   thread, nothing but exported counts can be left, which come back through the lock-free
//!   stack. From then on another thread may inherit the pool with all its memory, or unmap it.
//!
//! What is never given back (a leaked buffer) keeps its pool's memory; [`Stats::stranded`] counts
//! such pools.
//!
//! [`Stats::stranded`]: super::stats::Stats::stranded

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::class::Class;
use super::local::{CURRENT, Pool};
use super::memory::{DEFAULT_LIMIT, Memory};

/// Pools that have been put aside.
static ASIDE: Mutex<Vec<Aside>> = Mutex::new(Vec::new());

/// How many of them have memory.
static STRANDED: AtomicUsize = AtomicUsize::new(0);

/// A pool that was put aside.
struct Aside {
    pool: &'static Pool,
    /// The thread that may still use it.
    thread: Option<sys::Thread>,
    stranded: bool,
}

// SAFETY: who takes an entry out of the list uses the pool only if `Aside::is_nobodys`, and then is
// the only one: hooks, which must stay on their thread, have been dropped before; the owners of
// foreign memory and the wakers in the pool are `Send`.
unsafe impl Send for Aside {}

/// Its destructor is the clean-up at the end of the thread.
struct Guard;

thread_local! {
    /// Touched once per thread, when its pool begins.
    static GUARD: Guard = const { Guard };
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pool) = CURRENT.get() {
            pool.retire();
        }
    }
}

impl Pool {
    /// Gives this thread a pool.
    #[cold]
    pub(super) fn begin() -> &'static Pool {
        let pool = inherit().unwrap_or_else(Pool::leak);
        CURRENT.set(Some(pool));
        pool.reset();
        if GUARD.try_with(|_| ()).is_err() {
            // The clean-up has run already: some later destructor uses buffers.
            pool.retired.set(true);
            put_aside(Aside { pool, thread: Some(sys::Thread::current()), stranded: true });
        }
        pool.collect();
        pool
    }

    /// The clean-up at the end of the thread.
    fn retire(&'static self) {
        self.collect();
        self.retired.set(true);
        if self.is_idle() {
            self.trim(); // the hooks hear of it
        }
        self.drop_hooks();
        if self.is_idle() {
            CURRENT.set(None);
            self.clear();
            put_aside(Aside { pool: self, thread: None, stranded: false });
        } else {
            put_aside(Aside { pool: self, thread: Some(sys::Thread::current()), stranded: true });
        }
    }

    /// Whether nothing of the pool is in use.
    fn is_idle(&self) -> bool {
        let classes = Class::SIZED.into_iter().chain([Class::Large, Class::Foreign]);
        classes.into_iter().all(|class| self.list(class).in_use.get() == 0)
            && self.empty.count.get() == 1
            && !self.memory.borrow().regions.iter().any(|(_, region)| region.pinned)
    }

    /// Frees all memory of an idle pool.
    fn clear(&self) {
        self.trim();
        let list = self.list(Class::Foreign);
        list.forget();
        list.total.set(0);
        let memory = self.memory.replace(Memory::new());
        debug_assert_eq!(memory.mapped, 0);
    }

    /// A thread begins to use the pool, which may have been another's.
    fn reset(&self) {
        self.retired.set(false);
        self.shared.waiters.clear();
        self.memory.borrow_mut().limit = DEFAULT_LIMIT;
        for class in Class::SIZED.into_iter().chain([Class::Large, Class::Foreign]) {
            let list = self.list(class);
            list.allocations.set(0);
            list.exhausted.set(0);
            list.high_water.set(list.in_use.get());
        }
    }
}

impl Aside {
    /// Whether no thread uses the pool any more.
    fn is_nobodys(&self) -> bool {
        self.thread.as_ref().is_none_or(sys::Thread::has_ended)
    }
}

/// A pool whose thread has ended, one with memory if there is any.
fn inherit() -> Option<&'static Pool> {
    let mut list = lock();
    let nobodys = |aside: &Aside| aside.is_nobodys();
    let index = list
        .iter()
        .position(|aside| aside.stranded && nobodys(aside))
        .or_else(|| list.iter().position(nobodys))?;
    let aside = list.swap_remove(index);
    STRANDED.fetch_sub(usize::from(aside.stranded), Ordering::Relaxed);
    Some(aside.pool)
}

/// Unmaps the memory of pools whose thread has ended and of which nothing is in use any more.
pub(super) fn reap() {
    if STRANDED.load(Ordering::Relaxed) == 0 {
        return;
    }
    let (nobodys, others) = std::mem::take(&mut *lock())
        .into_iter()
        .partition::<Vec<_>, _>(|aside| aside.stranded && aside.is_nobodys());
    lock().extend(others);
    // Without the lock, as destructors of foreign memory are anybody's code.
    for mut aside in nobodys {
        STRANDED.fetch_sub(1, Ordering::Relaxed);
        aside.pool.collect();
        aside.stranded = !aside.pool.is_idle();
        aside.thread = None;
        if !aside.stranded {
            aside.pool.clear();
        }
        put_aside(aside);
    }
}

/// Number of pools put aside that have memory.
pub(super) fn stranded() -> usize {
    STRANDED.load(Ordering::Relaxed)
}

fn put_aside(aside: Aside) {
    STRANDED.fetch_add(usize::from(aside.stranded), Ordering::Relaxed);
    lock().push(aside);
}

fn lock() -> MutexGuard<'static, Vec<Aside>> {
    // The list is whole whenever the lock is released.
    ASIDE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(miri))]
mod sys {
    use std::io;

    use super::{Ordering, fence};

    /// A thread of this process, as the kernel knows it.
    pub(super) struct Thread(libc::pid_t);

    impl Thread {
        pub(super) fn current() -> Thread {
            // SAFETY: takes no arguments and always succeeds.
            Thread(unsafe { libc::gettid() })
        }

        /// Whether the thread will never run again. A wrong no is harmless, and happens when the
        /// kernel has given the number to a new thread.
        pub(super) fn has_ended(&self) -> bool {
            // SAFETY: signal 0 is not sent, only the existence of the thread is checked. It is of
            // this process, so nobody else's thread is asked for.
            let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, 0) };
            let ended = result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
            // The kernel removed the thread after all that it did, and said so before this.
            fence(Ordering::Acquire);
            ended
        }
    }
}

/// Miri knows no `tgkill`: there, what is in use when its thread ends is never inherited.
#[cfg(miri)]
mod sys {
    pub(super) struct Thread;

    impl Thread {
        pub(super) fn current() -> Thread {
            Thread
        }

        pub(super) fn has_ended(&self) -> bool {
            false
        }
    }
}
