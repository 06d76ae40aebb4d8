//! The test stages: one entry in [`STAGES`] and one function each.
//!
//! They stand in the order in which they run: first what fails fastest, and stages that share a build next to each
//! other. Only `asan` and `loom` have build directories of their own, as their compiler flags would rebuild everything.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::counts::{Counts, run_tests, tests};
use crate::process::Runner;
use crate::setup::{self, Tool};
use crate::workspace::{Package, Workspace};
use crate::{dependencies, exact, instrumented, rfc, tidy, vm, works};

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
    /// The time limit, with what is spent on purpose: the soak lasts so long on each of three transports.
    pub(crate) fn limit(&self, soak_seconds: u64) -> Duration {
        let soaks = if self.name == SOAK { 3 } else { 0 };
        Duration::from_secs(60 * self.minutes + soaks * soak_seconds)
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
    /// The tests that have passed, each behind the name of its binary.
    pub(crate) passed: BTreeSet<String>,
}

/// How a stage ended, if not with an error.
pub(crate) enum Outcome {
    /// Passed, with what the summary says beside it.
    Passed(String),
    /// Could not run, for this reason.
    Skipped(String),
}

/// The integration tests that have stages of their own.
const SOAK: &str = "soak";
pub(crate) const CARDS: &str = "cards";
pub(crate) const RXE: &str = "rxe";
pub(crate) const WIRE: &str = "wire";
pub(crate) const NVME: &str = "nvme";

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
        about: "lengths of files and functions, stray notes, machine paths, tabs; the table of what works",
        needs: &[],
        minutes: 1,
        applies: always,
        run: tidy,
    },
    Stage {
        name: "rfc",
        about: "every tag of an RFC in the sources of net is in the table of that RFC",
        needs: &[],
        minutes: 1,
        applies: |workspace| workspace.has(rfc::SOURCES),
        run: rfc::stage,
    },
    Stage {
        name: "msrv",
        about: "no dependency needs a newer compiler than rust-version promises",
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
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
        about: "no warning with default, all and no features, nor with each one alone that its package asks for",
        needs: &[
            &setup::PKG_CONFIG,
            &setup::DPDK,
            &setup::CMAKE,
            &setup::CLANG,
            &setup::RDMA,
            &setup::CLIPPY,
        ],
        minutes: 30,
        applies: always,
        run: clippy,
    },
    Stage {
        name: "docs",
        about: "rustdoc without a warning, all features",
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
        minutes: 15,
        applies: always,
        run: docs,
    },
    Stage {
        name: "unit",
        about: "unit tests, those of the examples too, all features",
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
        minutes: 30,
        applies: always,
        run: unit,
    },
    Stage {
        name: "doctest",
        about: "examples in the documentation, all features",
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
        minutes: 20,
        applies: always,
        run: doctest,
    },
    Stage {
        name: "e2e",
        about: "integration tests: real kernels, real clients, several processes",
        needs: &[
            &setup::PKG_CONFIG,
            &setup::DPDK,
            &setup::CMAKE,
            &setup::CLANG,
            &setup::RDMA,
            &setup::NETCAT,
            &setup::IP,
            &setup::PING,
            &setup::DNSMASQ,
            &setup::IPERF3,
            &setup::TSHARK,
            &setup::CURL,
            &setup::WRK,
            &setup::H2LOAD,
            &setup::OPENSSL,
            &setup::PYTHON_WEBSOCKETS,
            &setup::PYTHON_GRPC,
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
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
        minutes: 60,
        applies: |workspace| has_test(workspace, SOAK),
        run: soak,
    },
    Stage {
        name: "no-default",
        about: "unit and integration tests with all features but io_uring",
        needs: &[&setup::PKG_CONFIG, &setup::DPDK, &setup::CMAKE, &setup::CLANG, &setup::RDMA],
        minutes: 30,
        applies: always,
        run: no_default,
    },
    Stage {
        name: "old-kernel",
        about: "the transport over io_uring, and AF_XDP sockets, under Debian's kernel, in an emulator",
        needs: vm::TOOLS,
        minutes: 30,
        applies: always,
        run: vm::stage,
    },
    Stage {
        name: "cards",
        about: "DPDK on a virtio and an e1000e card under vfio-pci, with logs on a drive, against the kernel of a guest, in an emulator",
        needs: vm::TOOLS_OF_CARDS,
        minutes: 20,
        applies: |workspace| has_test(workspace, CARDS),
        run: vm::cards_stage,
    },
    Stage {
        name: "rdma",
        about: "RDMA in software: one guest by itself, and two at a cable that loses packets, in an emulator",
        needs: vm::lab::TOOLS,
        minutes: 20,
        applies: |workspace| has_test(workspace, RXE),
        run: vm::lab::stage,
    },
    Stage {
        name: "nvme",
        about: "our NVMe driver on drives under vfio-pci, and the kernel's through io_uring on the same ones, in an emulator",
        needs: vm::TOOLS,
        minutes: 20,
        applies: |workspace| has_test(workspace, NVME),
        run: vm::nvme_stage,
    },
    Stage {
        name: "valgrind",
        about: "unit tests of the runtime, without io_uring, and of RDMA, under memcheck",
        needs: &[
            &setup::PKG_CONFIG,
            &setup::DPDK,
            &setup::CMAKE,
            &setup::CLANG,
            &setup::RDMA,
            &setup::VALGRIND,
        ],
        minutes: 30,
        applies: always,
        run: instrumented::valgrind,
    },
    Stage {
        name: "asan",
        about: "unit and integration tests of the runtime with AddressSanitizer",
        needs: &[],
        minutes: 30,
        applies: always,
        run: instrumented::asan,
    },
    Stage {
        name: "loom",
        about: "every interleaving of the cross-thread parts",
        needs: &[],
        minutes: 30,
        applies: always,
        run: instrumented::loom,
    },
    Stage {
        name: "exact",
        about: "instructions, syscalls and allocations per operation as committed",
        needs: &[
            &setup::PKG_CONFIG,
            &setup::DPDK,
            &setup::CMAKE,
            &setup::CLANG,
            &setup::RDMA,
            &setup::VALGRIND,
            &setup::STRACE,
        ],
        minutes: 30,
        applies: |workspace| workspace.has(exact::COMMITTED),
        run: exact::stage,
    },
];

