//! What several test programs need: a count of allocations, a trace of events.

#![allow(dead_code, reason = "each program uses some of it")]

use demikernel_allocations::Counting;
use std::cell::RefCell;
use std::rc::Rc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a future on a new runtime without devices.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    demikernel_runtime::Runtime::new().unwrap().block_on(future)
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn log(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    #[track_caller]
    pub(crate) fn expect(&self, events: &[&str]) {
        assert_eq!(*self.0.borrow(), events);
    }
}
