//! A port of vhost and one of virtio, in one process.

mod common;

use std::time::{Duration, Instant};

use common::eal;
use demikernel_dpdk::{Port, PortConfig, Queue};
use demikernel_runtime::buffer::{Buffer, Sga};

fn open(name: String) -> Queue {
    open_with(name, None)
}

fn open_with(name: String, mtu: Option<u16>) -> Queue {
    let mut config = PortConfig::new(name);
    config.mtu = mtu;
    Port::open(eal(), &config).unwrap_or_else(|error| panic!("{error}"))
}

fn wait_for_links(ends: [&Queue; 2]) {
    let end = Instant::now() + Duration::from_secs(10);
    while !ends.iter().all(|queue| queue.port().link().up) {
        assert!(Instant::now() < end, "the ends do not meet");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sleeps until the queue has something, as long as it may sleep. Whether it was woken, if so.
fn sleep(queue: &mut Queue, limit: Duration) -> bool {
    if !queue.arm() {
        return true;
    }
    let descriptor = queue.descriptor().expect("it has interrupts");
    let mut wait = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, as is said.
    unsafe { libc::poll(&raw mut wait, 1, limit.as_millis() as i32) > 0 }
}

/// Until it may sleep, as nothing comes any more.
fn settle(queue: &mut Queue) {
    while sleep(queue, Duration::from_millis(20)) {
        assert_eq!(queue.receive(|_| {}), 0);
    }
}

/// Its driver switches interrupts off when a peer comes, after some that the peer has caused already: who slept again by then
/// was not woken by what the peer sent. So whatever changes wakes those who sleep.
#[test]
fn who_sleeps_is_woken_when_a_peer_comes_or_goes() {
    let socket = std::env::temp_dir().join(format!("demikernel-vhost-{}", std::process::id()));
    let mut server = open(format!("net_vhost0,iface={},queues=1", socket.display()));
    for round in 0..3 {
        settle(&mut server);
        let mut client = open(format!("net_virtio_user{round},path={}", socket.display()));
        wait_for_links([&server, &client]);
        assert!(sleep(&mut server, Duration::from_secs(5)), "a peer comes in round {round}");
        settle(&mut server);
        let mut frames = vec![(Buffer::copy_from_slice(&[round; 60]).unwrap(), Sga::new())];
        assert_eq!(client.transmit(&mut frames), 1);
        let mut came = 0;
        while came == 0 {
            assert!(sleep(&mut server, Duration::from_secs(5)), "a frame comes in round {round}");
            came = server.receive(|packet| assert_eq!(packet.head[..], [round; 60]));
        }
        settle(&mut server);
        drop(client);
        assert!(sleep(&mut server, Duration::from_secs(5)), "the peer goes in round {round}");
    }
}

/// Packet buffers have room for a whole frame of the MTU, so what arrives in pieces is rare: its path may be cold.
#[test]
fn a_jumbo_frame_arrives_in_one_piece() {
    let socket = std::env::temp_dir().join(format!("demikernel-jumbo-{}", std::process::id()));
    let mut server = open_with(format!("net_vhost1,iface={},queues=1", socket.display()), Some(9000));
    let mut client = open_with(format!("net_virtio_user9,path={}", socket.display()), Some(9000));
    wait_for_links([&server, &client]);
    let piece = |byte: u8, length: usize| Buffer::from(vec![byte; length]);
    let sent = [&[7; 54][..], &[8; 8000], &[9; 960]].concat();
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut server, &mut client];
        let rest = [piece(8, 8000), piece(9, 960)].into_iter().collect();
        let mut frames = vec![(piece(7, 54), rest)];
        let end = Instant::now() + Duration::from_secs(10);
        let mut came = Vec::new();
        while came.is_empty() {
            ends[from].transmit(&mut frames);
            ends[to].receive(|packet| came.push((packet.head.to_vec(), packet.rest.segments())));
            assert!(Instant::now() < end, "it does not come from {from}: {:?}", ends[to].counters());
        }
        assert!(came[0].0 == sent && came[0].1 == 0, "{} octets, then {} pieces", came[0].0.len(), came[0].1);
    }
}
