//! One slot of the operation slab: a cell that one side completes and the other side awaits.
//!
//! ```text
//!              token dropped             completed (value dropped)
//!   Pending ───────────────▶ Cancelled ───────────────▶ Free
//!      │
//!      │ completed           token polled, or dropped
//!      └────────────▶ Done ──────────────▶ Free
//!      │
//!      │ completion dropped  token dropped
//!      └────────────▶ Broken ────────────▶ Free
//! ```
//!
//! A slot is held by a [`QToken`](super::token::QToken) and a [`Completion`](super::completion::Completion)
//! (or the timer wheel, or, for tasks, the executor); whoever comes last frees it. Its 56-byte body holds
//! what a pending operation needs, and later, in the same place, its result.

use super::page::Page;
use super::task::TaskBody;
use crate::time::wheel::TimerNode;
use std::cell::{Cell, UnsafeCell};
use std::mem::{MaybeUninit, offset_of};
use std::ptr::NonNull;
use std::task::Waker;

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Operation,
    Timer,
    Task,
    /// The future given to `block_on`.
    Root,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free,
    Pending,
    /// The token is gone; the operation is still in the hands of its device.
    Cancelled,
    Done,
    /// The completion was dropped without a value.
    Broken,
}

/// No device is to be told of a cancellation.
pub(crate) const NO_DEVICE: u8 = u8::MAX;

/// Not a device's: the slot has an owner (see `owner.rs`).
pub(crate) const OWNED: u8 = u8::MAX - 1;

/// The bytes of a slot's body.
pub(crate) const BODY: usize = 56;

/// The largest result that is kept in a slot, in bytes; larger ones take an allocation. Behind it the key
/// for the device stays in place.
pub(crate) const RESULT: usize = 48;

/// The size and the alignment of a slot's second line, where operations keep their owner.
pub(super) const INLINE: usize = 64;

/// Where a slot's body begins.
pub(super) const BODY_AT: usize = 8;

/// Where in its slot a small task's future begins: behind the `TaskBody`.
pub(super) const FUTURE_AT: usize = 48;

/// The largest future that is kept in its task's slot.
pub(super) const FUTURE: usize = BODY_AT + BODY + INLINE - FUTURE_AT;

/// The alignment of that place.
pub(super) const FUTURE_ALIGN: usize = 8;

/// Two cache lines. I/O and timers use the first alone. A small task's future begins in the first and goes on
/// in the second: its address is known without reading either, so that with many tasks woken at random the two
/// misses overlap, and there are no others.
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// The number of the operation among all of its core, in the order in which they were started. An old
    /// handle on the slot has another one.
    pub(super) number: Cell<u32>,
    pub(super) state: Cell<State>,
    pub(super) kind: Cell<Kind>,
    /// Who is told when the token of a pending operation is dropped; what is `OWNED` has an owner in its
    /// inline memory, until the token lets go of the slot.
    pub(super) device: Cell<u8>,
    /// Task flags (see `task.rs`); of an operation or a timer whether it has a span (see `span.rs`).
    pub(super) flags: Cell<u8>,
    body: UnsafeCell<MaybeUninit<[u64; BODY / 8]>>,
    inline: UnsafeCell<MaybeUninit<[u64; INLINE / 8]>>,
}

const _: () = assert!(offset_of!(Slot, inline) == INLINE && offset_of!(Slot, body) == BODY_AT);
const _: () = assert!(FUTURE_AT + FUTURE == size_of::<Slot>() && FUTURE_AT.is_multiple_of(FUTURE_ALIGN));

/// The body while an operation or a timer is pending.
#[repr(C)]
pub(super) struct Pending {
    pub(super) waker: Option<Waker>,
    pub(super) timer: TimerNode,
    /// What the device is told when the token is dropped; stays valid when the operation is done.
    pub(super) cancel_key: u64,
}

/// Where a pending operation comes from, for people: in the place of a timer's node.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// When the turn began in which it was started.
    pub(super) turn: u64,
    /// The type of its result.
    pub(super) result: fn() -> &'static str,
}

const _: () = assert!(size_of::<Origin>() <= size_of::<TimerNode>() && align_of::<Origin>() <= 8);

const _: () = assert!(offset_of!(Pending, cancel_key) == RESULT);