fn always(_: &Workspace) -> bool {
    true
}

fn has_test(workspace: &Workspace, test: &str) -> bool {
    workspace.members.iter().any(|package| package.tests.iter().any(|name| name == test))
}

/// Whether an integration test is one of those that are run together.
fn is_ordinary(test: &str) -> bool {
    ![SOAK, CARDS, RXE, WIRE, NVME].contains(&test)
}

pub(crate) fn passed(note: impl Into<String>) -> Result<Outcome> {
    Ok(Outcome::Passed(note.into()))
}

fn fmt(job: &mut Job<'_>) -> Result<Outcome> {
    let color = ["--", "--color", "never"];
    job.runner.run(job.workspace.cargo("fmt").args(["--all", "--check"]).args(color))?;
    // Those that are workspaces of their own.
    for other in ["benches/peers/Cargo.toml", "benches/storage/Cargo.toml", "net/fuzz/Cargo.toml"] {
        if job.workspace.has(other) {
            job.runner
                .run(job.workspace.cargo("fmt").args(["--check", "--manifest-path", other]).args(color))?;
        }
    }
    passed("")
}

fn tidy(job: &mut Job<'_>) -> Result<Outcome> {
    let mut report = tidy::check(&job.workspace.root)?;
    report.findings.extend(works::findings(job.workspace)?);
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
        for feature in package.features.iter().filter(|feature| asks_for(package, feature)) {
            let alone = ["-p", &package.name, "--no-default-features", "--features", feature];
            sets.push(alone.map(str::to_owned).to_vec());
        }
    }
    let mut failed = Vec::new();
    for set in &sets {
        let mut command = job.workspace.cargo("clippy");
        let (status, _) =
            job.runner.attempt(command.arg("--all-targets").args(set).args(["--", "-D", "warnings"]))?;
        if !status.success() {
            failed.push(set.join(" "));
        }
    }
    ensure!(failed.is_empty(), "failed with {}", failed.join("; with "));
    passed(format!("{} feature sets", sets.len()))
}

/// Whether the sources of a package ask for a feature: one that is only passed on is checked where it goes.
fn asks_for(package: &Package, feature: &str) -> bool {
    let condition = format!("feature = \"{feature}\"");
    let files = tidy::files(&package.directory);
    let mut sources = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    sources.any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&condition)))
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
    integration(job, &packages, &["--all-features"])?.outcome()
}

/// Integration tests that find a client missing pass with a message, unless `DEMIKERNEL_REQUIRE_ALL` is set.
fn integration(job: &mut Job<'_>, packages: &[&Package], features: &[&str]) -> Result<Counts> {
    // The tests start the examples, which `cargo test --test` does not build.
    job.runner.run(job.workspace.cargo("build").args(["-p", "demikernel", "--examples"]).args(features))?;
    let mut command = job.workspace.cargo("test");
    command.args(features).arg("--no-fail-fast");
    for package in packages {
        command.args(["-p", &package.name]);
        package.tests.iter().filter(|name| is_ordinary(name)).for_each(|name| {
            command.args(["--test", name]);
        });
    }
    run_tests(job, &mut command)
}

fn has_integration_tests(package: &Package) -> bool {
    package.tests.iter().any(|name| is_ordinary(name))
}

fn soak(job: &mut Job<'_>) -> Result<Outcome> {
    let mut command = job.workspace.cargo("test");
    command.env("DEMIKERNEL_SOAK_SECONDS", job.soak_seconds.to_string());
    tests(job, command.args(["-p", "demikernel", "--all-features", "--test", SOAK]))
}

fn no_default(job: &mut Job<'_>) -> Result<Outcome> {
    const PACKAGES: [&str; 2] = ["demikernel", "demikernel-runtime"];
    let features = job.workspace.members.iter().filter(|package| package.name == PACKAGES[0]);
    let features = features.flat_map(|package| &package.features).filter(|name| *name != "io-uring");
    let features: Vec<_> = features.map(|name| format!("{}/{name}", PACKAGES[0])).collect();
    let features = ["--no-default-features", "--features", &features.join(",")];
    let mut command = job.workspace.cargo("test");
    let mut counts =
        run_tests(job, command.args(features).arg("--lib").args(PACKAGES.map(|name| format!("-p={name}"))))?;
    let with_tests =
        |package: &&Package| PACKAGES.contains(&&*package.name) && has_integration_tests(package);
    let packages: Vec<_> = job.workspace.members.iter().filter(with_tests).collect();
    counts += integration(job, &packages, &features)?;
    counts.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_are_only_passed_on_are_checked_elsewhere() {
        let workspace = Workspace::find().unwrap();
        let asks = |name: &str, feature: &str| {
            let package = workspace.members.iter().find(|package| package.name == name).unwrap();
            assert!(package.features.iter().any(|other| other == feature));
            asks_for(package, feature)
        };
        assert!(
            asks("demikernel", "tap")
                && asks("demikernel-runtime", "spans")
                && asks("demikernel-raft", "sim")
        );
        assert!(!asks("demikernel-services", "dpdk"));
    }

    #[test]
    fn stage_names_differ() {
        let mut names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
