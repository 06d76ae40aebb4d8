//! Network namespaces, and programs of ours in them.

// Not every test uses all of it.
#![allow(dead_code)]

use crate::programs::{Server, built, text};
use std::io;
use std::path::PathBuf;
use std::process::Command;

const CONFIGURATION: &str = r#"
[network]
interface = "tap0"
addresses = ["10.9.0.2/24", "fd00:9::2/64"]
gateways = ["10.9.0.1"]
# The tests start many servers, and nobody else is there.
duplicate-detection = "optimistic"
"#;

/// A network namespace with a TAP interface, and the file that says how the stack at its far end is to be.
pub(crate) struct Lab {
    pub(crate) configuration: PathBuf,
    transport: &'static str,
}

impl Lab {
    /// Moves this thread, and what it starts, there. `None` where that is not allowed and need not be.
    pub(crate) fn new(name: &str) -> Option<Lab> {
        let lab = Lab::bare(name, "tap", CONFIGURATION)?;
        // Made before the servers, and kept when they end.
        for arguments in [
            "tuntap add tap0 mode tap",
            "addr add 10.9.0.1/24 dev tap0",
            "-6 addr add fd00:9::1/64 dev tap0 nodad",
            "link set tap0 up",
        ] {
            ip(arguments);
        }
        Some(lab)
    }

    /// One with nothing but the loopback, and another transport.
    pub(crate) fn bare(name: &str, transport: &'static str, configuration: &str) -> Option<Lab> {
        // SAFETY: affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            let error = io::Error::last_os_error();
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
            eprintln!("skipped: no network namespace: {error}");
            return None;
        }
        ip("link set lo up");
        Some(Lab::here(name, transport, configuration))
    }

    /// One in the namespace that this thread is in.
    pub(crate) fn here(name: &str, transport: &'static str, text: &str) -> Lab {
        let file = format!("demikernel-{transport}-{}-{name}.toml", std::process::id());
        let configuration = std::env::temp_dir().join(file);
        std::fs::write(&configuration, text).unwrap();
        Lab { configuration, transport }
    }

    /// Adds to the configuration.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(&self.configuration, format!("{CONFIGURATION}{text}")).unwrap();
    }

    /// Starts an example on the stack, as its command line and its environment say.
    pub(crate) fn serve(&self, example: &str, arguments: &[&str]) -> Server {
        Server::start_with(example, arguments, &self.variables())
    }

    /// Runs an example to its end, and returns what it says.
    pub(crate) fn run(&self, example: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.arg("30").arg(built(example)).args(arguments).envs(self.variables());
        text(&command.output().unwrap())
    }

    fn variables(&self) -> [(&str, &str); 2] {
        let configuration = self.configuration.to_str().unwrap();
        [("DEMIKERNEL_TRANSPORT", self.transport), ("DEMIKERNEL_CONFIG", configuration)]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.configuration);
    }
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip is installed");
    assert!(status.success(), "ip {arguments}");
}
