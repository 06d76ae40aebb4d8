//! Wakers: the address of a slot, and nothing else.
//!
//! Since pages are never freed (see `page.rs`), a waker is copied without counting. On the thread that runs
//! the slot's core, waking sets a bit with plain instructions; on any other it takes the path in
//! `remote.rs`.

use super::context;
use super::page::Page;
use super::slot::{Slot, State};
use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::task::{RawWaker, RawWakerVTable, Waker};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

/// The waker of a slot. That dropping it does nothing lets the caller keep it on the stack for free.
///
/// # Safety
/// `slot` came from a page.
#[inline(always)]
pub(super) unsafe fn waker(slot: NonNull<Slot>) -> ManuallyDrop<Waker> {
    // SAFETY: the table's functions accept any slot's address, on any thread, any number of times.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(slot.as_ptr().cast(), &VTABLE)) })
}

/// Whether a waker is one of these, so that it need not be called through its table: copying it and
/// forgetting it are then what cloning and dropping do.
#[inline(always)]
fn is_ours(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &VTABLE)
}

/// The slot that a waker wakes, if it is one of these.
pub(super) fn slot_of(waker: &Waker) -> Option<NonNull<Slot>> {
    is_ours(waker).then(|| NonNull::new(waker.data().cast_mut().cast::<Slot>())).flatten()
}

/// Has `waker` woken when the slot is done.
///
/// # Safety
/// The slot is pending, so its body starts with a waker, and nobody holds a reference to that. The caller
/// keeps the slot in use.
#[inline(always)]
pub(super) unsafe fn store_waker(slot: NonNull<Slot>, waker: &Waker) {
    // SAFETY: the caller has a pending slot, whose body starts with a waker that nobody has a reference to. A foreign
    // waker's `drop` runs when the place is done with.
    unsafe {
        let place = slot.as_ref().body::<Option<Waker>>();
        if is_ours(waker) {
            let former = place.replace(Some(ptr::read(waker)));
            discard_option(former);
        } else if !(*place).as_ref().is_some_and(|present| present.will_wake(waker)) {
            store_foreign(slot, waker.clone());
        }
    }
}

/// # Safety
/// As for `store_waker`, but the slot may be done: making the clone may have run anything.
#[cold]
unsafe fn store_foreign(slot: NonNull<Slot>, waker: Waker) {
    // SAFETY: the caller keeps the slot in use, and while it is pending its body starts with the waker.
    unsafe {
        if slot.as_ref().state.get() == State::Pending {
            discard_option(slot.as_ref().body::<Option<Waker>>().replace(Some(waker)));
        } else {
            waker.wake();
        }
    }
}

/// Takes the waker out of its place, and wakes it.
///
/// # Safety
/// As for `store_waker`.
#[inline(always)]
pub(super) unsafe fn wake_stored(place: *mut Option<Waker>) {
    // SAFETY: the caller's place is a waker's, to which nobody has a reference. That runs when the place is done with.
    wake_option(unsafe { place.replace(None) });
}

/// Takes the waker out of its place, and drops it.
///
/// # Safety
/// As for `store_waker`.
#[inline(always)]
pub(super) unsafe fn discard_stored(place: *mut Option<Waker>) {
    // SAFETY: the caller's place is a waker's, to which nobody has a reference. Its `drop` runs when that is done with.
    discard_option(unsafe { place.replace(None) });
}

#[inline(always)]
pub(super) fn wake_option(waker: Option<Waker>) {
    match waker {
        Some(waker) if is_ours(&waker) => wake(ManuallyDrop::new(waker).data()),
        Some(waker) => wake_foreign(waker),
        None => {}
    }
}

/// A waker that panics harms neither the loop nor the device that completes an operation.
#[cold]
#[inline(never)]
fn wake_foreign(waker: Waker) {
    if !contained(|| waker.wake()) {
        tracing::error!("the waker of another executor panicked");
    }
}

/// Runs what the executor's own state must survive; whether it returned.
pub(super) fn contained(run: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(run)).map_err(discard_payload).is_ok()
}

/// Drops the payload of a panic, the drop of which may panic, too, with another that does.
#[cold]
fn discard_payload(mut payload: Box<dyn Any + Send>) {
    const PATIENCE: usize = 4;
    for _ in 0..PATIENCE {
        match catch_unwind(AssertUnwindSafe(|| std::mem::drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

#[inline(always)]
pub(super) fn discard_option(waker: Option<Waker>) {
    match waker {
        Some(waker) if is_ours(&waker) => std::mem::forget(waker),
        other => std::mem::drop(other),
    }
}

fn clone(slot: *const ()) -> RawWaker {
    RawWaker::new(slot, &VTABLE)
}

#[inline]
fn wake(slot: *const ()) {
    // SAFETY: wakers are only made from a page's slots.
    unsafe {
        let slot = NonNull::new_unchecked(slot.cast_mut().cast::<Slot>());
        let page = Page::of(slot);
        let core = page.as_ref().core;
        if context::is_current(core) {
            prefetch(slot);
            core.as_ref().wake_local(page, Page::bit(slot));
        } else {
            wake_remote(slot);
        }
    }
}

/// Apart from `wake`, which then has no register to save.
///
/// # Safety
/// `slot` came from a page.
#[cold]
#[inline(never)]
unsafe fn wake_remote(slot: NonNull<Slot>) {
    // SAFETY: the caller's slot came from a page; pages and cores are never freed, and this part of a core is for every
    // thread.
    unsafe {
        let page = Page::of(slot);
        page.as_ref().core.as_ref().remote.wake(page, Page::bit(slot));
    }
}

fn drop(_: *const ()) {}

/// Starts loading a slot's two cache lines: it will run soon.
#[inline(always)]
fn prefetch(slot: NonNull<Slot>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect on memory, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(slot.as_ptr().cast());
        _mm_prefetch::<_MM_HINT_T0>(Slot::inline_cell(slot).cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = slot;
}
