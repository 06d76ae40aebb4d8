//! Virtual time, from the tasks down to the device.

use crate::{run, seeded, simulated};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, lookup_host};
use demikernel_runtime::time::{Duration, Instant, interval, sleep, timeout};
use demikernel_runtime::{Builder, Time, operation, spawn};
use std::cell::Cell;
use std::rc::Rc;

#[test]
fn an_hour_passes_at_once() {
    let start = std::time::Instant::now();
    run(1, async {
        let start = Instant::now();
        let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
        let client = TcpStream::connect("127.0.0.1:80").await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for minute in 0..60u8 {
            let nothing = timeout(Duration::from_secs(60), server.pop()).await;
            assert!(nothing.is_err());
            client.push(Buffer::from(vec![minute])).await.unwrap();
            let something = timeout(Duration::from_secs(60), server.pop()).await;
            assert_eq!(something.unwrap().unwrap(), [minute]);
        }
        let took = Instant::now() - start;
        assert!(took >= Duration::from_secs(3600) && took < Duration::from_secs(3601), "{took:?}");
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn time_stands_still_while_tasks_run() {
    run(2, async {
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        for _ in 0..1000 {
            demikernel_runtime::yield_now().await;
        }
        assert_eq!(Instant::now(), start);
        sleep(Duration::from_nanos(1)).await;
        assert_eq!(Instant::now() - start, Duration::from_nanos(1));
    });
}

#[test]
fn timers_and_the_network_keep_one_order() {
    let order = run(3, async {
        let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
        let ticks = Rc::new(Cell::new(0u32));
        let counter = spawn({
            let ticks = ticks.clone();
            async move {
                let mut ticker = interval(Duration::from_micros(1));
                loop {
                    ticker.tick().await;
                    ticks.set(ticks.get() + 1);
                }
            }
        });
        let before = ticks.get();
        let start = Instant::now();
        let _client = TcpStream::connect("127.0.0.1:80").await.unwrap();
        let took = Instant::now() - start;
        counter.abort();
        drop(listener);
        (took, ticks.get() - before)
    });
    let (took, ticks) = order;
    // Two ways of 10 to 50 us each, during which a tick came every microsecond.
    assert!((20..=100).contains(&took.as_micros()), "{took:?}");
    assert!(u128::from(ticks).abs_diff(took.as_micros()) <= 1, "{ticks} ticks in {took:?}");
}

#[test]
fn virtual_time_begins_at_the_same_instant_in_every_run() {
    let begin = || run(4, async { Instant::now() });
    assert_eq!(begin(), begin());
}

#[test]
fn threads_that_work_for_a_task_are_waited_for() {
    let (runtime, _sim) = simulated(seeded(5));
    runtime.block_on(async {
        let start = Instant::now();
        // In real time this takes a while, of which a virtual clock must know nothing.
        let found = timeout(Duration::from_nanos(1), lookup_host("localhost:80")).await;
        assert!(found.expect("the clock jumped ahead of the resolver").unwrap().count() > 0);
        assert_eq!(Instant::now(), start);
    });
}

#[test]
fn wakes_of_other_threads_are_heard_at_any_time() {
    let (runtime, _sim) = simulated(seeded(6));
    let handle = runtime.handle();
    let done = runtime.block_on(async {
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            handle.spawn(async { 7 })
        });
        // Timers do not keep the runtime from hearing it.
        let ticking = spawn(async {
            loop {
                sleep(Duration::from_secs(1)).await;
            }
        });
        while !thread.is_finished() {
            sleep(Duration::from_secs(1)).await;
        }
        ticking.abort();
        thread.join().unwrap().await.unwrap()
    });
    assert_eq!(done, 7);

    // Nor does their absence.
    let handle = runtime.handle();
    let (sender, receiver) = futures::channel::oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(handle);
        sender.send(8).unwrap();
    });
    assert_eq!(runtime.block_on(receiver), Ok(8));
    thread.join().unwrap();
}

#[test]
fn a_virtual_runtime_without_devices_needs_no_grace_either() {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    runtime.block_on(async {
        for _ in 0..1000 {
            sleep(Duration::from_secs(1)).await;
        }
        let (token, completion) = operation();
        spawn(async move {
            sleep(Duration::from_secs(1)).await;
            completion.complete(());
        })
        .detach();
        token.await;
    });
    assert_eq!(runtime.metrics().parks, 0);
}
