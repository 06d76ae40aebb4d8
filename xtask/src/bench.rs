//! `cargo xtask bench`: criterion's micro-benchmarks, and the comparison with peers.

mod counted;

use std::ffi::OsString;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Runner, inherit};
use crate::setup;
use crate::vm::{self, lab};
use crate::workspace::{self, Workspace};

const PEERS: &str = "benches/peers/Cargo.toml";
const STORAGE: &str = "benches/storage/Cargo.toml";

/// Measure, and print tables with ratios to other runtimes.
///
/// Runs with peers are interleaved, and ratios are medians over rounds: figures of one run can be compared with each
/// other, those of two runs cannot. Leave the machine alone meanwhile. How each figure is made stands in
/// BENCHMARKS.md.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_values_t = [What::All])]
    what: Vec<What>,
    /// Passed on to the comparison with peers
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum What {
    /// Tasks, wakes, queue tokens, timers, channels; against peers
    Executor,
    /// TCP echo over loopback; against peers and the bare kernel interfaces
    Echo,
    /// The userspace TCP/IP stack; against smoltcp, and its goodput over links that lose packets
    Net,
    /// The key-value example under redis-benchmark; against redis-server
    Kv,
    /// The sharded-key-value example with two cores against one
    Shards,
    /// axum under wrk, with TLS and without; against tokio, monoio and compio
    Web,
    /// The userspace stack on DPDK between two processes; against bare frames and the kernel. Takes huge pages, and is
    /// not among "all"
    Dpdk,
    /// Block devices, the log, and the key-value example with one; against fio, system calls, okaywal, redis-server, and
    /// in a guest the kernel's NVMe driver and SPDK, if the loader finds that. Not among "all"
    Storage,
    /// RDMA: streams against raw verbs and ib_send_bw, on this machine's device or in an emulator, and instructions a
    /// message. Not among "all"
    Rdma,
    /// Criterion micro-benchmarks of the executor, as a plain `cargo bench`
    Criterion,
    /// All of these
    All,
}

impl What {
    /// The peers' name of it.
    fn comparison(self) -> Option<&'static str> {
        match self {
            Self::Executor => Some("executor"),
            Self::Echo => Some("echo"),
            Self::Net => Some("net"),
            Self::Kv => Some("kv"),
            Self::Shards => Some("shards"),
            Self::Web => Some("web"),
            Self::Dpdk | Self::Storage | Self::Rdma | Self::Criterion | Self::All => None,
        }
    }
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let chosen = |what: &What| options.what.contains(what) || options.what.contains(&What::All);
    let comparable = [What::Executor, What::Echo, What::Net, What::Kv, What::Shards, What::Web];
    let comparisons: Vec<_> = comparable.into_iter().filter(chosen).collect();
    let key_value = comparisons.contains(&What::Kv) || comparisons.contains(&What::Shards);
    if key_value && !setup::install(&[&setup::REDIS_BENCHMARK, &setup::REDIS_SERVER])? {
        bail!("the comparison with redis-server needs redis-server and redis-benchmark: cargo xtask setup");
    }
    if comparisons.contains(&What::Web) && !setup::install(&[&setup::WRK])? {
        bail!("the comparison of web servers needs wrk: cargo xtask setup");
    }
    if chosen(&What::Criterion) {
        measure(workspace.cargo("bench").args(["-p", "demikernel", "--all-features"]))?;
    }
    if !comparisons.is_empty() && !workspace.has(PEERS) {
        bail!("there is no {PEERS} to compare with");
    }
    if options.what.contains(&What::Dpdk) {
        dpdk(&workspace, &options.arguments)?;
    }
    if options.what.contains(&What::Storage) {
        storage(&workspace, &options.arguments)?;
    }
    if options.what.contains(&What::Rdma) {
        rdma(&workspace, &options.arguments)?;
    }
    if comparisons.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if key_value {
        let mut build = workspace.cargo("build");
        build.args(["--release", "-p", "demikernel", "--example", "key-value"]);
        measure(build.args(["--example", "sharded-key-value"]))?;
    }
    // All of its programs, as the one that is run starts the others.
    measure(workspace.cargo("build").args(["--release", "--manifest-path", PEERS]))?;
    let names = comparisons.into_iter().filter_map(What::comparison);
    let mut peers = workspace.cargo("run");
    peers.args(["--release", "--manifest-path", PEERS, "--", "measure"]).args(names);
    peers.arg("--key-value").arg(workspace.target.join("release/examples/key-value"));
    peers.arg("--sharded").arg(workspace.target.join("release/examples/sharded-key-value"));
    measure(peers.args(&options.arguments))?;
    Ok(ExitCode::SUCCESS)
}

