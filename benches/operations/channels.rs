//! Two tasks that wake each other. One operation is a round trip: two wakes, two polls.

use demikernel::channel::{OneshotSender, mpsc, oneshot};
use demikernel::{Completion, QToken, operation, spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One value and one waker: the executor's cost without any channel's.
#[derive(Default)]
struct Slot {
    value: Cell<Option<u64>>,
    receiver: RefCell<Option<Waker>>,
}

impl Slot {
    fn send(&self, value: u64) {
        self.value.set(Some(value));
        if let Some(receiver) = &*self.receiver.borrow() {
            receiver.wake_by_ref();
        }
    }

    fn receive(&self) -> impl Future<Output = u64> {
        poll_fn(|cx| {
            if let Some(value) = self.value.take() {
                return Poll::Ready(value);
            }
            let mut receiver = self.receiver.borrow_mut();
            match &*receiver {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => *receiver = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }
}

/// Answers with the successor of what came, until that is the greatest number.
async fn answer(inbox: Rc<Slot>, outbox: Rc<Slot>) {
    loop {
        let value = inbox.receive().await;
        if value == u64::MAX {
            return;
        }
        outbox.send(value + 1);
    }
}

/// Wakes one of `sleepers` tasks, which wakes the one that woke it.
pub(super) async fn wake(sleepers: usize, count: u64) {
    let back = Rc::new(Slot::default());
    let inboxes: Vec<_> = (0..sleepers).map(|_| Rc::new(Slot::default())).collect();
    let tasks: Vec<_> = inboxes.iter().map(|inbox| spawn(answer(inbox.clone(), back.clone()))).collect();
    // A generator modulo 2^64 whose upper bits choose: no two neighbours in a row.
    let mut random = 1_u64;
    for i in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        inboxes[(random >> 32) as usize % sleepers].send(i);
        black_box(back.receive().await);
    }
    inboxes.iter().for_each(|inbox| inbox.send(u64::MAX));
    for task in tasks {
        task.await.expect("neither panics nor aborted");
    }
}

/// Ping-pong through two slots.
pub(super) async fn ping_pong_of_slots(count: u64) {
    wake(1, count).await;
}

/// Where the receiver of the next message leaves the promise that the sender keeps.
#[derive(Default)]
struct Desk {
    next: Cell<Option<Completion<u64>>>,
}

impl Desk {
    fn receive(&self) -> QToken<u64> {
        let (token, completion) = operation();
        self.next.set(Some(completion));
        token
    }

    /// Until the receiver is there.
    async fn wait(&self) {
        loop {
            let next = self.next.take();
            if next.is_some() {
                return self.next.set(next);
            }
            yield_now().await;
        }
    }

    fn send(&self, value: u64) {
        self.next.take().expect("the receiver waits").complete(value);
    }
}

/// Ping-pong in which every message is a queue token.
pub(super) async fn ping_pong_of_tokens(count: u64) {
    let (there, back) = (Rc::new(Desk::default()), Rc::new(Desk::default()));
    let (inbox, outbox) = (there.clone(), back.clone());
    let partner = spawn(async move {
        let mut message = inbox.receive();
        for _ in 0..count {
            let value = message.await;
            message = inbox.receive();
            outbox.send(value + 1);
        }
    });
    there.wait().await;
    for i in 0..count {
        let answer = back.receive();
        there.send(i);
        black_box(answer.await);
    }
    partner.await.expect("neither panics nor aborted");
    // Of the partner's last token, which nobody awaited.
    there.send(0);
}

/// Ping-pong through two bounded channels.
pub(super) async fn ping_pong_of_mpsc(count: u64) {
    let (there, mut inbox) = mpsc::channel::<u64>(16);
    let (outbox, mut back) = mpsc::channel::<u64>(16);
    let partner = spawn(async move {
        while let Some(value) = inbox.recv().await {
            outbox.try_send(value + 1).expect("room for one");
        }
    });
    for i in 0..count {
        there.try_send(i).expect("room for one");
        black_box(back.recv().await);
    }
    drop(there);
    partner.await.expect("neither panics nor aborted");
}

/// Request and response: a channel carries a oneshot, which is answered.
pub(super) async fn oneshots(count: u64) {
    let (requests, mut inbox) = mpsc::channel::<OneshotSender<u64>>(16);
    let partner = spawn(async move {
        while let Some(response) = inbox.recv().await {
            response.send(1).expect("the receiver waits");
        }
    });
    for _ in 0..count {
        let (response, answer) = oneshot();
        requests.try_send(response).expect("room for one");
        black_box(answer.await.expect("answered"));
    }
    drop(requests);
    partner.await.expect("neither panics nor aborted");
}
