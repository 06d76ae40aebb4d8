//! Work on other threads.

#![allow(clippy::async_yields_async, reason = "handles are taken out of their runtimes")]

#[path = "support/mod.rs"]
mod support;

use demikernel_runtime::time::{Instant, sleep, timeout};
use demikernel_runtime::{Builder, Idle, Time, run_on_cores, spawn, spawn_blocking, yield_now};
use futures::future::{FusedFuture, join_all};
use futures::poll;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::{Trace, run};

#[test]
fn tasks_go_on_meanwhile() {
    let trace = Trace::default();
    run(async {
        let (go, wait) = mpsc::channel();
        let inner = trace.clone();
        let waiting = spawn(async move {
            let core = std::thread::current().id();
            let work = spawn_blocking(move || (wait.recv().unwrap(), std::thread::current().id()));
            inner.log("works");
            let (word, thread) = work.await.unwrap();
            assert_ne!(thread, core);
            inner.log(word);
        });
        yield_now().await;
        trace.log("the core goes on");
        go.send("done").unwrap();
        waiting.await.unwrap();
    });
    trace.expect(&["works", "the core goes on", "done"]);
}

#[test]
fn results_end_a_cores_blocking() {
    for idle in [Idle::Block, Idle::Spin, Idle::Adaptive(Duration::from_micros(20))] {
        let runtime = Builder::new().idle(idle).build().unwrap();
        let sum: u64 = runtime.block_on(async {
            let works = (0..200u64).map(|number| {
                spawn_blocking(move || {
                    std::thread::sleep(Duration::from_micros(number % 5 * 100));
                    number
                })
            });
            let all = timeout(Duration::from_secs(60), join_all(works));
            all.await.expect("no wake-up is lost").into_iter().map(Result::unwrap).sum()
        });
        assert_eq!(sum, 199 * 200 / 2);
    }
}

#[test]
fn a_panic_reaches_the_joiner() {
    run(async {
        let mut work = spawn_blocking(|| -> u8 { panic!("expected by the test") });
        let error = (&mut work).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the task panicked: expected by the test");
        assert!(work.is_terminated());
    });
}

#[test]
fn dropping_the_handle_lets_it_run_on() {
    run(async {
        let (done, is_done) = mpsc::channel();
        drop(spawn_blocking(move || done.send(()).unwrap()));
        is_done.recv_timeout(Duration::from_secs(20)).unwrap();
    });
}

#[test]
fn the_handle_can_be_awaited_elsewhere() {
    let handle = run(async { spawn_blocking(|| 7) });
    let other = std::thread::spawn(|| futures::executor::block_on(handle));
    assert_eq!(other.join().unwrap().unwrap(), 7);
}

#[test]
fn it_may_outlive_the_runtime() {
    let (go, wait) = mpsc::channel::<()>();
    let finished = Arc::new(AtomicUsize::new(0));
    let inner = finished.clone();
    let mut handle = run(async {
        let mut handle = spawn_blocking(move || {
            wait.recv().unwrap();
            inner.fetch_add(1, Ordering::Relaxed);
        });
        assert!(poll!(&mut handle).is_pending());
        handle
    });
    go.send(()).unwrap();
    run(&mut handle).unwrap();
    assert_eq!(finished.load(Ordering::Relaxed), 1);
}

/// Otherwise the clock would jump to the timeout, since nothing is ready.
#[test]
fn virtual_time_stands_still_while_a_thread_works() {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let slow = spawn_blocking(|| std::thread::sleep(Duration::from_millis(50)));
        timeout(Duration::from_millis(1), slow).await.expect("no time has passed").unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(3600)).await;
        // Nobody waits for this one, and the clock goes on when it is done.
        spawn_blocking(|| std::thread::sleep(Duration::from_millis(20))).detach();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(7200));
    });
}

#[test]
#[should_panic(expected = "there is no demikernel runtime on this thread")]
fn outside_of_a_runtime() {
    drop(spawn_blocking(|| ()));
}

/// The threads do not share the processor of the core that made them.
#[test]
fn threads_are_not_pinned_as_cores_are() {
    let allowed = || std::thread::available_parallelism().unwrap().get();
    let all = allowed();
    let ends = run_on_cores(
        2,
        Builder::build,
        move || async move {
            assert_eq!(allowed(), 1);
            for _ in 0..20 {
                assert_eq!(spawn_blocking(allowed).await.unwrap(), all);
            }
        },
        |()| false,
    );
    assert!(ends.into_iter().all(|end| end.unwrap().is_some()));
}
