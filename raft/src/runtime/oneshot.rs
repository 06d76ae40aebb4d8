//! A channel for one value.
//!
//! Not that of [`demikernel::channel`]: openraft's has no `'static` in its bounds, and is made outside of runtimes too.

use openraft::async_runtime::{Oneshot, OneshotSender};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Channels for one value.
#[derive(Debug)]
pub struct Oneshots;

enum State<T> {
    Waiting(Option<Waker>),
    Sent(T),
    /// Either end is gone.
    Closed,
}

/// The sending end of a channel for one value.
pub struct Sender<T>(Rc<RefCell<State<T>>>);

/// The receiving end of a channel for one value.
pub struct Receiver<T>(Rc<RefCell<State<T>>>);

/// The sender was dropped without sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Canceled;

impl fmt::Display for Canceled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender was dropped without sending")
    }
}

impl std::error::Error for Canceled {}

impl Oneshot for Oneshots {
    type Sender<T> = Sender<T>;
    type Receiver<T> = Receiver<T>;
    type ReceiverError = Canceled;

    fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let state = Rc::new(RefCell::new(State::Waiting(None)));
        (Sender(state.clone()), Receiver(state))
    }
}

impl<T> OneshotSender<T> for Sender<T> {
    fn send(self, value: T) -> Result<(), T> {
        let before = {
            let mut state = self.0.borrow_mut();
            if !matches!(*state, State::Waiting(_)) {
                return Err(value);
            }
            std::mem::replace(&mut *state, State::Sent(value))
        };
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = match &mut *self.0.borrow_mut() {
            state @ State::Waiting(_) => match std::mem::replace(state, State::Closed) {
                State::Waiting(waker) => waker,
                _ => None,
            },
            _ => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.borrow_mut();
        if let State::Waiting(waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut *state, State::Closed) {
            State::Sent(value) => Ok(value),
            _ => Err(Canceled),
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Dropped outside of the borrow: a value may have the other end of other channels.
        let before = std::mem::replace(&mut *self.0.borrow_mut(), State::Closed);
        drop(before);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
