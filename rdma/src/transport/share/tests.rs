//! Ports that two transports share. They are of one thread, as the double is.

use super::super::tests::{heap, transport};
use super::*;
use crate::transport::RdmaConfig;
use crate::verbs::double;
use demikernel_runtime::Runtime;
use demikernel_runtime::net::{TcpListener, TcpSocket, TcpStream};
use demikernel_runtime::time::{Duration, sleep, timeout};
use demikernel_runtime::transport::Network;
use std::io::ErrorKind;
use std::rc::Rc;

/// Until a core has looked at what others have told it, also under valgrind.
const SETTLED: Duration = Duration::from_millis(200);

const PORT: u16 = 4711;

fn run(program: impl AsyncFn(Rc<dyn Network>, Rc<dyn Network>)) {
    let runtime = Runtime::new().unwrap();
    let [one, other] = [(); 2].map(|()| transport(&RdmaConfig::default()).transport());
    let networks = [&one, &other].map(|transport| transport.network.clone().unwrap());
    runtime.attach(one);
    runtime.attach(other);
    runtime.block_on(async {
        let [one, other] = networks;
        timeout(Duration::from_secs(10), program(one, other)).await.unwrap();
    });
    drop(runtime);
    assert_eq!(double::alive(), 0, "the device has nothing any more");
    assert!(!lock(&PORTS).iter().any(|port| port.name.realm == double::realm()), "nobody shares a port");
}

fn listen(network: &Rc<dyn Network>, shares: bool) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4_on(network)?;
    socket.set_reuse_port(shares)?;
    assert_eq!(socket.reuse_port()?, shares);
    socket.bind((double::ADDRESS, PORT).into())?;
    socket.listen(16)
}

async fn connect(network: &Rc<dyn Network>) -> io::Result<TcpStream> {
    TcpStream::connect_on(network, (double::ADDRESS, PORT)).await
}

/// Whether both ends of a connection are ends of one.
async fn are_joined(client: &TcpStream, server: &TcpStream) {
    client.push(heap(b"to")).await.unwrap();
    assert_eq!(server.pop().await.unwrap(), b"to");
    server.push(heap(b"fro")).await.unwrap();
    assert_eq!(client.pop().await.unwrap(), b"fro");
}

#[test]
fn connections_go_to_each_in_turn() {
    run(async |one, other| {
        let listeners = [listen(&one, true).unwrap(), listen(&other, true).unwrap()];
        let refused = listen(&other, false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse, "who does not share has no place");
        let mut ends = Vec::new();
        for round in 0..6 {
            let client = connect(&one).await.unwrap();
            let (server, peer) = listeners[(round + 1) % 2].accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(server.local_addr().unwrap().port(), PORT);
            are_joined(&client, &server).await;
            ends.push((client, server));
        }
    });
}

#[test]
fn another_takes_the_place_of_the_first() {
    run(async |one, other| {
        let first = listen(&one, true).unwrap();
        let second = listen(&other, true).unwrap();
        drop(first);
        sleep(SETTLED).await;
        for _ in 0..3 {
            let client = connect(&one).await.unwrap();
            are_joined(&client, &second.accept().await.unwrap().0).await;
        }
        let third = listen(&one, true).unwrap();
        let clients = [connect(&one).await.unwrap(), connect(&one).await.unwrap()];
        let servers = [second.accept().await.unwrap().0, third.accept().await.unwrap().0];
        drop((second, third));
        sleep(SETTLED).await;
        assert_eq!(connect(&one).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // What was accepted goes on.
        clients[0].push(heap(b"on")).detach();
        clients[1].push(heap(b"on")).detach();
        for server in &servers {
            assert_eq!(server.pop().await.unwrap(), b"on");
        }
    });
}

#[test]
fn who_binds_and_does_not_listen_leaves_the_port_to_others() {
    run(async |one, other| {
        let socket = TcpSocket::new_v4_on(&one).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind((double::ADDRESS, PORT).into()).unwrap();
        let listener = listen(&other, true).unwrap();
        drop(socket);
        sleep(SETTLED).await;
        let client = connect(&one).await.unwrap();
        are_joined(&client, &listener.accept().await.unwrap().0).await;
        // And the last one may leave before it has listened.
        let socket = TcpSocket::new_v4_on(&one).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind((double::ADDRESS, PORT).into()).unwrap();
        drop(listener);
        let again = socket.listen(4).unwrap();
        let client = connect(&other).await.unwrap();
        are_joined(&client, &again.accept().await.unwrap().0).await;
    });
}
