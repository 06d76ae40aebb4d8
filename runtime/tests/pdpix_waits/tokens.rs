//! Tokens, and the wait calls.

use crate::support::{Trace, run};
use crate::{popped, text};
use demikernel_runtime::pdpix::{Opcode, Qd, Qt, close, pop, push, queue, wait, wait_all, wait_any};
use demikernel_runtime::{Builder, Time, spawn, yield_now};
use futures::poll;
use std::fmt::Debug;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;

#[track_caller]
fn refused<T: Debug>(result: io::Result<T>, number: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(number));
}

/// A queue with a pop that is done and one that waits.
fn done_and_waiting() -> (Qd, Qt, Qt) {
    let qd = queue().unwrap();
    let tokens = (qd, pop(qd, None).unwrap(), pop(qd, None).unwrap());
    push(qd, text("a")).unwrap();
    tokens
}

#[test]
fn a_token_gives_its_result_once() {
    run(async {
        let (_, done, _) = done_and_waiting();
        assert_eq!(popped(wait(done, None).await.unwrap()), b"a");
        refused(wait(done, None).await, libc::EINVAL);
        // The place in the table is used again.
        let (_, other, _) = done_and_waiting();
        assert_ne!(done, other);
        refused(wait(done, None).await, libc::EINVAL);
        refused(wait_any(&[other, done], None).await, libc::EINVAL);
        assert_eq!(popped(wait(other, None).await.unwrap()), b"a", "the refused wait has not taken it");
        refused(wait(Qt::from_raw(u64::MAX), None).await, libc::EINVAL);
    });
}

#[test]
fn tokens_of_other_runtimes_are_refused() {
    let foreign: Vec<u64> = std::thread::spawn(|| {
        run(async {
            let (_, done, waiting) = done_and_waiting();
            vec![done.as_raw(), waiting.as_raw()]
        })
    })
    .join()
    .unwrap();
    run(async {
        // Operations in the same places.
        let (_, done, waiting) = done_and_waiting();
        for raw in foreign {
            assert!(raw != done.as_raw() && raw != waiting.as_raw());
            refused(wait(Qt::from_raw(raw), None).await, libc::EINVAL);
        }
    });
}

#[test]
fn an_operation_is_waited_for_once_at_a_time() {
    run(async {
        let (qd, done, waiting) = done_and_waiting();
        let other = spawn(async move { wait(waiting, None).await });
        yield_now().await;
        refused(wait(waiting, None).await, libc::EBUSY);
        refused(wait_any(&[done, waiting], None).await, libc::EBUSY);
        refused(wait_all(&[done, done], None).await, libc::EBUSY);
        assert_eq!(popped(wait(done, None).await.unwrap()), b"a");
        push(qd, text("b")).unwrap();
        assert_eq!(popped(other.await.unwrap().unwrap()), b"b");
    });
}

#[test]
fn a_wait_that_is_dropped_lets_go() {
    run(async {
        let (qd, _, waiting) = done_and_waiting();
        assert!(poll!(pin!(wait(waiting, None))).is_pending());
        push(qd, text("b")).unwrap();
        assert_eq!(popped(wait(waiting, None).await.unwrap()), b"b");
    });
}

#[test]
fn a_timeout_leaves_the_operation_under_way() {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    runtime.block_on(async {
        let (qd, done, waiting) = done_and_waiting();
        let limit = Some(Duration::from_secs(5));
        refused(wait(waiting, limit).await, libc::ETIMEDOUT);
        refused(wait_any(&[waiting], limit).await, libc::ETIMEDOUT);
        // All or nothing.
        refused(wait_all(&[done, waiting], limit).await, libc::ETIMEDOUT);
        push(qd, text("b")).unwrap();
        // What is done is no timeout, however short that is.
        let results = wait_all(&[waiting, done], Some(Duration::ZERO)).await.unwrap();
        assert_eq!(results.into_iter().map(popped).collect::<Vec<_>>(), [b"b", b"a"]);
        refused(wait_any(&[], None).await, libc::EINVAL);
        assert!(wait_all(&[], None).await.unwrap().is_empty());
    });
}

#[test]
fn wait_any_takes_the_first_of_the_list_and_wakes_once() {
    let trace = Trace::default();
    run(async {
        let qds = [queue().unwrap(), queue().unwrap(), queue().unwrap()];
        let log = trace.clone();
        let task = spawn(async move {
            let mut tokens: Vec<Qt> = qds.iter().map(|&qd| pop(qd, None).unwrap()).collect();
            while !tokens.is_empty() {
                let mut polls = 0;
                let (index, result) = {
                    let mut wait = pin!(wait_any(&tokens, None));
                    poll_fn(|cx| {
                        polls += 1;
                        wait.as_mut().poll(cx)
                    })
                    .await
                    .unwrap()
                };
                tokens.remove(index);
                log.log(format!("queue {} after {polls}", result.qd));
            }
        });
        yield_now().await;
        trace.log("push to 2 and 1");
        push(qds[2], text("c")).unwrap();
        push(qds[1], text("b")).unwrap();
        yield_now().await;
        yield_now().await;
        trace.log("push to 0");
        push(qds[0], text("a")).unwrap();
        task.await.unwrap();
        qds.into_iter().for_each(|qd| close(qd).unwrap());
    });
    trace.expect(&["push to 2 and 1", "queue 1 after 2", "queue 2 after 1", "push to 0", "queue 0 after 2"]);
}

#[test]
fn results_say_what_they_are_of() {
    run(async {
        let qd = queue().unwrap();
        let pushed = push(qd, text("a")).unwrap();
        let result = wait(pushed, None).await.unwrap();
        assert_eq!((result.opcode, result.qd, result.qt), (Opcode::Push, qd, pushed));
        assert!(result.value.sga().is_none() && result.value.error().is_none());
        assert_eq!(qd.to_string(), qd.as_raw().to_string());
        assert_eq!(pushed.to_string(), pushed.as_raw().to_string());
    });
}
