//! A bounded channel of many senders and one receiver, with senders that do not keep it open.
//!
//! Senders that find it full are served in the order in which they came.

use super::waiters::Waiters;
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender, SendError, TryRecvError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Bounded channels.
#[derive(Debug)]
pub struct Channels;

struct Shared<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiver: Option<Waker>,
    receiver_gone: bool,
    waiting: Waiters,
}

type Channel<T> = Rc<RefCell<Shared<T>>>;

/// A sending end.
pub struct Sender<T>(Channel<T>);

/// The receiving end.
pub struct Receiver<T>(Channel<T>);

/// A sending end that does not keep the channel open.
pub struct WeakSender<T>(Channel<T>);

impl Mpsc for Channels {
    type Sender<T> = Sender<T>;
    type Receiver<T> = Receiver<T>;
    type WeakSender<T> = WeakSender<T>;

    fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let shared = Rc::new(RefCell::new(Shared {
            queue: VecDeque::new(),
            capacity: capacity.max(1),
            senders: 1,
            receiver: None,
            receiver_gone: false,
            waiting: Waiters::default(),
        }));
        (Sender(shared.clone()), Receiver(shared))
    }
}

impl<T> Shared<T> {
    /// Takes the value that is received next, and the waker of a sender that has room now.
    fn pop(&mut self) -> (Option<T>, Option<Waker>) {
        let value = self.queue.pop_front();
        let waker = if value.is_some() { self.waiting.first() } else { None };
        (value, waker)
    }
}

/// Wakes, with nothing borrowed.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<T> MpscSender<Channels, T> for Sender<T> {
    fn send(&self, value: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Sending { channel: &self.0, value: Some(value), ticket: None }
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.clone())
    }
}

/// A value on its way into the channel.
struct Sending<'a, T> {
    channel: &'a Channel<T>,
    value: Option<T>,
    ticket: Option<u64>,
}

// The value is moved out, and nothing refers to it where it is.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut shared = this.channel.borrow_mut();
        let room = shared.queue.len() < shared.capacity && !shared.waiting.is_any_before(this.ticket);
        if !shared.receiver_gone && !room {
            shared.waiting.wait(&mut this.ticket, cx);
            return Poll::Pending;
        }
        let value = this.value.take().expect("it is polled until it has sent");
        shared.waiting.leave(&mut this.ticket);
        if shared.receiver_gone {
            return Poll::Ready(Err(SendError(value)));
        }
        shared.queue.push_back(value);
        let receiver = shared.receiver.take();
        // Of several that were made room for one was woken: it wakes the next.
        let next = if shared.queue.len() < shared.capacity { shared.waiting.first() } else { None };
        drop(shared);
        wake(receiver);
        wake(next);
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if self.ticket.is_none() {
            return;
        }
        let next = {
            let mut shared = self.channel.borrow_mut();
            shared.waiting.leave(&mut self.ticket);
            // It may have been woken, for room that is the next one's then.
            if shared.queue.len() < shared.capacity { shared.waiting.first() } else { None }
        };
        wake(next);
    }
}

impl<T> MpscReceiver<T> for Receiver<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>> {
        poll_fn(|cx| {
            let (value, waker) = {
                let mut shared = self.0.borrow_mut();
                match shared.pop() {
                    (None, _) if shared.senders > 0 => {
                        shared.receiver = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    popped => popped,
                }
            };
            wake(waker);
            Poll::Ready(value)
        })
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let (value, waker, open) = {
            let mut shared = self.0.borrow_mut();
            let (value, waker) = shared.pop();
            (value, waker, shared.senders > 0)
        };
        wake(waker);
        value.ok_or(if open { TryRecvError::Empty } else { TryRecvError::Disconnected })
    }
}

impl<T> MpscWeakSender<Channels, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let mut shared = self.0.borrow_mut();
        if shared.senders == 0 {
            return None;
        }
        shared.senders += 1;
        Some(Sender(self.0.clone()))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.borrow_mut().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> WeakSender<T> {
        WeakSender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = self.0.borrow_mut();
            shared.senders -= 1;
            if shared.senders == 0 { shared.receiver.take() } else { None }
        };
        wake(waker);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (queue, wakers) = {
            let mut shared = self.0.borrow_mut();
            shared.receiver_gone = true;
            (std::mem::take(&mut shared.queue), shared.waiting.take())
        };
        wakers.for_each(Waker::wake);
        // A value may have a sender of this channel.
        drop(queue);
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

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSender").finish_non_exhaustive()
    }
}
