//! Back-pressure: who waits until memory comes back.
//!
//! Waiters queue in order. Each chunk that is freed wakes the first whom it can serve, each count
//! that comes back from another thread wakes the first, who then collects it; who gives up passes
//! the news on. A waiter that is woken is out of the queue, and waits anew if somebody else was
//! faster. While nobody waits, this costs a test of one flag per chunk freed.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker, ready};

use super::class::Class;
use super::error::PoolExhausted;
use super::local::Pool;
use crate::buffer::BufferMut;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, fence};

/// The queue of a pool.
#[derive(Default)]
pub(super) struct Waiters {
    /// Whether the queue has anybody in it. Changed only under the lock.
    any: AtomicBool,
    queue: Mutex<VecDeque<Waiter>>,
}

struct Waiter {
    number: u64,
    bytes: usize,
    waker: Waker,
}

impl Waiters {
    /// Whether anybody waits.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Wakes the first who wants a class that passes the test; false if there is none.
    pub(super) fn notify(&self, test: impl Fn(Class) -> bool) -> bool {
        self.notify_first(|waiter| test(Class::for_size(waiter.bytes)))
    }

    /// A count came back from another thread. The chunk is not free before the owner collects it,
    /// so it is not known yet whom it can serve.
    pub(super) fn returned(&self) {
        // Either this sees the flag that `enqueue` raised, or the owner, who looks at the returned
        // chunks after that, sees the chunk that was pushed before this.
        fence(Ordering::SeqCst);
        if self.any() {
            self.notify_first(|_| true);
        }
    }

    fn notify_first(&self, test: impl Fn(&Waiter) -> bool) -> bool {
        let mut queue = self.lock();
        let waiter = queue.iter().position(test).and_then(|index| queue.remove(index));
        self.any.store(!queue.is_empty(), Ordering::Relaxed);
        drop(queue); // wakers are anybody's code
        match waiter {
            Some(waiter) => {
                waiter.waker.wake();
                true
            }
            None => false,
        }
    }

    fn enqueue(&self, waiter: Waiter) {
        let mut queue = self.lock();
        queue.push_back(waiter);
        self.any.store(true, Ordering::Relaxed);
        drop(queue);
        fence(Ordering::SeqCst); // see `returned`
    }

    /// Takes the waiter out; false if it has been woken.
    fn remove(&self, number: u64) -> bool {
        let mut queue = self.lock();
        let waiter =
            queue.iter().position(|waiter| waiter.number == number).and_then(|index| queue.remove(index));
        self.any.store(!queue.is_empty(), Ordering::Relaxed);
        drop(queue); // the waker's destructor is anybody's code
        waiter.is_some()
    }

    /// Replaces the waker of a waiter, who keeps its place; false if it has been woken.
    fn update(&self, number: u64, waker: &Waker) -> bool {
        let mut queue = self.lock();
        let Some(waiter) = queue.iter_mut().find(|waiter| waiter.number == number) else { return false };
        if waiter.waker.will_wake(waker) {
            return true;
        }
        let old = std::mem::replace(&mut waiter.waker, waker.clone());
        drop(queue);
        drop(old);
        true
    }

    /// Wakes nobody, and forgets everybody.
    pub(super) fn clear(&self) {
        let mut queue = self.lock();
        let waiters = std::mem::take(&mut *queue);
        self.any.store(false, Ordering::Relaxed);
        drop(queue);
        drop(waiters);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        // Nothing that can panic runs under the lock and leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait for memory; dropping it gives the place up.
#[must_use = "dropping it gives the place up"]
pub struct Waiting {
    number: u64,
    pool: &'static Pool,
    not_send: PhantomData<*mut ()>,
}

impl Waiting {
    /// Whether the waker has not been called yet.
    pub fn is_pending(&self) -> bool {
        self.pool.shared.waiters.lock().iter().any(|waiter| waiter.number == self.number)
    }

    /// Replaces the waker, and keeps the place; false if the old one has been called already.
    pub fn set_waker(&self, waker: &Waker) -> bool {
        self.pool.shared.waiters.update(self.number, waker)
    }
}

impl Debug for Waiting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("pending", &self.is_pending()).finish_non_exhaustive()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let woken = !self.pool.shared.waiters.remove(self.number);
        // The memory that it was woken for may still be there, for the next. While the thread ends,
        // the pool may have another thread already.
        if woken && Pool::is_current(self.pool.empty.pool) {
            self.pool.pass_on();
        }
    }
}

