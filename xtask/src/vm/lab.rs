//! Machines with RDMA in software: one guest that speaks with itself, or two that a cable joins.
//!
//! The kernel's `rdma_rxe` puts RDMA on an Ethernet interface: RoCE v2, real verbs, a real connection manager. The cable is
//! a UDP port of this machine's loopback at either end, each datagram a frame; netem loses some of them if asked.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::guest::{Boot, Guest};
use super::kernel::Kernel;
use crate::counts::Counts;
use crate::process::Runner;
use crate::setup::{self, Tool};
use crate::stages::{self, Job, Outcome};
use crate::workspace::{self, Workspace};

/// What it takes.
pub(crate) const TOOLS: &[&Tool] = &[
    &setup::QEMU,
    &setup::BUSYBOX,
    &setup::MODPROBE,
    &setup::CPIO,
    &setup::IP,
    &setup::RDMA_DRIVERS,
    &setup::RDMA_DEVICES,
    &setup::RPING,
    &setup::PERFTEST,
    &setup::PKG_CONFIG,
    &setup::CMAKE,
    &setup::CLANG,
    &setup::RDMA,
];

/// The test of the facade.
const FACADE: &str = "rdma";

/// What stands between the commands of two guests.
const WITH: &str = "--with";

/// Run a command where there is RDMA, in software: under Debian's kernel, in an emulator.
///
/// The guest has the device rxe0 (RoCE v2) with the address 10.9.0.1, as $LAB_ADDRESS says. With --pair there are two
/// guests that a cable joins, and a command for each: 10.9.0.1 and 10.9.0.2. $LAB_NODE is 1 or 2, $LAB_PEER the address of
/// the other. As with `cargo xtask vm`, the files are this machine's, and nothing of what is written stays. The exit
/// status is the command's, or that of the first of two that failed.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Have two guests; the words after `--with` are the command of the second
    #[arg(long)]
    pair: bool,
    /// Lose so many of a hundred packets on the cable, each way
    #[arg(long, value_name = "PERCENT", requires = "pair", default_value_t = 0.0)]
    loss: f64,
    /// Memory of a guest
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Its processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Keep what is written below this directory
    #[arg(long, value_name = "DIRECTORY")]
    writable: Vec<std::path::PathBuf>,
    /// Have NVMe drives as well, as with `cargo xtask vm --disks`
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
        bail!("the lab needs programs that are not installed: cargo xtask setup");
    }
    let mut runner = Runner::new(&workspace.target, "lab", "lab", Duration::from_secs(600), false)?;
    let kernel = Kernel::prepare(&workspace.target, &mut runner)?;
    drop(runner);
    let lab = Lab {
        memory: options.memory,
        cpus: options.cpus,
        writable: options.writable.clone(),
        disks: options.disks,
        limit: Duration::from_secs(options.limit),
    };
    let directory = std::env::current_dir()?;
    if !options.pair {
        let mut boot = lab.alone(&kernel, &directory, &options.command)?;
        boot.command.status()?;
        return Ok(code(boot.status()?));
    }
    let at = options.command.iter().position(|word| word == WITH);
    let at = at.filter(|at| *at > 0 && at + 1 < options.command.len());
    let at = at.with_context(|| format!("two guests take two commands: COMMAND {WITH} COMMAND"))?;
    let commands = [&options.command[..at], &options.command[at + 1..]];
    let [one, other] = lab.pair(&kernel, &directory, commands, options.loss, true)?.map(|end| end.status);
    let (one, other) = (one?, other?);
    Ok(code(if one == 0 { other } else { one }))
}

/// Runs a command in a guest by itself, which prints as it goes.
pub(crate) fn run_alone(workspace: &Workspace, runner: &mut Runner, command: &[OsString]) -> Result<()> {
    let kernel = Kernel::prepare(&workspace.target, runner)?;
    let lab = Lab { limit: Duration::from_secs(900), ..Lab::default() };
    let mut boot = lab.alone(&kernel, &workspace.root, command)?;
    boot.command.status()?;
    let status = boot.status()?;
    ensure!(status == 0, "the command ended with {status}");
    Ok(())
}

/// The tests on a device, in one guest, and those of two machines at a cable that loses 3 % of the packets.
pub(crate) fn stage(job: &mut Job<'_>) -> Result<Outcome> {
    let kernel = Kernel::prepare(&job.workspace.target, &mut job.runner)?;
    let mut build = job.workspace.cargo("test");
    build.args(["-p", "demikernel-rdma", "--features", "verbs", "--no-run", workspace::JSON]);
    build.args(["--test", stages::RXE, "--test", stages::WIRE]);
    let built = workspace::executables(&job.runner.output(&mut build)?);
    let find = |target: &str| {
        let tests = built.iter().find(|built| built.target == target);
        tests.with_context(|| format!("cargo has not built {target}"))
    };
    let lab = Lab::default();
    let tests = find(stages::RXE)?;
    // What takes the device away is by itself, and last.
    let script = "\"$0\" --test-threads=1 && \"$0\" --test-threads=1 --ignored";
    let command = ["sh".into(), "-c".into(), script.into(), tests.path.clone().into_os_string()];
    let mut boot = lab.alone(&kernel, &tests.package, &command)?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    let mut counts = job.count(stages::RXE, &output)?;
    ensure!(status == 0, "{} ended with {status}", tests.target);
    counts += facade(job, &kernel, &lab)?;
    let tests = find(stages::WIRE)?;
    let command = [tests.path.clone().into_os_string(), "--test-threads=1".into(), "--nocapture".into()];
    counts += wire(job, &kernel, &lab, (stages::WIRE, &tests.package), &command)?;
    counts.outcome()
}

