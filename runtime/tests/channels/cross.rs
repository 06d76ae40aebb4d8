//! Channels between cores and threads.

use demikernel_runtime::channel::cross;
use demikernel_runtime::time::timeout;
use demikernel_runtime::{Builder, Idle};
use futures::StreamExt;
use std::time::Duration;

/// Every value of several threads arrives once and in its thread's order, at a receiver that blocks when it
/// has nothing.
#[test]
fn threads_to_one_core() {
    const THREADS: u64 = 3;
    const VALUES: u64 = 2000;
    let (sender, receiver) = cross::bounded(16);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let runtime = Builder::new().idle(Idle::Block).build().unwrap();
                runtime.block_on(async {
                    for value in 0..VALUES {
                        sender.send((thread, value)).await.unwrap();
                    }
                });
            })
        })
        .collect();
    drop(sender);
    let runtime = Builder::new().idle(Idle::Block).build().unwrap();
    let next = runtime.block_on(async {
        let mut next = [0; THREADS as usize];
        let mut receiver = std::pin::pin!(receiver);
        let all = async {
            while let Some((thread, value)) = receiver.next().await {
                assert_eq!(value, next[thread as usize]);
                next[thread as usize] += 1;
            }
        };
        timeout(Duration::from_secs(60), all).await.expect("no wake-up is lost");
        next
    });
    assert_eq!(next, [VALUES; THREADS as usize]);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn ping_pong_between_cores_that_block() {
    const ROUNDS: u32 = 2000;
    let (to, from) = (cross::bounded(1), cross::bounded(1));
    let (ping, pong) = (to.0, from.1);
    let other = std::thread::spawn(move || {
        let runtime = Builder::new().idle(Idle::Block).build().unwrap();
        runtime.block_on(async {
            while let Ok(value) = to.1.recv().await {
                from.0.send(value + 1).await.unwrap();
            }
        });
    });
    let runtime = Builder::new().idle(Idle::Block).build().unwrap();
    let sum = runtime.block_on(async {
        let all = async {
            let mut value = 0;
            for _ in 0..ROUNDS {
                ping.send(value).await.unwrap();
                value = pong.recv().await.unwrap();
            }
            value
        };
        timeout(Duration::from_secs(60), all).await.expect("no wake-up is lost")
    });
    drop(ping);
    assert_eq!(sum, ROUNDS);
    other.join().unwrap();
}

#[test]
fn a_receive_that_timed_out_takes_nothing() {
    let (sender, receiver) = cross::unbounded();
    let runtime = Builder::new().build().unwrap();
    runtime.block_on(async {
        assert!(timeout(Duration::from_millis(1), receiver.recv()).await.is_err());
        sender.try_send(3).unwrap();
        assert_eq!(receiver.recv().await, Ok(3));
    });
}