/// On a device of this machine if it has one, else in a guest.
fn rdma(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !setup::install(counted::TOOLS)? {
        bail!("the measurements on RDMA need programs that are not installed: cargo xtask setup");
    }
    let mut runner = Runner::new(&workspace.target, "rdma", "rdma", Duration::from_secs(1200), false)?;
    let mut build = workspace.cargo("build");
    build.args(["--release", "-p", "demikernel-rdma", "--features", "verbs", workspace::JSON]);
    build.args(["--bench", "compare", "--bench", "cost", "--bench", "echo"]);
    let built = workspace::executables(&runner.output(&mut build)?);
    let find = |target: &str| {
        let found = built.iter().find(|built| built.target == target);
        found.with_context(|| format!("cargo has not built {target}"))
    };
    let compare = &find("compare")?.path;
    let devices = fs::read_dir("/sys/class/infiniband").is_ok_and(|mut devices| devices.next().is_some());
    if devices {
        drop(runner);
        measure(workspace.command(compare).args(arguments))?;
        runner = Runner::new(&workspace.target, "rdma", "rdma", Duration::from_secs(1200), false)?;
    } else {
        println!("no RDMA device here: in an emulator, whose times are of no use but their ratios");
        let words: Vec<OsString> =
            [OsString::from(compare)].into_iter().chain(arguments.iter().map(Into::into)).collect();
        lab::run_alone(workspace, &mut runner, &words)?;
    }
    println!("{}", counted::table(&mut runner, workspace, &find("cost")?.path, &find("echo")?.path)?);
    Ok(())
}

/// Has arguments of its own.
fn dpdk(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !setup::install(&[&setup::PKG_CONFIG, &setup::DPDK])? {
        bail!("the measurements on DPDK need libdpdk: cargo xtask setup");
    }
    let mut example = workspace.cargo("build");
    example.args(["--release", "-p", "demikernel", "--all-features", "--example", "key-value"]);
    measure(&mut example)?;
    let features = ["--release", "--manifest-path", PEERS, "--features", "dpdk"];
    // All of its programs, as above.
    measure(workspace.cargo("build").args(features))?;
    let mut peers = workspace.cargo("run");
    peers.args(features).args(["--", "dpdk", "--key-value"]);
    measure(peers.arg(workspace.target.join("release/examples/key-value")).args(arguments))
}

/// Has arguments of its own, and a guest for drives, unless others alone are asked for.
fn storage(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !setup::install(&[&setup::FIO, &setup::REDIS_BENCHMARK, &setup::REDIS_SERVER])? {
        bail!("the measurements of storage need fio, redis-server and redis-benchmark: cargo xtask setup");
    }
    let mut example = workspace.cargo("build");
    measure(example.args(["--release", "-p", "demikernel", "--example", "key-value"]))?;
    let mut build = workspace.cargo("build");
    build.args(["--release", "--manifest-path", STORAGE, "--target-dir"]);
    measure(build.arg(&workspace.target))?;
    let bench = workspace.target.join("release/storage-bench");
    let mut command = workspace.command(&bench);
    command.arg("measure").args(arguments);
    command.arg("--key-value").arg(workspace.target.join("release/examples/key-value"));
    if arguments.first().is_none_or(|first| first.starts_with('-'))
        || arguments.iter().any(|what| what == "drives")
    {
        match setup::install(vm::TOOLS)? {
            true => {
                let figures = workspace.target.join("xtask/drives");
                let printed = vm::drives(workspace, &[bench.into(), "guest".into()])?;
                fs::write(&figures, printed)
                    .with_context(|| format!("cannot write {}", figures.display()))?;
                command.arg("--drives").arg(figures);
            }
            false => eprintln!("no drives: a guest needs programs that are not installed"),
        }
    }
    measure(&mut command)
}

fn measure(command: &mut Command) -> Result<()> {
    let status = inherit(command)?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
