//! Which operations are done, for those who wait for any of all that are under way.
//!
//! To look at each would cost more the more there are. So each is given a waker of its own, which puts its
//! token into a list. These wakers belong to places in the table of operations: making them costs an
//! allocation for each place once, not for each operation.

use super::types::Qt;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The operations that are to be looked at.
#[derive(Default)]
pub(super) struct Watch {
    /// Somebody has used this; before, nothing is recorded.
    used: Cell<bool>,
    /// Somebody is waiting.
    waiting: Cell<bool>,
    bells: RefCell<Vec<Arc<Bell>>>,
    list: Arc<List>,
}

/// The waker of the operation in one place of the table.
struct Bell {
    /// The token of the last operation there that was given this waker. A late wake of an earlier one is
    /// taken for this one's, which does no harm: it is looked at, and not done.
    qt: AtomicU64,
    list: Arc<List>,
}

/// Tokens of operations that are new or whose bells have rung, in one list so that neither kind can keep
/// the other waiting. Some may be used up. Behind a lock, since wakers may be used on any thread.
#[derive(Default)]
struct List(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    tokens: VecDeque<Qt>,
    /// Of the one who waits for there to be one.
    waker: Option<Waker>,
}

impl List {
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        // Nothing that can panic happens with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, qt: Qt) {
        let mut list = self.lock();
        list.tokens.push_back(qt);
        let waker = list.waker.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.list.add(Qt(self.qt.load(Ordering::Relaxed)));
    }
}

impl Watch {
    /// Takes note of a new operation, or of one that somebody has waited for by its token and not taken.
    pub(super) fn add(&self, qt: Qt) {
        if self.used.get() {
            self.list.add(qt);
        }
    }

    /// Starts to wait; `all` are the tokens that there are. `None` if somebody does already.
    pub(super) fn begin(&self, all: impl FnOnce() -> Vec<Qt>) -> Option<Watching<'_>> {
        if self.waiting.replace(true) {
            return None;
        }
        if !self.used.replace(true) {
            self.list.lock().tokens.extend(all());
        }
        Some(Watching(self))
    }

    /// Forgets tokens that are not needed, if there are many: somebody may have used this once, and then
    /// only wait for tokens by name.
    pub(super) fn tidy(&self, under_way: usize, is_needed: impl Fn(Qt) -> bool) {
        if self.used.get() {
            let tokens = &mut self.list.lock().tokens;
            if tokens.len() > 2 * under_way + 64 {
                tokens.retain(|&qt| is_needed(qt));
            }
        }
    }
}

/// Somebody who waits for whatever is done.
pub(super) struct Watching<'a>(&'a Watch);

impl Watching<'_> {
    /// A token to look at.
    pub(super) fn next(&self) -> Option<Qt> {
        self.0.list.lock().tokens.pop_front()
    }

    /// The waker for an operation.
    pub(super) fn waker(&self, qt: Qt) -> Waker {
        let mut bells = self.0.bells.borrow_mut();
        while bells.len() <= qt.place() {
            bells.push(Arc::new(Bell { qt: AtomicU64::new(0), list: self.0.list.clone() }));
        }
        let bell = &bells[qt.place()];
        bell.qt.store(qt.0, Ordering::Relaxed);
        Waker::from(bell.clone())
    }

    /// Has `waker` woken when there is a token to look at. `false` if there is one.
    pub(super) fn sleep(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut list = self.0.list.lock();
        let former = list.waker.replace(waker);
        let none = list.tokens.is_empty();
        drop(list);
        drop(former);
        none
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let waker = self.0.list.lock().waker.take();
        drop(waker);
        self.0.waiting.set(false);
    }
}
