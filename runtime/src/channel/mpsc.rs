//! A bounded channel of many senders and one receiver, within a core.
//!
//! A value sent while the receiver waits is handed to its token; otherwise it goes into a ring. When the
//! ring is full, senders wait in the order in which they came, each with its value, and the receiver moves
//! the first one's into the ring as it makes room: so nobody overtakes, and a woken sender is done.

use crate::executor::{Completion, QToken, fits_in_slot, operation};
use futures_core::{FusedFuture, FusedStream, Stream};
use futures_sink::Sink;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The most values for which room is made ahead.
const AHEAD: usize = 64;

/// A channel that holds up to `capacity` values.
///
/// # Panics
/// If `capacity` is 0.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, mut receiver) = demikernel_runtime::channel::mpsc::channel(2);
/// demikernel_runtime::spawn(async move {
///     for number in 0..5 {
///         sender.send(number).await.unwrap();
///     }
/// })
/// .detach();
/// let mut sum = 0;
/// while let Some(number) = receiver.recv().await {
///     sum += number;
/// }
/// assert_eq!(sum, 10);
/// # });
/// ```
#[track_caller]
pub fn channel<T: 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert_ne!(capacity, 0, "a channel needs room for at least one value");
    let shared = Rc::new(Shared {
        ring: RefCell::new(VecDeque::with_capacity(capacity.min(AHEAD))),
        capacity,
        receiver: Cell::new(None),
        waiting: RefCell::new(VecDeque::new()),
        arrivals: Cell::new(0),
        looker: Cell::new(None),
        handed: Cell::new(false),
        senders: Cell::new(1),
        closed: Cell::new(false),
    });
    (Sender { shared: shared.clone(), room: None }, Receiver { shared, token: None, look: None })
}

struct Shared<T> {
    ring: RefCell<VecDeque<T>>,
    capacity: usize,
    /// The receiver, when it found nothing. Then the ring is empty.
    receiver: Cell<Option<Completion<Option<T>>>>,
    /// The same for large values: see [`Shared::IN_TOKEN`].
    looker: Cell<Option<Completion<()>>>,
    /// The receiver's token has a value, which it has not taken.
    handed: Cell<bool>,
    /// Senders in the order in which they came. Empty unless the ring is full.
    waiting: RefCell<VecDeque<Waiting<T>>>,
    /// How many senders have ever waited.
    arrivals: Cell<u64>,
    senders: Cell<usize>,
    /// The receiver takes no more.
    closed: Cell<bool>,
}

/// A sender that found the ring full.
struct Waiting<T> {
    /// Which one it is; counts up from the front of the queue to the back.
    number: u64,
    /// `None` if it only wants to know of room, or has given up.
    value: Option<T>,
    /// Gives the value back if the channel is closed.
    done: Completion<Result<(), Option<T>>>,
}

impl<T: 'static> Shared<T> {
    /// Whether values go to a receiver that waits in its token. Where that would take an allocation they go
    /// through the ring, and another token tells it to look there. Decided by type, so that it costs nothing.
    const IN_TOKEN: bool = fits_in_slot::<Option<T>>();

    /// Gives the value to the receiver if that waits.
    #[inline]
    fn hand_over(&self, value: T) -> Result<(), T> {
        if Self::IN_TOKEN {
            let Some(receiver) = self.receiver.take() else { return Err(value) };
            self.handed.set(true);
            receiver.complete(Some(value));
        } else {
            let Some(looker) = self.looker.take() else { return Err(value) };
            self.ring.borrow_mut().push_back(value);
            looker.complete(());
        }
        Ok(())
    }

    /// Has the receiver look, if it waits.
    fn wake_receiver(&self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.complete(None);
        }
        if let Some(looker) = self.looker.take() {
            looker.complete(());
        }
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.ring.borrow().len() < self.capacity && self.waiting.borrow().is_empty()
    }

    #[inline]
    fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.closed.get() {
            return Err(TrySendError::Closed(value));
        }
        let Err(value) = self.hand_over(value) else { return Ok(()) };
        if !self.has_room() {
            return Err(TrySendError::Full(value));
        }
        self.ring.borrow_mut().push_back(value);
        Ok(())
    }

    fn wait(&self, value: Option<T>) -> (u64, QToken<Result<(), Option<T>>>) {
        let (token, done) = operation();
        let number = self.arrivals.get();
        self.arrivals.set(number + 1);
        let mut waiting = self.waiting.borrow_mut();
        // Those who gave up are otherwise only noticed when their turn comes. They have no values left.
        while waiting.back().is_some_and(|last| last.done.is_cancelled()) {
            waiting.pop_back();
        }
        waiting.push_back(Waiting { number, value, done });
        (number, token)
    }

    /// Drops the value of a sender that does not wait any longer. Its place in the queue, where it is seen
    /// to be cancelled, goes when its turn comes.
    #[cold]
    fn give_up(&self, number: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let found = waiting.binary_search_by_key(&number, |waiting| waiting.number);
        let value = found.ok().and_then(|index| waiting[index].value.take());
        drop(waiting);
        // Its drop may use the channel.
        drop(value);
    }

    #[inline]
    fn pop(&self) -> Option<T> {
        let value = self.ring.borrow_mut().pop_front()?;
        if !self.waiting.borrow().is_empty() {
            self.admit();
        }
        Some(value)
    }

    /// Fills the ring with what senders wait with. One that only wants to know of room takes none, since
    /// nobody knows whether and when it will use it: others must not wait for that.
    #[cold]
    fn admit(&self) {
        while self.ring.borrow().len() < self.capacity {
            let Some(first) = self.waiting.borrow_mut().pop_front() else { break };
            if first.done.is_cancelled() {
                continue;
            }
            if let Some(value) = first.value {
                self.ring.borrow_mut().push_back(value);
            }
            first.done.complete(Ok(()));
        }
    }

    /// Gives up every value that waits to be sent; the ring's can still be received.
    fn close(&self) {
        self.closed.set(true);
        let waiting = self.waiting.take();
        for Waiting { value, done, .. } in waiting {
            done.complete(Err(value));
        }
    }
}

