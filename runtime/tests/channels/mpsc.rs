//! Channels of many senders, as a story of each.

use crate::{Trace, allocations, run};
use demikernel_runtime::channel::mpsc::{self, SendError, TryRecvError, TrySendError, channel};
use demikernel_runtime::time::timeout;
use demikernel_runtime::{spawn, yield_now};
use futures::stream::{self, FusedStream};
use futures::{FutureExt, SinkExt, StreamExt, poll};
use std::cell::RefCell;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

#[test]
fn senders_wait_in_the_order_they_came() {
    let trace = Trace::default();
    run(async {
        let (sender, mut receiver) = channel(1);
        let tasks = ["a", "b", "c"].map(|name| {
            let (sender, trace) = (sender.clone(), trace.clone());
            spawn(async move {
                sender.send(name).await.unwrap();
                trace.log(format!("{name} sent"));
            })
        });
        drop(sender);
        yield_now().await;
        trace.log("receives");
        while let Some(value) = receiver.recv().await {
            trace.log(format!("received {value}"));
            yield_now().await;
        }
        trace.log("ended");
        futures::future::join_all(tasks).await;
    });
    trace.expect(&[
        "a sent",
        "receives",
        "received a",
        "b sent",
        "received b",
        "c sent",
        "received c",
        "ended",
    ]);
}

#[test]
fn a_sender_that_waits_is_not_overtaken() {
    run(async {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        let mut second = pin!(sender.send(2));
        assert!(poll!(&mut second).is_pending());
        assert_eq!(receiver.recv().await, Some(1));
        // Its value has moved into the room, so there is none.
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        second.await.unwrap();
        assert_eq!(receiver.recv().await, Some(2));
    });
}

#[test]
fn the_value_of_a_cancelled_send_is_dropped_with_it() {
    run(async {
        let (sender, mut receiver) = channel(1);
        let values: Vec<Rc<u32>> = (0..4).map(Rc::new).collect();
        sender.try_send(values[0].clone()).unwrap();
        let mut sends: Vec<_> =
            values[1..].iter().map(|value| Box::pin(sender.send(value.clone()))).collect();
        for send in &mut sends {
            assert!(poll!(send).is_pending());
        }
        let third = sends.pop();
        drop(sends.remove(0));
        assert_eq!(Rc::strong_count(&values[1]), 1, "the first in the queue has gone");
        assert_eq!(receiver.recv().await.as_deref(), Some(&0));
        drop(third);
        assert_eq!(Rc::strong_count(&values[3]), 1, "the last in the queue has gone");
        assert_eq!(receiver.recv().await.as_deref(), Some(&2));
        assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(sends);
        assert!(values.iter().all(|value| Rc::strong_count(value) == 1));
    });
}

#[test]
fn a_value_handed_to_a_receive_that_was_dropped_waits_for_the_next() {
    run(async {
        let (sender, mut receiver) = channel(1);
        {
            let mut first = pin!(receiver.recv());
            assert!(poll!(&mut first).is_pending());
            sender.try_send('a').unwrap();
            // The future is dropped though it has been woken.
        }
        sender.try_send('b').unwrap();
        assert_eq!(sender.try_send('c'), Err(TrySendError::Full('c')));
        assert_eq!(receiver.len(), 2);
        assert_eq!(receiver.try_recv(), Ok('a'));
        assert_eq!(receiver.recv().await, Some('b'));
        assert!(receiver.is_empty());
    });
}

#[test]
fn a_receive_that_times_out_loses_nothing() {
    run(async {
        let (sender, mut receiver) = channel(4);
        let sending = spawn(async move {
            for number in 0..200 {
                sender.send(number).await.unwrap();
                demikernel_runtime::time::sleep(Duration::from_micros(number % 7 * 10)).await;
            }
        });
        let mut received = Vec::new();
        while !receiver.is_terminated() {
            match timeout(Duration::from_micros(20), receiver.recv()).await {
                Ok(value) => received.extend(value),
                Err(_) => yield_now().await,
            }
        }
        assert_eq!(received, (0..200).collect::<Vec<_>>());
        sending.await.unwrap();
    });
}

