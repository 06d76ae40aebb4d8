//! Looking inside of a stack that runs: captures on and off, connections, and what tokens wait for.

use crate::harness::stack;
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::time::sleep;
use demikernel_runtime::{Builder, dump, handle, inspect, spawn, yield_now};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An output that the test reads.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn contains(&self, wanted: &[u8]) -> bool {
        self.0.lock().unwrap().windows(wanted.len()).any(|bytes| bytes == wanted)
    }
}

#[test]
fn a_capture_is_switched_on_and_off_while_the_stack_runs() {
    use demikernel_runtime::net::UdpSocket;
    let (transport, _there) = stack(64);
    let runtime = Builder::new().build().unwrap();
    runtime.attach(transport.transport());
    runtime.block_on(async {
        let (output, capture) = (Output::default(), |output| handle().capture(output, Duration::ZERO));
        let socket = UdpSocket::bind("192.0.2.1:7000").await.unwrap();
        let send = async |data: &'static [u8]| {
            socket.push_to(data.into(), "192.0.2.9:9".parse().unwrap()).await.unwrap();
            // Tasks that yield keep the device from its turn.
            sleep(Duration::from_millis(1)).await;
        };
        send(b"before").await;
        assert_eq!(capture(Some(Box::new(output.clone()))).unwrap(), "pair");
        send(b"during").await;
        assert_eq!(capture(None).unwrap(), "pair");
        send(b"after").await;
        assert!(output.contains(b"during"));
        assert!(!output.contains(b"before") && !output.contains(b"after"));
    });
}

#[test]
fn connections_and_tokens_of_the_stack_are_shown() {
    let (transport, _there) = stack(64);
    let runtime = Builder::new().build().unwrap();
    runtime.attach(transport.transport());
    runtime.block_on(async {
        let listener = TcpListener::bind("192.0.2.1:7000").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.push(vec![7; 1000].into()).await.unwrap();
        assert_eq!(server.pop().await.unwrap().len(), 1000);
        let waits = spawn(async move { server.pop().await });
        yield_now().await;
        let token = dump().tasks[0].waits_for[0].clone();
        assert_eq!(token.device.as_deref(), Some("pair"));
        assert!(token.what.unwrap().starts_with("receive of socket "));
        let local = client.local_addr().unwrap().to_string();
        let all = inspect::connections();
        let of_client = all.iter().find(|it| it.local.as_ref() == Some(&local)).unwrap();
        assert_eq!(
            (of_client.state.as_deref(), of_client.peer.clone()),
            (Some("established"), Some(address.to_string()))
        );
        assert!(of_client.figure("snd_mss").unwrap() > 0, "{all:?}");
        assert!(all.iter().any(|it| it.figure("bytes_received") == Some(1000)), "{all:?}");
        drop(waits);
    });
}