/// The sending end of [`channel`]; clones send into the same channel. The channel ends when all are gone.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, mut receiver) = demikernel_runtime::channel::mpsc::channel(2);
/// let other = sender.clone();
/// sender.send(1).await.unwrap();
/// other.send(2).await.unwrap();
/// drop((sender, other));
/// assert_eq!((receiver.recv().await, receiver.recv().await, receiver.recv().await), (Some(1), Some(2), None));
/// # });
/// ```
pub struct Sender<T: 'static> {
    shared: Rc<Shared<T>>,
    /// Of the `Sink`, waiting for room.
    room: Option<QToken<Result<(), Option<T>>>>,
}

impl<T: 'static> Sender<T> {
    /// Sends a value, when there is room for it. Senders that wait are served in the order in which they
    /// came. If the future is dropped before it is done, the value is dropped with it.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// use demikernel_runtime::channel::mpsc;
    /// let (sender, receiver) = mpsc::channel(1);
    /// assert_eq!(sender.send("fits").await, Ok(()));
    /// drop(receiver);
    /// assert_eq!(sender.send("nobody there").await, Err(mpsc::SendError("nobody there")));
    /// # });
    /// ```
    ///
    /// # Errors
    /// Gives the value back if the receiver has closed the channel.
    ///
    /// # Panics
    /// Outside of a runtime, if it has to wait.
    #[inline]
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.shared.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError(value)),
            Err(TrySendError::Full(value)) => {
                let (number, token) = self.shared.wait(Some(value));
                let sent = Sending { shared: &self.shared, number, token }.await;
                sent.map_err(|value| SendError(value.expect("it waits with its value")))
            }
        }
    }

    /// Sends a value if there is room at once.
    ///
    /// ```
    /// use demikernel_runtime::channel::mpsc;
    /// let (sender, _receiver) = mpsc::channel(1);
    /// assert_eq!(sender.try_send(1), Ok(()));
    /// assert_eq!(sender.try_send(2), Err(mpsc::TrySendError::Full(2)));
    /// ```
    ///
    /// # Errors
    /// Gives the value back if there is none, or the receiver has closed the channel.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.shared.try_send(value)
    }

    /// Whether the receiver has closed the channel.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }

    /// How many values the channel holds at most.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }
}

/// A sender that waits with its value.
struct Sending<'a, T: 'static> {
    shared: &'a Shared<T>,
    number: u64,
    token: QToken<Result<(), Option<T>>>,
}

impl<T: 'static> Future for Sending<'_, T> {
    type Output = Result<(), Option<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.token).poll(cx)
    }
}

impl<T: 'static> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if !self.token.is_terminated() && !self.token.is_done() {
            self.shared.give_up(self.number);
        }
    }
}

impl<T: 'static> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Sender { shared: self.shared.clone(), room: None }
    }
}

impl<T: 'static> Drop for Sender<T> {
    fn drop(&mut self) {
        let senders = self.shared.senders.get() - 1;
        self.shared.senders.set(senders);
        if senders == 0 {
            self.shared.wake_receiver();
        }
    }
}

