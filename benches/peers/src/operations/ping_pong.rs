//! Two tasks pass a number to and fro through two slots that hold one value and one waker each: the
//! executor's cost without any channel's. One operation is a round trip.
//!
//! demikernel has a second figure, [`TOKEN`], for which each message is a queue token that the receiver awaits
//! and the sender completes; its body is with the runtime. Peers have no such thing, so that figure stands
//! against their `pp_slot`.

use super::{Plan, Samples};
use crate::runtimes::Runtime;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Through slots.
pub const SLOT: &str = "pp_slot";
/// Through queue tokens.
pub const TOKEN: &str = "pp_token";

#[derive(Default)]
struct Slot {
    value: Cell<Option<u64>>,
    receiver: RefCell<Option<Waker>>,
}

impl Slot {
    fn send(&self, value: u64) {
        self.value.set(Some(value));
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    fn receive(&self) -> impl Future<Output = u64> {
        poll_fn(|cx| match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                *self.receiver.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

pub(super) fn run<R: Runtime>(plan: Plan) -> Samples {
    R::run(plan.sample(async move || {
        let (there, back) = (Rc::new(Slot::default()), Rc::new(Slot::default()));
        let (inbox, outbox) = (there.clone(), back.clone());
        let partner = R::spawn(async move {
            for _ in 0..plan.operations {
                let value = inbox.receive().await;
                outbox.send(value + 1);
            }
        });
        for i in 0..plan.operations {
            there.send(i);
            black_box(back.receive().await);
        }
        partner.await;
    }))
}
