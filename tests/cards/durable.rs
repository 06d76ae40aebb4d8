//! A server on a card with its log on an NVMe drive, neither of them by the kernel.

use crate::acknowledged::Ledger;
use crate::drives;
use crate::guest::Guest;
use crate::server::Server;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

/// Its first namespace.
const DRIVE: &str = "0000:00:13.0";

/// Servers that are killed, and how long each is under load.
const KILLS: u32 = 3;
const LOAD: Duration = Duration::from_secs(2);

/// Whoever waits for a server whose stack has died with it hears nothing any more.
const PATIENCE: Duration = Duration::from_secs(15);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Kills servers under load; the next one has what they had acknowledged, and in the end so has one on the kernel's sockets.
pub(crate) fn survives(guest: &Guest) {
    drives::bind(DRIVE);
    let storage = format!("[storage]\ndevice = \"{DRIVE}/1\"\n");
    let mut ledger = Ledger::new(4);
    for _ in 0..KILLS {
        let mut server = Server::with_log(guest, &storage);
        let address = server.address;
        ledger.check(|| connect(address));
        let kill = || {
            sleep(LOAD);
            server.kill();
        };
        ledger.load(|| connect(address), kill);
    }
    for transport in ["io_uring", "dpdk"] {
        let server = match transport {
            "dpdk" => Server::with_log(guest, &storage),
            kernels => Server::of_kernel(guest, kernels, &storage),
        };
        ledger.check(|| connect(server.address));
        server.end();
    }
    eprintln!("{} writes acknowledged by {KILLS} servers that were killed", ledger.writes());
    assert!(ledger.writes() > 20);
}
