//! Two ports of one process that are joined by memif, without huge pages.

mod common;

use std::time::{Duration, Instant};

use common::eal;
use demikernel_dpdk::{Eal, EalConfig, Error, Packet, Port, PortConfig, Queue};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga, pool};

type Frame = (Buffer, Sga);

fn frame(head: &[u8], rest: &[&[u8]]) -> Frame {
    let buffer = |bytes: &[u8]| Buffer::copy_from_slice(bytes).unwrap();
    (buffer(head), rest.iter().map(|bytes| buffer(bytes)).collect())
}

/// Both ends of a cable of shared memory.
fn pair(number: usize) -> [Queue; 2] {
    let eal = eal();
    let socket = std::env::temp_dir().join(format!("demikernel-memif-{}-{number}", std::process::id()));
    let open = |role: &str, index: usize| {
        let index = 2 * number + index;
        let name = format!("net_memif{index},role={role},id=0,socket={}", socket.display());
        Port::open(eal, &PortConfig::new(name + ",socket-abstract=no"))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let mut ends = [open("server", 0), open("client", 1)];
    let end = Instant::now() + Duration::from_secs(10);
    while !ends.iter().all(|queue| queue.port().link().up) {
        assert!(Instant::now() < end, "the ends do not meet");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The client's first look lends the server buffers.
    ends.iter_mut().for_each(|queue| assert_eq!(queue.receive(|_| {}), 0));
    ends
}

/// What arrives, as soon as there are so many.
fn receive(queue: &mut Queue, count: usize) -> Vec<Packet> {
    let mut packets = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while packets.len() < count {
        queue.receive(|packet| packets.push(packet));
        assert!(Instant::now() < end, "{} of {count} have arrived: {:?}", packets.len(), queue.counters());
    }
    packets
}

fn bytes(packet: &Packet) -> Vec<u8> {
    [&packet.head[..], &packet.rest.to_vec()].concat()
}

fn in_use() -> usize {
    pool::stats().in_use()
}

#[test]
fn packets_arrive_as_they_left_and_their_memory_comes_back() {
    let [mut here, mut there] = pair(0);
    let before = in_use();
    let mut sent = vec![frame(b"one piece", &[]), frame(&[7; 100], &[&[8; 300], &[9; 900]])];
    assert_eq!(here.transmit(&mut sent), 2);
    let packets = receive(&mut there, 2);
    assert_eq!(bytes(&packets[0]), b"one piece");
    assert_eq!(bytes(&packets[1]), [&[7; 100][..], &[8; 300], &[9; 900]].concat());
    // What arrives may be sent on.
    let mut back: Vec<Frame> = packets.into_iter().map(|packet| (packet.head, packet.rest)).collect();
    assert_eq!(there.transmit(&mut back), 2);
    assert_eq!(receive(&mut here, 2).len(), 2);
    here.receive(|_| {});
    there.receive(|_| {});
    assert_eq!(in_use(), before);
    assert_eq!(
        here.counters().copied_in + there.counters().copied_in,
        0,
        "the memory is exchanged, not copied"
    );
}

/// The driver sets no limit to their number, but a burst has one.
#[test]
fn a_packet_of_very_many_pieces_goes_as_a_copy() {
    let [mut here, mut there] = pair(4);
    let pieces: Vec<[u8; 3]> = (0..400).map(|index| [index as u8; 3]).collect();
    let rest: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
    let mut sent = vec![frame(&[7; 60], &rest), frame(b"the next", &[])];
    assert_eq!(here.transmit(&mut sent), 2);
    let packets = receive(&mut there, 2);
    assert_eq!(bytes(&packets[0]), [&[7; 60][..], &pieces.concat()].concat());
    assert_eq!(bytes(&packets[1]), b"the next");
    assert_eq!(here.counters().copied_out, 1);
}

#[test]
fn a_full_ring_takes_no_more_and_loses_nothing() {
    let [mut here, mut there] = pair(1);
    let before = in_use();
    let mut waiting: Vec<Frame> = Vec::new();
    let (mut next, mut sent) = (0u32, 0);
    // More than all rings and descriptors hold.
    while here.counters().full == 0 {
        while waiting.len() < 32 {
            waiting.push(frame(&next.to_be_bytes(), &[&[0; 60]]));
            next += 1;
        }
        sent += here.transmit(&mut waiting);
        assert!(sent < 1 << 20);
    }
    let mut expected = 0u32;
    while expected < next {
        sent += here.transmit(&mut waiting);
        for packet in receive(&mut there, 1) {
            assert_eq!(bytes(&packet)[..4], expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!((sent as u32, waiting.len()), (next, 0));
    here.receive(|_| {});
    assert_eq!(in_use(), before);
}

#[test]
fn without_a_buffer_for_the_next_a_packet_is_dropped_and_the_port_goes_on() {
    let [mut here, mut there] = pair(2);
    let limit = pool::limit();
    let sent = |here: &mut Queue| assert_eq!(here.transmit(&mut vec![frame(&[5; 64], &[])]), 1);
    sent(&mut here);
    let kept = receive(&mut there, 1);
    pool::set_limit(0);
    let mut hoard = Vec::new();
    while let Ok(buffer) = BufferMut::with_capacity(2048) {
        hoard.push(buffer);
    }
    // The one that is needed to send.
    hoard.pop();
    sent(&mut here);
    hoard.extend(BufferMut::with_capacity(2048));
    while there.counters().no_buffer == 0 {
        assert_eq!(there.receive(|_| {}), 0);
        while let Ok(buffer) = BufferMut::with_capacity(2048) {
            hoard.push(buffer);
        }
    }
    drop(hoard);
    pool::set_limit(limit);
    sent(&mut here);
    assert_eq!(bytes(&receive(&mut there, 1)[0]), [5; 64]);
    assert_eq!(bytes(&kept[0]), [5; 64]);
}

#[test]
fn memory_of_a_packet_outlives_the_port() {
    let packets = {
        let [mut here, mut there] = pair(3);
        assert_eq!(here.transmit(&mut vec![frame(&[6; 1000], &[])]), 1);
        receive(&mut there, 1)
    };
    assert_eq!(bytes(&packets[0]), [6; 1000]);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let eal = eal();
    let error = |name: &str| Port::open(eal, &PortConfig::new(name)).unwrap_err().to_string();
    assert!(
        error("net_unheard_of0").contains("cannot find or start the device"),
        "{}",
        error("net_unheard_of0")
    );
    let mut config = PortConfig::new("net_ring_of_errors");
    config.name = "net_null0".to_owned();
    config.queues = 5000;
    let refused = Port::open(eal, &config).unwrap_err();
    assert!(refused.to_string().contains("pairs of queues, and 5000 are asked for"), "{refused}");
    // It was closed again.
    config.queues = 1;
    let open = Port::open(eal, &config).unwrap();
    assert!(error("net_null0,size=10").contains("another configuration"), "{}", error("net_null0,size=10"));
    let again = Port::open(eal, &config).unwrap_err();
    assert!(again.to_string().contains("all its queues are in use"), "{again}");
    drop(open);
    let mut other = EalConfig::default();
    other.arguments = vec!["--log-level=8".to_owned()];
    assert!(matches!(Eal::start(&other), Err(Error::Other { .. })));
}

/// Without a cable: the device has a frame whenever it is asked, and takes any.
#[test]
fn memory_out_of_the_devices_reach_is_copied() {
    // The region of this one was mapped before there was EAL's memory, and has room for more.
    let old = Buffer::copy_from_slice(&[3; 2000]).unwrap();
    let mut queue = Port::open(eal(), &PortConfig::new("net_null5,size=60")).unwrap();
    let mut sent = vec![(old.clone(), Sga::default()), frame(&[4; 60], &[])];
    assert_eq!(queue.transmit(&mut sent), 2);
    assert!(queue.counters().copied_out >= 1, "{:?}", queue.counters());
    // More than the old region has room for.
    let mut kept = Vec::new();
    for _ in 0..100 {
        queue.receive(|packet| kept.push(packet));
    }
    let counters = queue.counters();
    assert!(0 < counters.copied_in && counters.copied_in < counters.received, "{counters:?}");
    assert!(kept.iter().all(|packet| packet.head.len() == 60));
}
