//! Ports of memif are closed and opened again.

mod common;

use std::time::{Duration, Instant};

use common::eal;
use demikernel_dpdk::{Port, PortConfig, Queue};

fn open(role: &str, socket: &str) -> Queue {
    let name = format!("net_memif-{role},role={role},id=0,socket={socket}");
    Port::open(eal(), &PortConfig::new(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn wait_for_link(queue: &Queue) {
    let end = Instant::now() + Duration::from_secs(10);
    while !queue.port().link().up {
        assert!(Instant::now() < end, "the ends do not meet");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its driver neither closes nor forgets what it listened on, whichever end is closed last.
#[test]
fn a_server_of_memif_may_be_opened_again() {
    let path = std::env::temp_dir().join(format!("demikernel-again-{}", std::process::id()));
    let named = format!("demikernel-again-{}", std::process::id());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for socket in [named, format!("{},socket-abstract=no", path.display())] {
        let mut before = None;
        for round in 0..6 {
            let ends = [open("server", &socket), open("client", &socket)];
            ends.iter().for_each(wait_for_link);
            let [server, client] = ends;
            match round % 2 {
                0 => drop((server, client)),
                _ => drop((client, server)),
            }
            // What is made once is there after the first.
            let now = descriptors();
            assert_eq!(*before.get_or_insert(now), now, "descriptors in round {round} of {socket}");
        }
    }
}
