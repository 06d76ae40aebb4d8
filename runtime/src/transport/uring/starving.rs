//! Receives for which there was no memory. Their clients wait until some comes back; others do not.

use super::key::Key;
use crate::buffer::pool::{self, Waiting};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Whether trying again may succeed. The pool tells, possibly from another thread.
struct Hope(AtomicBool);

impl Wake for Hope {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

pub(super) struct Starving {
    queue: VecDeque<Key>,
    hope: Arc<Hope>,
    waker: Waker,
    /// The place in the pool's queue.
    place: Option<Waiting>,
}

impl Starving {
    pub(super) fn new() -> Starving {
        let hope = Arc::new(Hope(AtomicBool::new(false)));
        Starving { queue: VecDeque::new(), waker: hope.clone().into(), hope, place: None }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// A receive found no buffer, though the pool may have some.
    pub(super) fn add(&mut self, key: Key) {
        self.queue.push_back(key);
        self.hope.0.store(true, Ordering::Relaxed);
    }

    /// A receive could not be started, as the pool has no `bytes`.
    pub(super) fn add_exhausted(&mut self, key: Key, bytes: usize) {
        self.queue.push_back(key);
        self.wait_for(bytes);
    }

    /// The pool has no `bytes`: has it say when it may.
    pub(super) fn wait_for(&mut self, bytes: usize) {
        if !self.place.as_ref().is_some_and(Waiting::is_pending) {
            self.place = Some(pool::on_available(bytes, &self.waker));
        }
    }

    /// Whether it is worth to try again. When nobody starves, the place in the pool's queue is given up.
    pub(super) fn take_hope(&mut self) -> bool {
        self.hope.0.swap(false, Ordering::Acquire)
    }

    /// The next receive to try again; what waits for nothing gives up its place in the pool's queue.
    pub(super) fn next(&mut self) -> Option<Key> {
        let key = self.queue.pop_front();
        if self.queue.is_empty() {
            self.place = None;
        }
        key
    }
}
