//! Ping-pong of two tasks through channels. One operation is a round trip.

use super::{Plan, Samples};
use crate::runtimes::{Channel, Runtime};
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use std::hint::black_box;

/// Through two of the runtime's own channels.
pub(super) fn own<R: Runtime>(plan: Plan) -> Samples {
    type Own<R> = <R as Runtime>::Channel;
    if !Own::<R>::EXISTS {
        return Samples::new();
    }
    R::run(plan.sample(async move || {
        let (mut there, mut inbox) = Own::<R>::pair();
        let (mut outbox, mut back) = Own::<R>::pair();
        let partner = R::spawn(async move {
            for _ in 0..plan.operations {
                let value = Own::<R>::receive(&mut inbox).await;
                Own::<R>::send(&mut outbox, value + 1);
            }
        });
        for i in 0..plan.operations {
            Own::<R>::send(&mut there, i);
            black_box(Own::<R>::receive(&mut back).await);
        }
        partner.await;
    }))
}

/// Through two unbounded channels of the futures crate.
pub(super) fn futures_mpsc<R: Runtime>(plan: Plan) -> Samples {
    R::run(plan.sample(async move || {
        let (there, mut inbox) = mpsc::unbounded::<u64>();
        let (outbox, mut back) = mpsc::unbounded::<u64>();
        let partner = R::spawn(async move {
            for _ in 0..plan.operations {
                let value = inbox.next().await.unwrap();
                outbox.unbounded_send(value + 1).unwrap();
            }
        });
        for i in 0..plan.operations {
            there.unbounded_send(i).unwrap();
            black_box(back.next().await);
        }
        partner.await;
    }))
}

/// Request and response: an unbounded channel carries a oneshot, which is answered.
pub(super) fn futures_oneshot<R: Runtime>(plan: Plan) -> Samples {
    R::run(plan.sample(async move || {
        let (requests, mut inbox) = mpsc::unbounded::<oneshot::Sender<u64>>();
        let partner = R::spawn(async move {
            while let Some(response) = inbox.next().await {
                response.send(1).unwrap();
            }
        });
        for _ in 0..plan.operations {
            let (response, answer) = oneshot::channel();
            requests.unbounded_send(response).unwrap();
            black_box(answer.await.unwrap());
        }
        drop(requests);
        partner.await;
    }))
}
