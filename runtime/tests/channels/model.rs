//! The mpsc channel against a model of it: any sequence of sends, receives, cancellations and closings.

use crate::run;
use demikernel_runtime::channel::mpsc::{Receiver, SendError, Sender, TryRecvError, TrySendError, channel};
use futures::Sink;
use futures::task::noop_waker;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

#[derive(Clone, Debug)]
enum Action {
    TrySend,
    /// Starts a send; if it has to wait, it is one of those that wait.
    Send,
    /// Cancels one of those that wait.
    Cancel(usize),
    /// Polls for a value; what comes of a poll that found none is dropped, as by a timeout.
    Receive,
    TryReceive,
    /// Asks a sink for room.
    Ready(usize),
    /// Sends through a sink that was told of room.
    SinkSend(usize),
    /// Drops a sink, and makes a new one.
    DropSink(usize),
    Close,
}

const SINKS: usize = 2;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::TrySend),
        6 => Just(Action::Send),
        3 => (0..8usize).prop_map(Action::Cancel),
        8 => Just(Action::Receive),
        3 => Just(Action::TryReceive),
        4 => (0..SINKS).prop_map(Action::Ready),
        4 => (0..SINKS).prop_map(Action::SinkSend),
        1 => (0..SINKS).prop_map(Action::DropSink),
        1 => prop_oneof![20 => Just(Action::Receive), 1 => Just(Action::Close)],
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Value(u32),
    Sink(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Unknown,
    Waiting,
    Told,
    Ready,
}

/// The channel as plainly as possible.
struct Model {
    capacity: usize,
    ring: VecDeque<u32>,
    waiting: VecDeque<Waiting>,
    /// A receiver that waits gets its value directly.
    in_token: bool,
    receiver_waits: bool,
    handed: Option<u32>,
    closed: bool,
    sinks: [Room; SINKS],
    /// Values whose senders are done.
    sent: Vec<u32>,
}

impl Model {
    fn put(&mut self, value: u32) {
        if std::mem::take(&mut self.receiver_waits) && self.in_token {
            self.handed = Some(value);
        } else {
            self.ring.push_back(value);
        }
    }

    /// A value that is handed over needs no room.
    fn full(&self) -> bool {
        !self.receiver_waits && self.ring.len() >= self.capacity
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(value) = self.handed.take() {
            return Some(value);
        }
        let value = self.ring.pop_front()?;
        while self.ring.len() < self.capacity {
            match self.waiting.pop_front() {
                Some(Waiting::Value(value)) => {
                    self.ring.push_back(value);
                    self.sent.push(value);
                }
                Some(Waiting::Sink(sink)) => self.sinks[sink] = Room::Told,
                None => break,
            }
        }
        Some(value)
    }
}

type SendFuture<T> = Pin<Box<dyn Future<Output = Result<(), SendError<T>>>>>;

async fn send<T>(sender: Sender<T>, value: T) -> Result<(), SendError<T>> {
    sender.send(value).await
}

/// What is sent: a number in a value of some size.
trait Value: From<u32> + PartialEq + std::fmt::Debug + 'static {}

#[derive(PartialEq, Debug)]
struct Small(u32);

#[derive(PartialEq, Debug)]
struct Large([u32; 50]);

impl From<u32> for Small {
    fn from(number: u32) -> Small {
        Small(number)
    }
}

impl From<u32> for Large {
    fn from(number: u32) -> Large {
        Large([number; 50])
    }
}

impl Value for Small {}
impl Value for Large {}

/// The channel and its model, side by side.
struct Both<T: 'static> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    sinks: [Sender<T>; SINKS],
    sends: BTreeMap<u32, SendFuture<T>>,
    model: Model,
    next: u32,
}

impl<T: Value> Both<T> {
    fn new(capacity: usize) -> Both<T> {
        let (sender, receiver) = channel(capacity);
        let model = Model {
            capacity,
            ring: VecDeque::new(),
            waiting: VecDeque::new(),
            in_token: size_of::<Option<T>>() <= 48,
            receiver_waits: false,
            handed: None,
            closed: false,
            sinks: [Room::Unknown; SINKS],
            sent: Vec::new(),
        };
        let sinks = std::array::from_fn(|_| sender.clone());
        Both { sender, receiver, sinks, sends: BTreeMap::new(), model, next: 0 }
    }

    fn act(&mut self, action: Action, cx: &mut Context<'_>) {
        match action {
            Action::TrySend => self.try_send(),
            Action::Send => self.send(cx),
            Action::Cancel(index) => self.cancel(index),
            Action::Receive => self.receive(cx),
            Action::TryReceive => {
                let ended = if self.model.closed { TryRecvError::Closed } else { TryRecvError::Empty };
                assert_eq!(self.receiver.try_recv(), self.model.take().map(T::from).ok_or(ended));
            }
            Action::Ready(sink) => self.ready(sink, cx),
            Action::SinkSend(sink) => self.sink_send(sink),
            Action::DropSink(sink) => {
                self.sinks[sink] = self.sender.clone();
                self.model.sinks[sink] = Room::Unknown;
                self.model.waiting.retain(|waiting| *waiting != Waiting::Sink(sink));
            }
            Action::Close => self.close(cx),
        }
    }

