//! Programs on several cores: each has its processor, and the failure of one ends all.
#![cfg(not(demikernel_loom))]

use demikernel_runtime::{Builder, core_count, core_index, run_on_cores, spawn, spawn_on, yield_now};
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The processors that this thread may use.
fn processors() -> Vec<usize> {
    // SAFETY: the set is plain data, and the kernel writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&processor| libc::CPU_ISSET(processor, &set)).collect()
    }
}

#[test]
fn each_core_has_its_index_and_its_processor() {
    let all = processors();
    let both = Barrier::new(2);
    let results = run_on_cores(
        2,
        Builder::build,
        async || {
            both.wait();
            (core_index(), spawn(async { core_index() }).await.unwrap(), processors())
        },
        |_| false,
    );
    for (index, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap(), Some((index, index, vec![all[index % all.len()]])));
    }
    assert_eq!(processors(), all, "the caller's own thread is not pinned");
}

/// Counts the futures that were dropped.
struct Dropped<'a>(&'a AtomicUsize);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What core 1 does ends all three; the others never would by themselves.
fn ended_by(end: fn() -> Result<(), &'static str>) -> Vec<io::Result<Option<Result<(), &'static str>>>> {
    let (all, dropped) = (Barrier::new(3), AtomicUsize::new(0));
    let main = async || {
        let _dropped = Dropped(&dropped);
        all.wait();
        if core_index() == 1 { end() } else { pending().await }
    };
    let results = run_on_cores(3, Builder::build, main, Result::is_err);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    results
}

#[test]
fn an_error_of_one_ends_all() {
    let results = ended_by(|| Err("on purpose"));
    assert!(matches!(results[..], [Ok(None), Ok(Some(Err("on purpose"))), Ok(None)]), "{results:?}");
}

#[test]
fn a_panic_of_one_ends_all_and_is_reported() {
    let results = ended_by(|| panic!("on purpose"));
    let [Ok(None), Err(error), Ok(None)] = &results[..] else { panic!("{results:?}") };
    assert_eq!(error.to_string(), "the task panicked: on purpose");
}

#[test]
fn a_core_without_a_runtime_ends_all() {
    let count = AtomicUsize::new(0);
    let build = |builder: Builder| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::other("no ring")),
        _ => builder.build(),
    };
    let results = run_on_cores(2, build, pending::<()>, |_| false);
    let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "no ring");
}

/// Ends a core's program when all others' have come as far.
async fn together(cores: usize, ready: &'static AtomicUsize) {
    ready.fetch_add(1, Ordering::SeqCst);
    while ready.load(Ordering::SeqCst) < cores {
        yield_now().await;
    }
}

#[test]
fn tasks_are_spawned_on_other_cores_also_before_those_have_a_runtime() {
    static READY: AtomicUsize = AtomicUsize::new(0);
    // The slowest is sent most of its tasks before it runs.
    let build = |builder: Builder| {
        let runtime = builder.build()?;
        if runtime.block_on(async { core_index() }) == 2 {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(runtime)
    };
    let main = async || {
        let count = core_count();
        // Made there: an `Rc` could not be sent.
        let send = |index| {
            let task = async move || (*std::rc::Rc::new(index), core_index());
            spawn_on(index % count, task)
        };
        let tasks: Vec<_> = (0..300).map(send).collect();
        for (index, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), (index, index % count));
        }
        together(count, &READY).await;
    };
    let results = run_on_cores(3, build, main, |_| false);
    assert!(results.into_iter().all(|result| matches!(result, Ok(Some(())))));
}

#[test]
fn what_is_spawned_on_a_core_that_has_ended_is_cancelled() {
    let (sender, ended) = std::sync::mpsc::channel::<()>();
    let ends = std::sync::Mutex::new((Some(sender), Some(ended)));
    let results = run_on_cores(
        2,
        Builder::build,
        async || {
            if core_index() == 1 {
                let sender = ends.lock().unwrap().0.take();
                // Dropped when this core's program is.
                return drop(sender);
            }
            let ended = ends.lock().unwrap().1.take().unwrap();
            assert!(ended.recv().is_err());
            let error = loop {
                // Until its runtime is gone, too, it may take a task, and then never runs it.
                match spawn_on(1, async || ()).await {
                    Ok(()) => yield_now().await,
                    Err(error) => break error,
                }
            };
            assert!(error.is_cancelled());
        },
        |_| false,
    );
    assert!(results.into_iter().all(|result| matches!(result, Ok(Some(())))));
}

#[test]
fn a_core_whose_runtime_cannot_be_made_cancels_what_waits_for_it() {
    let results = run_on_cores(
        2,
        |builder| {
            let runtime = builder.build()?;
            match runtime.block_on(async { core_index() }) {
                0 => Ok(runtime),
                _ => {
                    std::thread::sleep(Duration::from_millis(50));
                    Err(io::Error::other("no such device"))
                }
            }
        },
        async || spawn_on(1, async || ()).await.is_err_and(|error| error.is_cancelled()),
        |_| false,
    );
    // Core 0 is stopped because of the other, or was told before it.
    assert!(matches!(results[0], Ok(None | Some(true))), "{results:?}");
    assert!(results[1].is_err());
}

#[test]
fn a_runtime_that_is_alone_is_core_0() {
    let runtime = Builder::new().build().unwrap();
    assert_eq!(runtime.block_on(async { spawn_on(0, async || core_index()).await.unwrap() }), 0);
    let missing = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { drop(spawn_on(1, async || ())) });
    }));
    assert!(missing.is_err());
}
