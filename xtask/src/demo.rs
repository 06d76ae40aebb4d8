//! `cargo xtask demo`: something to look at, with one command.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::inherit;
use crate::setup;
use crate::workspace::Workspace;

/// Show what the project is for.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// For how long each load runs
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// A server and a client, two processes, that the userspace stack on DPDK joins through shared memory (memif), with
    /// no kernel in between. Needs libdpdk, and no network card
    Dpdk,
}

/// Huge pages of 2 MiB that the two processes take.
const PAGES: u64 = 128;

/// Where the server listens.
const SERVER: &str = "10.77.0.1:7000";

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match options.what {
        What::Dpdk => dpdk(options.seconds)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn dpdk(seconds: f64) -> Result<()> {
    let workspace = Workspace::find()?;
    if !setup::install(&[&setup::PKG_CONFIG, &setup::DPDK])? {
        bail!("DPDK is not installed: cargo xtask setup");
    }
    let mut build = workspace.cargo("build");
    build.args(["--release", "-p", "demikernel", "--features", "dpdk", "--example", "echo"]);
    let status = inherit(&mut build)?;
    ensure!(status.success(), "the example does not build: {status}");
    let huge_pages = has_huge_pages();
    if huge_pages {
        println!("\nMemory: huge pages.");
    } else {
        println!(
            "\nMemory: ordinary pages, as fewer than {PAGES} huge ones are free. Drivers of network cards need those; \
             to have them, as root:\n    echo 512 > /proc/sys/vm/nr_hugepages"
        );
    }
    let ends = Ends::new(huge_pages)?;
    let echo = workspace.target.join("release/examples/echo");
    println!(
        "\nTwo processes, each with a TCP/IP stack of its own: 10.77.0.1 and 10.77.0.2, at the ends of a cable in shared \
         memory.\nThe server's configuration ({}):\n{}",
        ends.server.display(),
        indented(&fs::read_to_string(&ends.server)?)
    );
    let mut server = Process::start(&echo, &["serve", "--listen", SERVER], &ends.server, "server")?;
    server.wait_for("listening")?;
    let seconds = seconds.to_string();
    for connections in ["1", "32"] {
        let load = ["bench", "--connect", SERVER, "--connections", connections, "--seconds", &seconds];
        Process::start(&echo, &load, &ends.client, "client")?.end()?;
    }
    println!("\nThe server is asked to end (SIGTERM).");
    let kill = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
    ensure!(kill.is_ok_and(|status| status.success()), "the server cannot be asked to end");
    server.end()?;
    println!(
        "\nThat was it. The same programs run on the kernel's sockets (cargo run --release --example echo -- serve), and on \
         a network card: README.md, \"DPDK on a network card\"."
    );
    Ok(())
}

/// Whether enough are free.
fn has_huge_pages() -> bool {
    let text = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok().and_then(|text| text.trim().parse::<u64>().ok()).is_some_and(|free| free >= PAGES)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Configurations of both ends, in a directory that goes with them.
struct Ends {
    directory: PathBuf,
    server: PathBuf,
    client: PathBuf,
}

impl Ends {
    fn new(huge_pages: bool) -> Result<Ends> {
        let directory = std::env::temp_dir().join(format!("demikernel-demo-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let [server, client] = ["server", "client"].map(|role| directory.join(format!("{role}.toml")));
        let ends = Ends { directory, server, client };
        for (host, role, path) in [(1, "server", &ends.server), (2, "client", &ends.client)] {
            let socket = ends.directory.join("memif").display().to_string();
            let text = format!(
                "[network]\ndevice = \"dpdk\"\naddresses = [\"10.77.0.{host}/24\"]\n[dpdk]\n\
                 port = \"net_memif0,role={role},id=0,socket={socket},socket-abstract=no\"\nhuge-pages = {huge_pages}\n"
            );
            fs::write(path, text)?;
        }
        Ok(ends)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // In a directory for temporary files, where a rest harms nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// One of ours, whose lines appear with its name in front.
struct Process {
    child: Child,
    name: &'static str,
    lines: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(
        program: &Path,
        arguments: &[&str],
        configuration: &Path,
        name: &'static str,
    ) -> Result<Process> {
        println!("{name}$ echo {} --transport dpdk --idle spin", arguments.join(" "));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--transport", "dpdk", "--idle", "spin"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env("DEMIKERNEL_CONFIG", configuration);
        command.env("RUST_LOG", "demikernel=info,demikernel_dpdk=info,dpdk=error").env("NO_COLOR", "1");
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let (sender, lines) = mpsc::channel();
        let show = |stream: Box<dyn Read + Send>| {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    println!("{name}| {line}");
                    // Nobody listens to the client.
                    let _ = sender.send(line);
                }
            })
        };
        let output = child.stdout.take().context("no standard output")?;
        let errors = child.stderr.take().context("no standard error")?;
        let readers = vec![show(Box::new(output)), show(Box::new(errors))];
        Ok(Process { child, name, lines, readers })
    }

    /// Waits until it has said so.
    fn wait_for(&mut self, words: &str) -> Result<()> {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.with_context(|| format!("the {} does not say that it is {words}", self.name))?;
            if line.contains(words) {
                return Ok(());
            }
        }
    }

    /// Waits for its end.
    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        for reader in self.readers.drain(..) {
            ensure!(reader.join().is_ok(), "what the {} says cannot be shown", self.name);
        }
        ensure!(status.success(), "the {} has failed: {status}", self.name);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
