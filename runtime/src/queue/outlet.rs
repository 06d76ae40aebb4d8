//! The popping side of all queues: the elements that are there, the pops that wait for more, and what
//! becomes of elements whose pops were given up.

use super::shelf::Shelf;
use super::{Closed, PopError};
use crate::executor::{Completion, Owner, QToken, operation};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Elements and pops. If one of the two is there, the other is not.
///
/// Nothing is borrowed while an operation is completed or an element dropped, since that may run foreign
/// code, which may come back here.
pub(super) struct Outlet<S: Shelf, E> {
    shelf: RefCell<S>,
    /// Errors that are not delivered yet; they come before elements.
    errors: RefCell<VecDeque<E>>,
    waiting: RefCell<VecDeque<Waiting<S::Item, E>>>,
    /// Counts elements and pops that have ever been there.
    numbers: Cell<u64>,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// There will be no more elements.
    Ended,
    /// Nobody can pop any more.
    Gone,
}

/// A pop that waits. They are in the order of their numbers.
struct Waiting<T, E> {
    number: u64,
    done: Completion<Result<T, E>>,
}

impl<S: Shelf, E: PopError> Outlet<S, E> {
    pub(super) fn new(shelf: S) -> Rc<Outlet<S, E>> {
        Rc::new(Outlet {
            shelf: RefCell::new(shelf),
            errors: RefCell::default(),
            waiting: RefCell::default(),
            numbers: Cell::new(0),
            state: Cell::new(State::Open),
        })
    }

    fn number(&self) -> u64 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    /// Elements that are there.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.shelf.borrow().len()
    }

    /// Whether a pop waits.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Whether there is an error that no pop has been given.
    pub(super) fn has_error(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.get() != State::Open
    }

    /// Starts a pop, which is done at once if something is there.
    #[inline]
    pub(super) fn pop(self: &Rc<Self>) -> QToken<Result<S::Item, E>> {
        let (token, done) = operation();
        let number = self.number();
        done.belongs_to(self.clone(), number);
        self.serve(number, done);
        token
    }

    #[inline]
    fn serve(&self, number: u64, done: Completion<Result<S::Item, E>>) {
        match self.next() {
            Some((number, result)) => done.complete_as(number, result),
            None => self.waiting.borrow_mut().push_back(Waiting { number, done }),
        }
    }

    /// What a pop gets that comes now.
    fn next(&self) -> Option<(u64, Result<S::Item, E>)> {
        if !self.errors.borrow().is_empty() {
            let error = self.errors.borrow_mut().pop_front()?;
            return Some((self.number(), Err(error)));
        }
        let taken = self.shelf.borrow_mut().take();
        match taken {
            Some((number, item)) => Some((number, Ok(item))),
            None if self.is_ended() => Some((0, Err(Closed.into()))),
            None => None,
        }
    }

    /// An element, if one is there.
    pub(super) fn try_pop(&self) -> Option<S::Item> {
        let taken = self.shelf.borrow_mut().take();
        taken.map(|(_, item)| item)
    }

    /// Adds an element.
    #[inline]
    pub(super) fn put(&self, item: S::Item) {
        let number = self.number();
        let first = self.waiting.borrow_mut().pop_front();
        match first {
            Some(first) => first.done.complete_as(number, Ok(item)),
            None => self.shelf.borrow_mut().put(number, item),
        }
    }

    /// Adds an element though pops wait; [`serve_all`](Self::serve_all) must follow.
    pub(super) fn collect(&self, item: S::Item) {
        let number = self.number();
        self.shelf.borrow_mut().put(number, item);
    }

    /// Gives pops that wait what is there.
    pub(super) fn serve_all(&self) {
        while self.is_wanted() {
            let Some((number, result)) = self.next() else { break };
            let first = self.waiting.borrow_mut().pop_front();
            match first {
                Some(first) => first.done.complete_as(number, result),
                None => self.returned(number, result),
            }
        }
    }

    /// Gives an error to the next pop.
    pub(super) fn fail(&self, error: E) {
        self.errors.borrow_mut().push_back(error);
        self.serve_all();
    }

    /// Says that there will be no more elements. Those that are there can still be popped.
    pub(super) fn end(&self) {
        self.state.set(State::Ended);
        self.serve_all();
    }

    /// Says that there will be no more elements, without giving what is there to pops that wait.
    pub(super) fn abandon(&self) {
        self.state.set(State::Ended);
        let waiting = self.waiting.take();
        for Waiting { done, .. } in waiting {
            done.complete(Err(Closed.into()));
        }
    }

    /// Says that nobody will pop any more. Elements are dropped, also those whose tokens are dropped later.
    pub(super) fn discard(&self) {
        self.end();
        self.state.set(State::Gone);
        while let Some(item) = self.try_pop() {
            drop(item);
        }
    }
}

impl<S: Shelf, E: PopError> Owner<Result<S::Item, E>> for Outlet<S, E> {
    fn cancelled(&self, number: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let found = waiting.binary_search_by_key(&number, |waiting| waiting.number);
        let cancelled = found.ok().and_then(|index| waiting.remove(index));
        drop(waiting);
        drop(cancelled);
    }

    fn returned(&self, number: u64, result: Result<S::Item, E>) {
        match result {
            Ok(item) if self.state.get() == State::Gone => drop(item),
            Ok(item) => self.shelf.borrow_mut().put_back(number, item),
            // The end is told to every pop, so this is not needed for another.
            Err(_) if self.is_ended() => {}
            Err(error) => self.errors.borrow_mut().push_front(error),
        }
        // If the element was in the way of others that wait, they get it.
        self.serve_all();
    }
}
