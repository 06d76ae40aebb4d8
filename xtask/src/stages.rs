//! The test stages: one entry in [`STAGES`] and one function each.
//!
//! They stand in the order in which they run: first what fails fastest, and stages that share a build next to each
//! other. Only `loom` has a build directory of its own, as its compiler flags would rebuild everything.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::Runner;
use crate::setup::{self, Tool};
use crate::workspace::{self, Package, Workspace};
use crate::{dependencies, exact, tidy};

/// One thing to check.
pub(crate) struct Stage {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What `--list` says of it.
    pub(crate) about: &'static str,
    /// What must be installed.
    pub(crate) needs: &'static [&'static Tool],
    /// Minutes after which it has failed: a multiple of what it needs on two busy cores.
    pub(crate) minutes: u64,
    /// Whether this checkout has anything for it; a stage without is not listed.
    pub(crate) applies: fn(&Workspace) -> bool,
    /// Does it.
    pub(crate) run: fn(&mut Job<'_>) -> Result<Outcome>,
}

impl Stage {
    /// The time limit.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
}

/// What a stage is given.
pub(crate) struct Job<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) runner: Runner,
    /// A missing program or an unusable kernel feature is a failure.
    pub(crate) require_all: bool,
    /// How long the soak lasts.
    pub(crate) soak_seconds: u64,
}

/// How a stage ended, if not with an error.
pub(crate) enum Outcome {
    /// Passed, with what the summary says beside it.
    Passed(String),
    /// Could not run, for this reason.
    Skipped(String),
}

/// The integration test that has a stage of its own.
const SOAK: &str = "soak";

/// All stages, in order.
pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "fmt",
        about: "rustfmt changes nothing",
        needs: &[&setup::RUSTFMT],
        minutes: 5,
        applies: always,
        run: fmt,
    },
    Stage {
        name: "tidy",
        about: "lengths of files and functions, stray notes, machine paths, tabs",
        needs: &[],
        minutes: 1,
        applies: always,
        run: tidy,
    },
    Stage {
        name: "msrv",
        about: "no dependency needs a newer compiler than rust-version promises",
        needs: &[],
        minutes: 15,
        applies: always,
        run: dependencies::msrv,
    },
    Stage {
        name: "licences",
        about: "every dependency has a licence that deny.toml allows",
        needs: &[],
        minutes: 15,
        applies: always,
        run: dependencies::licences,
    },
    Stage {
        name: "clippy",
        about: "no warning with default, all and no features, nor with each one alone",
        needs: &[&setup::CLIPPY],
        minutes: 30,
        applies: always,
        run: clippy,
    },
    Stage {
        name: "docs",
        about: "rustdoc without a warning, all features",
        needs: &[],
        minutes: 15,
        applies: always,
        run: docs,
    },
    Stage {
        name: "unit",
        about: "unit tests, those of the examples too, all features",
        needs: &[],
        minutes: 30,
        applies: always,
        run: unit,
    },
    Stage {
        name: "doctest",
        about: "examples in the documentation, all features",
        needs: &[],
        minutes: 20,
        applies: always,
        run: doctest,
    },
    Stage {
        name: "e2e",
        about: "integration tests: real kernels, real clients, several processes",
        needs: &[
            &setup::NETCAT,
            &setup::CURL,
            &setup::WRK,
            &setup::REDIS_CLI,
            &setup::REDIS_BENCHMARK,
            &setup::STRACE,
        ],
        minutes: 30,
        applies: always,
        run: e2e,
    },
    Stage {
        name: "soak",
        about: "connections opened and dropped at random, nothing leaks (--soak-seconds)",
        needs: &[],
        minutes: 60,
        applies: |workspace| {
            workspace.members.iter().any(|package| package.tests.iter().any(|name| name == SOAK))
        },
        run: soak,
    },
    Stage {
        name: "no-default",
        about: "unit and integration tests without io_uring compiled in",
        needs: &[],
        minutes: 30,
        applies: always,
        run: no_default,
    },
    Stage {
        name: "valgrind",
        about: "unit and integration tests of the runtime under memcheck",
        needs: &[&setup::VALGRIND],
        minutes: 30,
        applies: always,
        run: valgrind,
    },
    Stage {
        name: "loom",
        about: "every interleaving of the cross-thread parts",
        needs: &[],
        minutes: 30,
        applies: always,
        run: loom,
    },
    Stage {
        name: "exact",
        about: "instructions, syscalls and allocations per operation as committed",
        needs: &[&setup::VALGRIND, &setup::STRACE],
        minutes: 30,
        applies: |workspace| workspace.has(exact::COMMITTED),
        run: exact::stage,
    },
];

