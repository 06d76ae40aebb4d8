//! [`Spares`]: boxes that a thread keeps for the next connections that need some.

use std::cell::RefCell;

/// As many as begin and end together.
const MOST: usize = 256;

/// Boxes that nobody uses, with the memory that what is in them has grown to. The last one comes first, as it is most
/// likely still in the cache.
pub(crate) struct Spares<T>(RefCell<Vec<Box<T>>>);

impl<T> Spares<T> {
    pub(crate) const fn new() -> Spares<T> {
        Spares(RefCell::new(Vec::new()))
    }

    /// One of them.
    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.0.borrow_mut().pop()
    }

    /// Keeps one, unless there are enough.
    #[inline]
    pub(crate) fn keep(&self, spare: Box<T>) {
        let mut spares = self.0.borrow_mut();
        if spares.len() < MOST {
            spares.push(spare);
        }
    }
}
