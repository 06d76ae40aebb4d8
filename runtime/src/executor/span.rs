//! Spans of tasks and operations, for subscribers of `tracing`, at the level `TRACE`.
//!
//! A task's span lasts as long as the task and is entered for each poll. That of an operation or a timer lasts until
//! it is over, is entered by nobody, and belongs to the span of the task that started it. Whether anybody wants them is
//! asked when one begins.

use super::core::Core;
use pin_project::pin_project;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use tracing::{Span, trace_span};

/// The spans of operations, by their numbers.
#[derive(Default)]
pub(super) struct Spans(RefCell<HashMap<u32, Span>>);

impl Spans {
    fn insert(&self, number: u32, span: Span) {
        if !span.is_disabled() {
            let former = self.0.borrow_mut().insert(number, span);
            // The subscriber's code.
            drop(former);
        }
    }

    /// An operation was started.
    pub(super) fn started(&self, number: u32, result: fn() -> &'static str) {
        let span =
            trace_span!(target: "demikernel::operation", "operation", number, result = tracing::field::Empty);
        if !span.is_disabled() {
            span.record("result", result());
        }
        self.insert(number, span);
    }

    /// A timer was set, for that time of the runtime's clock.
    pub(super) fn set(&self, number: u32, deadline: u64) {
        self.insert(number, trace_span!(target: "demikernel::timer", "timer", number, deadline));
    }

    /// It is over.
    pub(super) fn over(&self, number: u32) {
        let span = self.0.borrow_mut().remove(&number);
        drop(span);
    }

    /// Everything is over.
    pub(super) fn clear(&self) {
        let spans = self.0.take();
        drop(spans);
    }
}

impl Core {
    /// A task's future, in its span.
    pub(super) fn in_span<F: Future>(future: F, location: &'static Location<'static>) -> Traced<F> {
        let name = std::any::type_name::<F>();
        let span = trace_span!(target: "demikernel::task", "task", future = name, spawned = %location);
        Traced { future, span }
    }
}

/// A future in its span.
#[pin_project]
pub(super) struct Traced<F> {
    #[pin]
    future: F,
    span: Span,
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let it = self.project();
        let _entered = it.span.enter();
        it.future.poll(cx)
    }
}