/// Values that do not fit into an operation's slot go another way.
#[test]
fn large_values() {
    run(async {
        let (sender, mut receiver) = channel(1);
        let large = |number: u8| [number; 300];
        assert!(poll!(pin!(receiver.recv())).is_pending());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        sender.try_send(large(1)).unwrap();
        assert_eq!(receiver.len(), 1);
        assert!(sender.try_send(large(2)).is_err());
        assert_eq!(receiver.try_recv(), Ok(large(1)));
        sender.try_send(large(3)).unwrap();
        assert_eq!(receiver.recv().await, Some(large(3)));
        assert!(poll!(pin!(receiver.recv())).is_pending());
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn close_fails_sends_and_keeps_what_was_sent() {
    run(async {
        let (sender, mut receiver) = channel(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        let mut waiting = pin!(sender.send(3));
        assert!(poll!(&mut waiting).is_pending());
        assert!(!sender.is_closed());
        receiver.close();
        assert!(sender.is_closed());
        assert_eq!(waiting.await, Err(SendError(3)));
        assert_eq!(sender.send(4).await, Err(SendError(4)));
        assert_eq!(sender.try_send(5), Err(TrySendError::Closed(5)));
        assert_eq!(receiver.collect::<Vec<_>>().await, [1, 2]);
    });
}

#[test]
fn close_ends_a_receive_and_is_not_counted_as_a_value() {
    run(async {
        let (_sender, mut receiver) = channel::<u8>(2);
        assert!(poll!(pin!(receiver.recv())).is_pending());
        receiver.close();
        assert_eq!((receiver.len(), receiver.is_empty()), (0, true));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        assert!(receiver.is_terminated());
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn the_last_sender_ends_the_channel() {
    run(async {
        let (sender, mut receiver) = channel::<u8>(2);
        let other = sender.clone();
        let receiving = spawn(async move { receiver.recv().await });
        yield_now().await;
        drop(sender);
        yield_now().await;
        assert!(!receiving.is_finished());
        drop(other);
        assert_eq!(receiving.await.unwrap(), None);
    });
}

#[test]
fn dropping_the_receiver_drops_the_values() {
    run(async {
        let (sender, receiver) = channel(1);
        let value = Rc::new(());
        sender.try_send(value.clone()).unwrap();
        let mut waiting = pin!(sender.send(value.clone()));
        assert!(poll!(&mut waiting).is_pending());
        drop(receiver);
        assert_eq!(Rc::strong_count(&value), 2, "only the one that goes back to its sender");
        assert!(waiting.await.is_err());
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

/// Uses the channel that it is in when it is dropped.
struct Reenters(Rc<RefCell<Option<mpsc::Sender<Reenters>>>>);

impl Drop for Reenters {
    fn drop(&mut self) {
        if let Some(sender) = &*self.0.borrow() {
            drop(sender.try_send(Reenters(Rc::default())));
            let _ = sender.capacity();
        }
    }
}

#[test]
fn values_may_use_the_channel_when_they_are_dropped() {
    run(async {
        let (sender, mut receiver) = channel(1);
        let own = Rc::new(RefCell::new(Some(sender.clone())));
        sender.try_send(Reenters(own.clone())).ok().unwrap();
        let mut cancelled: Vec<_> = (0..3).map(|_| Box::pin(sender.send(Reenters(own.clone())))).collect();
        for send in &mut cancelled {
            assert!(poll!(send).is_pending());
        }
        drop(cancelled.remove(0));
        drop(receiver.recv().await);
        cancelled.pop();
        drop(cancelled);
        drop(receiver);
        own.take();
    });
}

#[test]
fn a_stream_into_a_sink() {
    run(async {
        let (sender, receiver) = channel(3);
        let sending = spawn(stream::iter(0..100).map(Ok).forward(sender));
        let received: Vec<_> = receiver.collect().await;
        assert_eq!(received, (0..100).collect::<Vec<_>>());
        sending.await.unwrap().unwrap();
    });
}

#[test]
fn a_sink_of_a_closed_channel_fails() {
    run(async {
        let (mut sender, mut receiver) = channel(1);
        sender.send(1).await.unwrap();
        let mut sink = sender.clone();
        let waiting = spawn(async move { SinkExt::send(&mut sink, 2).await });
        yield_now().await;
        receiver.close();
        assert_eq!(waiting.await.unwrap(), Err(SendError(())));
        assert_eq!(SinkExt::send(&mut sender, 3).await, Err(SendError(())));
    });
}

/// A sink that was told of room, and then does not send, keeps nobody else from sending.
#[test]
fn a_sink_that_gives_up_blocks_nobody() {
    run(async {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        let mut sink = sender.clone();
        assert!(poll!(pin!(SinkExt::send(&mut sink, 9))).is_pending());
        let other = spawn(async move { sender.send(2).await });
        yield_now().await;
        assert_eq!(receiver.recv().await, Some(1));
        let second = timeout(Duration::from_secs(5), receiver.recv()).await;
        assert_eq!(second.expect("the other's value arrives"), Some(2));
        other.await.unwrap().unwrap();
        // It can still send.
        SinkExt::send(&mut sink, 3).await.unwrap();
        drop(sink);
        assert_eq!(receiver.recv().await, Some(3));
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn it_outlives_its_runtime() {
    let (sender, mut receiver) = channel(1);
    run(async {
        assert!(receiver.recv().now_or_never().is_none());
    });
    sender.try_send(1).unwrap();
    sender.try_send(2).unwrap();
    run(async {
        assert_eq!(receiver.recv().await, Some(1));
        let task = spawn(async move { (receiver.recv().await, receiver.recv().await) });
        yield_now().await;
        sender.send(3).await.unwrap();
        assert_eq!(task.await.unwrap(), (Some(2), Some(3)));
    });
}

#[test]
fn tasks_that_are_dropped_with_the_runtime_leave_it_in_order() {
    let (sender, mut receiver) = channel(1);
    run(async {
        for number in 0..3 {
            let sender = sender.clone();
            spawn(async move {
                sender.send(number).await.unwrap();
                pending::<()>().await;
            })
            .detach();
        }
        yield_now().await;
    });
    run(async {
        assert_eq!(receiver.recv().await, Some(0));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        sender.send(7).await.unwrap();
        assert_eq!(receiver.recv().await, Some(7));
    });
}

/// Values of any size, received before and after they are sent, without an allocation for any of them.
#[test]
fn no_allocation_per_message() {
    async fn ping_pong<T: Copy + PartialEq + std::fmt::Debug + 'static>(value: T) {
        let ((to, mut at_other), (from, mut back)) = (channel(4), channel(4));
        let other = spawn(async move {
            while let Some(value) = at_other.recv().await {
                from.send(value).await.unwrap();
            }
        });
        let mut before = 0;
        for round in 0..100 {
            if round == 10 {
                before = allocations();
            }
            for _ in 0..=round % 3 {
                to.send(value).await.unwrap();
            }
            for _ in 0..=round % 3 {
                assert_eq!(back.recv().await, Some(value));
            }
        }
        assert_eq!(allocations() - before, 0);
        drop(to);
        other.await.unwrap();
    }
    run(async {
        ping_pong(()).await;
        ping_pong(7u64).await;
        ping_pong([7u64; 6]).await;
        ping_pong([7u64; 7]).await;
        ping_pong([7u64; 100]).await;
    });
}

#[test]
#[should_panic(expected = "room for at least one value")]
fn no_room_is_refused() {
    drop(channel::<u8>(0));
}

#[test]
fn polls_are_ready_when_they_should_be() {
    run(async {
        let (sender, mut receiver) = channel(1);
        let mut send = pin!(sender.send(1));
        assert_eq!(poll!(&mut send), Poll::Ready(Ok(())));
        let mut receive = pin!(receiver.recv());
        assert_eq!(poll!(&mut receive), Poll::Ready(Some(1)));
    });
}
