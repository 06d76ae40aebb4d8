//! Task-locals: values that belong to a task as thread-locals belong to a thread.

use pin_project::pin_project;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey as ThreadLocalKey;

/// Declares task-locals. Each is a [`LocalKey`](crate::LocalKey).
///
/// ```
/// demikernel_runtime::task_local! {
///     /// Which request the task serves.
///     static REQUEST: u64;
/// }
///
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let answer = REQUEST.scope(7, async {
///     demikernel_runtime::yield_now().await;
///     REQUEST.get() * 6
/// });
/// assert_eq!(answer.await, 42);
/// assert!(REQUEST.try_with(|_| ()).is_err());
/// # });
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty);+ $(;)?) => {
        $(
            $(#[$attribute])*
            $visibility static $name: $crate::LocalKey<$type> = {
                ::std::thread_local! {
                    static SLOT: ::std::cell::RefCell<::std::option::Option<$type>> =
                        const { ::std::cell::RefCell::new(::std::option::Option::None) };
                }
                $crate::LocalKey::__new(&SLOT)
            };
        )+
    };
}

/// A task-local, declared by [`task_local!`].
///
/// ```
/// demikernel_runtime::task_local!(static DEPTH: u32);
///
/// DEPTH.sync_scope(1, || DEPTH.sync_scope(2, || assert_eq!(DEPTH.get(), 2)));
/// assert!(DEPTH.try_with(|_| ()).is_err());
/// ```
pub struct LocalKey<T: 'static> {
    slot: &'static ThreadLocalKey<RefCell<Option<T>>>,
}

/// There is no value: the code is not inside of the key's [`scope`](LocalKey::scope).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the task-local is not set: it is read outside of its scope")]
pub struct AccessError;

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(slot: &'static ThreadLocalKey<RefCell<Option<T>>>) -> LocalKey<T> {
        LocalKey { slot }
    }

    /// Runs `future` with the task-local set to `value`.
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> TaskLocalFuture<T, F> {
        TaskLocalFuture { key: self, value: Some(value), future: Some(future) }
    }

    /// Runs `f` with the task-local set to `value`.
    pub fn sync_scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        let mut value = Some(value);
        let _swapped = Swapped::new(self, &mut value);
        f()
    }

    /// Calls `f` with the value.
    ///
    /// # Panics
    /// Outside of the key's scope.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Calls `f` with the value.
    ///
    /// # Errors
    /// [`AccessError`] outside of the key's scope.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.slot.with(|slot| slot.borrow().as_ref().map(f).ok_or(AccessError))
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// Outside of the key's scope.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKey")
    }
}

/// Puts a value in a key's place, and what was there back when it is dropped.
struct Swapped<'a, T: 'static> {
    key: &'static LocalKey<T>,
    other: &'a mut Option<T>,
}

impl<'a, T> Swapped<'a, T> {
    fn new(key: &'static LocalKey<T>, other: &'a mut Option<T>) -> Self {
        key.slot.with(|slot| std::mem::swap(&mut *slot.borrow_mut(), other));
        Swapped { key, other }
    }
}

impl<T> Drop for Swapped<'_, T> {
    fn drop(&mut self) {
        self.key.slot.with(|slot| std::mem::swap(&mut *slot.borrow_mut(), self.other));
    }
}

/// The future of [`LocalKey::scope`]. It is dropped with the task-local set, too.
#[pin_project(PinnedDrop)]
pub struct TaskLocalFuture<T: 'static, F> {
    key: &'static LocalKey<T>,
    value: Option<T>,
    #[pin]
    future: Option<F>,
}

impl<T: 'static, F: Future> Future for TaskLocalFuture<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _swapped = Swapped::new(this.key, this.value);
        let future = this.future.as_mut().as_pin_mut();
        let polled = future.expect("a TaskLocalFuture was polled after it was done").poll(cx);
        if polled.is_ready() {
            this.future.set(None);
        }
        polled
    }
}

#[pin_project::pinned_drop]
impl<T: 'static, F> PinnedDrop for TaskLocalFuture<T, F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.future.is_some() {
            // While a thread ends, its place may be gone before the future.
            let is_there = this.key.slot.try_with(|_| ()).is_ok();
            let _swapped = is_there.then(|| Swapped::new(this.key, this.value));
            this.future.set(None);
        }
    }
}

impl<T, F> fmt::Debug for TaskLocalFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskLocalFuture")
    }
}
