//! Which core this thread is running.

use super::core::Core;
use crate::time::Instant;
use std::cell::Cell;
use std::ptr::NonNull;

thread_local! {
    static CURRENT: Cell<Option<&'static Core>> = const { Cell::new(None) };
}

/// Whether this thread is running `core` now.
#[inline(always)]
pub(super) fn is_current(core: NonNull<Core>) -> bool {
    CURRENT.get().map_or(std::ptr::null(), std::ptr::from_ref) == core.as_ptr().cast_const()
}

/// Whether this thread is running a core.
pub(crate) fn is_inside() -> bool {
    CURRENT.get().is_some()
}

/// The core that this thread is running, if it is running one.
pub(crate) fn try_current() -> Option<&'static Core> {
    CURRENT.get()
}

/// When the present turn of this thread's core began, if it runs one and that can be told without the counter.
#[inline]
pub(crate) fn turn() -> Option<Instant> {
    let core = CURRENT.get()?;
    core.clock().at(core.account.turn.get())
}

/// The core that this thread is running.
///
/// # Panics
/// When there is none, with a message for the user.
#[inline(always)]
#[track_caller]
pub(crate) fn current() -> &'static Core {
    match CURRENT.get() {
        Some(core) => core,
        None => outside(),
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn outside() -> ! {
    panic!(
        "there is no demikernel runtime on this thread: call this from a future that Runtime::block_on, \
         #[demikernel::main] or #[demikernel::test] runs, or use a Handle from other threads"
    )
}

/// While it lives, the thread runs a core; then the one that it ran before.
pub(super) struct Entered(Option<&'static Core>);

impl Entered {
    /// # Panics
    /// When the thread is running a core already.
    #[track_caller]
    pub(super) fn new(core: &'static Core) -> Entered {
        if CURRENT.get().is_some() {
            panic!(
                "a demikernel runtime is already running on this thread: await the future instead of \
                 blocking on it, or block on it in another thread"
            );
        }
        Self::nested(core)
    }

    /// For dropping a runtime, which may happen inside of another one.
    pub(super) fn nested(core: &'static Core) -> Entered {
        Entered(CURRENT.replace(Some(core)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
