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
mod server;
pub(crate) mod spread;

pub(crate) use server::Server;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;

impl Server {
    /// Starts an example, which says on its standard output where it listens.
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Server {
        Server::start_with(example, arguments, &[])
    }

    /// The same with variables of its environment.
    pub(crate) fn start_with(example: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        Server::run(Command::new(built(example)).args(arguments).envs(variables.iter().copied()))
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
