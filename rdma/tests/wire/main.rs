//! Two machines at a cable that loses packets: two guests that `cargo xtask test --only rdma` starts, of which either runs
//! all of this. Elsewhere nothing is done here.

#[path = "../common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::*;
use demikernel_rdma::verbs::*;

/// Whether this guest is the one that listens; none if it is no guest.
fn is_server() -> Option<bool> {
    address()?;
    match std::env::var("LAB_NODE").as_deref() {
        Ok("1") => Some(false),
        Ok("2") => Some(true),
        other => panic!("node {other:?} of a pair"),
    }
}

/// 67 ms for an acknowledgement: a machine that is gone is noticed within a second.
const PARAMETERS: Parameters<'_> = Parameters {
    private_data: b"wire",
    responder_resources: 1,
    initiator_depth: 1,
    retries: 6,
    receiver_retries: 7,
    acknowledgement: Some(14),
    hop_limit: None,
};

fn accept(side: &Side, port: u16, pair: &QueuePair, receives: usize) -> ConnectionId {
    let here = SocketAddr::new(address().unwrap(), port);
    let (_listener, _) = side.listener(PortSpace::Reliable, here);
    let request = side.request();
    request.id.set_tag(pair.tag());
    request.id.prepare(pair).unwrap();
    for _ in 0..receives {
        pair.receive(space(LEN), 0).unwrap();
    }
    request.id.accept(pair, &PARAMETERS).unwrap();
    request.id
}

/// Connects as soon as the other guest listens.
fn connect_to(side: &Side, port: u16, tag: u64) -> (ConnectionId, QueuePair) {
    let deadline = Instant::now() + 2 * LIMIT;
    loop {
        let pair = side.pair(&tagged(tag));
        let id = side.routed(PortSpace::Reliable, tag, SocketAddr::new(peer(), port));
        id.connect(&pair, &PARAMETERS).unwrap();
        match side.event().kind {
            EventKind::Response { .. } => {
                id.establish(&pair, &PARAMETERS).unwrap();
                return (id, pair);
            }
            EventKind::Failed { error, .. } if Instant::now() < deadline => {
                println!("{error}: once more");
                std::thread::sleep(Duration::from_millis(200));
            }
            other => panic!("{other:?}"),
        }
    }
}

const MESSAGES: u32 = 200;
const LEN: usize = 8000;

fn text(number: u32) -> Vec<u8> {
    (0..LEN as u32).map(|index| (number.wrapping_mul(31) ^ index.wrapping_mul(7)) as u8).collect()
}

#[test]
fn a_transfer_over_a_cable_that_loses_packets_is_whole() {
    let Some(is_server) = is_server() else { return };
    let side = Side::new();
    if is_server {
        let shared = SharedReceiveQueue::new(&side.domain, 64).unwrap();
        shared.post_many(std::iter::repeat_with(|| space(LEN))).unwrap();
        let pair = side.sharing(&shared, &tagged(2));
        let _id = accept(&side, 7001, &pair, 0);
        for number in 0..MESSAGES {
            assert_eq!(received(side.completion()), (2, text(number)), "message {number}");
            shared.post(space(LEN)).unwrap();
        }
        pair.send(message(&[b"all"]), Flags::SIGNALLED, 0).unwrap();
        while !matches!(side.completion().outcome, Outcome::Sent(_)) {}
        return;
    }
    let (_id, pair) = connect_to(&side, 7001, 1);
    pair.receive(space(64), 0).unwrap();
    let mut sent = 0;
    loop {
        while sent < MESSAGES && pair.room() > 32 {
            pair.send(message(&[&text(sent)]), Flags { signalled: sent % 8 == 7, ..Flags::default() }, 0)
                .unwrap();
            sent += 1;
        }
        match side.completion().outcome {
            Outcome::Sent(_) => {}
            Outcome::Received { data, .. } => {
                assert_eq!((&*data, sent), (b"all".as_slice(), MESSAGES));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The last test of all, as the second guest does not survive it.
#[test]
fn the_other_machine_is_gone_in_the_middle_of_a_transfer() {
    let Some(is_server) = is_server() else { return };
    let side = Side::new();
    if is_server {
        let pair = side.pair(&tagged(2));
        let _id = accept(&side, 7002, &pair, 64);
        for number in 0..20 {
            assert_eq!(received(side.completion()), (2, text(number)), "message {number}");
        }
        // Here it ends well, whatever happens to the machine: that is turned off.
        std::fs::write("/demikernel-boot/status", "0\n").unwrap();
        std::fs::write("/proc/sysrq-trigger", "b").unwrap();
        unreachable!("the machine is off");
    }
    let (_id, pair) = connect_to(&side, 7002, 1);
    let mut number = 0;
    let start = Instant::now();
    let status = loop {
        while pair.room() > 0 {
            let Ok(()) = pair.send(message(&[&text(number)]), Flags::SIGNALLED, number.into()) else { break };
            number += 1;
        }
        match side.completion().outcome {
            Outcome::Sent(_) => {}
            Outcome::Failed { error, .. } => break error,
            other => panic!("{other:?}"),
        }
    };
    println!("{status} after {number} messages, {:?}", start.elapsed());
    assert_eq!(status.status, Status::RetryExceeded);
    assert_eq!(std::io::Error::from(status).kind(), std::io::ErrorKind::TimedOut);
    // All others come back, too.
    while pair.sends() > 0 {
        assert_eq!(failure(side.completion()), Status::Flushed);
    }
}