/// A sink that is told of room takes its value even if another sender was quicker: each sender may so exceed
/// the capacity by one.
impl<T: 'static> Sink<T> for Sender<T> {
    type Error = SendError<()>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        loop {
            if let Some(room) = &mut self.room {
                let room = ready!(Pin::new(room).poll(cx));
                self.room = None;
                return Poll::Ready(room.map_err(|_| SendError(())));
            }
            if self.shared.closed.get() {
                return Poll::Ready(Err(SendError(())));
            }
            if self.shared.has_room() {
                return Poll::Ready(Ok(()));
            }
            self.room = Some(self.shared.wait(None).1);
        }
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), SendError<()>> {
        match self.shared.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(value)) => {
                self.shared.ring.borrow_mut().push_back(value);
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(SendError(())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        Poll::Ready(Ok(()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

/// The receiving end of [`channel`], also a `Stream`.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use futures::StreamExt;
/// let (sender, receiver) = demikernel_runtime::channel::mpsc::channel(2);
/// sender.send(1).await.unwrap();
/// sender.send(2).await.unwrap();
/// drop(sender);
/// assert_eq!(receiver.collect::<Vec<_>>().await, [1, 2]);
/// # });
/// ```
pub struct Receiver<T: 'static> {
    shared: Rc<Shared<T>>,
    /// Kept from one call to the next, so that a value handed over while nobody looks is not lost.
    token: Option<QToken<Option<T>>>,
    /// The same for large values: see [`Shared::IN_TOKEN`].
    look: Option<QToken<()>>,
}

impl<T: 'static> Receiver<T> {
    /// The next value; `None` when all senders are gone, or the channel was closed, and nothing is left.
    /// Dropping the future loses no value.
    ///
    /// # Panics
    /// Outside of a runtime, if it has to wait.
    #[inline]
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next value.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            // A token may have nothing: then there is something in the ring, or the channel has ended.
            if let Some(token) = &mut self.token {
                let handed = ready!(Pin::new(token).poll(cx));
                self.token = None;
                if handed.is_some() {
                    self.shared.handed.set(false);
                    return Poll::Ready(handed);
                }
            }
            if !Shared::<T>::IN_TOKEN
                && let Some(look) = &mut self.look
            {
                ready!(Pin::new(look).poll(cx));
                self.look = None;
            }
            if let Some(value) = self.shared.pop() {
                return Poll::Ready(Some(value));
            }
            if self.is_ended() {
                return Poll::Ready(None);
            }
            self.wait();
        }
    }

    #[inline]
    fn wait(&mut self) {
        if Shared::<T>::IN_TOKEN {
            let (token, completion) = operation();
            self.shared.receiver.set(Some(completion));
            self.token = Some(token);
        } else {
            let (look, completion) = operation();
            self.shared.looker.set(Some(completion));
            self.look = Some(look);
        }
    }

    /// The next value, if it is there.
    ///
    /// ```
    /// use demikernel_runtime::channel::mpsc;
    /// let (sender, mut receiver) = mpsc::channel(1);
    /// assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty));
    /// sender.try_send(1).unwrap();
    /// drop(sender);
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Closed));
    /// ```
    ///
    /// # Errors
    /// Whether there may be one later.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.shared.handed.replace(false) {
            let handed = self.token.take().and_then(|mut token| token.try_take());
            return handed.flatten().ok_or(TryRecvError::Closed);
        }
        match self.shared.pop() {
            Some(value) => Ok(value),
            None if self.is_ended() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Takes no more values: sends fail from now on, and what is in the channel can still be received.
    ///
    /// ```
    /// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, mut receiver) = demikernel_runtime::channel::mpsc::channel(2);
    /// sender.send("the last").await.unwrap();
    /// receiver.close();
    /// assert!(sender.is_closed());
    /// assert_eq!((receiver.recv().await, receiver.recv().await), (Some("the last"), None));
    /// # });
    /// ```
    pub fn close(&mut self) {
        self.shared.close();
        self.shared.wake_receiver();
    }

    /// How many values are there.
    pub fn len(&self) -> usize {
        self.shared.ring.borrow().len() + usize::from(self.shared.handed.get())
    }

    /// Whether no value is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_ended(&self) -> bool {
        self.shared.closed.get() || self.shared.senders.get() == 0
    }
}

impl<T: 'static> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

impl<T: 'static> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.is_ended() && self.is_empty()
    }
}

impl<T: 'static> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        // The values go now, not when the last sender does; their drops may use the channel.
        let values = self.shared.ring.take();
        drop(values);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

/// The receiver has closed the channel; the value comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct SendError<T>(pub T);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

/// A value was not sent; it comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no room.
    #[error("the channel is full")]
    Full(T),
    /// The receiver has closed the channel.
    #[error("the channel is closed")]
    Closed(T),
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

/// No value was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TryRecvError {
    /// There is none now.
    #[error("the channel is empty")]
    Empty,
    /// There will be none.
    #[error("the channel is closed")]
    Closed,
}
