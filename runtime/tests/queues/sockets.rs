//! Connections as queues.

use demikernel_runtime::Builder;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::queue::{PopError, PopQueue, Pops, PushQueue, map, merge, sort_by_key};
use demikernel_runtime::time::timeout;
use demikernel_runtime::transport::epoll::Epoll;
use futures::StreamExt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

fn on_sockets<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new().build().unwrap();
    runtime.attach(Epoll::transport().unwrap());
    runtime.block_on(async { timeout(Duration::from_secs(20), future).await.expect("done in time") })
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.set_nodelay(true).unwrap();
    (client, server)
}

async fn push<Q: PushQueue<Item = Buffer, Error = io::Error>>(queue: &Q, text: &'static str) {
    queue.push(Buffer::from_static(text.as_bytes())).await.unwrap();
}

#[test]
fn two_connections_as_one() {
    on_sockets(async {
        let (one, one_server) = pair().await;
        let (other, other_server) = pair().await;
        let merged = merge(Rc::new(one_server), other_server);
        let waiting = merged.pop();
        push(&other, "other").await;
        assert_eq!(waiting.await.unwrap(), b"other");
        push(&one, "one").await;
        assert_eq!(merged.pop().await.unwrap(), b"one");
        // The end of one is not the end of both.
        drop(one);
        let waiting = merged.pop();
        push(&other, "last").await;
        assert_eq!(waiting.await.unwrap(), b"last");
        drop(other);
        let ended = merged.pop().await.unwrap_err();
        assert!(ended.is_closed());
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn an_error_is_told_and_a_sorted_queue_does_not_ask_again_at_once() {
    on_sockets(async {
        let (client, server) = pair().await;
        let sorted = sort_by_key(server, |buffer: &Buffer| buffer.len());
        push(&client, "some").await;
        assert_eq!(sorted.pop().await.unwrap(), b"some");
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let error = sorted.pop().await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::ConnectionReset, "{error:?}");
    });
}

#[test]
fn messages_by_priority() {
    on_sockets(async {
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sender.connect(receiver.local_addr().unwrap()).await.unwrap();
        receiver.connect(sender.local_addr().unwrap()).await.unwrap();
        let numbers = map(receiver, |datagram: Buffer| datagram[0]);
        let sorted = sort_by_key(numbers, |&number| number);
        for text in ["c", "a", "b"] {
            push(&sender, text).await;
        }
        // Loopback delivers inside of the call, so all are there.
        demikernel_runtime::time::sleep(Duration::from_millis(20)).await;
        for expected in *b"abc" {
            assert_eq!(sorted.pop().await.unwrap(), expected);
        }
    });
}

#[test]
fn a_stream_of_a_connection_ends_with_it() {
    on_sockets(async {
        let (client, server) = pair().await;
        let (read, write) = server.into_split();
        push(&client, "hello").await;
        push(&write, "back").await;
        assert_eq!(PopQueue::pop(&client).await.unwrap(), b"back");
        drop(client);
        let all: Vec<_> = Pops::new(read).map(|buffer| buffer.unwrap().to_vec()).collect().await;
        assert_eq!(all.concat(), b"hello");
    });
}