    fn try_send(&mut self) {
        self.next += 1;
        let expected = match (self.model.closed, self.model.full()) {
            (true, _) => Err(TrySendError::Closed(self.next.into())),
            (_, true) => Err(TrySendError::Full(self.next.into())),
            _ => {
                self.model.put(self.next);
                Ok(())
            }
        };
        assert_eq!(self.sender.try_send(self.next.into()), expected);
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        self.next += 1;
        let mut future: SendFuture<T> = Box::pin(send(self.sender.clone(), self.next.into()));
        let polled = future.as_mut().poll(cx);
        if self.model.closed {
            assert_eq!(polled, Poll::Ready(Err(SendError(self.next.into()))));
        } else if self.model.full() {
            assert_eq!(polled, Poll::Pending);
            self.model.waiting.push_back(Waiting::Value(self.next));
            self.sends.insert(self.next, future);
        } else {
            assert_eq!(polled, Poll::Ready(Ok(())));
            self.model.put(self.next);
        }
    }

    fn cancel(&mut self, index: usize) {
        if let Some(&value) = self.sends.keys().nth(index) {
            drop(self.sends.remove(&value));
            self.model.waiting.retain(|waiting| *waiting != Waiting::Value(value));
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let expected = match self.model.take() {
            Some(value) => Poll::Ready(Some(value.into())),
            None if self.model.closed => Poll::Ready(None),
            None => {
                self.model.receiver_waits = true;
                Poll::Pending
            }
        };
        assert_eq!(self.receiver.poll_recv(cx), expected);
    }

    fn ready(&mut self, sink: usize, cx: &mut Context<'_>) {
        let polled = Pin::new(&mut self.sinks[sink]).poll_ready(cx);
        let (state, expected) = match self.model.sinks[sink] {
            Room::Told => (Room::Ready, Poll::Ready(Ok(()))),
            _ if self.model.closed => (Room::Unknown, Poll::Ready(Err(SendError(())))),
            Room::Waiting => (Room::Waiting, Poll::Pending),
            _ if self.model.ring.len() < self.model.capacity => (Room::Ready, Poll::Ready(Ok(()))),
            _ => {
                self.model.waiting.push_back(Waiting::Sink(sink));
                (Room::Waiting, Poll::Pending)
            }
        };
        self.model.sinks[sink] = state;
        assert_eq!(polled, expected);
    }

    fn sink_send(&mut self, sink: usize) {
        if self.model.sinks[sink] != Room::Ready {
            return;
        }
        self.next += 1;
        self.model.sinks[sink] = Room::Unknown;
        let sent = Pin::new(&mut self.sinks[sink]).start_send(self.next.into());
        if self.model.closed {
            assert_eq!(sent, Err(SendError(())));
        } else {
            assert_eq!(sent, Ok(()));
            self.model.put(self.next);
        }
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        self.receiver.close();
        self.model.closed = true;
        self.model.receiver_waits = false;
        for waiting in self.model.waiting.drain(..) {
            let Waiting::Value(value) = waiting else { continue };
            let mut future = self.sends.remove(&value).expect("it waited");
            assert_eq!(future.as_mut().poll(cx), Poll::Ready(Err(SendError(value.into()))));
        }
    }

    /// Those who waited are told what the model says they are, and nobody else is.
    fn compare(&mut self, cx: &mut Context<'_>) {
        for value in self.model.sent.drain(..) {
            let mut future = self.sends.remove(&value).expect("it waited");
            assert_eq!(future.as_mut().poll(cx), Poll::Ready(Ok(())));
        }
        for future in self.sends.values_mut() {
            assert_eq!(future.as_mut().poll(cx), Poll::Pending);
        }
        let model = &self.model;
        assert_eq!(self.receiver.len(), model.ring.len() + usize::from(model.handed.is_some()));
        assert!(model.ring.len() <= model.capacity + SINKS);
    }

    /// What is left arrives in order, then the end.
    fn finish(self, cx: &mut Context<'_>) {
        let Both { sender, mut receiver, sinks, sends, model, .. } = self;
        drop((sender, sinks));
        let left = model.handed.into_iter().chain(model.ring);
        let waiting = model.waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Value(value) => Some(value),
            Waiting::Sink(_) => None,
        });
        for value in left.chain(waiting) {
            assert_eq!(receiver.poll_recv(cx), Poll::Ready(Some(value.into())));
        }
        drop(sends);
        assert_eq!(receiver.poll_recv(cx), Poll::Ready(None));
    }
}

fn check<T: Value>(capacity: usize, actions: Vec<Action>) {
    let waker = noop_waker();
    let cx = &mut Context::from_waker(&waker);
    let mut both = Both::<T>::new(capacity);
    for action in actions {
        both.act(action, cx);
        both.compare(cx);
    }
    both.finish(cx);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(capacity in 1..4usize, actions in prop::collection::vec(action(), 0..80)) {
        run(async { check::<Small>(capacity, actions) });
    }

    #[test]
    fn like_the_model_with_large_values(
        capacity in 1..4usize,
        actions in prop::collection::vec(action(), 0..80),
    ) {
        run(async { check::<Large>(capacity, actions) });
    }
}
