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
    let (status, output) = job.runner.attempt(command)?;
    let counts = Counts::of(&output)?;
    ensure!(status.success(), "{}: {status}", command.get_program().display());
    Ok(counts)
}

/// The name of a test, if the line says that it failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
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
}
