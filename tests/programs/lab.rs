//! Network namespaces, and programs of ours in them.

use super::{Server, built, text};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

const NETWORK: &str = r#"
[network]
addresses = ["10.9.0.2/24", "fd00:9::2/64"]
gateways = ["10.9.0.1"]
# The tests start many servers, and nobody else is there.
duplicate-detection = "optimistic"
"#;

/// A network namespace, and the file that says how the stack in it is to be. The kernel is 10.9.0.1 and fd00:9::1.
pub(crate) struct Lab {
    pub(crate) configuration: PathBuf,
    transport: &'static str,
    /// What the file says in any case, the last of it in the section `[network]`.
    base: String,
}

impl Lab {
    /// One with nothing but the loopback, whose stack is to be on this interface. Moves this thread, and what it starts,
    /// there. `None` where that is not allowed and need not be.
    pub(crate) fn new(name: &str, transport: &'static str, interface: &str) -> Option<Lab> {
        // SAFETY: affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            let error = io::Error::last_os_error();
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "no network namespace: {error}");
            eprintln!("skipped: no network namespace: {error}");
            return None;
        }
        ip("link set lo up");
        Some(Lab::here(name, transport, &format!("{NETWORK}interface = \"{interface}\"\n")))
    }

    /// The same with a TAP interface that is made before the servers and kept when they end; `kind` adds to its kind.
    pub(crate) fn tap(name: &str, transport: &'static str, interface: &str, kind: &str) -> Option<Lab> {
        let lab = Lab::new(name, transport, interface)?;
        ip(&format!("tuntap add {interface} mode tap{kind}"));
        give_to_kernel(interface);
        Some(lab)
    }

    /// The same with a veth pair of so many queues: `near` is the stack's, and `far` the kernel's.
    pub(crate) fn veth(name: &str, transport: &'static str, queues: u32) -> Option<Lab> {
        let lab = Lab::new(name, transport, "near")?;
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        ip(&format!("link add near {queues} type veth peer name far {queues}"));
        give_to_kernel("far");
        // The kernel has nothing to say at this end.
        ip("link set near addrgenmode none");
        ip("link set near up");
        send_whole("far");
        Some(lab)
    }

    /// One in the namespace that this thread is in, with a file of this text.
    pub(crate) fn here(name: &str, transport: &'static str, text: &str) -> Lab {
        let file = format!("demikernel-{transport}-{}-{name}.toml", std::process::id());
        let configuration = std::env::temp_dir().join(file);
        let lab = Lab { configuration, transport, base: text.to_owned() };
        lab.configure("");
        lab
    }

    /// Adds to the configuration, first to its section `[network]`.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(&self.configuration, format!("{}{text}", self.base)).unwrap();
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

    /// What of its environment tells a program to be on the stack.
    pub(crate) fn variables(&self) -> [(&str, &str); 2] {
        let configuration = self.configuration.to_str().unwrap();
        [("DEMIKERNEL_TRANSPORT", self.transport), ("DEMIKERNEL_CONFIG", configuration)]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.configuration);
    }
}

fn give_to_kernel(interface: &str) {
    ip(&format!("addr add 10.9.0.1/24 dev {interface}"));
    ip(&format!("-6 addr add fd00:9::1/64 dev {interface} nodad"));
    ip(&format!("link set {interface} up"));
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
