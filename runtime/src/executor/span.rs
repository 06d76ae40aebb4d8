//! Spans of tasks and operations, for subscribers of `tracing`, at the level `TRACE`.
//!
//! A task's span lasts as long as the task and is entered for each poll. That of an operation or a timer lasts until
//! it is over, is entered by nobody, and belongs to the span of the task that started it. Whether anybody may want them is
//! asked once in a turn.
//!
//! They are kept apart from what they are of: as long as nobody wants any, a task and an operation are as large as without
//! the feature, and all that is on their path is a look at one flag: the core's when they begin, and their own when an
//! operation is over, which is next to its state.

use super::slot::Slot;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Level, Span, trace_span};

/// In the flags of an operation or a timer.
const HAS_SPAN: u8 = 1;

/// The spans of tasks and operations, by their numbers.
#[derive(Default)]
pub(super) struct Spans {
    /// Whether there are any, or somebody may want some.
    active: Cell<bool>,
    /// Shared with a poll that is inside, so that no code of the subscriber runs while the table is borrowed.
    table: RefCell<HashMap<u32, Rc<Span>>>,
}

/// Whether anybody may want them: what the macros of `tracing` ask first, too.
#[inline(always)]
fn are_wanted() -> bool {
    Level::TRACE <= STATIC_MAX_LEVEL && Level::TRACE <= LevelFilter::current()
}

impl Spans {
    /// Asks whether anybody wants them from now on.
    #[inline]
    pub(super) fn look(&self) {
        if self.active.get() || are_wanted() {
            self.look_closely();
        }
    }

    #[cold]
    fn look_closely(&self) {
        self.active.set(are_wanted() || !self.table.borrow().is_empty());
    }

    /// A task was spawned at `location`; `future` is the name of its future's type.
    #[inline(always)]
    pub(super) fn spawned(&self, number: u32, future: fn() -> &'static str, location: &'static Location<'_>) {
        if self.active.get() {
            self.begin_task(number, future, location);
        }
    }

    #[cold]
    fn begin_task(&self, number: u32, future: fn() -> &'static str, location: &'static Location<'_>) {
        let future = future();
        self.insert(number, trace_span!(target: "demikernel::task", "task", future, spawned = %location));
    }

    /// An operation was started.
    #[inline(always)]
    pub(super) fn started(&self, slot: &Slot, result: fn() -> &'static str) {
        if self.active.get() {
            self.begin_operation(slot, result);
        }
    }

    #[cold]
    fn begin_operation(&self, slot: &Slot, result: fn() -> &'static str) {
        let (number, result) = (slot.number.get(), result());
        slot.flags.set(HAS_SPAN);
        self.insert(number, trace_span!(target: "demikernel::operation", "operation", number, result));
    }

    /// A timer was set, for that time of the runtime's clock.
    #[inline(always)]
    pub(super) fn set(&self, slot: &Slot, deadline: u64) {
        if self.active.get() {
            self.begin_timer(slot, deadline);
        }
    }

    #[cold]
    fn begin_timer(&self, slot: &Slot, deadline: u64) {
        let number = slot.number.get();
        slot.flags.set(HAS_SPAN);
        self.insert(number, trace_span!(target: "demikernel::timer", "timer", number, deadline));
    }

    /// An operation or a timer is over: its number, if it has a span that is to [end](Self::end).
    #[inline(always)]
    pub(super) fn of(slot: &Slot) -> Option<u32> {
        (slot.flags.get() & HAS_SPAN != 0).then(|| slot.number.get())
    }

    fn insert(&self, number: u32, span: Span) {
        if !span.is_disabled() {
            let former = self.table.borrow_mut().insert(number, Rc::new(span));
            // The subscriber's code.
            drop(former);
        }
    }

    /// Polls a task inside of its span.
    #[inline(always)]
    pub(super) fn within<T>(&self, number: u32, poll: impl FnOnce() -> T) -> T {
        if self.active.get() { self.enter(number, poll) } else { poll() }
    }

    #[cold]
    fn enter<T>(&self, number: u32, poll: impl FnOnce() -> T) -> T {
        let span = self.table.borrow().get(&number).cloned();
        match span {
            Some(span) => span.in_scope(poll),
            None => poll(),
        }
    }

    /// A task is over.
    #[inline(always)]
    pub(super) fn over(&self, number: u32) {
        if self.active.get() {
            self.end(number);
        }
    }

    #[cold]
    pub(super) fn end(&self, number: u32) {
        let span = self.table.borrow_mut().remove(&number);
        drop(span);
    }

    /// Everything is over.
    pub(super) fn clear(&self) {
        self.active.set(false);
        let spans = self.table.take();
        drop(spans);
    }
}
