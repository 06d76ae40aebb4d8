//! Futures that are dropped before they are done.

use crate::common::{pattern, poll_once};
use crate::peers::{client, pair, read_all};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::time::{Duration, sleep, timeout};
use demikernel_runtime::{spawn, yield_now};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::io::{self, Read, Write};

type Result = io::Result<()>;

/// Sends in bursts with pauses, so that receivers wait now and then.
fn send_in_bursts(mut peer: std::net::TcpStream, sent: &[u8]) {
    for (index, burst) in sent.chunks(500).enumerate() {
        peer.write_all(burst).unwrap();
        if index % 8 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

pub(crate) async fn dropped_reads_lose_nothing() -> Result {
    let sent = pattern(200_000, 1);
    let (mut stream, peer) = client({
        let sent = sent.clone();
        move |peer| send_in_bursts(peer, &sent)
    })
    .await?;
    let mut received = Vec::new();
    let mut room = [0; 300];
    let mut dropped = 0;
    loop {
        // A read that has not got anything at once is dropped, but the stream goes on.
        match poll_once(stream.read(&mut room)).await {
            Some(Ok(0)) => break,
            Some(count) => received.extend_from_slice(&room[..count?]),
            None => {
                dropped += 1;
                sleep(Duration::from_micros(50)).await;
            }
        }
    }
    assert!(received == sent);
    assert!(dropped > 0);
    peer.join().await;
    Ok(())
}

pub(crate) async fn dropped_pops_lose_nothing() -> Result {
    let sent = pattern(200_000, 2);
    let (stream, peer) = client({
        let sent = sent.clone();
        move |peer| send_in_bursts(peer, &sent)
    })
    .await?;
    let mut received = Vec::new();
    let (mut waiting, mut done) = (0, 0);
    loop {
        // Some are dropped while they wait, some with data that nobody took.
        let tokens = [stream.pop(), stream.pop_up_to(100)];
        sleep(Duration::from_micros(50)).await;
        match tokens[0].is_done() {
            true => done += 1,
            false => waiting += 1,
        }
        drop(tokens);
        let buffer = stream.pop().await?;
        if buffer.is_empty() {
            break;
        }
        received.extend_from_slice(&buffer);
    }
    assert!(done > 0, "{done} were dropped with data, {waiting} while they waited");
    assert!(received == sent);
    peer.join().await;
    Ok(())
}

pub(crate) async fn a_pop_takes_what_a_dropped_read_left() -> Result {
    let (one, mut other) = pair().await?;
    let mut room = [0; 3];
    // The dropped read waits; the pop comes in its place.
    assert!(poll_once(other.read(&mut room)).await.is_none());
    let pop = other.pop();
    one.push(Buffer::from_static(b"waiting")).await?;
    assert_eq!(pop.await?, b"waiting");
    // The dropped read has something; the pop gets it.
    assert!(poll_once(other.read(&mut room)).await.is_none());
    one.push(Buffer::from_static(b"arrived")).await?;
    sleep(Duration::from_millis(5)).await;
    assert_eq!(other.pop_up_to(4).await?, b"arri");
    assert_eq!(other.pop().await?, b"ved");
    // A read leaves a rest; the pop gets that.
    one.push(Buffer::from_static(b"abcdef")).await?;
    other.read_exact(&mut room).await?;
    assert_eq!(other.pop().await?, b"def");
    Ok(())
}

pub(crate) async fn a_stream_dropped_after_a_write_sends_it() -> Result {
    for length in [1, 64 << 10, 3 << 20] {
        let (mut stream, peer) = client(|mut peer| {
            std::thread::sleep(Duration::from_millis(5));
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        })
        .await?;
        let sent = pattern(length, length as u64);
        stream.write_all(&sent).await?;
        drop(stream);
        assert!(peer.join().await == sent, "{length} bytes");
    }
    Ok(())
}

pub(crate) async fn a_dropped_accept_leaves_the_connection() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // Dropped while it waits.
    drop(listener.accept());
    assert!(poll_once(listener.accept()).await.is_none());
    // Dropped when a connection is there.
    let accept = listener.accept();
    let client = TcpStream::connect(address).await?;
    sleep(Duration::from_millis(5)).await;
    drop(accept);
    let (server, from) = timeout(Duration::from_secs(5), listener.accept()).await??;
    assert_eq!(from, client.local_addr()?);
    server.push(Buffer::from_static(b"hello")).await?;
    assert_eq!(client.pop().await?, b"hello");
    Ok(())
}

pub(crate) async fn a_connection_nobody_takes_is_closed() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let accept = listener.accept();
    let client = TcpStream::connect(listener.local_addr()?).await?;
    sleep(Duration::from_millis(5)).await;
    drop(accept);
    drop(listener);
    // Closed or reset, but not left open.
    let end = timeout(Duration::from_secs(5), client.pop()).await?;
    assert!(end.is_ok_and(|buffer| buffer.is_empty()) || client.pop().await.is_ok());
    Ok(())
}

pub(crate) async fn a_dropped_datagram_is_there_for_the_next() -> Result {
    let one = UdpSocket::bind("127.0.0.1:0").await?;
    let other = UdpSocket::bind("127.0.0.1:0").await?;
    let address = other.local_addr()?;
    let mut room = [0; 2];
    for number in 0..20_u8 {
        // Polled, so that it waits; then the datagram comes; then it is dropped, done or not.
        let mut receive = Box::pin(other.recv_from(&mut room));
        assert!(poll_once(&mut receive).await.is_none());
        one.push_to(Buffer::from(vec![number; 10]), address).await?;
        sleep(Duration::from_millis(1)).await;
        drop(receive);
        let (datagram, from) = timeout(Duration::from_secs(5), other.pop_from()).await??;
        assert_eq!((datagram.as_slice(), from), (&[number; 10][..], one.local_addr()?));
    }
    Ok(())
}

pub(crate) async fn a_dropped_connect() -> Result {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for _ in 0..50 {
        drop(poll_once(TcpStream::connect(address)).await);
        drop(poll_once(TcpStream::connect("localhost:9")).await);
    }
    yield_now().await;
    // The listener still serves.
    let peer = std::thread::spawn(move || {
        let accepted = listener.incoming().map(|stream| read_all(stream.unwrap()));
        accepted.filter(|data| !data.is_empty()).take(1).next()
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"it goes on").await?;
    drop(stream);
    let task = spawn(blocking::unblock(move || peer.join().unwrap()));
    assert_eq!(task.await?.as_deref(), Some(&b"it goes on"[..]));
    Ok(())
}
