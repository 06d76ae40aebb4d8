//! The side of an operation that delivers its result.

use super::context;
use super::owner;
use super::page::Page;
use super::slot::{Kind, NO_DEVICE, OWNED, Origin, Pending, Slot, State};
use super::span::Spans;
use super::token::QToken;
use super::waker::{discard_option, discard_stored, wake_option, wake_stored};
use crate::time::wheel::TimerNode;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Which device an operation belongs to (see [`Device`](crate::transport::Device)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeviceId {
    /// Among those of its runtime.
    index: u8,
    /// Which of the program's runtimes it is (see [`Core::number`](super::core::Core)).
    runtime: u32,
}

impl DeviceId {
    /// Of a device that no runtime has.
    #[cfg_attr(not(feature = "io-uring"), allow(dead_code))]
    pub(crate) const NONE: DeviceId = DeviceId { index: NO_DEVICE, runtime: 0 };

    pub(super) fn new(index: u8, runtime: u32) -> DeviceId {
        DeviceId { index, runtime }
    }
}

/// A name for one operation: it is never used again while its runtime lives, save by wrap-around of a
/// 32-bit count. For logs, and to find an operation's entry in a device's own tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OperationId {
    slot: NonNull<Slot>,
    number: u32,
}

/// The promise of an operation's result. Devices hold it until they can [`complete`](Self::complete) it.
///
/// Dropping it without a value is a fault of the device: the token's holder gets a panic that says so.
/// A device that shuts down completes what it has with an error.
pub struct Completion<T> {
    slot: NonNull<Slot>,
    /// Not `Send`, by the slot's pointer.
    _result: PhantomData<fn(T)>,
}

/// Starts an operation: the token to await, and the promise to keep.
///
/// Makes no allocation once the runtime has as many slots as it ever needs at once. A result of more than
/// 48 bytes, or aligned to more than 8, takes one when it is delivered.
///
/// # Panics
/// Outside of a runtime.
///
/// ```
/// let runtime = demikernel_runtime::Runtime::new().unwrap();
/// let sum = runtime.block_on(async {
///     let (token, completion) = demikernel_runtime::operation::<u32>();
///     demikernel_runtime::spawn(async move { completion.complete(40 + 2) }).detach();
///     token.await
/// });
/// assert_eq!(sum, 42);
/// ```
#[inline]
pub fn operation<T: 'static>() -> (QToken<T>, Completion<T>) {
    let core = context::current();
    // What others gave up is before what this one gets, if it receives.
    core.hand_back();
    let slot = core.allocate_slot(Kind::Operation);
    // SAFETY: the slot is new, so this is its only user; the context is this thread's.
    unsafe {
        let body = slot.as_ref().body::<Pending>();
        (&raw mut (*body).waker).write(None);
        Slot::origin(slot).write(Origin { turn: core.account.turn.get(), result: std::any::type_name::<T> });
        core.spans.started(slot.as_ref(), std::any::type_name::<T>);
        (QToken::new(slot), Completion { slot, _result: PhantomData })
    }
}

/// Whether a result of this type is delivered without an allocation.
pub(crate) const fn fits_in_slot<T>() -> bool {
    Slot::fits::<T>()
}

impl<T> Completion<T> {
    #[inline(always)]
    pub(super) fn slot(&self) -> NonNull<Slot> {
        self.slot
    }

    /// The operation's name.
    #[inline]
    pub fn id(&self) -> OperationId {
        // SAFETY: pages are never freed.
        let number = unsafe { self.slot.as_ref() }.number.get();
        OperationId { slot: self.slot, number }
    }

    /// The operation's number among all of its runtime, as for
    /// [`Device::give_back`](crate::transport::Device::give_back): for those who write transports.
    #[inline]
    pub fn number(&self) -> u32 {
        self.id().number
    }

    /// Whether the token has been dropped, so that nobody will see the result. A stream's device keeps
    /// data that arrived for a cancelled operation and gives it to the next one.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: pages are never freed.
        unsafe { self.slot.as_ref() }.state.get() == State::Cancelled
    }

    /// Has [`Device::cancel`](crate::transport::Device::cancel) called with `key` when the token is
    /// dropped before the result is there, and [`Device::give_back`](crate::transport::Device::give_back)
    /// when it is dropped with a result that nobody has taken. Without this nobody is told, and the device
    /// finds out about the former by [`is_cancelled`](Self::is_cancelled); so it is if the device is another
    /// runtime's than the operation.
    #[inline]
    pub fn on_cancel(&self, device: DeviceId, key: u64) {
        // SAFETY: while the completion lives the slot is pending or cancelled, so its body is a `Pending`.
        unsafe {
            let core = Page::of(self.slot).as_ref().core;
            if core.as_ref().number.get() != device.runtime {
                return;
            }
            let slot = self.slot.as_ref();
            slot.device.set(device.index);
            (&raw mut (*slot.body::<Pending>()).cancel_key).write(key);
        }
    }

    /// Ends its span.
    #[inline(always)]
    fn is_over(&self) {
        // SAFETY: pages and cores are never freed, and this is the core's thread, as a completion is not `Send`.
        unsafe {
            if let Some(number) = Spans::of(self.slot.as_ref()) {
                Page::of(self.slot).as_ref().core.as_ref().spans.end(number);
            }
        }
    }

    /// Delivers the result and makes ready the one task that waits for it. When the token is gone the
    /// value is dropped here.
    #[inline]
    pub fn complete(self, value: T) {
        let slot = self.slot;
        self.is_over();
        std::mem::forget(self);
        // SAFETY: the completion was this slot's, and is now gone; the slot's state says what the body is.
        unsafe {
            let it = slot.as_ref();
            if it.state.get() == State::Pending {
                let waker = (&raw mut (*it.body::<Pending>()).waker).read();
                it.put_result(value);
                it.state.set(State::Done);
                wake_option(waker);
            } else {
                Slot::release(slot);
                drop(value);
            }
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        self.is_over();
        // SAFETY: as in `complete`.
        unsafe {
            let it = self.slot.as_ref();
            if it.state.get() == State::Pending {
                it.state.set(State::Broken);
                wake_stored(&raw mut (*it.body::<Pending>()).waker);
            } else {
                Slot::release(self.slot);
            }
        }
    }
}

