//! Another kernel: Debian's, in an emulator, with this machine's files.
//!
//! What a test needs of a kernel is not always there: a module, a device, an older version. QEMU boots Debian's kernel,
//! which is downloaded and not installed. Its root is this machine's, read-only below a file system in memory. It runs
//! one command, in the same directory and with the same environment, and ends with its status. Booting takes some
//! three seconds; without virtualization, what runs there is ten to thirty times slower than here.
//!
//! - `kernel`: the kernel and what it boots from, made once.
//! - `guest`: one boot.
//! - `cards`: network cards that it may have.
//! - `lab`: guests with RDMA, by themselves or two at a cable.
//! - `disks`: NVMe drives that it may have.
//! - `monitor`: its way to QEMU's monitor.
//! - `init`: the guest's first process.

mod cards;
mod disks;
mod guest;
mod kernel;
pub(crate) mod lab;
mod monitor;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::counts::Counts;
use crate::process::Runner;
use crate::setup::{self, Tool};
use crate::stages::{self, Job, Outcome};
use crate::workspace::{self, Executable, Workspace};
use guest::Guest;
use kernel::Kernel;

/// What booting takes.
pub(crate) const TOOLS: &[&Tool] = &[&setup::QEMU, &setup::BUSYBOX, &setup::MODPROBE, &setup::CPIO];

/// The same with network cards and DPDK on them.
pub(crate) const TOOLS_OF_CARDS: &[&Tool] = &[
    &setup::QEMU,
    &setup::BUSYBOX,
    &setup::MODPROBE,
    &setup::CPIO,
    &setup::IP,
    &setup::PKG_CONFIG,
    &setup::DPDK,
];

/// Run a command under Debian's kernel, in an emulator, with the files of this machine.
///
/// The command runs as root, in the current directory and with the same environment. It may write anywhere; nothing of
/// that stays, but what is below a directory of --writable. The exit status is the command's, or 124 if it took too
/// long.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Memory of the guest
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Its processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Load this module first; can be given several times, as all that follow
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// Keep what is written below this directory
    #[arg(long, value_name = "DIRECTORY")]
    writable: Vec<PathBuf>,
    /// An argument for QEMU, such as a device
    #[arg(long = "qemu", value_name = "ARGUMENT", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// An argument for the kernel
    #[arg(long = "append", value_name = "ARGUMENT")]
    append: Vec<String>,
    /// Have an IOMMU, which VFIO needs
    #[arg(long)]
    iommu: bool,
    /// Have network cards, the kernel's at 00:10.0 and two to bind to vfio-pci: virtio at 00:11.0, e1000e at 00:12.0.
    /// Takes root here, and implies --iommu
    #[arg(long)]
    cards: bool,
    /// Have NVMe drives to bind to vfio-pci: at 00:13.0 one with two namespaces, at 00:14.0 a port with one that can be
    /// unplugged, at 00:15.0 one with errors, at 00:16.0 a slow one. Implies --iommu
    #[arg(long)]
    disks: bool,
    /// When to give up
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    limit: u64,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    if !setup::install(TOOLS)? {
        bail!("the emulator needs programs that are not installed: cargo xtask setup");
    }
    let mut runner = Runner::new(&workspace.target, "vm", "vm", Duration::from_secs(600), false)?;
    let kernel = Kernel::prepare(&workspace.target, &mut runner)?;
    let guest = Guest {
        memory: options.memory,
        cpus: options.cpus,
        modules: options.modules.clone(),
        writable: options.writable.clone(),
        qemu: options.qemu.clone(),
        append: options.append.clone(),
        iommu: options.iommu || options.cards || options.disks,
        cards: options.cards,
        disks: options.disks,
        drives: None,
        switch: false,
        limit: Duration::from_secs(options.limit),
    };
    let mut boot = guest.boot(&kernel, &std::env::current_dir()?, &options.command)?;
    boot.command.status()?;
    Ok(ExitCode::from(u8::try_from(boot.status()?).unwrap_or(u8::MAX)))
}

/// What a command prints in a guest with NVMe drives, which the kernel has at first.
pub(crate) fn drives(workspace: &Workspace, command: &[OsString]) -> Result<String> {
    let mut runner = Runner::new(&workspace.target, "drives", "drives", Duration::from_secs(900), false)?;
    let kernel = Kernel::prepare(&workspace.target, &mut runner)?;
    let guest = Guest {
        cpus: 2,
        modules: ["nvme", "vfio-pci"].map(str::to_owned).to_vec(),
        iommu: true,
        disks: true,
        limit: Duration::from_secs(600),
        ..Guest::default()
    };
    let mut boot = guest.boot(&kernel, &workspace.root, command)?;
    let (_, output) = runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    ensure!(status == 0, "the guest's command ended with {status}: {output}");
    Ok(output)
}

/// The tests of the transport over io_uring, and the example that measures it, and those of AF_XDP sockets, under a kernel
/// that lacks much of what today's has.
pub(crate) fn stage(job: &mut Job<'_>) -> Result<Outcome> {
    let kernel = Kernel::prepare(&job.workspace.target, &mut job.runner)?;
    let mut build = job.workspace.cargo("test");
    build.args(["-p", "demikernel", "-p", "demikernel-runtime", "-p", "demikernel-net"]);
    build.args(["--all-features", "--no-run", "--test", "transport", "--test", "xdp_socket"]);
    build.args(["--example", "echo", workspace::JSON]);
    let messages = job.runner.output(&mut build)?;
    let mut counts = Counts::default();
    for built in workspace::executables(&messages) {
        let mut command = vec![OsString::from("env"), "DEMIKERNEL_REQUIRE_ALL=1".into(), built.path.into()];
        match &*built.target {
            // There is one of this name in each of them.
            "transport" if built.package.ends_with("runtime") => command.push("on_io_uring".into()),
            "echo" | "xdp_socket" => {}
            _ => continue,
        }
        let modules = ["veth", "af_packet"].map(str::to_owned).to_vec();
        let limit = Duration::from_secs(1200);
        let guest = Guest { memory: 2048, cpus: 2, modules, limit, ..Guest::default() };
        let mut boot = guest.boot(&kernel, &built.package, &command)?;
        let (_, output) = job.runner.attempt(&mut boot.command)?;
        let status = boot.status()?;
        counts += job.count(&built.target, &output)?;
        ensure!(status == 0, "{} ended with {status}", built.target);
    }
    counts.outcome()
}

