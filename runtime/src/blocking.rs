//! Work that blocks, on threads made for it.
//!
//! The threads are those of the crate `blocking`: made when needed, up to 500 of them
//! (`BLOCKING_MAX_THREADS` in the environment), and gone when idle. A result comes back by a wake-up from
//! another thread, which also ends a core's blocking.

use crate::executor::{JoinError, OutsideWork, handle, is_inside, unpin};
use futures_core::FusedFuture;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Runs a function that blocks, or computes for long, on a thread of its own, so that the core's tasks go
/// on meanwhile. Awaiting the handle gives what it returns.
///
/// Work goes on when the runtime ends. Virtual time does not pass while there is any.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let sum = demikernel_runtime::spawn_blocking(|| (1..=1_000_000u64).sum::<u64>()).await;
/// assert_eq!(sum.unwrap(), 500_000_500_000);
/// # });
/// ```
#[track_caller]
pub fn spawn_blocking<F, T>(function: F) -> BlockingHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let outside = handle().outside_work();
    let work = Arc::new(Work(Mutex::new(State::Queued { function: Box::new(function), waker: None })));
    let thread_work = work.clone();
    unblock(move || thread_work.run(outside)).detach();
    BlockingHandle { work: Some(work) }
}

/// Runs a function on a thread, for parts of the runtime that have a way of their own to get its result.
pub(crate) fn unblock<F, T>(function: F) -> ::blocking::Task<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    thread_local! {
        static FREE: Cell<bool> = const { Cell::new(false) };
    }
    ::blocking::unblock(move || {
        // Threads inherit the processor of the core that happened to make them, and would take turns with
        // its tasks there.
        if !FREE.replace(true) {
            unpin();
        }
        function()
    })
}

/// The same for one task that awaits it at once. Virtual time does not pass meanwhile.
pub(crate) async fn unblock_and_wait<F, T>(function: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let _outside = is_inside().then(|| handle().outside_work());
    unblock(function).await
}

type Function<T> = Box<dyn FnOnce() -> T + Send>;

enum State<T> {
    Queued { function: Function<T>, waker: Option<Waker> },
    Running { waker: Option<Waker> },
    Ended(Option<Result<T, JoinError>>),
}

/// What the thread and the handle share.
struct Work<T>(Mutex<State<T>>);

impl<T> Work<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic happens with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the function, if nobody has.
    fn start(&self) -> Option<Function<T>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Running { waker: None }) {
            State::Queued { function, waker } => {
                *state = State::Running { waker };
                Some(function)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// The thread's part. Virtual time stands still until `outside` is dropped, when the waiter is ready.
    fn run(&self, outside: OutsideWork) {
        let Some(function) = self.start() else { return };
        let result = catch_unwind(AssertUnwindSafe(function)).map_err(JoinError::panicked);
        self.end(result);
        drop(outside);
    }

    fn end(&self, result: Result<T, JoinError>) {
        let former = std::mem::replace(&mut *self.lock(), State::Ended(Some(result)));
        if let State::Queued { waker: Some(waker), .. } | State::Running { waker: Some(waker) } = former {
            waker.wake();
        }
    }

    fn abort(&self) {
        // As if this thread ran it. If the other was quicker, it does.
        if let Some(function) = self.start() {
            self.end(Err(JoinError::cancelled()));
            drop(function);
        }
    }
}

/// Awaits the end of [`spawn_blocking`]'s function, on any thread and under any executor. Dropping it lets
/// the function run on.
#[must_use = "dropping the handle detaches the work"]
pub struct BlockingHandle<T> {
    /// `None` once the result has been given.
    work: Option<Arc<Work<T>>>,
}

impl<T> BlockingHandle<T> {
    /// Keeps the function from running, unless it has begun: then it runs to its end, and its result can
    /// still be had. Otherwise the handle gives [`JoinError::is_cancelled`].
    pub fn abort(&self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }

    /// Lets the function run without anybody awaiting it, as dropping the handle does.
    pub fn detach(self) {
        drop(self);
    }

    /// Whether the function has returned or panicked, or was aborted.
    pub fn is_finished(&self) -> bool {
        self.work.as_ref().is_none_or(|work| matches!(*work.lock(), State::Ended(_)))
    }
}

impl<T> Future for BlockingHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.work.as_ref().expect("a BlockingHandle was polled after it had given its result");
        // Copied before the lock is taken, and dropped after, since foreign wakers may run anything.
        let mut new = Some(cx.waker().clone());
        let result = match &mut *work.lock() {
            State::Queued { waker, .. } | State::Running { waker } => {
                std::mem::swap(waker, &mut new);
                return Poll::Pending;
            }
            State::Ended(result) => result.take(),
        };
        self.work = None;
        Poll::Ready(result.expect("the result is given once"))
    }
}

impl<T> FusedFuture for BlockingHandle<T> {
    fn is_terminated(&self) -> bool {
        self.work.is_none()
    }
}

impl<T> fmt::Debug for BlockingHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingHandle").field("finished", &self.is_finished()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Runtime;

    fn queued<T: Send + 'static>(
        runtime: &Runtime,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> (BlockingHandle<T>, impl FnOnce()) {
        let work = Arc::new(Work(Mutex::new(State::Queued { function: Box::new(function), waker: None })));
        let (thread_work, outside) = (work.clone(), runtime.handle().outside_work());
        (BlockingHandle { work: Some(work) }, move || thread_work.run(outside))
    }

    #[test]
    fn what_was_aborted_before_it_began_does_not_run() {
        let runtime = Runtime::new().unwrap();
        let held = Arc::new(());
        let captured = held.clone();
        let (handle, thread) = queued(&runtime, move || drop(captured));
        handle.abort();
        assert!(handle.is_finished());
        assert_eq!(Arc::strong_count(&held), 1, "what it captured goes at once");
        thread();
        assert!(runtime.block_on(handle).unwrap_err().is_cancelled());
    }

    #[test]
    fn an_abort_wakes_the_one_who_waits() {
        let runtime = Runtime::new().unwrap();
        let (handle, _thread) = queued(&runtime, || ());
        let handle = Arc::new(Mutex::new(handle));
        let waiting = handle.clone();
        let end = runtime.block_on(async {
            let task = crate::spawn(std::future::poll_fn(move |cx| {
                Pin::new(&mut *waiting.lock().unwrap()).poll(cx)
            }));
            crate::yield_now().await;
            handle.lock().unwrap().abort();
            task.await.unwrap()
        });
        assert!(end.unwrap_err().is_cancelled());
        assert!(handle.lock().unwrap().is_terminated());
    }

    #[test]
    fn what_runs_is_not_aborted() {
        let runtime = Runtime::new().unwrap();
        let (handle, thread) = queued(&runtime, || 7);
        thread();
        handle.abort();
        assert_eq!(runtime.block_on(handle).unwrap(), 7);
    }
}
