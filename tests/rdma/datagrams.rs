//! Datagrams between two threads of this process.

use crate::in_lab;
use demikernel::net::UdpSocket;
use demikernel::time::{Duration, timeout};
use demikernel::{Buffer, Builder, Idle, Runtime};
use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;

fn runtime() -> Runtime {
    Builder::new().transport("rdma").idle(Idle::Block).build().unwrap()
}

#[test]
fn datagrams_go_to_and_fro() {
    in_lab(|address| {
        let (ready, bound) = mpsc::channel();
        let server = thread::spawn(move || {
            runtime().block_on(async {
                let socket = UdpSocket::bind((address, 0)).await.unwrap();
                ready.send(socket.local_addr().unwrap()).unwrap();
                loop {
                    let (data, from) = socket.pop_from().await.unwrap();
                    let is_last = data == b"last";
                    socket.push_to(data, from).await.unwrap();
                    if is_last {
                        return;
                    }
                }
            });
        });
        let there = bound.recv().unwrap();
        runtime().block_on(async {
            // One whose address is not said: it is that of the way to the peer.
            let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
            let nobody = socket.push_to(Buffer::from_static(b"?"), (address, 9).into()).await.unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused, "{nobody}");
            for size in [1, 200, 300, 1000] {
                let sent = Buffer::copy_from_slice(&vec![size as u8; size]).unwrap();
                socket.push_to(sent.clone(), there).await.unwrap();
                let answer = timeout(Duration::from_secs(20), socket.pop_from()).await.unwrap().unwrap();
                assert_eq!(answer, (sent, there));
            }
            socket.push_to(Buffer::from_static(b"last"), there).await.unwrap();
            assert_eq!(
                timeout(Duration::from_secs(20), socket.pop_from()).await.unwrap().unwrap().0,
                b"last"
            );
        });
        server.join().unwrap();
    });
}