fn always(_: &Workspace) -> bool {
    true
}

pub(crate) fn passed(note: impl Into<String>) -> Result<Outcome> {
    Ok(Outcome::Passed(note.into()))
}

fn fmt(job: &mut Job<'_>) -> Result<Outcome> {
    let color = ["--", "--color", "never"];
    job.runner.run(job.workspace.cargo("fmt").args(["--all", "--check"]).args(color))?;
    let peers = "benches/peers/Cargo.toml";
    if job.workspace.has(peers) {
        job.runner.run(job.workspace.cargo("fmt").args(["--check", "--manifest-path", peers]).args(color))?;
    }
    passed("")
}

fn tidy(job: &mut Job<'_>) -> Result<Outcome> {
    let report = tidy::check(&job.workspace.root)?;
    for finding in &report.findings {
        job.runner.note(finding)?;
    }
    ensure!(report.findings.is_empty(), "{} findings", report.findings.len());
    passed(format!("{} files", report.files))
}

fn clippy(job: &mut Job<'_>) -> Result<Outcome> {
    let mut sets = vec![
        vec!["--workspace".to_owned()],
        vec!["--workspace".to_owned(), "--all-features".to_owned()],
        vec!["--workspace".to_owned(), "--no-default-features".to_owned()],
    ];
    for package in &job.workspace.members {
        for feature in &package.features {
            let alone = ["-p", &package.name, "--no-default-features", "--features", feature];
            sets.push(alone.map(str::to_owned).to_vec());
        }
    }
    for set in &sets {
        let mut command = job.workspace.cargo("clippy");
        job.runner.run(command.arg("--all-targets").args(set).args(["--", "-D", "warnings"]))?;
    }
    passed(format!("{} feature sets", sets.len()))
}

