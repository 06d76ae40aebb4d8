//! `cargo xtask setup`: the programs that tests and benchmarks need.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};

use crate::process::inherit;

/// Say which programs are missing, and install them.
///
/// On Debian and as root they are installed with apt-get; otherwise the command to type is printed. Services that
/// come with a package are stopped and disabled, as benchmarks start their own.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Only say what is there and what is missing; exit status 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// A program, where it comes from and who needs it.
pub(crate) struct Tool {
    program: &'static str,
    source: Source,
    needed_for: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// A package of Debian.
    Debian(&'static str),
    /// A library that pkg-config knows by this name, and the package of Debian that has it; or several, with blanks.
    Library(&'static str),
    /// A library that the dynamic linker knows by a name that begins so, and the package of Debian.
    Shared(&'static str),
    /// A file, and the package of Debian.
    File(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
}

const fn debian(program: &'static str, package: &'static str, needed_for: &'static str) -> Tool {
    Tool { program, source: Source::Debian(package), needed_for }
}

const fn library(name: &'static str, package: &'static str, needed_for: &'static str) -> Tool {
    Tool { program: name, source: Source::Library(package), needed_for }
}

const fn rustup(program: &'static str, component: &'static str, needed_for: &'static str) -> Tool {
    Tool { program, source: Source::Rustup(component), needed_for }
}

pub(crate) static RUSTFMT: Tool = rustup("rustfmt", "rustfmt", "test stage fmt");
pub(crate) static CLIPPY: Tool = rustup("cargo-clippy", "clippy", "test stage clippy");
pub(crate) static VALGRIND: Tool = debian("valgrind", "valgrind", "test stages valgrind and exact");
pub(crate) static STRACE: Tool = debian("strace", "strace", "test stage exact");
pub(crate) static PKG_CONFIG: Tool = debian("pkg-config", "pkg-config", "the feature dpdk");
pub(crate) static DPDK: Tool = library("libdpdk", "libdpdk-dev", "the feature dpdk");
pub(crate) static CMAKE: Tool = debian("cmake", "cmake", RDMA_BUILD);
pub(crate) static CLANG: Tool =
    Tool { program: "libclang", source: Source::Shared("libclang-dev"), needed_for: RDMA_BUILD };
pub(crate) static RDMA: Tool = library(
    "libibverbs librdmacm libnl-route-3.0",
    "libibverbs-dev librdmacm-dev libnl-3-dev libnl-route-3-dev",
    RDMA_BUILD,
);
pub(crate) static NETCAT: Tool = debian("nc", "netcat-openbsd", "end-to-end tests");
pub(crate) static IP: Tool = debian("ip", "iproute2", "end-to-end tests of the userspace stack");
pub(crate) static PING: Tool = debian("ping", "iputils-ping", "end-to-end tests of the userspace stack");
pub(crate) static DNSMASQ: Tool =
    debian("dnsmasq", "dnsmasq-base", "end-to-end tests of the userspace stack: DHCP, routers");
pub(crate) static IPERF3: Tool = debian("iperf3", "iperf3", "end-to-end tests of the userspace stack");
pub(crate) static TSHARK: Tool = debian("tshark", "tshark", "end-to-end tests of the userspace stack");
pub(crate) static CURL: Tool = debian("curl", "curl", "end-to-end tests");
pub(crate) static WRK: Tool = debian("wrk", "wrk", "end-to-end tests, benchmarks");
pub(crate) static H2LOAD: Tool = debian("h2load", "nghttp2-client", "end-to-end tests of HTTP/2");
pub(crate) static OPENSSL: Tool = debian("openssl", "openssl", "end-to-end tests of TLS");
pub(crate) static PYTHON_WEBSOCKETS: Tool = Tool {
    program: "/usr/lib/python3/dist-packages/websockets",
    source: Source::File("python3-websockets"),
    needed_for: "end-to-end tests of services",
};
pub(crate) static PYTHON_GRPC: Tool = Tool {
    program: "/usr/lib/python3/dist-packages/grpc",
    source: Source::File("python3-grpcio"),
    needed_for: "end-to-end tests of services",
};
pub(crate) static REDIS_CLI: Tool = debian("redis-cli", "redis-tools", "end-to-end tests");
pub(crate) static REDIS_BENCHMARK: Tool =
    debian("redis-benchmark", "redis-tools", "end-to-end tests, benchmarks");
pub(crate) static REDIS_SERVER: Tool =
    debian("redis-server", "redis-server", "benchmarks: the peer of key-value");
pub(crate) static FIO: Tool = debian("fio", "fio", "benchmarks: the peer of storage");

pub(crate) static QEMU: Tool = debian("qemu-system-x86_64", "qemu-system-x86", VM);
pub(crate) static BUSYBOX: Tool = debian("busybox", "busybox-static", VM);
pub(crate) static MODPROBE: Tool = debian("modprobe", "kmod", VM);
pub(crate) static CPIO: Tool = debian("cpio", "cpio", VM);

pub(crate) static RDMA_DRIVERS: Tool = Tool {
    program: "/etc/libibverbs.d/rxe.driver",
    source: Source::File("ibverbs-providers"),
    needed_for: LAB,
};
pub(crate) static RDMA_DEVICES: Tool = debian("ibv_devinfo", "ibverbs-utils", LAB);
pub(crate) static RPING: Tool = debian("rping", "rdmacm-utils", LAB);
pub(crate) static PERFTEST: Tool = debian("ib_send_bw", "perftest", LAB);

const VM: &str = "test stages old-kernel, cards and rdma, cargo xtask vm and lab";
const RDMA_BUILD: &str = "the feature rdma";
const LAB: &str = "test stage rdma, cargo xtask lab";

static ALL: [&Tool; 33] = [
    &RUSTFMT,
    &CLIPPY,
    &PKG_CONFIG,
    &DPDK,
    &CMAKE,
    &CLANG,
    &RDMA,
    &VALGRIND,
    &STRACE,
    &NETCAT,
    &IP,
    &PING,
    &DNSMASQ,
    &IPERF3,
    &TSHARK,
    &CURL,
    &WRK,
    &H2LOAD,
    &OPENSSL,
    &PYTHON_WEBSOCKETS,
    &PYTHON_GRPC,
    &REDIS_CLI,
    &REDIS_BENCHMARK,
    &REDIS_SERVER,
    &FIO,
    &QEMU,
    &BUSYBOX,
    &MODPROBE,
    &CPIO,
    &RDMA_DRIVERS,
    &RDMA_DEVICES,
    &RPING,
    &PERFTEST,
];

/// Packages that start a service when they are installed.
const SERVICES: [&str; 1] = ["redis-server"];

impl Tool {
    /// Whether it can be used.
    fn is_installed(&self) -> bool {
        match self.source {
            Source::Debian(_) => on_path(self.program),
            Source::Library(_) => {
                let found = Command::new("pkg-config").args(["--exists", self.program]).status();
                found.is_ok_and(|status| status.success())
            }
            Source::Shared(_) => {
                let output = Command::new("ldconfig").arg("-p").output();
                output.is_ok_and(|output| {
                    let list = String::from_utf8_lossy(&output.stdout).into_owned();
                    list.lines().any(|line| is_of_library(line.trim_start(), self.program))
                })
            }
            Source::File(_) => Path::new(self.program).exists(),
            // Of each component rustup installs a proxy, which fails if the component is not there.
            Source::Rustup(_) => {
                let output = Command::new(self.program).arg("--version").output();
                output.is_ok_and(|output| output.status.success())
            }
        }
    }

    /// Why a stage that needs this program cannot run, if it is missing.
    pub(crate) fn missing(&self) -> Option<String> {
        let remedy = match self.source {
            Source::Debian(package)
            | Source::Library(package)
            | Source::Shared(package)
            | Source::File(package) => format!("apt-get install {package}"),
            Source::Rustup(component) => format!("rustup component add {component}"),
        };
        (!self.is_installed()).then(|| format!("{} is not installed: {remedy}", self.program))
    }
}

/// Whether a file is one of this shared library, with a version or without: libclang-cpp is not libclang.
fn is_of_library(file: &str, library: &str) -> bool {
    let rest = file.strip_prefix(library);
    let version = rest
        .map(|rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || "-.".contains(letter)));
    version.is_some_and(|rest| rest.starts_with("so"))
}

/// Whether a program of this name is found.
fn on_path(program: &str) -> bool {
    let is_executable = |file: PathBuf| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| is_executable(directory.join(program)))
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    for tool in ALL {
        let state = if tool.is_installed() { "installed" } else { "MISSING" };
        println!("{:16} {state:10} for {}", tool.program, tool.needed_for);
    }
    let complete = if options.check { missing(&ALL).is_empty() } else { install(&ALL)? };
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn missing(tools: &[&'static Tool]) -> Vec<&'static Tool> {
    tools.iter().copied().filter(|tool| !tool.is_installed()).collect()
}

/// Installs what is missing among `tools`; false if something could not be installed and was only named.
pub(crate) fn install(tools: &[&'static Tool]) -> Result<bool> {
    let mut packages = Vec::new();
    let mut components = Vec::new();
    for tool in missing(tools) {
        let (list, names) = match tool.source {
            Source::Debian(names) | Source::Library(names) | Source::Shared(names) | Source::File(names) => {
                (&mut packages, names)
            }
            Source::Rustup(component) => (&mut components, component),
        };
        for name in names.split_whitespace() {
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
    add_components(&components)?;
    add_packages(&packages)?;
    Ok(missing(tools).is_empty())
}

fn add_components(components: &[&str]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    if !on_path("rustup") {
        println!("Missing components of the Rust toolchain: {}", components.join(", "));
        return Ok(());
    }
    let status = inherit(Command::new("rustup").args(["component", "add"]).args(components))?;
    ensure!(status.success(), "rustup could not add {}: {status}", components.join(", "));
    Ok(())
}

fn add_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") || !is_root() {
        println!("To install what is missing (names of Debian's packages):");
        println!("  sudo apt-get update && sudo apt-get install {}", packages.join(" "));
        return Ok(());
    }
    apt_install(packages)?;
    for service in SERVICES.iter().filter(|service| packages.contains(*service)) {
        stop_service(service)?;
    }
    Ok(())
}

/// Installs with the package lists that are there, and fetches new ones only if that fails.
fn apt_install(packages: &[&str]) -> Result<()> {
    let install = || inherit(apt_get("install").args(["--yes", "--no-install-recommends"]).args(packages));
    if install()?.success() {
        return Ok(());
    }
    println!("The package lists may be missing or old: fetching them.");
    let updated = inherit(&mut apt_get("update"))?;
    let status = install()?;
    if !status.success() {
        let update = if updated.success() { "" } else { " (apt-get update failed, too)" };
        bail!("apt-get could not install {}: {status}{update}", packages.join(", "));
    }
    Ok(())
}

fn apt_get(action: &str) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    // Another apt-get may be at work on a machine that has just started.
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300", action]);
    command
}

/// Stops a service that the installation has just started, now and for later boots.
fn stop_service(service: &str) -> Result<()> {
    if Path::new("/run/systemd/system").is_dir() {
        inherit(Command::new("systemctl").args(["disable", "--now", service]))?;
    } else {
        // In a container neither of them has anything to do, and failing to stop what does not run is no error.
        inherit(Command::new("service").args([service, "stop"]))?;
        inherit(Command::new("update-rc.d").args([service, "disable"]))?;
    }
    Ok(())
}

fn is_root() -> bool {
    // The owner of one's own entry in /proc is the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_remedy() {
        let tool = debian("no-such-program-anywhere", "some-package", "nothing");
        assert_eq!(
            tool.missing().as_deref(),
            Some("no-such-program-anywhere is not installed: apt-get install some-package")
        );
        assert_eq!(debian("sh", "dash", "everything").missing(), None);
    }

    #[test]
    fn a_library_is_known_by_its_files() {
        for file in ["libclang.so (libc6,x86-64)", "libclang.so.1", "libclang-14.so.1 (libc6,x86-64)"] {
            assert!(is_of_library(file, "libclang"), "{file}");
        }
        for file in ["libclang-cpp.so.14 (libc6,x86-64)", "libclangd.so", "libc.so.6"] {
            assert!(!is_of_library(file, "libclang"), "{file}");
        }
    }
}
