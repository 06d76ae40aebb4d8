//! Queues made of others.
//!
//! Such a queue is a stage, which pops its sources and makes elements of what it gets, and an outlet. A pop
//! polls the stage at once. While it has nothing, a task of the queue waits for the sources, and polls the
//! stage again when one of them has something.
//!
//! Most queues pop their sources only while pops of their own wait. A pop of a source stays under way when
//! the pop that wanted it is cancelled, and what it brings is kept for the next one. A queue that sorts
//! collects elements ahead.

use super::outlet::Outlet;
use super::shelf::Shelf;
use super::{PopError, PopQueue};
use crate::executor::{JoinHandle, QToken, spawn};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What makes elements of other elements. Only the functions of this module make stages.
pub trait Stage: 'static {
    /// What it makes.
    type Item: 'static;
    /// Why it could not.
    type Error: PopError;
    /// Where its elements wait.
    type Shelf: Shelf<Item = Self::Item>;

    /// The next element; `None` when there will be none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Self::Item, Self::Error>>>;
}

/// A queue made of others by [`merge`](super::merge), [`filter`](super::filter), [`map`](super::map) or
/// [`sort`](super::sort).
///
/// Clones are the same queue. When the last is dropped, pops that wait end, and the queues that this one was
/// made of are dropped. It belongs to the runtime in which it was made.
///
/// Its functions are called while a pop is started, or in a task of the queue. If one panics, the queue
/// ends.
pub struct Derived<S: Stage> {
    handle: Rc<Handle<S>>,
}

/// Ends the queue when it is dropped.
struct Handle<S: Stage> {
    flow: Rc<Flow<S>>,
    task: JoinHandle<()>,
}

struct Flow<S: Stage> {
    /// `None` when there will be no more elements.
    stage: RefCell<Option<S>>,
    outlet: Rc<Outlet<S::Shelf, S::Error>>,
    /// How many elements are collected that nobody has asked for.
    ahead: usize,
    /// Of the task.
    waker: RefCell<Waker>,
    /// The stage is to be dropped when it can be.
    stopped: Cell<bool>,
}

impl<S: Stage> Derived<S> {
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub(super) fn new(stage: S, shelf: S::Shelf, ahead: usize) -> Derived<S> {
        let flow = Rc::new(Flow {
            stage: RefCell::new(Some(stage)),
            outlet: Outlet::new(shelf),
            ahead,
            waker: RefCell::new(Waker::noop().clone()),
            stopped: Cell::new(false),
        });
        let driven = flow.clone();
        let task = spawn(poll_fn(move |cx| driven.drive(cx)));
        Derived { handle: Rc::new(Handle { flow, task }) }
    }

    /// Takes the next element, when there is one. Pops that wait are served in the order in which they
    /// came. Dropping the token loses no element: the next pop gets it.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn pop(&self) -> QToken<Result<S::Item, S::Error>> {
        self.handle.flow.pop()
    }
}

impl<S: Stage> Flow<S> {
    fn pop(&self) -> QToken<Result<S::Item, S::Error>> {
        if self.ahead > 0 {
            // Those that are there already take part in the choice.
            self.pump();
        }
        let token = self.outlet.pop();
        self.pump();
        token
    }

    /// The task of the queue.
    fn drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.borrow().will_wake(cx.waker()) {
            let former = self.waker.replace(cx.waker().clone());
            drop(former);
        }
        self.pump();
        if self.outlet.is_ended() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wants_more(&self) -> bool {
        // A source that has failed may do so again and again: not before somebody has heard of it.
        let ahead = self.outlet.len() < self.ahead && !self.outlet.has_error();
        !self.stopped.get() && (self.outlet.is_wanted() || ahead)
    }

    /// Moves elements from the stage to the outlet. Sources that have nothing wake the task.
    fn pump(&self) {
        // If the stage is being polled, a function of the user has called this. The loop that polls goes on
        // until nothing is wanted.
        let Ok(mut stage) = self.stage.try_borrow_mut() else { return };
        let waker = self.waker.borrow().clone();
        let cx = &mut Context::from_waker(&waker);
        let panicking = EndsOnPanic(self);
        while let Some(poll) = stage.as_mut().filter(|_| self.wants_more()).map(|stage| stage.poll(cx)) {
            match poll {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(item))) if self.outlet.len() < self.ahead => self.outlet.collect(item),
                Poll::Ready(Some(Ok(item))) => {
                    self.outlet.collect(item);
                    self.outlet.serve_all();
                }
                Poll::Ready(Some(Err(error))) => self.outlet.fail(error),
                Poll::Ready(None) => self.stopped.set(true),
            }
        }
        self.outlet.serve_all();
        std::mem::forget(panicking);
        let ended = if self.stopped.get() { stage.take() } else { None };
        drop(stage);
        if ended.is_some() {
            self.outlet.end();
        }
    }

    /// Drops the stage as soon as it is not being polled.
    fn stop(&self) {
        self.stopped.set(true);
        self.pump();
    }
}

/// Nobody can say what a stage does after a panic, and those who wait must not wait for ever.
struct EndsOnPanic<'a, S: Stage>(&'a Flow<S>);

impl<S: Stage> Drop for EndsOnPanic<'_, S> {
    fn drop(&mut self) {
        self.0.stopped.set(true);
        self.0.outlet.abandon();
    }
}

impl<S: Stage> Drop for Handle<S> {
    fn drop(&mut self) {
        self.task.abort();
        self.flow.stop();
        self.flow.outlet.discard();
    }
}

impl<S: Stage> Clone for Derived<S> {
    fn clone(&self) -> Derived<S> {
        Derived { handle: self.handle.clone() }
    }
}

impl<S: Stage> PopQueue for Derived<S> {
    type Item = S::Item;
    type Error = S::Error;

    fn pop(&self) -> QToken<Result<S::Item, S::Error>> {
        Derived::pop(self)
    }
}

impl<S: Stage> fmt::Debug for Derived<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").field("ended", &self.handle.flow.outlet.is_ended()).finish_non_exhaustive()
    }
}
