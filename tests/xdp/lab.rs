//! Network namespaces with a veth pair: the stack at one end through AF_XDP, the kernel at the other.

use crate::programs::{Server, built, text};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

const CONFIGURATION: &str = r#"
[network]
interface = "near"
addresses = ["10.9.0.2/24", "fd00:9::2/64"]
gateways = ["10.9.0.1"]
# The tests start many servers, and nobody else is there.
duplicate-detection = "optimistic"
"#;

/// A network namespace, and the file that says how the stack is to be.
pub(crate) struct Lab {
    pub(crate) configuration: PathBuf,
}

impl Lab {
    /// Moves this thread, and what it starts, there. `None` where that is not allowed and need not be.
    pub(crate) fn new(name: &str, queues: u32) -> Option<Lab> {
        // SAFETY: affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            let error = io::Error::last_os_error();
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
            eprintln!("skipped: no network namespace: {error}");
            return None;
        }
        ip("link set lo up");
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        ip(&format!("link add near {queues} type veth peer name far {queues}"));
        for arguments in [
            "addr add 10.9.0.1/24 dev far",
            "-6 addr add fd00:9::1/64 dev far nodad",
            "link set far up",
            // The kernel has nothing to say at this end.
            "link set near addrgenmode none",
            "link set near up",
        ] {
            ip(arguments);
        }
        send_whole("far");
        let file = format!("demikernel-xdp-{}-{name}.toml", std::process::id());
        let lab = Lab { configuration: std::env::temp_dir().join(file) };
        lab.configure("");
        Some(lab)
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
        [("DEMIKERNEL_TRANSPORT", "xdp"), ("DEMIKERNEL_CONFIG", configuration)]
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

/// Has the kernel fill in all checksums, and with that cut all segments, before it sends: `ethtool -K NAME tx off`.
fn send_whole(name: &str) {
    /// ETHTOOL_STXCSUM of linux/ethtool.h.
    const SET_CHECKSUMS: u32 = 0x17;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut value = [SET_CHECKSUMS, 0];
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (letter, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *letter = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request names an `ethtool_value`, which is two numbers, and lives during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    assert_eq!(result, 0, "ethtool -K {name} tx off: {}", io::Error::last_os_error());
}