/// Streams and the examples on the transport, in one guest, which has drives as well.
fn facade(job: &mut Job<'_>, kernel: &Kernel, lab: &Lab) -> Result<Counts> {
    // As the stage of integration tests builds them.
    let mut build = job.workspace.cargo("build");
    job.runner.run(build.args(["-p", "demikernel", "--examples", "--all-features"]))?;
    let mut build = job.workspace.cargo("test");
    build.args(["-p", "demikernel", "--all-features", "--no-run", "--test", FACADE, workspace::JSON]);
    let built = workspace::executables(&job.runner.output(&mut build)?);
    let tests = built.into_iter().find(|built| built.target == FACADE);
    let tests = tests.context("cargo has not built the tests of the facade")?;
    let command = [tests.path.into_os_string(), "--test-threads=1".into(), "--nocapture".into()];
    // A server there has its log on a drive; a thousand connections take their time where all is emulated.
    let with_disks = Lab { disks: true, limit: Duration::from_secs(900), ..Lab::default() };
    let mut boot = with_disks.alone(kernel, &tests.package, &command)?;
    let (_, output) = job.runner.attempt(&mut boot.command)?;
    let status = boot.status()?;
    ensure!(status == 0, "{FACADE} ended with {status}");
    let mut counts = job.count(FACADE, &output)?;
    counts += wire(job, kernel, lab, (FACADE, &tests.package), &[&command[..], &["wire".into()]].concat())?;
    Ok(counts)
}

/// Tests of two machines at a cable that loses 3 % of the packets.
fn wire(
    job: &mut Job<'_>,
    kernel: &Kernel,
    lab: &Lab,
    (target, package): (&str, &Path),
    command: &[OsString],
) -> Result<Counts> {
    let mut counts = Counts::default();
    for (index, end) in lab.pair(kernel, package, [command, command], 3.0, false)?.into_iter().enumerate() {
        let output = end.lines.join("\n");
        job.runner.note(&output)?;
        // The second guest is turned off in the middle of its last test, and says no sum.
        counts += job.count(target, &output)?;
        let status = end.status?;
        ensure!(status == 0, "the tests of guest {} ended with {status}", index + 1);
    }
    Ok(counts)
}

fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// What guests are to be like.
pub(super) struct Lab {
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) writable: Vec<std::path::PathBuf>,
    /// Whether there are NVMe drives as well, to bind to vfio-pci.
    pub(super) disks: bool,
    pub(super) limit: Duration,
}

impl Default for Lab {
    fn default() -> Lab {
        Lab { memory: 1024, cpus: 2, writable: Vec::new(), disks: false, limit: Duration::from_secs(300) }
    }
}

/// How one of two guests came to its end.
pub(super) struct End {
    pub(super) status: Result<i32>,
    /// What it printed.
    pub(super) lines: Vec<String>,
}

/// Makes the device, on an interface that is there; whoever speaks with it speaks with itself.
const ALONE: &str = "set -e
ip link add rdma0 type veth peer name rdma1
ip address add $LAB_ADDRESS/24 dev rdma0
ip link set rdma0 up
ip link set rdma1 up
rdma link add rxe0 type rxe netdev rdma0
ulimit -l unlimited
exec \"$@\"";

/// Makes the device, and goes on when the other guest answers. The other one goes on then, too: both have booted.
const ONE_OF_TWO: &str = "set -e
ip address add $LAB_ADDRESS/24 dev eth0
ip link set eth0 up
rdma link add rxe0 type rxe netdev eth0
tries=0
until busybox ping -c 1 -W 1 $LAB_PEER >/dev/null; do
    tries=$((tries + 1))
    if [ $tries -ge 90 ]; then echo \"the other guest does not answer\" >&2; exit 1; fi
done
if [ $LAB_LOSS != 0 ]; then tc qdisc add dev eth0 root netem loss $LAB_LOSS%; fi
ulimit -l unlimited
exec \"$@\"";

impl Lab {
    /// A guest by itself.
    pub(super) fn alone(&self, kernel: &Kernel, directory: &Path, command: &[OsString]) -> Result<Boot> {
        let variables = ["LAB_NODE=1", "LAB_ADDRESS=10.9.0.1", "LAB_PEER=10.9.0.1"].map(OsString::from);
        let guest = self.guest(["veth"]);
        guest.boot(kernel, directory, &prepared(&variables, ALONE, command))
    }

