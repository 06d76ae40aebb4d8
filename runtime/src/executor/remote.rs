//! Waking from other threads.
//!
//! A remote wake sets the slot's bit in the page's `remote` word. Whoever turns that word from 0 to
//! something pushes the page on the core's stack (Treiber's; pages are pushed singly and taken all at once,
//! so there is no ABA), then wakes the core if it is blocked. The owner takes the whole stack, and of each
//! page first its link, then its bits: once the bits are 0 another thread may push the page again.
//!
//! A blocked core is not missed: the owner announces that it will block, then looks at the stack; the waker
//! pushes, then takes the announcement back. Both do so with a read-modify-write of one word. Whoever comes
//! second reads what the first wrote: the waker finds the announcement, or the owner what was pushed.

use super::page::Page;
use crate::sync::{AtomicBool, AtomicPtr, Ordering};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// The part of a core that every thread may use.
pub(crate) struct Remote {
    stack: AtomicPtr<Page>,
    /// Set by the owner when it is about to block, and by nobody else; cleared by whoever wakes it.
    blocked: AtomicBool,
    /// Something other than a wake is waiting for the owner: see [`Remote::knock`].
    knocked: AtomicBool,
    /// Present while a runtime uses the core. The lock keeps the descriptor open while it is written to.
    eventfd: Mutex<Option<Arc<EventFd>>>,
}

impl Remote {
    pub(super) fn new() -> Remote {
        Remote {
            stack: AtomicPtr::new(std::ptr::null_mut()),
            blocked: AtomicBool::new(false),
            knocked: AtomicBool::new(false),
            eventfd: Mutex::new(None),
        }
    }

    /// Makes a slot ready from any thread.
    pub(super) fn wake(&self, page: NonNull<Page>, bit: u64) {
        // SAFETY: pages are never freed, and only the fields for every thread are touched.
        let header = unsafe { page.as_ref() };
        if header.remote.fetch_or(bit, Ordering::AcqRel) == 0 {
            self.push(page);
        }
    }

    fn push(&self, page: NonNull<Page>) {
        // SAFETY: as in `wake`; the link is ours to write until the page is on the stack.
        let header = unsafe { page.as_ref() };
        let mut top = self.stack.load(Ordering::Relaxed);
        loop {
            header.next_remote.store(top, Ordering::Relaxed);
            match self.stack.compare_exchange_weak(top, page.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => top = now,
            }
        }
        self.unblock();
    }

    /// Has the owner look at what other threads left for it (see `handle.rs`).
    pub(super) fn knock(&self) {
        self.knocked.store(true, Ordering::Release);
        self.unblock();
    }

    fn unblock(&self) {
        if self.blocked.swap(false, Ordering::AcqRel) {
            let eventfd = self.eventfd.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(eventfd) = &*eventfd {
                eventfd.signal();
            }
        }
    }

    /// Whether anything is waiting for the owner. Cheap enough for every turn of its loop.
    #[inline]
    pub(super) fn pending(&self) -> bool {
        !self.stack.load(Ordering::Relaxed).is_null() || self.knocked.load(Ordering::Relaxed)
    }

    /// Owner: whether somebody has knocked since the last call.
    pub(super) fn take_knock(&self) -> bool {
        self.knocked.load(Ordering::Relaxed) && self.knocked.swap(false, Ordering::Acquire)
    }

    /// Owner: hands every woken slot to `wake`, as a page and its bits.
    pub(super) fn drain(&self, mut wake: impl FnMut(NonNull<Page>, u64)) {
        let mut next = self.stack.swap(std::ptr::null_mut(), Ordering::Acquire);
        while let Some(page) = NonNull::new(next) {
            // SAFETY: pages are never freed.
            let header = unsafe { page.as_ref() };
            next = header.next_remote.load(Ordering::Relaxed);
            wake(page, header.remote.swap(0, Ordering::AcqRel));
        }
    }

    /// Owner: announces that it is going to block. `false` when it must not, since something is waiting.
    /// Either way `unblocked` must follow.
    pub(super) fn prepare_to_block(&self) -> bool {
        self.blocked.swap(true, Ordering::AcqRel);
        !self.pending()
    }

    /// Owner: it does not block, or no longer; whether somebody has signalled the eventfd meanwhile, or is
    /// about to.
    pub(super) fn unblocked(&self) -> bool {
        !self.blocked.swap(false, Ordering::AcqRel)
    }

    pub(super) fn set_eventfd(&self, eventfd: Option<Arc<EventFd>>) {
        *self.eventfd.lock().unwrap_or_else(PoisonError::into_inner) = eventfd;
    }
}