const _: () = assert!(size_of::<Pending>() <= BODY && size_of::<TaskBody>() <= BODY);

impl Slot {
    pub(super) const fn new() -> Slot {
        Slot {
            number: Cell::new(0),
            state: Cell::new(State::Free),
            kind: Cell::new(Kind::Operation),
            device: Cell::new(NO_DEVICE),
            flags: Cell::new(0),
            body: UnsafeCell::new(MaybeUninit::uninit()),
            inline: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The body as the type that the slot's kind and state say it is.
    #[inline(always)]
    pub(super) fn body<T>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= BODY && align_of::<T>() <= 8) };
        self.body.get().cast()
    }

    /// Whether a `T` is kept in the slot, or behind a pointer from there.
    pub(super) const fn fits<T>() -> bool {
        size_of::<T>() <= RESULT && align_of::<T>() <= 8
    }

    /// Puts an operation's result into the body.
    ///
    /// # Safety
    /// The body holds nothing that must be dropped, and the slot's state becomes `Done`.
    #[inline(always)]
    pub(super) unsafe fn put_result<T>(&self, value: T) {
        // SAFETY: it fits, or a pointer does.
        unsafe {
            if Self::fits::<T>() {
                self.body.get().cast::<T>().write(value);
            } else {
                self.body.get().cast::<*mut T>().write(Box::into_raw(Box::new(value)));
            }
        }
    }

    /// Moves an operation's result out of the body.
    ///
    /// # Safety
    /// The body holds a `T` by `put_result`, which is not used again.
    #[inline(always)]
    pub(super) unsafe fn take_result<T>(&self) -> T {
        // SAFETY: the body has a `T` by `put_result`, as the caller says, who takes it once: there, or in a box.
        unsafe {
            if Self::fits::<T>() {
                self.body.get().cast::<T>().read()
            } else {
                *Box::from_raw(self.body.get().cast::<*mut T>().read())
            }
        }
    }

    /// The slot's memory for a small task's future.
    #[inline(always)]
    pub(super) fn future_cell(slot: NonNull<Slot>) -> *mut u8 {
        // SAFETY: inside the slot.
        unsafe { slot.as_ptr().byte_add(FUTURE_AT).cast() }
    }

    /// The slot's second line, aligned to its size.
    #[inline(always)]
    pub(super) fn inline_cell(slot: NonNull<Slot>) -> *mut u8 {
        // SAFETY: inside the slot.
        unsafe { slot.as_ptr().byte_add(offset_of!(Slot, inline)).cast() }
    }

    /// The slot that contains a timer node.
    ///
    /// # Safety
    /// `node` is the node of a pending timer slot, with provenance for its page.
    #[inline(always)]
    pub(super) unsafe fn of_timer(node: NonNull<TimerNode>) -> NonNull<Slot> {
        let offset = offset_of!(Slot, body) + offset_of!(Pending, timer);
        // SAFETY: the caller's node lies that far inside its slot.
        unsafe { node.byte_sub(offset).cast() }
    }

    /// The timer node of a slot, with provenance for the whole page.
    #[inline(always)]
    pub(super) fn timer_node(slot: NonNull<Slot>) -> NonNull<TimerNode> {
        let offset = offset_of!(Slot, body) + offset_of!(Pending, timer);
        // SAFETY: inside the slot.
        unsafe { slot.byte_add(offset).cast() }
    }

    /// Where a pending operation says where it comes from, which timers do not.
    #[inline(always)]
    pub(super) fn origin(slot: NonNull<Slot>) -> *mut Origin {
        Self::timer_node(slot).as_ptr().cast()
    }

    /// Returns a slot to its page.
    ///
    /// # Safety
    /// The slot is in use, its body holds nothing that must be dropped, nobody else holds it, and the
    /// caller is on the thread of its core.
    #[inline]
    pub(super) unsafe fn release(slot: NonNull<Slot>) {
        // SAFETY: the caller's slot is live memory (pages are never freed), and this is its thread.
        unsafe {
            let it = slot.as_ref();
            it.state.set(State::Free);
            let page = Page::of(slot);
            let core = page.as_ref().core;
            core.as_ref().slot_freed(page, Page::bit(slot));
        }
    }
}