    /// Two guests at one cable, until both have ended. What they print is shown as it comes, if asked, each line with the
    /// number of the guest before it.
    pub(super) fn pair(
        &self,
        kernel: &Kernel,
        directory: &Path,
        commands: [&[OsString]; 2],
        loss: f64,
        is_shown: bool,
    ) -> Result<[End; 2]> {
        ensure!((0.0..100.0).contains(&loss), "{loss} of a hundred packets cannot be lost");
        let ports = two_ports()?;
        let mut boots = Vec::new();
        for (index, command) in commands.into_iter().enumerate() {
            let (node, other) = (index + 1, 2 - index);
            let variables = [
                format!("LAB_NODE={node}"),
                format!("LAB_ADDRESS=10.9.0.{node}"),
                format!("LAB_PEER=10.9.0.{other}"),
                format!("LAB_LOSS={loss}"),
            ]
            .map(OsString::from);
            let mut guest = self.guest(["virtio_net", "sch_netem"]);
            let (local, remote) = (ports[index], ports[1 - index]);
            guest.qemu = cable(node, local, remote);
            boots.push(guest.boot(kernel, directory, &prepared(&variables, ONE_OF_TWO, command))?);
        }
        let ends: Vec<End> = thread::scope(|scope| {
            let running: Vec<_> = boots
                .iter_mut()
                .enumerate()
                .map(|(index, boot)| scope.spawn(move || follow(index + 1, boot, is_shown)))
                .collect();
            running.into_iter().map(|one| one.join().expect("it does not panic")).collect()
        });
        ends.try_into().ok().context("two guests")
    }

    fn guest<const N: usize>(&self, modules: [&str; N]) -> Guest {
        let modules = modules.into_iter().chain(["rdma_rxe", "ib_uverbs", "rdma_ucm"]);
        let drives: &[&str] = if self.disks { &["nvme"] } else { &[] };
        Guest {
            memory: self.memory,
            cpus: self.cpus,
            modules: modules.chain(drives.iter().copied()).map(str::to_owned).collect(),
            iommu: self.disks,
            disks: self.disks,
            writable: self.writable.clone(),
            limit: self.limit,
            ..Guest::default()
        }
    }
}

/// A command after a script has run, with variables.
fn prepared(variables: &[OsString], script: &str, command: &[OsString]) -> Vec<OsString> {
    let shell = ["sh", "-c", script, "lab"].map(OsString::from);
    let words = std::iter::once("env".into()).chain(variables.iter().cloned());
    words.chain(shell).chain(command.iter().cloned()).collect()
}

/// QEMU's arguments for one end.
fn cable(node: usize, local: u16, remote: u16) -> Vec<String> {
    let address =
        |side: &str, port: u16| format!("{side}.type=inet,{side}.host=127.0.0.1,{side}.port={port}");
    vec![
        "-netdev".to_owned(),
        format!("dgram,id=cable,{},{}", address("local", local), address("remote", remote)),
        "-device".to_owned(),
        format!("virtio-net-pci,netdev=cable,mac=52:54:00:00:01:0{node}"),
    ]
}

/// Ports that nobody has at this moment.
fn two_ports() -> Result<[u16; 2]> {
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}

/// Runs a guest to its end.
fn follow(node: usize, boot: &mut Boot, is_shown: bool) -> End {
    let mut lines = Vec::new();
    let status = (|| {
        let command: &mut Command = &mut boot.command;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let errors = child.stderr.take().context("no standard error")?;
        let errors = thread::spawn(move || read(node, errors, is_shown));
        lines = read(node, child.stdout.take().context("no standard output")?, is_shown);
        lines.extend(errors.join().unwrap_or_default());
        child.wait()?;
        boot.status().with_context(|| format!("guest {node}"))
    })();
    End { status, lines: std::mem::take(&mut lines) }
}

/// Reads lines to the end.
fn read(node: usize, from: impl Read, is_shown: bool) -> Vec<String> {
    let show = |line: &String| {
        if is_shown {
            println!("[{node}] {line}");
        }
    };
    BufReader::new(from).lines().map_while(Result::ok).inspect(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_command_sees_its_variables_and_its_words() {
        let command = ["sh", "-c", "echo $LAB_NODE \"$0\"", "a b"].map(OsString::from);
        let words = prepared(&["LAB_NODE=2".into()], "exec \"$@\"", &command);
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "2 a b\n");
    }

    #[test]
    fn either_end_of_the_cable_sends_where_the_other_receives() {
        let [one, other] = [cable(1, 5, 6), cable(2, 6, 5)].map(|arguments| arguments[1].clone());
        assert!(one.contains("local.port=5") && one.contains("remote.port=6"));
        assert!(other.contains("local.port=6") && other.contains("remote.port=5"));
    }
}
