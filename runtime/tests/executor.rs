//! The executor as its users see it: order, joins, aborts, panics, wake-ups from other threads.

// Tests take tokens and handles out of `block_on`.
#![allow(clippy::async_yields_async)]

use demikernel_runtime::{
    Builder, Completion, Handle, Idle, JoinHandle, QToken, Runtime, operation, spawn, task_local, wait_all,
    wait_any, wait_next_n, yield_now,
};
use futures::future::{join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn log(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    #[track_caller]
    fn expect(&self, events: &[&str]) {
        assert_eq!(*self.0.borrow(), events);
    }
}

fn run<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future)
}

/// Logs when it is dropped.
struct OnDrop(Trace, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.log(self.1);
    }
}

#[test]
fn tasks_run_in_the_order_they_were_spawned() {
    let trace = Trace::default();
    run(async {
        let handles = ["a", "b", "c"].map(|name| {
            let trace = trace.clone();
            spawn(async move {
                trace.log(format!("{name}1"));
                yield_now().await;
                trace.log(format!("{name}2"));
            })
        });
        trace.log("spawned");
        join_all(handles).await;
    });
    trace.expect(&["spawned", "a1", "b1", "c1", "a2", "b2", "c2"]);
}

#[test]
fn a_task_waits_for_at_most_two_polls_of_each_other() {
    const TASKS: usize = 1000;
    run(async {
        let polls = Rc::new(RefCell::new(vec![0u64; TASKS]));
        let handles: Vec<_> = (0..TASKS)
            .map(|index| {
                let polls = polls.clone();
                spawn(async move {
                    for _ in 0..10 {
                        polls.borrow_mut()[index] += 1;
                        let (least, most) = {
                            let polls = polls.borrow();
                            (*polls.iter().min().unwrap(), *polls.iter().max().unwrap())
                        };
                        assert!(most - least <= 2, "one task is {most} polls in, another {least}");
                        yield_now().await;
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.await.unwrap();
        }
    });
}

#[test]
fn a_completion_wakes_its_waiter_and_nobody_else() {
    run(async {
        let polls = Rc::new(RefCell::new([0; 3]));
        let (tokens, completions): (Vec<QToken<usize>>, Vec<Completion<usize>>) =
            (0..3).map(|_| operation()).unzip();
        let handles: Vec<_> = tokens
            .into_iter()
            .enumerate()
            .map(|(index, mut token)| {
                let polls = polls.clone();
                spawn(poll_fn(move |cx| {
                    polls.borrow_mut()[index] += 1;
                    std::pin::Pin::new(&mut token).poll(cx)
                }))
            })
            .collect();
        yield_now().await;
        assert_eq!(*polls.borrow(), [1, 1, 1]);
        let mut completions = completions.into_iter();
        let first = completions.next().unwrap();
        first.complete(7);
        yield_now().await;
        yield_now().await;
        assert_eq!(*polls.borrow(), [2, 1, 1]);
        for completion in completions {
            completion.complete(8);
        }
        let ends: Vec<_> = join_all(handles).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ends, [7, 8, 8]);
    });
}

#[test]
fn dropped_tokens_cancel_and_their_values_are_dropped() {
    run(async {
        let value = Rc::new(());
        let (token, completion) = operation::<Rc<()>>();
        assert!(!completion.is_cancelled());
        drop(token);
        assert!(completion.is_cancelled());
        completion.complete(value.clone());
        assert_eq!(Rc::strong_count(&value), 1);

        let (token, completion) = operation::<Rc<()>>();
        completion.complete(value.clone());
        assert_eq!(Rc::strong_count(&value), 2);
        drop(token);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
#[should_panic(expected = "dropped the operation without completing it")]
fn a_broken_promise_is_reported() {
    run(async {
        let (token, completion) = operation::<u8>();
        drop(completion);
        token.await;
    });
}

#[test]
#[should_panic(expected = "polled after it had given its result")]
fn a_token_gives_its_result_once() {
    run(async {
        let mut token = QToken::ready(1);
        assert_eq!((&mut token).await, 1);
        (&mut token).await;
    });
}

#[test]
fn slots_do_not_leak() {
    let runtime = Runtime::new().unwrap();
    // More than none if another test has run on this thread: its memory is used again.
    let before = runtime.metrics().pages;
    runtime.block_on(async {
        for round in 0..100u64 {
            let kept: Vec<_> = (0..200).map(|_| operation::<u64>()).collect();
            let handle = spawn(async move { round });
            for (index, (token, completion)) in kept.into_iter().enumerate() {
                match index % 4 {
                    0 => completion.complete(round),
                    1 => drop((token, completion)),
                    2 => {
                        drop(token);
                        completion.complete(1);
                    }
                    _ => {
                        completion.complete(1);
                        assert_eq!(token.await, 1);
                    }
                }
            }
            assert_eq!(handle.await.unwrap(), round);
        }
    });
    assert_eq!(runtime.metrics().live_operations, 0);
    assert!(runtime.metrics().pages <= before.max(5));
}

#[test]
fn a_panic_reaches_the_joiner_and_harms_nobody_else() {
    let end = run(async {
        let bystander = spawn(async {
            yield_now().await;
            1
        });
        let error = spawn(async { panic!("oh no") }).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the task panicked: oh no");
        let payload = error.try_into_panic().unwrap();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "oh no");
        bystander.await.unwrap()
    });
    assert_eq!(end, 1);
}

#[test]
fn panics_of_detached_tasks_and_of_drops_are_contained() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    run(async {
        spawn(async { panic!("nobody listens") }).detach();
        spawn(async { PanicsOnDrop }).detach();
        let held = spawn(async {
            let _held = PanicsOnDrop;
            pending::<()>().await;
        });
        yield_now().await;
        held.abort();
        assert!(held.await.unwrap_err().is_panic());
        yield_now().await;
    });
}

#[test]
fn abort_drops_the_future_before_it_runs_again() {
    let trace = Trace::default();
    run(async {
        let inner = trace.clone();
        let handle = spawn(async move {
            let _guard = OnDrop(inner.clone(), "dropped");
            inner.log("started");
            yield_now().await;
            inner.log("never");
        });
        yield_now().await;
        handle.abort();
        trace.log("aborted");
        assert!(!handle.is_finished());
        assert!(handle.await.unwrap_err().is_cancelled());
    });
    trace.expect(&["started", "aborted", "dropped"]);
}

#[test]
fn a_task_can_abort_itself_and_a_finished_one_ignores_it() {
    run(async {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let inner = own.clone();
        *own.borrow_mut() = Some(spawn(async move {
            inner.borrow().as_ref().unwrap().abort();
            pending().await
        }));
        let handle = own.borrow_mut().take();
        yield_now().await;
        // The handle was taken before the task ran, so it aborts nothing.
        drop(handle);

        let done = spawn(async { 3 });
        yield_now().await;
        assert!(done.is_finished());
        done.abort();
        assert_eq!(done.await.unwrap(), 3);
    });
}

#[test]
fn dropping_the_handle_detaches() {
    let ran = Rc::new(Cell::new(false));
    let inner = ran.clone();
    run(async move {
        drop(spawn(async move {
            yield_now().await;
            inner.set(true);
        }));
        yield_now().await;
        yield_now().await;
        yield_now().await;
    });
    assert!(ran.get());
}

#[test]
fn futures_of_every_size_and_alignment() {
    #[repr(align(256))]
    struct Aligned(u8);
    run(async {
        let large = spawn(async {
            let data = [7u8; 100_000];
            yield_now().await;
            data.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        });
        let aligned = spawn(async {
            let value = Aligned(9);
            yield_now().await;
            assert_eq!(std::ptr::from_ref(&value).addr() % 256, 0);
            value.0
        });
        let large_output = spawn(async { [1u8; 10_000] });
        let nothing = spawn(async {});
        assert_eq!(large.await.unwrap(), 700_000);
        assert_eq!(aligned.await.unwrap(), 9);
        assert_eq!(large_output.await.unwrap(), [1u8; 10_000]);
        nothing.await.unwrap();
    });
}

#[test]
fn tasks_left_over_go_on_with_the_next_block_on_and_end_with_the_runtime() {
    let trace = Trace::default();
    let runtime = Runtime::new().unwrap();
    let inner = trace.clone();
    let handle = runtime.block_on(async move {
        spawn(async move {
            let _guard = OnDrop(inner.clone(), "dropped");
            inner.log("one");
            yield_now().await;
            inner.log("two");
            pending::<()>().await
        })
    });
    trace.expect(&[]);
    runtime.block_on(yield_now());
    trace.expect(&["one"]);
    runtime.block_on(yield_now());
    trace.expect(&["one", "two"]);
    drop(runtime);
    trace.expect(&["one", "two", "dropped"]);
    assert!(run(handle).unwrap_err().is_cancelled());
}

#[test]
fn tasks_spawned_while_the_runtime_ends_are_dropped() {
    struct Spawns(Trace);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let guard = OnDrop(self.0.clone(), "second dropped");
            let trace = self.0.clone();
            let handle = spawn(async move {
                let _guard = guard;
                trace.log("never");
            });
            assert!(handle.is_finished());
        }
    }
    let trace = Trace::default();
    let spawns = Spawns(trace.clone());
    run(async move {
        spawn(async move {
            let _spawns = spawns;
            pending::<()>().await
        })
        .detach();
    });
    trace.expect(&["second dropped"]);
}

#[test]
#[should_panic(expected = "already running on this thread")]
fn nested_block_on_is_refused() {
    run(async { run(async {}) });
}

#[test]
#[should_panic(expected = "there is no demikernel runtime on this thread")]
fn spawning_outside_of_a_runtime_is_refused() {
    spawn(async {}).detach();
}

#[test]
fn a_panic_of_the_main_future_leaves_the_runtime_usable() {
    let runtime = Runtime::new().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { panic!("main") }))).is_err());
    assert_eq!(runtime.block_on(async { spawn(async { 5 }).await.unwrap() }), 5);
}

