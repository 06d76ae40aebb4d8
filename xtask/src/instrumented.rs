//! Tests that something watches while they run: valgrind, AddressSanitizer, loom.

use std::process::Command;

use anyhow::{Context, Result};

use crate::counts::{Counts, run_tests, tests};
use crate::stages::{Job, Outcome};
use crate::workspace::{self, Executable};

/// Memcheck also sees reads of uninitialised memory, but valgrind runs one thread at a time, and up to version 3.19
/// keeps the others waiting while one sleeps in `io_uring_enter`. So it gets the unit tests only, without io_uring's.
pub(crate) fn valgrind(job: &mut Job<'_>) -> Result<Outcome> {
    let mut build = job.workspace.cargo("test");
    // All packages, although one is wanted: that is what the stage `unit` has built.
    build.args(["--workspace", "--all-features", "--lib", "--no-run", workspace::JSON]);
    let messages = job.runner.output(&mut build)?;
    let binaries = workspace::executables(&messages);
    let mut counts = Counts::default();
    for target in ["demikernel_runtime", "demikernel_rdma"] {
        let binary = binaries.iter().find(|built| built.target == target);
        let binary = binary.with_context(|| format!("cargo built no test binary of {target}"))?;
        counts += memcheck(job, binary)?;
    }
    counts.outcome()
}

fn memcheck(job: &mut Job<'_>, binary: &Executable) -> Result<Counts> {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--num-callers=30"]);
    // What is only possibly lost are threads of the test harness.
    command.args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite", "--fair-sched=try"]);
    command
        .arg(&binary.path)
        .args(["--test-threads=1", "--skip=transport::uring"])
        .current_dir(&binary.package);
    // Everything is some thirty times slower: tests with a random part do less of it.
    command.env("DEMIKERNEL_VALGRIND", "1").env("PROPTEST_CASES", "8");
    run_tests(job, &mut command)
}

/// Also with io_uring and many threads. The stable compiler has the sanitizer but not the option to use it, which
/// `RUSTC_BOOTSTRAP` allows; the code under test is the same.
pub(crate) fn asan(job: &mut Job<'_>) -> Result<Outcome> {
    let libraries = job.runner.output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let has_runtime = std::fs::read_dir(libraries.trim())?
        .flatten()
        .any(|file| file.file_name().to_string_lossy().ends_with("rt.asan.a"));
    if !has_runtime {
        return Ok(Outcome::Skipped("this Rust toolchain comes without AddressSanitizer".to_owned()));
    }
    let target = job.runner.output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let mut command = job.workspace.cargo("test");
    // With a target named, the flags do not reach build scripts and macros.
    command.args([
        "-p",
        "demikernel-runtime",
        "--all-features",
        "--lib",
        "--tests",
        "--target",
        target.trim(),
    ]);
    command.arg("--target-dir").arg(job.workspace.target.join("asan"));
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    let suppressions = job.workspace.root.join("xtask/lsan.supp");
    command.env("LSAN_OPTIONS", format!("print_suppressions=0:suppressions={}", suppressions.display()));
    tests(job, &mut command)
}

pub(crate) fn loom(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    command.args(["-p", "demikernel-runtime", "-p", "demikernel-net", "--lib", "loom_", "--target-dir"]);
    command.arg(job.workspace.target.join("loom")).env("RUSTFLAGS", "--cfg demikernel_loom");
    // Only what runs in the models is optimised, as `--release` would take minutes to build and drop debug assertions.
    for package in ["demikernel-runtime", "loom", "generator"] {
        command.args(["--config", &format!("profile.dev.package.{package}.opt-level=2")]);
    }
    // Three pre-emptions find nearly all errors at a small part of the cost of all.
    command.env("LOOM_MAX_PREEMPTIONS", "3");
    tests(job, &mut command)
}
