//! Waiting for any of all operations.

use crate::support::run;
use crate::text;
use demikernel_runtime::pdpix::{Opcode, Qt, close, pop, push, queue, wait, wait_next_n};
use demikernel_runtime::{Builder, Time, spawn, yield_now};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn it_gives_what_is_done_and_no_more_than_n() {
    run(async {
        let qd = queue().unwrap();
        let tokens: Vec<Qt> = (0..5).map(|_| push(qd, text("a")).unwrap()).collect();
        let waiting: Vec<Qt> = (0..7).map(|_| pop(qd, None).unwrap()).collect();
        let mut seen = Vec::new();
        for (n, expected) in [(3, 3), (4, 4), (9, 3)] {
            let results = wait_next_n(n, None).await.unwrap();
            assert_eq!(results.len(), expected);
            seen.extend(results.into_iter().map(|result| result.qt));
        }
        seen.sort();
        assert_eq!(seen, [&tokens[..], &waiting[..5]].concat());
        assert_eq!(wait_next_n(0, None).await.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        // The others are woken for when their time has come.
        let others = spawn(async { wait_next_n(9, None).await.unwrap().len() });
        yield_now().await;
        push(qd, text("b")).unwrap();
        assert_eq!(others.await.unwrap(), 2, "the push and the pop");
    });
}

#[test]
fn operations_that_are_started_meanwhile_are_waited_for_too() {
    run(async {
        let qd = queue().unwrap();
        let next = spawn(async { wait_next_n(1, None).await.unwrap() });
        yield_now().await;
        let waiting = pop(qd, None).unwrap();
        yield_now().await;
        assert!(!next.is_finished());
        push(qd, text("a")).unwrap();
        let mut results = next.await.unwrap();
        let first = results.remove(0);
        // Whichever was looked at first; the other comes next.
        results.extend(wait_next_n(1, None).await.unwrap());
        let seen: BTreeSet<_> = [first.opcode, results[0].opcode].map(|it| it == Opcode::Pop).into();
        assert_eq!(seen.len(), 2);
        assert!(first.qt == waiting || results[0].qt == waiting);
    });
}

#[test]
fn those_that_are_waited_for_by_token_are_left_alone() {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    runtime.block_on(async {
        let qd = queue().unwrap();
        let (mine, others) = (pop(qd, None).unwrap(), pop(qd, None).unwrap());
        let short = Some(Duration::from_millis(1));
        assert!(wait_next_n(9, short).await.is_err(), "nothing is done");
        let task = spawn(async move { wait(mine, None).await });
        yield_now().await;
        wait(push(qd, text("a")).unwrap(), None).await.unwrap();
        assert_eq!(wait_next_n(9, short).await.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert_eq!(task.await.unwrap().unwrap().qt, mine);
        // After a wait by its token that ended before it, it is one of all again.
        assert!(wait(others, short).await.is_err());
        let next = spawn(async { wait_next_n(9, None).await.unwrap() });
        yield_now().await;
        assert_eq!(wait_next_n(1, None).await.unwrap_err().raw_os_error(), Some(libc::EBUSY));
        wait(push(qd, text("b")).unwrap(), None).await.unwrap();
        assert_eq!(next.await.unwrap()[0].qt, others);
        close(qd).unwrap();
    });
}

/// An operation that is always done again must not keep the others from being seen.
#[test]
fn a_busy_queue_starves_nobody() {
    run(async {
        let (busy, quiet) = (queue().unwrap(), queue().unwrap());
        let rare = pop(quiet, None).unwrap();
        push(busy, text("a")).unwrap();
        let mut waited = 0;
        for round in 0..100 {
            if round == 50 {
                push(quiet, text("b")).unwrap();
            }
            let result = wait_next_n(1, None).await.unwrap().remove(0);
            match result.opcode {
                _ if result.qt == rare => break,
                Opcode::Push if result.qd == busy => drop(pop(busy, None).unwrap()),
                Opcode::Pop => drop(push(busy, text("a")).unwrap()),
                _ => {}
            }
            waited = round;
        }
        assert!((50..55).contains(&waited), "seen after {waited}");
    });
}
