//! All runtimes of the process, for those who look at it from outside.

use super::handle::{Handle, Inbox};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// By their numbers.
static RUNTIMES: Mutex<BTreeMap<u32, Weak<Inbox>>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<u32, Weak<Inbox>>> {
    RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime begins.
pub(super) fn enter(number: u32, inbox: &Arc<Inbox>) {
    lock().insert(number, Arc::downgrade(inbox));
}

/// It ends.
pub(super) fn leave(number: u32) {
    lock().remove(&number);
}

/// Handles of all, in the order in which they were made.
pub(crate) fn all() -> Vec<Handle> {
    lock().values().filter_map(Weak::upgrade).map(Handle::new).collect()
}