impl<T> std::fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completion")
            .field("slot", &self.slot)
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Starts a timer that is done at `deadline` (nanoseconds of the runtime's clock).
///
/// # Panics
/// Outside of a runtime.
#[inline]
pub(crate) fn timer(deadline: u64) -> QToken<()> {
    let core = context::current();
    let slot = core.allocate_slot(Kind::Timer);
    // SAFETY: the slot is new; its node stays in place until the wheel or the token's drop takes it out.
    unsafe {
        let body = slot.as_ref().body::<Pending>();
        (&raw mut (*body).waker).write(None);
        (&raw mut (*body).timer).write(TimerNode::new());
        core.insert_timer(Slot::timer_node(slot), deadline);
        core.spans.set(slot.as_ref(), deadline);
        QToken::new(slot)
    }
}

/// Ends a timer that the wheel has let go of.
///
/// # Safety
/// `node` is a timer's node, just taken from the wheel of this thread's current core.
#[inline]
pub(super) unsafe fn timer_expired(node: NonNull<TimerNode>) {
    // SAFETY: the caller has taken the node from the wheel, where a timer is pending, as dropping its token takes it
    // out: so the slot is in use, and its body a `Pending`.
    unsafe {
        let slot = Slot::of_timer(node);
        let it = slot.as_ref();
        debug_assert!(it.state.get() == State::Pending && it.kind.get() == Kind::Timer);
        it.state.set(State::Done);
        let span = Spans::of(it);
        wake_stored(&raw mut (*it.body::<Pending>()).waker);
        // The slot may be somebody else's by now; pages and cores are never freed.
        if let Some(number) = span {
            Page::of(slot).as_ref().core.as_ref().spans.end(number);
        }
    }
}

/// What a token's drop has to do when the result has not been taken.
///
/// # Safety
/// The caller is the token of this slot, for results of type `T`, and goes away.
pub(super) unsafe fn token_dropped<T: 'static>(slot: NonNull<Slot>) {
    // SAFETY: the token keeps the slot in use, and it is on the thread of its core since it is not `Send`.
    unsafe {
        let it = slot.as_ref();
        match it.state.get() {
            State::Pending if it.kind.get() == Kind::Timer => {
                discard_stored(&raw mut (*it.body::<Pending>()).waker);
                let core = Page::of(slot).as_ref().core;
                core.as_ref().remove_timer(Slot::timer_node(slot));
                if let Some(number) = Spans::of(it) {
                    core.as_ref().spans.end(number);
                }
                Slot::release(slot);
            }
            State::Pending => {
                let body = it.body::<Pending>();
                // A foreign waker's drop may run anything, such as the operation's completion, so it comes
                // last.
                let waker = (&raw mut (*body).waker).replace(None);
                it.state.set(State::Cancelled);
                match it.device.get() {
                    NO_DEVICE => {}
                    OWNED => owner::cancel::<T>(slot),
                    device => {
                        let key = (&raw const (*body).cancel_key).read();
                        Page::of(slot).as_ref().core.as_ref().cancel(device, key);
                    }
                }
                discard_option(waker);
            }
            State::Done | State::Broken if it.device.get() == OWNED => {
                if it.state.get() == State::Done {
                    owner::give_back::<T>(slot);
                } else {
                    owner::release::<T>(slot);
                }
            }
            State::Done => {
                let result = it.take_result::<T>();
                let device = it.device.get();
                let key =
                    (device != NO_DEVICE).then(|| (&raw const (*it.body::<Pending>()).cancel_key).read());
                let number = it.number.get();
                Slot::release(slot);
                match key {
                    Some(key) => {
                        let core = Page::of(slot).as_ref().core;
                        core.as_ref().give_back(device, key, number, result);
                    }
                    None => drop(result),
                }
            }
            State::Broken => Slot::release(slot),
            State::Cancelled | State::Free => debug_assert!(false, "a token's slot is its own"),
        }
    }
}
