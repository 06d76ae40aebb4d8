//! Where two ends meet: the kernel's loopback, an interface in a network namespace, memory that two processes share, an
//! RDMA device.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The interface of the userspace stack, in a namespace.
pub(crate) const INTERFACE: &str = "paper0";
/// The kernel's end of a veth pair.
const FAR: &str = "kernel0";
/// The address by which bare frames find who reflects them.
pub(crate) const STACK_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// Huge pages of 2 MiB that two processes take.
const PAGES: u64 = 128;

/// Kinds of places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Both ends on the kernel's sockets.
    Loopback,
    /// The server's end is a TAP interface, the client's the kernel.
    Tap,
    /// The server's end is one end of a veth pair, the client's the kernel at the other.
    Veth,
    /// Two ports of DPDK in shared memory.
    Memif,
    /// An RDMA device that sends to itself.
    Rdma,
}

impl Kind {
    /// Whether the client's end is of the same kind as the server's; else it is the kernel's sockets.
    pub(crate) fn is_symmetric(self) -> bool {
        !matches!(self, Kind::Tap | Kind::Veth)
    }
}

/// A place, from within.
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// For what is to differ from other places that are there, or were a moment ago.
    name: String,
    scratch: PathBuf,
}

/// Runs something at a new place. `scratch` is a directory for files.
///
/// # Errors
/// If there can be no such place, what is missing; else those of `work`.
pub(crate) fn at<T: Send>(
    kind: Kind,
    scratch: &Path,
    work: impl FnOnce(&Place) -> io::Result<T> + Send,
) -> io::Result<T> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let place = Place { kind, name, scratch: scratch.to_owned() };
    if !matches!(kind, Kind::Tap | Kind::Veth) {
        return work(&place);
    }
    // Whatever a thread starts is in its namespace, which is gone with the last of them.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_namespace()?;
            furnish(kind)?;
            work(&place)
        });
        thread.join().expect("work does not panic")
    })
}

fn enter_namespace() -> io::Result<()> {
    // SAFETY: no memory is passed; the namespace is this thread's alone, whose sockets are made after this.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("no network namespace: {error}; it takes root")));
    }
    Ok(())
}

fn furnish(kind: Kind) -> io::Result<()> {
    ip("link set lo up")?;
    let kernel = if kind == Kind::Tap {
        ip(&format!("tuntap add {INTERFACE} mode tap"))?;
        INTERFACE
    } else {
        ip(&format!("link add {INTERFACE} type veth peer name {FAR}"))?;
        // The kernel has nothing to say at this end.
        ip(&format!("link set {INTERFACE} addrgenmode none"))?;
        ip(&format!("link set {INTERFACE} up"))?;
        FAR
    };
    ip(&format!("addr add 10.9.0.1/24 dev {kernel}"))?;
    ip(&format!("link set {kernel} up"))?;
    if kind == Kind::Veth {
        send_whole(kernel)?;
    }
    Ok(())
}

fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("ip (iproute2): {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {arguments}: {}", reason.trim())))
}

/// Has the kernel fill in all checksums, and with that cut all segments, before it sends: `ethtool -K NAME tx off`.
fn send_whole(name: &str) -> io::Result<()> {
    /// ETHTOOL_STXCSUM of linux/ethtool.h.
    const SET_CHECKSUMS: u32 = 0x17;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut value = [SET_CHECKSUMS, 0];
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (letter, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *letter = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request names an `ethtool_value`, which is two numbers, and lives during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether enough are free for DPDK; without, it has ordinary pages.
pub(crate) fn has_huge_pages() -> bool {
    let text = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok().and_then(|text| text.trim().parse::<u64>().ok()).is_some_and(|free| free >= PAGES)
}

impl Place {
    /// Where a server listens; port 0 is one that is free.
    pub(crate) fn server(&self) -> io::Result<SocketAddr> {
        Ok(match self.kind {
            Kind::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
            Kind::Tap | Kind::Veth => ([10, 9, 0, 2], 7000).into(),
            Kind::Memif => ([10, 66, 0, 1], 7000).into(),
            Kind::Rdma => (rdma_address()?, 0).into(),
        })
    }

    /// A free UDP port of the client's end: whoever comes next may have it.
    pub(crate) fn client_port(&self) -> io::Result<SocketAddr> {
        match self.kind {
            Kind::Loopback => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr(),
            Kind::Memif => Ok(([10, 66, 0, 2], 7001).into()),
            _ => Ok(([10, 9, 0, 1], 7001).into()),
        }
    }

    /// A port of DPDK at an end, 0 the server's.
    pub(crate) fn port(&self, end: usize) -> String {
        let role = ["server", "client"][end];
        format!("net_memif{end},role={role},id=0,bsize=2048,socket=demikernel-paper-{}", self.name)
    }

    /// The file for the userspace stack at an end, if it is one; gone with the scratch directory.
    pub(crate) fn configuration(&self, end: usize) -> io::Result<Option<PathBuf>> {
        let text = match self.kind {
            Kind::Loopback | Kind::Rdma => return Ok(None),
            Kind::Tap | Kind::Veth => format!(
                "[network]\ninterface = \"{INTERFACE}\"\naddresses = [\"10.9.0.2/24\"]\nduplicate-detection = \"off\"\n"
            ),
            Kind::Memif => format!(
                "[network]\naddresses = [\"10.66.0.{}/24\"]\nduplicate-detection = \"off\"\n\
                 [dpdk]\nport = \"{}\"\nhuge-pages = {}\n",
                end + 1,
                self.port(end),
                has_huge_pages()
            ),
        };
        let path = self.scratch.join(format!("{}-{end}.toml", self.name));
        fs::write(&path, text)?;
        Ok(Some(path))
    }

    /// Has the kernel know who reflects bare frames, who says nothing else.
    pub(crate) fn introduce_reflector(&self) -> io::Result<()> {
        let interface = if self.kind == Kind::Tap { INTERFACE } else { FAR };
        let mac = STACK_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("neigh replace 10.9.0.2 lladdr {mac} dev {interface} nud permanent"))
    }

    /// A file that is not there yet.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{}-{name}", self.name))
    }
}

#[cfg(feature = "rdma")]
fn rdma_address() -> io::Result<IpAddr> {
    let addresses = demikernel::rdma::transport::addresses()?;
    addresses.into_iter().next().ok_or_else(|| io::Error::other("no RDMA device here has an address"))
}

#[cfg(not(feature = "rdma"))]
fn rdma_address() -> io::Result<IpAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "RDMA is not compiled in"))
}
