//! A server on RDMA with its log on an NVMe drive, neither of them by the kernel.

use crate::acknowledged::Ledger;
use crate::examples::Server;
use crate::{drives, in_lab};
use demikernel::net::TcpStream;
use demikernel::time::timeout;
use demikernel::{Builder, Idle, Runtime};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

/// Its first namespace.
const DRIVE: &str = "0000:00:13.0";

const KILLS: u32 = 3;
const LOAD: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream on RDMA, for who wants to wait for it.
struct Blocking {
    // Dropped first.
    stream: TcpStream,
    runtime: Runtime,
}

impl Blocking {
    fn connect(address: SocketAddr) -> Blocking {
        let runtime = Builder::new().transport("rdma").idle(Idle::Block).build().unwrap();
        let stream = runtime.block_on(TcpStream::connect(address)).unwrap();
        Blocking { stream, runtime }
    }
}

impl Read for Blocking {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.runtime.block_on(async { timeout(PATIENCE, self.stream.read(room)).await? })
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(async { timeout(PATIENCE, self.stream.write(bytes)).await? })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.stream.flush())
    }
}

#[test]
fn what_a_server_on_rdma_has_acknowledged_is_on_its_drive() {
    in_lab(|address| {
        if !std::path::Path::new("/sys/bus/pci/devices").join(DRIVE).exists() {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "the guest has no drive");
            return eprintln!("skipped: the guest has no drive (cargo xtask lab --disks)");
        }
        drives::bind(DRIVE);
        let configuration = std::env::temp_dir().join("demikernel-rdma-durable.toml");
        std::fs::write(&configuration, format!("[storage]\ndevice = \"{DRIVE}/1\"\n")).unwrap();
        let start = || Server::start_with("key-value", &["--log", "orders"], address, Some(&configuration));
        let mut ledger = Ledger::new(3);
        for _ in 0..KILLS {
            let mut server = start();
            let to = server.address;
            ledger.check(|| Blocking::connect(to));
            let kill = || {
                sleep(LOAD);
                server.kill();
            };
            ledger.load(|| Blocking::connect(to), kill);
        }
        let server = start();
        ledger.check(|| Blocking::connect(server.address));
        eprintln!("{} writes acknowledged by {KILLS} servers that were killed", ledger.writes());
        assert!(ledger.writes() > 20);
    });
}