#[test]
fn a_runtime_can_be_dropped_inside_of_another() {
    let inner = Runtime::new().unwrap();
    let trace = Trace::default();
    let guard = OnDrop(trace.clone(), "dropped");
    inner.block_on(async move {
        spawn(async move {
            let _guard = guard;
            pending::<()>().await
        })
        .detach();
    });
    run(async {
        drop(inner);
        assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
    });
    trace.expect(&["dropped"]);
}

#[test]
fn select_join_and_unordered_work_on_tokens() {
    run(async {
        let (never, _promise) = operation::<u8>();
        let mut never = never;
        let mut ready = QToken::ready(1);
        futures::select! {
            _ = never => panic!("not this one"),
            value = ready => assert_eq!(value, 1),
        }
        let (one, two) = futures::join!(QToken::ready(1), QToken::ready(2));
        assert_eq!((one, two), (1, 2));

        let (tokens, completions): (FuturesUnordered<_>, Vec<_>) =
            (0..100).map(|_| operation::<usize>()).unzip();
        spawn(async move {
            for (index, completion) in completions.into_iter().enumerate().rev() {
                completion.complete(index);
                if index % 7 == 0 {
                    yield_now().await;
                }
            }
        })
        .detach();
        let mut results: Vec<_> = tokens.collect().await;
        results.sort_unstable();
        assert_eq!(results, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn the_wait_calls() {
    run(async {
        let (tokens, completions): (Vec<_>, Vec<_>) = (0..4).map(|_| operation::<&str>()).unzip();
        let (mut tokens, mut completions) = (tokens, completions);
        completions.remove(2).complete("two");
        assert_eq!(wait_any(&mut tokens).await.unwrap(), (2, "two"));
        completions.remove(0).complete("zero");
        completions.remove(0).complete("one");
        assert_eq!(wait_next_n(&mut tokens, 9).await.unwrap(), [(0, "zero"), (1, "one")]);
        let soon = demikernel_runtime::time::Instant::now() + Duration::from_millis(1);
        assert!(demikernel_runtime::wait_any_deadline(&mut tokens, soon).await.is_err());
        completions.remove(0).complete("three");
        assert_eq!(wait_all(&mut tokens).await, ["three"]);
        assert!(wait_any(&mut tokens).await.is_err());
        assert!(wait_next_n(&mut tokens, 1).await.is_err());
    });
}

#[test]
fn a_deadline_loses_no_result() {
    run(async {
        let (tokens, mut completions): (Vec<_>, Vec<_>) = (0..2).map(|_| operation::<u32>()).unzip();
        let mut tokens = tokens;
        completions.remove(0).complete(1);
        let soon = demikernel_runtime::time::Instant::now() + Duration::from_millis(1);
        assert!(demikernel_runtime::wait_all_deadline(&mut tokens, soon).await.is_err());
        completions.remove(0).complete(2);
        assert_eq!(wait_all(&mut tokens).await, [1, 2]);
    });
}

#[test]
fn a_hundred_thousand_wakers_of_one_task() {
    run(async {
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let inner = wakers.clone();
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        let handle = spawn(poll_fn(move |cx| {
            count.set(count.get() + 1);
            if count.get() == 2 {
                return Poll::Ready(());
            }
            inner.borrow_mut().extend((0..100_000).map(|_| cx.waker().clone()));
            Poll::Pending
        }));
        yield_now().await;
        for waker in wakers.borrow_mut().drain(..) {
            waker.wake();
        }
        handle.await.unwrap();
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn wakers_outlive_their_task_and_their_runtime() {
    let wakers = run(async {
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let inner = wakers.clone();
        spawn(poll_fn(move |cx| {
            inner.borrow_mut().push(cx.waker().clone());
            Poll::Ready(())
        }))
        .await
        .unwrap();
        wakers.take()
    });
    wakers[0].wake_by_ref();
    let remote = wakers.clone();
    std::thread::spawn(move || remote[0].wake_by_ref()).join().unwrap();
    // The next runtime of this thread has the same pages: a stray wake harms nothing.
    run(async {
        let handle = spawn(async { yield_now().await });
        wakers[0].wake_by_ref();
        handle.await.unwrap();
    });
}

#[test]
fn the_adaptive_policy_spins_for_what_comes_from_outside_but_not_for_timers() {
    let runtime = Builder::new().idle(Idle::Adaptive(Duration::from_secs(60))).build().unwrap();
    runtime.block_on(async { demikernel_runtime::time::sleep(Duration::from_millis(2)).await });
    let parks = runtime.metrics().parks;
    assert_ne!(parks, 0, "it spun for a timer");
    // Once another thread has woken something, one may do so again.
    let handle = runtime.handle();
    let thread = std::thread::spawn(move || handle.spawn(async {}));
    runtime.block_on(thread.join().unwrap()).unwrap();
    let parks = runtime.metrics().parks;
    runtime.block_on(async { demikernel_runtime::time::sleep(Duration::from_millis(2)).await });
    assert_eq!(runtime.metrics().parks, parks, "it did not spin");
}

#[test]
fn a_future_without_a_size_is_aligned_as_it_wants() {
    #[repr(align(256))]
    struct Aligned;
    impl Future for Aligned {
        type Output = usize;
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
            Poll::Ready(std::ptr::from_ref(&*self).addr())
        }
    }
    assert_eq!(run(async { spawn(Aligned).await.unwrap() }) % 256, 0);
}

#[test]
fn wakes_from_other_threads_arrive_whatever_the_idle_policy() {
    for idle in [Idle::Spin, Idle::Block, Idle::Adaptive(Duration::from_micros(20))] {
        let runtime = Builder::new().idle(idle).build().unwrap();
        runtime.block_on(async {
            for round in 0..200u32 {
                let shared = std::sync::Arc::new(std::sync::Mutex::new((false, None::<Waker>)));
                let other = shared.clone();
                let thread = std::thread::spawn(move || {
                    if round % 2 == 0 {
                        std::thread::sleep(Duration::from_micros(u64::from(round)));
                    }
                    let waker = {
                        let mut shared = other.lock().unwrap();
                        shared.0 = true;
                        shared.1.take()
                    };
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                });
                poll_fn(|cx| {
                    let mut shared = shared.lock().unwrap();
                    if shared.0 {
                        return Poll::Ready(());
                    }
                    shared.1 = Some(cx.waker().clone());
                    Poll::Pending
                })
                .await;
                thread.join().unwrap();
            }
        });
    }
}

#[test]
fn handles_spawn_from_other_threads() {
    let runtime = Builder::new().idle(Idle::Block).build().unwrap();
    let handle: Handle = runtime.handle();
    let thread = std::thread::spawn(move || {
        let double = handle.spawn(async { 21 * 2 });
        let panics = handle.spawn(async { panic!("remote") });
        let aborted = handle.spawn(pending::<()>());
        aborted.abort();
        futures::executor::block_on(async {
            assert_eq!(double.await.unwrap(), 42);
            assert!(panics.await.unwrap_err().is_panic());
            assert!(aborted.await.unwrap_err().is_cancelled());
        });
        handle
    });
    let joined = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = joined.clone();
    let spawner = runtime.handle();
    let waiter = std::thread::spawn(move || {
        let handle = thread.join().unwrap();
        flag.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(spawner.spawn(async {}));
        handle
    });
    runtime.block_on(async {
        while !joined.load(std::sync::atomic::Ordering::SeqCst) {
            demikernel_runtime::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let handle = waiter.join().unwrap();
    drop(runtime);
    let late = handle.spawn(async { 1 });
    assert!(late.is_finished());
    assert!(futures::executor::block_on(late).unwrap_err().is_cancelled());
}

#[test]
fn tokens_outlive_their_runtime() {
    let token = run(async {
        let (token, completion) = operation::<Rc<()>>();
        std::mem::forget(completion);
        token
    });
    let sleep = run(async { demikernel_runtime::time::sleep(Duration::from_secs(1000)) });
    run(async {
        let mut token = pin!(token);
        assert!(token.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    drop(sleep);
    // A token that nobody took from a runtime's slab keeps its slot from being used again.
    let done = run(async { QToken::ready(Rc::new(5)) });
    run(async {
        for _ in 0..100 {
            drop(operation::<u64>());
        }
    });
    assert_eq!(*run(done), 5);
}

#[test]
fn a_busy_task_starves_neither_timers_nor_other_threads() {
    run(async {
        let busy = spawn(async {
            loop {
                yield_now().await;
            }
        });
        demikernel_runtime::time::sleep(Duration::from_millis(2)).await;
        let handle = demikernel_runtime::handle();
        let thread =
            std::thread::spawn(move || futures::executor::block_on(handle.spawn(async { 9 })).unwrap());
        while !thread.is_finished() {
            yield_now().await;
        }
        assert_eq!(thread.join().unwrap(), 9);
        busy.abort();
    });
}

#[test]
fn task_locals_follow_their_task() {
    task_local! {
        static NAME: &'static str;
    }
    run(async {
        let handles = ["a", "b"].map(|name| {
            spawn(NAME.scope(name, async move {
                for _ in 0..3 {
                    assert_eq!(NAME.get(), name);
                    yield_now().await;
                }
                NAME.sync_scope("inner", || assert_eq!(NAME.get(), "inner"));
                assert_eq!(NAME.get(), name);
            }))
        });
        for handle in handles {
            handle.await.unwrap();
        }
        assert!(NAME.try_with(|_| ()).is_err());
    });
}

#[test]
fn select_drops_the_loser() {
    run(async {
        let (token, completion) = operation::<u8>();
        let other = spawn(async { 5 });
        match select(token, other).await {
            futures::future::Either::Right((value, token)) => {
                assert_eq!(value.unwrap(), 5);
                drop(token);
            }
            futures::future::Either::Left(_) => panic!("nobody completes it"),
        }
        assert!(completion.is_cancelled());
    });
}