fn docs(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("doc");
    command.args(["--workspace", "--all-features", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    job.runner.run(&mut command)?;
    passed("")
}

fn unit(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    tests(job, command.args(["--workspace", "--all-features", "--lib", "--bins", "--examples"]))
}

fn doctest(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    tests(job, command.args(["--workspace", "--all-features", "--doc"]))
}

fn e2e(job: &mut Job<'_>) -> Result<Outcome> {
    let packages: Vec<_> =
        job.workspace.members.iter().filter(|package| has_integration_tests(package)).collect();
    integration(job, &packages, "--all-features")?.outcome()
}

/// Integration tests that find a client missing pass with a message, unless `DEMIKERNEL_REQUIRE_ALL` is set.
fn integration(job: &mut Job<'_>, packages: &[&Package], features: &str) -> Result<Counts> {
    // The tests start the examples, which `cargo test --test` does not build.
    job.runner.run(job.workspace.cargo("build").args(["-p", "demikernel", features, "--examples"]))?;
    let mut command = job.workspace.cargo("test");
    command.args([features, "--no-fail-fast"]);
    for package in packages {
        command.args(["-p", &package.name]);
        package.tests.iter().filter(|name| *name != SOAK).for_each(|name| {
            command.args(["--test", name]);
        });
    }
    run_tests(job, &mut command)
}

fn has_integration_tests(package: &Package) -> bool {
    package.tests.iter().any(|name| name != SOAK)
}

fn soak(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    command.env("DEMIKERNEL_SOAK_SECONDS", job.soak_seconds.to_string());
    tests(job, command.args(["-p", "demikernel", "--all-features", "--test", SOAK]))
}

fn no_default(job: &mut Job<'_>) -> Result<Outcome> {
    const PACKAGES: [&str; 2] = ["demikernel", "demikernel-runtime"];
    let features = "--no-default-features";
    let mut command = job.workspace.cargo("test");
    let mut counts =
        run_tests(job, command.args([features, "--lib"]).args(PACKAGES.map(|name| format!("-p={name}"))))?;
    let with_tests =
        |package: &&Package| PACKAGES.contains(&&*package.name) && has_integration_tests(package);
    let packages: Vec<_> = job.workspace.members.iter().filter(with_tests).collect();
    counts += integration(job, &packages, features)?;
    counts.outcome()
}

/// Valgrind rather than AddressSanitizer, as it needs no nightly compiler, and sees reads of uninitialised memory.
fn valgrind(job: &mut Job<'_>) -> Result<Outcome> {
    let mut build = job.workspace.cargo("test");
    // All packages, although one is wanted: that is what the stages `unit` and `e2e` have built.
    build.args(["--workspace", "--all-features", "--lib", "--tests", "--no-run", workspace::JSON]);
    let messages = job.runner.output(&mut build)?;
    let directory = job.workspace.root.join("runtime");
    let ours = workspace::executables(&messages).into_iter().filter(|built| built.package == directory);
    let mut counts = Counts::default();
    for binary in ours {
        let mut command = job.workspace.command("valgrind");
        command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--num-callers=30"]);
        // What is only possibly lost are threads of the test harness.
        command.args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite", "--fair-sched=try"]);
        command.arg(format!("--suppressions={}", job.workspace.root.join("xtask/valgrind.supp").display()));
        command.arg(binary.path).arg("--test-threads=1").current_dir(&directory);
        // Everything is some thirty times slower: tests with a random part do less of it.
        command.env("DEMIKERNEL_VALGRIND", "1").env("PROPTEST_CASES", "8");
        counts += run_tests(job, &mut command)?;
    }
    counts.outcome()
}

fn loom(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    command.args(["-p", "demikernel-runtime", "--lib", "loom_", "--target-dir"]);
    command.arg(job.workspace.target.join("loom")).env("RUSTFLAGS", "--cfg demikernel_loom");
    // Only what runs in the models is optimised, as `--release` would take minutes to build and drop debug assertions.
    for package in ["demikernel-runtime", "loom", "generator"] {
        command.args(["--config", &format!("profile.dev.package.{package}.opt-level=2")]);
    }
    // Three pre-emptions find nearly all errors at a small part of the cost of all.
    command.env("LOOM_MAX_PREEMPTIONS", "3");
    tests(job, &mut command)
}

/// Runs test binaries.
fn tests(job: &mut Job<'_>, command: &mut Command) -> Result<Outcome> {
    run_tests(job, command)?.outcome()
}

fn run_tests(job: &mut Job<'_>, command: &mut Command) -> Result<Counts> {
    if job.require_all {
        command.env("DEMIKERNEL_REQUIRE_ALL", "1");
    }
    let (status, output) = job.runner.attempt(command)?;
    let failed: Vec<_> = output.lines().filter_map(failed_test).collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(status.success(), "{}: {status}", command.get_program().display());
    Ok(Counts::read(&output))
}

/// The name of a test, if the line says that it failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// The sums of the result lines of test binaries.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    ignored: u64,
}

impl Counts {
    fn read(output: &str) -> Self {
        let mut counts = Self::default();
        for line in output.lines().filter(|line| line.starts_with("test result: ")) {
            for part in line.split(['.', ';']) {
                match part.trim().split_once(' ') {
                    Some((number, "passed")) => counts.passed += number.parse::<u64>().unwrap_or(0),
                    Some((number, "ignored")) => counts.ignored += number.parse::<u64>().unwrap_or(0),
                    _ => {}
                }
            }
        }
        counts
    }

    /// That no test ran is an error: a filter that matches nothing would pass for ever.
    fn outcome(self) -> Result<Outcome> {
        ensure!(self.passed > 0, "no test ran");
        passed(self.to_string())
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.ignored += other.ignored;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tests", self.passed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_test_binaries() {
        let output = "\
            running 3 tests\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.25s\n";
        let counts = Counts::read(output);
        assert_eq!(counts, Counts { passed: 42, ignored: 1 });
        assert_eq!(counts.to_string(), "42 tests, 1 ignored");
    }

    #[test]
    fn stage_names_differ() {
        let mut names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