impl Pool {
    /// See [`on_available`](super::on_available).
    pub(super) fn on_available(&'static self, bytes: usize, waker: &Waker) -> Waiting {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.shared.waiters.enqueue(Waiter { number, bytes, waker: waker.clone() });
        // Memory that came back before the waiter was in the queue has woken nobody.
        if self.can_serve(bytes) {
            self.shared.waiters.notify_first(|waiter| waiter.number == number);
        }
        Waiting { number, pool: self, not_send: PhantomData }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        // As many as wait now: who is woken may wait anew at once.
        for _ in 0..self.shared.waiters.len() {
            self.shared.waiters.notify(|_| true);
        }
    }

    /// Wakes the first who waits, if there is memory for it.
    fn pass_on(&self) {
        let first = self.shared.waiters.lock().front().map(|waiter| (waiter.number, waiter.bytes));
        if let Some((number, bytes)) = first
            && self.can_serve(bytes)
        {
            self.shared.waiters.notify_first(|waiter| waiter.number == number);
        }
    }
}

/// Future of [`BufferMut::allocate`]: a buffer, as soon as there is memory.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Allocate {
    bytes: usize,
    waiting: Option<Waiting>,
}

impl Allocate {
    pub(in crate::buffer) fn new(bytes: usize) -> Allocate {
        Allocate { bytes, waiting: None }
    }
}

impl Future for Allocate {
    type Output = Result<BufferMut, PoolExhausted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match BufferMut::with_capacity(self.bytes) {
            Ok(buffer) => {
                self.waiting = None;
                return Poll::Ready(Ok(buffer));
            }
            Err(error) => error,
        };
        // What no buffer of this pool can bring back by being dropped is not waited for.
        let hopeless = error.needed() > error.limit() || (error.errno().is_some() && error.in_use() == 0);
        if hopeless {
            self.waiting = None;
            return Poll::Ready(Err(error));
        }
        let keeps_place = self.waiting.as_ref().is_some_and(|waiting| waiting.set_waker(cx.waker()));
        if !keeps_place {
            self.waiting = Some(Pool::current().on_available(self.bytes, cx.waker()));
        }
        Poll::Pending
    }
}

#[cfg(all(test, demikernel_loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;
    use std::sync::atomic::AtomicUsize as Plain;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(Plain);

    impl Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The owner of a pool begins to wait while another thread gives memory back: it sees the memory, or it is woken.
    #[test]
    fn loom_who_waits_sees_what_came_back_or_is_woken() {
        static RUNS: [Plain; 2] = [Plain::new(0), Plain::new(0)];
        loom::model(|| {
            let shared = Arc::new((Waiters::default(), AtomicBool::new(false)));
            let other = shared.clone();
            let giver = thread::spawn(move || {
                other.1.store(true, Ordering::Release);
                other.0.returned();
            });
            let woken = std::sync::Arc::new(Count::default());
            let waker = Waker::from(woken.clone());
            shared.0.enqueue(Waiter { number: 0, bytes: 1, waker });
            let seen = shared.1.load(Ordering::Acquire);
            giver.join().unwrap();
            assert!(seen || woken.0.load(Ordering::SeqCst) == 1, "nobody tells the waiter");
            RUNS[usize::from(seen)].fetch_add(1, Ordering::SeqCst);
            shared.0.clear();
        });
        assert!(RUNS.iter().all(|runs| runs.load(Ordering::SeqCst) > 0), "both orders were tried");
    }
}

/// Memory for one buffer after the other, of those who poll: it waits when the pool is exhausted.
#[derive(Debug, Default)]
pub(crate) struct Reservation(Option<Allocate>);

impl Reservation {
    /// A buffer of at least `wanted` bytes. While this waits, it waits for as many as it was asked for first.
    #[inline]
    pub(crate) fn poll(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<io::Result<BufferMut>> {
        if self.0.is_none()
            && let Ok(buffer) = BufferMut::with_capacity(wanted)
        {
            return Poll::Ready(Ok(buffer));
        }
        let memory = self.0.get_or_insert_with(|| BufferMut::allocate(wanted));
        let result = ready!(Pin::new(memory).poll(cx));
        self.0 = None;
        Poll::Ready(result.map_err(io::Error::from))
    }

    /// Copies the pieces, as far as `most` bytes and a buffer take them.
    pub(crate) fn poll_copy(
        &mut self,
        pieces: &[IoSlice<'_>],
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<BufferMut>> {
        let wanted = pieces.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.len())).min(most);
        let mut copy = ready!(self.poll(wanted, cx))?;
        let mut left = wanted.min(copy.capacity());
        for piece in pieces {
            let count = piece.len().min(left);
            copy.extend_from_slice(&piece[..count]);
            left -= count;
        }
        Poll::Ready(Ok(copy))
    }

    /// Waits no longer.
    pub(crate) fn cancel(&mut self) {
        self.0 = None;
    }
}
