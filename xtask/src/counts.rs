//! Running test binaries, and reading what they print.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::stages::{Job, Outcome, passed};

/// Runs test binaries.
pub(crate) fn tests(job: &mut Job<'_>, command: &mut Command) -> Result<Outcome> {
    run_tests(job, command)?.outcome()
}

pub(crate) fn run_tests(job: &mut Job<'_>, command: &mut Command) -> Result<Counts> {
    if job.require_all {
        command.env("DEMIKERNEL_REQUIRE_ALL", "1");
    }
    let (status, [output, errors]) = job.runner.execute(command)?;
    let counts = Counts::of(&output)?;
    job.passed.extend(passed_by_cargo(&output, &errors));
    ensure!(status.success(), "{}: {status}", command.get_program().display());
    Ok(counts)
}

/// The name of a test, if the line says that it failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

impl Job<'_> {
    /// What a test binary has printed: how many tests have passed, and their names for the table of what works.
    ///
    /// # Errors
    /// If a test has failed.
    pub(crate) fn count(&mut self, target: &str, output: &str) -> Result<Counts> {
        let counts = Counts::of(output)?;
        self.passed.extend(passed_names(output).map(|name| format!("{target} {name}")));
        Ok(counts)
    }
}

/// The names of the tests that have passed. What a test prints itself, if it is shown, stands between its name and "ok".
fn passed_names(output: &str) -> impl Iterator<Item = &str> {
    let mut running = None;
    output.lines().filter_map(move |line| {
        let begun = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        let end = begun.map_or(line, |(name, rest)| {
            running = Some(name);
            rest
        });
        if end == "ok" { running.take() } else { None }
    })
}

/// The same of all test binaries that cargo has run, behind the name of each. Cargo says on one stream which binary it runs,
/// and the binary on the other one what it does: both in the same order. Examples in documentation are no tests here.
fn passed_by_cargo(output: &str, errors: &str) -> Vec<String> {
    let targets: Vec<_> = errors.lines().filter_map(target_run).collect();
    let mut outputs: Vec<_> = output.split("\nrunning ").collect();
    // What stands before the first, if anything does.
    if !output.starts_with("running ") {
        outputs.remove(0);
    }
    if targets.len() != outputs.len() {
        return Vec::new();
    }
    let named = |(target, output)| passed_names(output).map(move |name| format!("{target} {name}"));
    targets.into_iter().zip(outputs).flat_map(named).collect()
}

/// The binary, if cargo says that it runs one: `Running tests/tap/main.rs (target/debug/deps/tap-0123456789abcdef)`. Programs
/// that tests have started may have written before it in the same line.
fn target_run(line: &str) -> Option<&str> {
    let path = line.rsplit_once("Running ")?.1.split_once(" (")?.1.strip_suffix(')')?;
    let (target, hash) = path.rsplit('/').next()?.rsplit_once('-')?;
    (hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(target)
}

/// The sums of the result lines of test binaries.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    passed: u64,
    ignored: u64,
}

impl Counts {
    /// Of what test binaries have printed.
    ///
    /// # Errors
    /// If a test has failed.
    pub(crate) fn of(output: &str) -> Result<Self> {
        let failed: Vec<_> = output.lines().filter_map(failed_test).collect();
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(Self::read(output))
    }

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
    pub(crate) fn outcome(self) -> Result<Outcome> {
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
    fn tests_that_passed_are_told_apart_by_their_binary() {
        let errors = "   Compiling a v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/a_b-0123456789abcdef)\n\
                      100 %     Running tests/tap/main.rs (target/debug/deps/tap-fedcba9876543210)\n\
                      Running away (from it)\n";
        let output = "\nrunning 2 tests\ntest one ... ok\ntest two ... ignored\n\ntest result: ok. 1 passed\n\
                      \nrunning 2 tests\ntest one ... FAILED\ntest more::two ... ok\n\ntest result: FAILED.\n";
        assert_eq!(passed_by_cargo(output, errors), ["a_b one", "tap more::two"]);
        assert_eq!(passed_by_cargo(output, "   Doc-tests a\n"), [""; 0]);
    }

    #[test]
    fn a_test_that_prints_passes_with_its_last_line() {
        let output = "test one ... 19 of 24\nmore\nok\ntest two ... it prints\ntest three ... ok\nok\n";
        assert_eq!(passed_names(output).collect::<Vec<_>>(), ["one", "three"]);
    }
}