/// The tests of DPDK on network cards, all in one guest.
pub(crate) fn cards_stage(job: &mut Job<'_>) -> Result<Outcome> {
    if !cards::are_possible() {
        let reason = "no network namespace with TAP interfaces can be made here, which takes root";
        ensure!(!job.require_all, "{reason}");
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    let kernel = Kernel::prepare(&job.workspace.target, &mut job.runner)?;
    // As the stage of integration tests builds them.
    let mut build = job.workspace.cargo("build");
    job.runner.run(build.args(["-p", "demikernel", "--examples", "--all-features"]))?;
    let mut build = job.workspace.cargo("test");
    build.args(["-p", "demikernel", "--all-features", "--no-run", "--test", stages::CARDS, workspace::JSON]);
    let messages = job.runner.output(&mut build)?;
    let tests = workspace::executables(&messages).into_iter().find(|built| built.target == stages::CARDS);
    let tests = tests.context("cargo has not built the tests")?;
    let mut command: Vec<OsString> = vec!["env".into(), "DEMIKERNEL_CARDS=1".into(), tests.path.into()];
    command.extend(["--test-threads=1", "--nocapture"].map(OsString::from));
    let guest = Guest {
        // Half of it are huge pages.
        memory: 3072,
        cpus: 2,
        // What a machine has loaded whose kernel has the cards and the drives.
        modules: ["virtio_net", "e1000e", "nvme"].map(str::to_owned).to_vec(),
        iommu: true,
        cards: true,
        disks: true,
        limit: Duration::from_secs(1200),
        ..Guest::default()
    };
    let mut boot = guest.boot(&kernel, &tests.package, &command)?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    let counts = job.count(&tests.target, &output)?;
    ensure!(status == 0, "{} ended with {status}", tests.target);
    counts.outcome()
}

/// The tests of NVMe drives, all in one guest.
pub(crate) fn nvme_stage(job: &mut Job<'_>) -> Result<Outcome> {
    let kernel = Kernel::prepare(&job.workspace.target, &mut job.runner)?;
    let mut build = job.workspace.cargo("test");
    build.args(["-p", "demikernel-spdk-storage", "--all-features", "--no-run", "--test", stages::NVME]);
    let messages = job.runner.output(build.arg(workspace::JSON))?;
    let tests = workspace::executables(&messages).into_iter().find(|built| built.target == stages::NVME);
    let tests = tests.context("cargo has not built the tests")?;
    let guest = Guest {
        cpus: 2,
        // The kernel has the drives at first, and polls them where it is asked to.
        modules: vec!["nvme".to_owned()],
        append: vec!["nvme.poll_queues=1".to_owned()],
        iommu: true,
        disks: true,
        limit: Duration::from_secs(600),
        ..Guest::default()
    };
    let mut counts = Counts::default();
    let mut boot = guest.boot(&kernel, &tests.package, &command(&tests.path, &["DEMIKERNEL_NVME=1"], &[]))?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    counts += job.count(&tests.target, &output)?;
    ensure!(status == 0, "{} ended with {status}", tests.target);
    counts += switched_off(job, &kernel, guest, &tests)?;
    counts.outcome()
}

/// A guest is switched off while it writes, and another one looks at what it has left.
fn switched_off(job: &mut Job<'_>, kernel: &Kernel, guest: Guest, tests: &Executable) -> Result<Counts> {
    let drives = job.workspace.target.join("xtask/nvme-drives");
    // What a run that was broken off has left.
    let _ = fs::remove_dir_all(&drives);
    fs::create_dir_all(&drives).with_context(|| format!("cannot create {}", drives.display()))?;
    let guest = Guest { drives: Some(drives.clone()), switch: true, ..guest };
    let filter = ["log::what_is_written_when_the_power_goes"];
    let switch = format!("DEMIKERNEL_NVME_SWITCH={}", guest::SWITCH);
    let mut boot = guest.boot(kernel, &tests.package, &command(&tests.path, &[&switch], &filter))?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    ensure!(boot.status().is_err(), "the guest has ended by itself");
    let told = drives.join("told");
    fs::write(&told, output).with_context(|| format!("cannot write {}", told.display()))?;
    let told = format!("DEMIKERNEL_NVME_TOLD={}", told.display());
    let mut boot = guest.boot(kernel, &tests.package, &command(&tests.path, &[&told], &filter))?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    let counts = job.count(&tests.target, &output)?;
    ensure!(status == 0, "{} ended with {status}", tests.target);
    fs::remove_dir_all(&drives).with_context(|| format!("cannot remove {}", drives.display()))?;
    Ok(counts)
}

/// Runs tests, one after the other.
fn command(tests: &Path, environment: &[&str], filter: &[&str]) -> Vec<OsString> {
    let mut command = vec![OsString::from("env")];
    command.extend(environment.iter().map(OsString::from));
    command.push(tests.into());
    command.extend(filter.iter().map(OsString::from));
    command.extend(["--test-threads=1", "--nocapture"].map(OsString::from));
    command
}
