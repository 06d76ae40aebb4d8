//! `#[demikernel::main]` and `#[demikernel::test]` as their users see them.

use demikernel::macros::TestConfig;
use demikernel::time::{Duration, Instant, sleep};
use std::io;
use std::panic::catch_unwind;
use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the macros say about mistakes is pinned in `ui/*.stderr`; the programs of `ui/pass` run.
#[test]
fn messages_and_programs() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}

#[demikernel::test]
async fn a_test_may_return_nothing() {
    demikernel::yield_now().await;
}

#[demikernel::test]
async fn a_test_may_return_a_result() -> Result<(), std::num::ParseIntError> {
    let number: u8 = "7".parse()?;
    assert_eq!(number, 7);
    Ok(())
}

#[demikernel::test]
async fn a_test_may_return_what_a_main_may() -> impl Termination {
    ExitCode::SUCCESS
}

#[demikernel::test]
#[should_panic(expected = "on purpose")]
async fn a_test_may_have_to_panic() {
    demikernel::yield_now().await;
    panic!("on purpose");
}

#[demikernel::test]
#[ignore = "to see that it is"]
async fn a_test_may_be_ignored() {
    panic!("not ignored");
}

#[demikernel::test(time = "virtual", seed = 7)]
async fn an_hour_takes_no_time() {
    let (before, real) = (Instant::now(), std::time::Instant::now());
    sleep(Duration::from_secs(3600)).await;
    assert!(Instant::now() - before >= Duration::from_secs(3600));
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[demikernel::test(transport = "auto", idle = "block")]
async fn a_test_may_name_its_transport() {
    sleep(Duration::from_millis(1)).await;
}

#[demikernel::test(cores = 2)]
async fn a_test_may_use_several_cores(core: usize) -> io::Result<()> {
    assert_eq!(core, demikernel::core_index());
    assert!(core < 2);
    Ok(())
}

macro_rules! seeded {
    ($name:ident, $seed:literal, $cores:expr) => {
        #[demikernel::test(seed = $seed, cores = $cores)]
        async fn $name() {}
    };
}

seeded!(a_test_may_come_from_another_macro, 7, 1 + 1);

/// `#[test]` in here is ours; the macro has to mean the one of the standard library.
mod imported {
    use demikernel as dk;
    use dk::test;

    #[test(crate = "dk", transport = "sim")]
    async fn a_test_may_look_like_a_plain_one() {
        #![deny(unused)]
        dk::yield_now().await;
    }
}

#[test]
fn each_transport_gets_a_run() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let count = async || {
        RUNS.fetch_add(1, Ordering::Relaxed);
    };
    assert!(demikernel::macros::test(TestConfig::new(), count) == ExitCode::SUCCESS);
    assert!(RUNS.load(Ordering::Relaxed) >= 1);
}

#[test]
fn an_error_is_a_failure() {
    let fail = async || Err::<(), _>("on purpose");
    assert!(demikernel::macros::test(TestConfig::new().transport("sim"), fail) == ExitCode::FAILURE);
}

#[test]
fn a_transport_that_was_named_has_to_start() {
    let config = TestConfig::new().transport("carrier pigeon");
    assert!(catch_unwind(|| demikernel::macros::test(config, async || {})).is_err());
}

#[test]
fn a_failure_of_one_core_is_a_failure() {
    let config = TestConfig::new().transport("sim").cores(2);
    let fail_on_one = |core| async move { if core == 1 { Err("on purpose") } else { Ok(()) } };
    assert!(catch_unwind(move || demikernel::macros::test_many(config, fail_on_one)).is_err());
}
