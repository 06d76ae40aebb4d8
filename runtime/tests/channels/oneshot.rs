//! Channels for one value.

use crate::{Trace, allocations, run};
use demikernel_runtime::channel::{Canceled, oneshot};
use demikernel_runtime::{spawn, wait_any, yield_now};
use futures::FutureExt;
use futures::future::FusedFuture;
use std::rc::Rc;

#[test]
fn the_receiver_wakes_when_the_value_is_there() {
    let trace = Trace::default();
    run(async {
        let (sender, receiver) = oneshot();
        let inner = trace.clone();
        let task = spawn(async move {
            inner.log("waits");
            inner.log(format!("has {:?}", receiver.await));
        });
        yield_now().await;
        trace.log("sends");
        sender.send(7).unwrap();
        trace.log("sent");
        task.await.unwrap();
    });
    trace.expect(&["waits", "sends", "sent", "has Ok(7)"]);
}

#[test]
fn a_sender_that_goes_away_is_an_error() {
    run(async {
        let (sender, receiver) = oneshot::<u8>();
        let task = spawn(receiver);
        yield_now().await;
        drop(sender);
        assert_eq!(task.await.unwrap(), Err(Canceled));

        let (sender, mut receiver) = oneshot::<u8>();
        assert_eq!(receiver.try_recv(), Ok(None));
        drop(sender);
        assert_eq!(receiver.try_recv(), Err(Canceled));
        assert!(receiver.is_terminated());
    });
}

#[test]
fn the_value_comes_back_if_the_receiver_is_gone() {
    run(async {
        let value = Rc::new(());
        let (sender, receiver) = oneshot();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        let value = sender.send(value).unwrap_err();
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn a_value_that_nobody_took_is_dropped_with_the_receiver() {
    run(async {
        let value = Rc::new(());
        let (sender, receiver) = oneshot();
        sender.send(value.clone()).unwrap();
        assert_eq!(Rc::strong_count(&value), 2);
        drop(receiver);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn the_token_is_one_as_any_other() {
    run(async {
        let (first, second) = (oneshot(), oneshot());
        let mut tokens = [first.1.into_token(), second.1.into_token()];
        second.0.send('b').unwrap();
        assert_eq!(wait_any(&mut tokens).await.unwrap(), (1, Ok('b')));
        drop(first.0);
        assert_eq!(wait_any(&mut tokens).await.unwrap(), (0, Err(Canceled)));
    });
}

#[test]
fn select_polls_it_as_a_fused_future() {
    run(async {
        let (sender, mut receiver) = oneshot();
        let mut other = std::pin::pin!(yield_now().fuse());
        let mut sender = Some(sender);
        let mut seen = Vec::new();
        while !receiver.is_terminated() {
            futures::select! {
                () = other => {
                    seen.push("yielded");
                    sender.take().unwrap().send(1).unwrap();
                }
                value = receiver => seen.push(if value == Ok(1) { "received" } else { "lost" }),
            }
        }
        assert_eq!(seen, ["yielded", "received"]);
    });
}

#[test]
fn it_outlives_its_runtime() {
    let (sender, receiver) = run(async { oneshot() });
    sender.send(5).unwrap();
    assert_eq!(run(receiver), Ok(5));
}

#[test]
fn no_allocation() {
    run(async {
        drop(oneshot::<u64>());
        let before = allocations();
        for number in 0..100u64 {
            let (sender, receiver) = oneshot();
            sender.send(number).unwrap();
            assert_eq!(receiver.await, Ok(number));
            drop(oneshot::<u64>());
        }
        assert_eq!(allocations() - before, 0);
    });
}
