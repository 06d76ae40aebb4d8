//! Programs on several cores: each has its processor, and the failure of one ends all.
#![cfg(not(demikernel_loom))]

use demikernel_runtime::{Builder, core_index, run_on_cores, spawn};
use std::future::pending;
use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

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
