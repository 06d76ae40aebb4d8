//! Results that nobody has taken, on their way back to their devices.
//!
//! Several pops of one stream may be given up together, some of them done and some not. Were each result given back when its
//! token is dropped, it would go to the next one that waits, which is dropped in a moment, and come back as that one's:
//! behind what the others had. So they wait until the next operation begins or the tasks of this turn have run, and come
//! back in the order of their operations.

use super::context;
use super::core::Core;
use std::any::Any;
use std::cell::{Cell, RefCell};

struct Returned {
    device: u8,
    key: u64,
    number: u32,
    value: Box<dyn Any>,
}

#[derive(Default)]
pub(super) struct Untaken {
    is_any: Cell<bool>,
    results: RefCell<Vec<Returned>>,
}

impl Untaken {
    pub(super) fn is_any(&self) -> bool {
        self.is_any.get()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.is_any.set(false);
        drop(self.results.take());
    }
}

impl Core {
    /// Keeps a result for its device, if that is still there.
    #[cold]
    pub(super) fn give_back<T: 'static>(&self, device: u8, key: u64, number: u32, result: T) {
        if self.device(device as usize).is_some() {
            let value = Box::new(result);
            self.untaken.results.borrow_mut().push(Returned { device, key, number, value });
            self.untaken.is_any.set(true);
        }
    }

    /// Gives devices what was kept for them; whether there was anything.
    #[inline]
    pub(super) fn hand_back(&self) -> bool {
        self.untaken.is_any.get() && self.hand_back_all()
    }

    #[cold]
    fn hand_back_all(&self) -> bool {
        while self.untaken.is_any.replace(false) {
            // Devices may wake somebody whose waker gives up more.
            let mut results = self.untaken.results.take();
            // Numbers wrap around.
            let first = results.first().map_or(0, |result| result.number);
            results.sort_by_key(|result| result.number.wrapping_sub(first) as i32);
            for Returned { device, key, number, value } in results {
                if let Some(device) = self.device(device as usize) {
                    device.give_back(key, number, value);
                }
            }
        }
        true
    }
}

/// Before a socket is closed: what was given up counts as not received.
pub(crate) fn hand_back() {
    if let Some(core) = context::try_current() {
        core.hand_back();
    }
}
