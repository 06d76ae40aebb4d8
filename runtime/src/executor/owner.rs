//! Operations that belong to something in memory, such as a queue, rather than to a device.
//!
//! A device hears of tokens that are dropped while they wait. An owner also hears of those that are dropped
//! with a result that nobody has seen, and takes that back, so that it is not lost: an element that a queue
//! has given to one branch of a `select!` goes back when the other branch is taken.

use super::completion::Completion;
use super::slot::{NO_DEVICE, OWNED, Slot, State};
use std::ptr::NonNull;
use std::rc::Rc;

/// Whose operations these are.
pub(crate) trait Owner<T> {
    /// The token of an operation was dropped while it waited. Its completion is of no use any more.
    fn cancelled(&self, key: u64);

    /// The token of an operation was dropped with the result in it.
    fn returned(&self, key: u64, result: T);
}

/// What a slot keeps, in the memory that tasks use for small futures.
struct Owned<T> {
    owner: Rc<dyn Owner<T>>,
    key: u64,
}

impl<T> Completion<T> {
    /// Makes this an operation of `owner`, which keeps it alive until the result is taken or the token
    /// dropped. Once at most, and not together with [`on_cancel`](Self::on_cancel).
    #[inline]
    pub(crate) fn belongs_to(&self, owner: Rc<dyn Owner<T>>, key: u64) {
        let slot = self.slot();
        // SAFETY: while the completion lives, the slot is an operation's, so its inline memory is unused.
        unsafe {
            if slot.as_ref().state.get() == State::Pending {
                debug_assert_eq!(slot.as_ref().device.get(), NO_DEVICE);
                place::<T>(slot).write(Owned { owner, key });
                slot.as_ref().device.set(OWNED);
            }
        }
    }

    /// Delivers the result, which the owner gets back under `key` if the token is dropped with it.
    #[inline]
    pub(crate) fn complete_as(self, key: u64, value: T) {
        let slot = self.slot();
        // SAFETY: an owned slot has an `Owned<T>` there, since this is the slot's completion.
        unsafe {
            if slot.as_ref().device.get() == OWNED {
                (*place::<T>(slot)).key = key;
            }
        }
        self.complete(value);
    }
}

#[inline(always)]
fn place<T>(slot: NonNull<Slot>) -> *mut Owned<T> {
    const { assert!(size_of::<Owned<T>>() <= super::slot::INLINE) };
    Slot::inline_cell(slot).cast()
}

/// Takes the owner out of a slot.
///
/// # Safety
/// The slot is an operation's with results of type `T`, and [`OWNED`]. The caller is the operation's token.
#[inline]
unsafe fn take<T>(slot: NonNull<Slot>) -> Owned<T> {
    // SAFETY: the caller's slot is `OWNED`, so an `Owned<T>` is there; moved out once, since the slot is not marked as
    // owned any more.
    unsafe {
        slot.as_ref().device.set(NO_DEVICE);
        place::<T>(slot).read()
    }
}

/// Frees a slot of which the token has taken the result, or will never have one.
///
/// # Safety
/// As for [`take`], and for [`Slot::release`].
#[inline]
pub(super) unsafe fn release<T>(slot: NonNull<Slot>) {
    // SAFETY: the caller's slot is `OWNED`, with results of type `T`. The owner's drop may run anything, so it comes
    // last.
    let owned = unsafe { take::<T>(slot) };
    // SAFETY: the caller's slot has nothing that must be dropped any more, and is held by nobody else.
    unsafe { Slot::release(slot) };
    drop(owned);
}

/// Has the owner forget an operation that goes on without a token.
///
/// # Safety
/// As for [`take`].
#[cold]
pub(super) unsafe fn detach<T>(slot: NonNull<Slot>) {
    // SAFETY: the caller is the token of a slot that is `OWNED`, with results of type `T`.
    drop(unsafe { take::<T>(slot) });
}

/// Tells the owner that the token of a slot, now `Cancelled`, is dropped.
///
/// # Safety
/// As for [`take`].
#[cold]
pub(super) unsafe fn cancel<T>(slot: NonNull<Slot>) {
    // SAFETY: the caller is the token of a slot that is `OWNED`, with results of type `T`.
    let Owned { owner, key } = unsafe { take::<T>(slot) };
    owner.cancelled(key);
}

/// Frees a slot, and gives its result back to the owner.
///
/// # Safety
/// As for [`release`]; the slot is `Done`.
#[cold]
pub(super) unsafe fn give_back<T>(slot: NonNull<Slot>) {
    // SAFETY: the caller is the token of a slot that is `OWNED`, with results of type `T`, and nobody else holds it; a
    // done slot has a result, which is moved out once.
    let (Owned { owner, key }, result) = unsafe {
        let result = slot.as_ref().take_result::<T>();
        let owned = take::<T>(slot);
        Slot::release(slot);
        (owned, result)
    };
    owner.returned(key, result);
}

#[cfg(test)]
mod tests {
    use super::super::{QToken, Runtime, operation};
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Log(RefCell<Vec<String>>);

    impl Owner<String> for Log {
        fn cancelled(&self, key: u64) {
            self.0.borrow_mut().push(format!("{key} cancelled"));
        }

        fn returned(&self, key: u64, result: String) {
            self.0.borrow_mut().push(format!("{key} returned {result}"));
        }
    }

    fn owned(log: &Rc<Log>, key: u64) -> (QToken<String>, Completion<String>) {
        let (token, completion) = operation();
        completion.belongs_to(log.clone(), key);
        (token, completion)
    }

    fn check(test: impl FnOnce(&Rc<Log>), events: &[&str]) {
        let runtime = Runtime::new().unwrap();
        let log = Rc::new(Log::default());
        runtime.block_on(async { test(&log) });
        assert_eq!(*log.0.borrow(), events);
        assert_eq!(Rc::strong_count(&log), 1, "a slot still has the owner");
        assert_eq!(runtime.metrics().live_operations, 0);
    }

    #[test]
    fn a_result_that_is_taken_is_not_the_owners_any_more() {
        check(
            |log| {
                let (mut token, completion) = owned(log, 1);
                completion.complete("a".into());
                assert_eq!(token.try_take().as_deref(), Some("a"));
            },
            &[],
        );
    }

    #[test]
    fn the_owner_hears_of_dropped_tokens() {
        check(
            |log| {
                let (token, completion) = owned(log, 1);
                drop(token);
                completion.complete("nobody's".into());
                let (token, completion) = owned(log, 2);
                completion.complete("a".into());
                drop(token);
                let (token, completion) = owned(log, 3);
                completion.complete_as(4, "b".into());
                drop(token);
            },
            &["1 cancelled", "2 returned a", "4 returned b"],
        );
    }

    #[test]
    fn detached_and_broken_operations_are_forgotten() {
        check(
            |log| {
                let (token, completion) = owned(log, 1);
                token.detach();
                completion.complete("a".into());
                let (token, completion) = owned(log, 2);
                completion.complete("b".into());
                token.detach();
                let (token, completion) = owned(log, 3);
                drop(completion);
                drop(token);
                let (token, completion) = operation();
                drop(token);
                completion.belongs_to(log.clone(), 4);
                completion.complete_as(5, "c".into());
            },
            &[],
        );
    }
}
