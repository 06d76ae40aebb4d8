//! TCP echo over loopback: every runtime's server, and raw kernel interfaces, under one load generator.
//!
//! A server is a child process pinned to one core; the client runs on the other. All servers are up at once,
//! those that spin stopped by SIGSTOP between their turns, and every round gives each of them one short burst,
//! so that all see the same phases of a noisy machine and can be divided by each other within the round.
//!
//! Every server reads up to 16 KiB at a time, writes all that it read, and has TCP_NODELAY on.

pub(crate) mod latency;
pub(crate) mod raw_epoll;
mod raw_multishot;
pub(crate) mod raw_uring;
pub mod rounds;
pub mod server;
pub mod throughput;

use crate::runtimes as rt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::RawFd;

/// The size of a server's read.
pub const BUFFER: usize = 16 * 1024;

/// Where servers listen: on a port that is free.
pub const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// What a server's line on standard output begins with, once it listens.
const READY: &str = "listening on ";

/// Tells the parent process where this server listens.
pub fn announce(address: SocketAddr) {
    println!("{READY}{address}");
    std::io::stdout().flush().expect("the parent reads");
}

/// The first byte of a message that asks a server to end. Those of the load generator begin otherwise.
pub const END: u8 = b'!';

/// Every server shows what it received: ends the process when asked, so that what counts its instructions can
/// print them. (Under valgrind a signal would wait until the system call in which the server sleeps returns.)
#[inline]
pub fn seen(received: &[u8]) {
    if received.first() == Some(&END) {
        std::process::exit(0);
    }
}

/// All servers, in the order of the table.
pub const SERVERS: [&str; 22] = [
    "raw-epoll",
    "raw-epoll-spin",
    "raw-uring",
    "raw-uring-defer",
    "raw-uring-defer-spin",
    "raw-uring-multishot",
    "tokio",
    "tokio-local",
    "tokio-uring",
    "tokio-uring-single",
    "monoio",
    "monoio-defer",
    "monoio-legacy",
    "glommio",
    "compio",
    "compio-defer",
    "smol",
    "demikernel-spin",
    "demikernel-block",
    "demikernel-adaptive",
    "demikernel-epoll-spin",
    "demikernel-epoll-block",
];

/// Runs a server in this process until it is killed.
pub fn serve(name: &str, core: usize) {
    crate::machine::pin(core);
    match name {
        "raw-epoll" => raw_epoll::serve(false),
        "raw-epoll-spin" => raw_epoll::serve(true),
        "raw-uring" => raw_uring::serve(raw_uring::Mode::Plain),
        "raw-uring-defer" => raw_uring::serve(raw_uring::Mode::Defer),
        "raw-uring-defer-spin" => raw_uring::serve(raw_uring::Mode::DeferSpin),
        "raw-uring-multishot" => raw_multishot::serve(),
        "tokio" => rt::tokio::echo_current_thread(),
        "tokio-local" => rt::tokio::echo_local(),
        "tokio-uring" => rt::tokio_uring::echo(false),
        "tokio-uring-single" => rt::tokio_uring::echo(true),
        "monoio" => rt::monoio::echo_uring(false),
        "monoio-defer" => rt::monoio::echo_uring(true),
        "monoio-legacy" => rt::monoio::echo_legacy(),
        "glommio" => rt::glommio::echo(core),
        "compio" => rt::compio::echo(false),
        "compio-defer" => rt::compio::echo(true),
        "smol" => rt::smol::echo(),
        "demikernel-spin" => rt::demikernel::echo("io_uring", "spin"),
        "demikernel-block" => rt::demikernel::echo("io_uring", "block"),
        "demikernel-adaptive" => rt::demikernel::echo("io_uring", "adaptive"),
        "demikernel-epoll-spin" => rt::demikernel::echo("epoll", "spin"),
        "demikernel-epoll-block" => rt::demikernel::echo("epoll", "block"),
        other => panic!("no server is called {other:?}"),
    }
}

/// Whether a server takes all of its core even when nobody talks to it.
fn spins(name: &str) -> bool {
    name.ends_with("-spin")
}

fn set_nodelay(socket: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int that lives across the call.
    unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size_of_val(&on) as u32);
    }
}
