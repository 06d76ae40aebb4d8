//! Queue tokens: the one leaf future.

use super::completion::token_dropped;
use super::owner;
use super::slot::{NO_DEVICE, OWNED, Slot, State};
use super::waker::store_waker;
use futures_core::FusedFuture;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// A handle on one operation that has been started: a push, a pop, a timer, a read.
///
/// Awaiting it gives the operation's result, which is stored in the runtime's operation slab and moved out
/// from there. Completion makes ready exactly the task that awaits the token. Dropping the token cancels
/// the operation; memory that a device still uses stays alive until the device gives it back.
///
/// A token belongs to the thread of its runtime (it is not `Send`). It may outlive the runtime: then it is
/// never done, unless it was before.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::{operation, QToken};
/// let (token, completion) = operation::<u32>();
/// assert!(!token.is_done());
/// completion.complete(7);
/// assert_eq!(token.await, 7);
/// # });
/// ```
///
/// # Panics
/// Polling it again after it gave its result (`FusedFuture::is_terminated` tells), as is usual for futures;
/// and polling one whose device broke its promise, which is a fault of that device.
#[must_use = "dropping a token cancels its operation"]
pub struct QToken<T: 'static> {
    slot: Option<NonNull<Slot>>,
    _result: PhantomData<(*const (), T)>,
}

impl<T: 'static> Unpin for QToken<T> {}

impl<T: 'static> QToken<T> {
    /// # Safety
    /// The slot is new, its kind and body are set, it is this token's from here on, and its result will be
    /// a `T`.
    #[inline]
    pub(super) unsafe fn new(slot: NonNull<Slot>) -> QToken<T> {
        QToken { slot: Some(slot), _result: PhantomData }
    }

    /// Whether the result can be had without waiting.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// assert!(demikernel_runtime::QToken::ready(1).is_done());
    /// # });
    /// ```
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: a token's slot is live memory, and this is its thread.
        self.slot.is_some_and(|slot| unsafe { slot.as_ref() }.state.get() == State::Done)
    }

    /// Takes the result if it is there.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let (mut token, completion) = demikernel_runtime::operation();
    /// assert_eq!(token.try_take(), None);
    /// completion.complete("there");
    /// assert_eq!(token.try_take(), Some("there"));
    /// # });
    /// ```
    ///
    /// # Panics
    /// As polling does.
    #[inline]
    pub fn try_take(&mut self) -> Option<T> {
        let Some(slot) = self.slot else { taken() };
        // SAFETY: the token's slot is in use by it and on its thread; `Done` means the body is a `T`, which
        // is moved out here once, since the token forgets the slot.
        unsafe {
            match slot.as_ref().state.get() {
                State::Done => {
                    self.slot = None;
                    let value = slot.as_ref().take_result::<T>();
                    if slot.as_ref().device.get() == OWNED {
                        owner::release::<T>(slot);
                    } else {
                        Slot::release(slot);
                    }
                    Some(value)
                }
                State::Broken => broken(),
                _ => None,
            }
        }
    }

    /// Takes the result if it is there and was not taken before.
    pub(super) fn try_take_unless_terminated(&mut self) -> Option<T> {
        if self.slot.is_some() { self.try_take() } else { None }
    }

    /// Whether there is nothing more to wait for, without taking the result; else the task is woken when
    /// there is.
    pub(super) fn poll_done(&mut self, cx: &Context<'_>) -> bool {
        let Some(slot) = self.slot else { return true };
        // SAFETY: a token's slot is live memory, and this is its thread; a pending slot's body starts with
        // the waker.
        unsafe {
            let pending = slot.as_ref().state.get() == State::Pending;
            if pending {
                store_waker(slot, cx.waker());
            }
            !pending
        }
    }

    /// The token of an operation that is done already.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// assert_eq!(demikernel_runtime::QToken::ready("at once").await, "at once");
    /// # });
    /// ```
    ///
    /// # Panics
    /// Outside of a runtime.
    #[inline]
    pub fn ready(value: T) -> QToken<T> {
        let (token, completion) = super::completion::operation();
        completion.complete(value);
        token
    }

    /// Lets the operation run to its end without anybody awaiting it; its result is dropped.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let queue = demikernel_runtime::queue::queue_with_capacity(1);
    /// queue.push("first").detach();
    /// queue.push("second").detach(); // waits for room by itself
    /// assert_eq!((queue.pop().await, queue.pop().await), (Ok("first"), Ok("second")));
    /// # });
    /// ```
    pub fn detach(mut self) {
        if let Some(slot) = self.slot.take() {
            // SAFETY: the token's own slot; it is given up here. Without a device or an owner to tell,
            // dropping the token of a pending operation leaves the operation alone.
            unsafe {
                let it = slot.as_ref();
                if it.device.get() == OWNED {
                    owner::detach::<T>(slot);
                } else if matches!(it.state.get(), State::Pending | State::Done) {
                    it.device.set(NO_DEVICE);
                }
                token_dropped::<T>(slot);
            }
        }
    }
}

impl<T: 'static> Future for QToken<T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.try_take() {
            return Poll::Ready(value);
        }
        let Some(slot) = self.slot else { taken() };
        // SAFETY: the slot is pending, or it would have given its value, so the body starts with the waker.
        unsafe { store_waker(slot, cx.waker()) };
        Poll::Pending
    }
}

impl<T: 'static> FusedFuture for QToken<T> {
    #[inline]
    fn is_terminated(&self) -> bool {
        self.slot.is_none()
    }
}

impl<T: 'static> Drop for QToken<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // SAFETY: the token's own slot, and the token ends here.
            unsafe { token_dropped::<T>(slot) }
        }
    }
}

impl<T: 'static> std::fmt::Debug for QToken<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: as in `is_done`.
        let state = self.slot.map(|slot| unsafe { slot.as_ref() }.state.get());
        f.debug_struct("QToken").field("slot", &self.slot).field("state", &state).finish()
    }
}

#[cold]
#[inline(never)]
fn taken() -> ! {
    panic!("a queue token was polled after it had given its result")
}

#[cold]
#[inline(never)]
fn broken() -> ! {
    panic!("the device of a queue token dropped the operation without completing it")
}