/// An eventfd(2), non-blocking and closed on exec.
#[derive(Debug)]
pub(crate) struct EventFd {
    descriptor: OwnedFd,
    /// Set before the descriptor becomes readable, so that whoever polls need not ask the kernel.
    signalled: std::sync::atomic::AtomicBool,
}

impl EventFd {
    pub(crate) fn new() -> std::io::Result<EventFd> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventFd { descriptor, signalled: false.into() })
    }

    /// Makes the descriptor readable. Failing with EAGAIN means that it is readable already.
    pub(crate) fn signal(&self) {
        self.signalled.store(true, std::sync::atomic::Ordering::Release);
        let one = 1u64;
        // SAFETY: eight readable bytes.
        unsafe { libc::write(self.descriptor.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Whether it was signalled since the last call, without a system call: the descriptor stays readable.
    pub(super) fn take_signalled(&self) -> bool {
        use std::sync::atomic::Ordering;
        self.signalled.load(Ordering::Relaxed) && self.signalled.swap(false, Ordering::Acquire)
    }

    /// Makes the descriptor unreadable again; whether it was readable.
    pub(crate) fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight writable bytes.
        unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) > 0 }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

#[cfg(all(test, demikernel_loom))]
mod loom_tests {
    use super::*;
    use crate::executor::page::PAGE_SIZE;
    use std::alloc::{Layout, alloc, dealloc};

    /// A page for threads to wake slots of.
    struct TestPage(NonNull<Page>, NonNull<u8>);

    // SAFETY: the tests use only what is for every thread.
    unsafe impl Send for TestPage {}
    // SAFETY: as above.
    unsafe impl Sync for TestPage {}

    impl TestPage {
        const LAYOUT: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
            Ok(layout) => layout,
            Err(_) => panic!(),
        };

        fn new() -> TestPage {
            // SAFETY: a block as a page wants it; it is freed after all threads have ended.
            unsafe {
                let block = NonNull::new(alloc(Self::LAYOUT)).unwrap();
                TestPage(Page::new(block, NonNull::dangling()), block)
            }
        }
    }

    impl Drop for TestPage {
        fn drop(&mut self) {
            // SAFETY: made by `new`; loom's atomics must be dropped too.
            unsafe {
                self.0.drop_in_place();
                dealloc(self.1.as_ptr(), Self::LAYOUT);
            }
        }
    }

    struct Shared {
        remote: Remote,
        pages: [TestPage; 2],
    }

    /// Two threads wake, the owner looks twice and then wants to block. What it has not seen by then must
    /// end its blocking.
    fn wakes(first: (usize, u64), second: (usize, u64)) {
        loom::model(move || {
            let shared =
                Arc::new(Shared { remote: Remote::new(), pages: [TestPage::new(), TestPage::new()] });
            let threads = [first, second].map(|(page, bit)| {
                let shared = shared.clone();
                loom::thread::spawn(move || shared.remote.wake(shared.pages[page].0, bit))
            });
            let mut seen = Vec::new();
            let drain = |seen: &mut Vec<(usize, u64)>| {
                shared.remote.drain(|page, bits| {
                    let index = shared.pages.iter().position(|other| other.0 == page).unwrap();
                    seen.extend(
                        (0..64).map(|bit| 1 << bit).filter(|bit| bits & bit != 0).map(|bit| (index, bit)),
                    );
                });
            };
            drain(&mut seen);
            let blocked = shared.remote.prepare_to_block();
            if !blocked {
                drain(&mut seen);
            }
            for thread in threads {
                thread.join().unwrap();
            }
            let missed = [first, second].iter().any(|wake| !seen.contains(wake));
            if blocked && missed {
                assert!(
                    shared.remote.unblocked(),
                    "a wake came while the owner was blocked, and nobody signalled"
                );
            }
            // And then it is all there.
            drain(&mut seen);
            assert!([first, second].iter().all(|wake| seen.contains(wake)), "a wake was lost: {seen:?}");
        });
    }

    #[test]
    fn loom_two_slots_of_one_page() {
        wakes((0, 1), (0, 2));
    }

    #[test]
    fn loom_slots_of_two_pages() {
        wakes((0, 1), (1, 2));
    }

    #[test]
    fn loom_a_knock_is_not_missed() {
        loom::model(|| {
            let shared = Arc::new(Remote::new());
            let other = shared.clone();
            let thread = loom::thread::spawn(move || other.knock());
            let mut knocked = shared.take_knock();
            let blocked = shared.prepare_to_block();
            if !blocked {
                knocked |= shared.take_knock();
            }
            thread.join().unwrap();
            if blocked && !knocked {
                assert!(shared.unblocked());
            }
            assert!(knocked || shared.take_knock());
        });
    }
}
