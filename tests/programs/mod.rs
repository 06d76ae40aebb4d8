//! Our examples and other people's programs, as processes.

// Not every test uses all of it.
#![allow(dead_code)]

pub(crate) mod acknowledged;
pub(crate) mod captures;
pub(crate) mod clients;
pub(crate) mod echoed;
pub(crate) mod lab;
pub(crate) mod peers;
pub(crate) mod ports;
pub(crate) mod spread;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server of ours, ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it has said since, if somebody listens.
    said: Option<JoinHandle<Vec<String>>>,
}

impl Server {
    /// Starts an example, which says on its standard output where it listens.
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Server {
        Server::start_with(example, arguments, &[])
    }

    /// The same with variables of its environment.
    pub(crate) fn start_with(example: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let path = built(example);
        let mut command = Command::new(&path);
        command.args(arguments).envs(variables.iter().copied());
        let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server says where it listens").unwrap();
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        let said = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Server { child, address, said: Some(said) }
    }

    /// One that was started otherwise.
    pub(crate) fn of(child: Child, address: SocketAddr) -> Server {
        Server { child, address, said: None }
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Sends a signal, by its name for kill(1).
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The lines that it has said since it listened, of one that has ended.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.said.take().map_or(Vec::new(), |said| said.join().unwrap())
    }

    /// Waits for its end: the exit code, or `None` if a signal ended it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example's program, built with the features of this test into the same directory.
pub(crate) fn built(example: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    BUILD.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo has told this test of its package: build scripts that ask for it (ring's) would run anew.
        for (name, _) in std::env::vars_os() {
            let text = name.to_str().unwrap_or_default();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(name);
            }
        }
        cargo.args(["build", "--quiet", "--package", "demikernel", "--examples", "--target-dir"]);
        cargo.arg(profile.parent().unwrap()).arg("--manifest-path");
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        if !cfg!(feature = "io-uring") {
            cargo.arg("--no-default-features");
        }
        let features = [
            ("hyper", cfg!(feature = "hyper")),
            ("compat", cfg!(feature = "compat")),
            ("tap", cfg!(feature = "tap")),
            ("dpdk", cfg!(feature = "dpdk")),
            ("xdp", cfg!(feature = "xdp")),
            ("rdma", cfg!(feature = "rdma")),
        ];
        for (feature, on) in features {
            if on {
                cargo.args(["--features", feature]);
            }
        }
        assert!(cargo.status().unwrap().success(), "the examples do not build");
    });
    profile.join("examples").join(example)
}

/// Runs a client to its end, at most half a minute.
pub(crate) fn client(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.arg("30").arg(program).args(arguments);
    if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
        return None;
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Some(child.wait_with_output().unwrap())
}

/// What it has said, if it has succeeded.
#[track_caller]
pub(crate) fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{:?}: {text}{errors}", output.status);
    text
}
