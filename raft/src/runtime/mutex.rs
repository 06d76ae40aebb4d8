//! A mutex that is held across awaits, within a core.

use super::waiters::Waiters;
use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A mutex. Who waits for it has it in the order in which they came.
pub struct Mutex<T> {
    value: RefCell<T>,
    waiting: RefCell<Waiters>,
}

/// The mutex is held while this lives.
pub struct Guard<'a, T> {
    /// Nothing only while it is dropped.
    value: Option<RefMut<'a, T>>,
    mutex: &'a Mutex<T>,
}

impl<T: 'static> openraft::async_runtime::mutex::Mutex<T> for Mutex<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Mutex<T> {
        Mutex { value: RefCell::new(value), waiting: RefCell::default() }
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> {
        Locking { mutex: self, ticket: None }
    }
}

struct Locking<'a, T> {
    mutex: &'a Mutex<T>,
    ticket: Option<u64>,
}

impl<'a, T> Future for Locking<'a, T> {
    type Output = Guard<'a, T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard<'a, T>> {
        let Locking { mutex, ticket } = self.get_mut();
        let mut waiting = mutex.waiting.borrow_mut();
        if !waiting.is_any_before(*ticket)
            && let Ok(value) = mutex.value.try_borrow_mut()
        {
            waiting.leave(ticket);
            return Poll::Ready(Guard { value: Some(value), mutex });
        }
        waiting.wait(ticket, cx);
        Poll::Pending
    }
}

impl<T> Mutex<T> {
    /// Wakes who comes next, if it is free.
    fn pass_on(&self) {
        let next = match self.value.try_borrow_mut() {
            Ok(_) => self.waiting.borrow().first(),
            Err(_) => None,
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl<T> Drop for Locking<'_, T> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.mutex.waiting.borrow_mut().leave(&mut self.ticket);
            // It may have been woken.
            self.mutex.pass_on();
        }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.mutex.pass_on();
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is held")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is held")
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("locked", &self.value.try_borrow_mut().is_err()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
