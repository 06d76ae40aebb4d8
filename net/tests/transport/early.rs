//! What leaves within a push, and what waits for the turn.

use crate::harness::{Net, stack};
use crate::operations::buffer;
use demikernel_net::device::{Frame, FrameDevice, Pair};
use demikernel_net::transport::NetTransport;
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::{Duration, sleep};
use demikernel_runtime::transport::{Domain, Endpoint, Qd, SocketKind};
use std::net::SocketAddr;
use std::rc::Rc;

const PEER: &str = "192.0.2.9:9";

/// A socket with a peer at the other end of the device, which is the test.
fn socket(transport: &Rc<NetTransport>) -> (Runtime, Net, Qd) {
    let runtime = Runtime::new().unwrap();
    runtime.attach(transport.clone().transport());
    let net = Net { device: transport.clone(), network: transport.clone() };
    let socket = net.network.socket(Domain::V4, SocketKind::Datagram).unwrap();
    net.network.bind(socket, &Endpoint::Inet("192.0.2.1:7".parse().unwrap())).unwrap();
    (runtime, net, socket)
}

fn arrived(there: &mut Pair) -> Vec<Frame> {
    let mut burst = Vec::new();
    there.receive(&mut burst).unwrap();
    burst
}

/// The datagram as its receiver would send it back: sums are the same both ways.
fn answer(frame: &Frame) -> Frame {
    let mut bytes = Vec::new();
    frame.copy_to(&mut bytes);
    let (mut addresses, ports) = (bytes[12..20].to_vec(), [bytes[22], bytes[23], bytes[20], bytes[21]]);
    addresses.rotate_left(4);
    bytes[12..20].copy_from_slice(&addresses);
    bytes[20..24].copy_from_slice(&ports);
    Frame::new(Buffer::from(bytes))
}

#[test]
fn the_first_push_of_a_turn_leaves_at_once_and_others_with_the_next() {
    let (transport, mut there) = stack(64);
    let (runtime, net, socket) = socket(&transport);
    let peer: SocketAddr = PEER.parse().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            sleep(Duration::from_millis(1)).await;
            let _one = net.push_to(socket, buffer(b"one"), peer);
            assert_eq!(arrived(&mut there).len(), 1);
            let _two = net.push_to(socket, buffer(b"two"), peer);
            let _three = net.push_to(socket, buffer(b"three"), peer);
            assert_eq!(arrived(&mut there).len(), 0);
            sleep(Duration::from_millis(1)).await;
            assert_eq!(arrived(&mut there).len(), 2);
        }
        net.network.close(socket);
    });
}

#[test]
fn answers_to_a_burst_leave_in_a_burst() {
    let (transport, mut there) = stack(64);
    let (runtime, net, socket) = socket(&transport);
    let peer: SocketAddr = PEER.parse().unwrap();
    runtime.block_on(async {
        sleep(Duration::from_millis(1)).await;
        net.push_to(socket, buffer(b"ask"), peer).await.unwrap();
        let asked = arrived(&mut there);
        for (count, at_once) in [(1, 1), (2, 0)] {
            let mut burst: Vec<_> = (0..count).map(|_| answer(&asked[0])).collect();
            there.transmit(&mut burst).unwrap();
            net.pop_from(socket, 100).await.unwrap();
            let _answer = net.push_to(socket, buffer(b"answer"), peer);
            assert_eq!(arrived(&mut there).len(), at_once, "of {count}");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(arrived(&mut there).len(), 1 - at_once);
        }
        net.network.close(socket);
    });
}
