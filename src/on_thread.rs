//! A value that stays on its thread, in a type that is `Send`.

use crate::forward::{forward_buf_read, forward_write};
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// A value of this thread in a type that is `Send` and `Sync`, for libraries that ask for that and, as everything here
/// stays on one core, never make use of it.
///
/// Streams, tokens and timers of a runtime are not `Send`. Frameworks written for runtimes with many threads want it
/// of the streams they upgrade and of the futures that handle requests. Both may be wrapped:
///
/// ```
/// use demikernel::OnThread;
/// use demikernel::time::{Duration, sleep};
///
/// fn handler() -> impl Future<Output = u32> + Send {
///     OnThread::future(async {
///         sleep(Duration::from_millis(1)).await; // not `Send`
///         42
///     })
/// }
///
/// # demikernel::Builder::new().transport("memory").build()?.block_on(async {
/// assert_eq!(handler().await, 42);
/// # });
/// # std::io::Result::Ok(())
/// ```
///
/// # Panics
/// Every use on another thread panics, that is every method and every poll. Dropping it there does not: the value is
/// leaked, since nothing of it may be touched.
pub struct OnThread<T> {
    owner: u64,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is reached through `check`, which panics on any thread but that which made it, and `drop` leaves
// it alone on any other. Numbers of threads are never used twice.
unsafe impl<T> Send for OnThread<T> {}

// SAFETY: as for `Send`: a shared reference gives no access to the value but by `get`, which checks the thread.
unsafe impl<T> Sync for OnThread<T> {}

impl<T> OnThread<T> {
    /// Wraps a value of the present thread.
    pub fn new(value: T) -> OnThread<T> {
        OnThread { owner: number_of_this_thread(), value: ManuallyDrop::new(value) }
    }

    /// The value, to be used on its own thread.
    #[inline]
    pub fn get(&self) -> &T {
        self.check();
        &self.value
    }

    /// The value, to be changed on its own thread.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        self.check();
        &mut self.value
    }

    /// The value without the wrapper.
    pub fn into_inner(self) -> T {
        self.check();
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped nor used again, so the value is moved out once.
        unsafe { ManuallyDrop::take(&mut this.value) }
    }

    #[inline]
    fn check(&self) {
        assert!(self.is_at_home(), "what belongs to one thread was used on another");
    }

    #[inline]
    fn is_at_home(&self) -> bool {
        self.owner == number_of_this_thread()
    }
}

impl<T: Unpin> OnThread<T> {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut T> {
        Pin::new(OnThread::get_mut(Pin::get_mut(self)))
    }
}

impl<F: Future> OnThread<Pin<Box<F>>> {
    /// Wraps a future, which is then a future that is `Send`.
    pub fn future(future: F) -> OnThread<Pin<Box<F>>> {
        // In a box, as a future that was pinned in place could not be leaked: its memory would go without its drop.
        OnThread::new(Box::pin(future))
    }
}

impl<T> Drop for OnThread<T> {
    fn drop(&mut self) {
        if self.is_at_home() {
            // SAFETY: nothing uses the field after this; `into_inner` does not come here.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

impl<T> fmt::Debug for OnThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnThread").finish_non_exhaustive()
    }
}

impl<F: Future + Unpin> Future for OnThread<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.inner().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for OnThread<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_read(cx, room)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        rooms: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_read_vectored(cx, rooms)
    }
}

impl<S: AsyncBufRead + Unpin> AsyncBufRead for OnThread<S> {
    forward_buf_read!();
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OnThread<S> {
    forward_write!(poll_close => poll_close);
}

/// Of `std::thread::current().id()` the same could be had, at the price of a reference count for each poll.
#[inline]
fn number_of_this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_value_comes_back_and_is_dropped_at_home() {
        let value = Rc::new(7);
        let mut wrapped = OnThread::new(value.clone());
        assert_eq!(**wrapped.get(), 7);
        assert_eq!(Rc::strong_count(wrapped.get_mut()), 2);
        assert_eq!(*wrapped.into_inner(), 7);
        assert_eq!(Rc::strong_count(&value), 1, "moved out and dropped once");
        drop(OnThread::new(value.clone()));
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn another_thread_cannot_use_it_and_its_drop_there_touches_nothing() {
        let value = Rc::new(7);
        let wrapped = [(); 3].map(|()| OnThread::new(value.clone()));
        std::thread::spawn(move || {
            let [used, unwrapped, dropped] = wrapped;
            let refused = |access: Box<dyn FnOnce() + Send>| std::thread::spawn(access).join().is_err();
            assert!(refused(Box::new(move || _ = used.get())));
            assert!(refused(Box::new(move || _ = unwrapped.into_inner())));
            assert_eq!(format!("{dropped:?}"), "OnThread { .. }");
        })
        .join()
        .unwrap();
        assert_eq!(Rc::strong_count(&value), 4, "leaked");
    }
}
