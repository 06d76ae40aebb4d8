//! Nodes of the replicated key-value store as processes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const NODES: usize = 3;

/// The directory of examples, with this one and those of other packages built beside this test.
fn built(others: &[(&str, &str)]) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "demikernel-raft", "--example", "replicated-key-value"]);
    for (package, example) in others {
        cargo.args(["--package", package, "--example", example]);
    }
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let features = [
        ("sim", cfg!(feature = "sim")),
        ("tap", cfg!(feature = "tap")),
        ("dpdk", cfg!(feature = "dpdk")),
        ("xdp", cfg!(feature = "xdp")),
        ("rdma", cfg!(feature = "rdma")),
        ("nvme", cfg!(feature = "nvme")),
        ("spdk", cfg!(feature = "spdk")),
    ];
    for (feature, _) in features.iter().filter(|(_, on)| *on) {
        cargo.arg("--features").arg(format!("demikernel-raft/{feature}"));
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the examples do not build");
    profile.join("examples")
}

/// A process, which ends with the test.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it, and waits until it says that it has.
    pub(crate) fn start(command: &mut Command, says: &str) -> Process {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process(child);
        assert!(line.contains(says), "{line:?}");
        process
    }

    /// What a power cut does to a process.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end; whether it ends well.
    pub(crate) fn terminate(&mut self) -> bool {
        let kill = format!("kill -TERM {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nodes, and where they are.
pub(crate) struct Cluster {
    /// Where examples are.
    pub(crate) programs: PathBuf,
    /// For files of theirs.
    pub(crate) directory: PathBuf,
    transport: &'static str,
    arguments: Vec<String>,
    /// Where clients find each.
    pub(crate) clients: Vec<String>,
}

impl Cluster {
    /// Nodes on a transport, at these addresses for the others and for clients, beside other packages' examples.
    pub(crate) fn new(
        transport: &'static str,
        addresses: [(String, String); NODES],
        others: &[(&str, &str)],
    ) -> Cluster {
        let mut arguments = vec![];
        for (index, (peers, clients)) in addresses.iter().enumerate() {
            arguments.extend(["--node".to_owned(), format!("{}={peers},{clients}", index + 1)]);
        }
        let name = format!("replicated-{transport}-{}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let clients = addresses.map(|(_, clients)| clients).to_vec();
        Cluster { programs: built(others), transport, directory, arguments, clients }
    }

    /// Where the stack of a node, or of whoever else there is, is described, if it is not the kernel's.
    pub(crate) fn configuration(&self, index: usize) -> PathBuf {
        self.directory.join(format!("{index}.toml"))
    }

    /// Starts a node, and waits until it listens.
    pub(crate) fn start(&self, index: usize) -> Process {
        let mut command = Command::new(self.programs.join("replicated-key-value"));
        command.args(["--id", &(index + 1).to_string(), "--transport", self.transport, "--log-size", "16"]);
        command.arg("--log").arg(self.directory.join(format!("{index}.log")));
        // Heartbeats as on a machine whose processors others want too.
        command
            .args(["--snapshot-every", "300", "--heartbeat", "150", "--idle", "block"])
            .args(&self.arguments)
            .env("DEMIKERNEL_CONFIG", self.configuration(index));
        Process::start(&mut command, "listening on")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
