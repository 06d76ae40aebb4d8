//! Results that are not lost when the future that waits for them is dropped.

use crate::executor::QToken;
use futures_core::FusedFuture;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What arrived for somebody who did not take it: an accepted connection, a datagram.
#[derive(Debug)]
pub(super) struct Unclaimed<T>(RefCell<VecDeque<T>>);

impl<T> Unclaimed<T> {
    pub(super) fn new() -> Unclaimed<T> {
        Unclaimed(RefCell::new(VecDeque::new()))
    }

    /// The oldest result that nobody took.
    #[inline]
    pub(super) fn take(&self) -> Option<T> {
        self.0.borrow_mut().pop_front()
    }
}

impl<T: 'static> Unclaimed<T> {
    /// A token for what nobody took before, or else of a new operation.
    #[inline]
    pub(super) fn token(&self, start: impl FnOnce() -> QToken<T>) -> QToken<T> {
        match self.take() {
            Some(result) => QToken::ready(result),
            None => start(),
        }
    }

    /// The same, as a future that does not lose the result.
    #[inline]
    pub(super) fn claim(&self, start: impl FnOnce() -> QToken<T>) -> Claim<'_, T> {
        Claim { token: self.token(start), unclaimed: self }
    }
}

/// A token whose result, if it is there and not taken when the claim is dropped, goes to the next claim.
#[derive(Debug)]
pub(super) struct Claim<'a, T: 'static> {
    token: QToken<T>,
    unclaimed: &'a Unclaimed<T>,
}

impl<T: 'static> Future for Claim<'_, T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.token).poll(cx)
    }
}

impl<T: 'static> FusedFuture for Claim<'_, T> {
    fn is_terminated(&self) -> bool {
        self.token.is_terminated()
    }
}

impl<T: 'static> Drop for Claim<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.token.is_done()
            && let Some(result) = self.token.try_take()
        {
            self.unclaimed.0.borrow_mut().push_back(result);
        }
    }
}
