//! `AsyncRead`, `AsyncBufRead` and `AsyncWrite`.

use crate::common::{pattern, under_valgrind};
use crate::peers::{client, echo, pair, read_all, server};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{Shutdown, TcpStream};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, sleep};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use futures::{StreamExt, TryStreamExt};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};

type Result = io::Result<()>;

pub(crate) async fn lines_of_a_peer() -> Result {
    let (stream, peer) = client(|mut peer| {
        for piece in ["first li", "ne\nsec", "ond\n", "\n", "no end"] {
            peer.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    })
    .await?;
    let lines: Vec<String> = BufReader::new(stream).lines().try_collect().await?;
    assert_eq!(lines, ["first line", "second", "", "no end"]);
    peer.join().await;
    Ok(())
}

pub(crate) async fn lines_without_a_reader_around() -> Result {
    let text: String = (0..10_000).map(|number| format!("line {number}\n")).collect();
    let sent = text.clone();
    let (stream, peer) = client(move |mut peer| peer.write_all(sent.as_bytes()).unwrap()).await?;
    let mut lines = stream.lines();
    let mut received = String::new();
    while let Some(line) = lines.next().await {
        received.push_str(&line?);
        received.push('\n');
    }
    assert!(received == text);
    peer.join().await;
    Ok(())
}

pub(crate) async fn copy_of_64_mib_there_and_back() -> Result {
    const BLOCK: usize = 256 << 10;
    let blocks: u64 = if under_valgrind() { 8 } else { 256 };
    let (stream, peer) = server(move |mut peer| {
        let writer = std::thread::spawn({
            let mut peer = peer.try_clone().unwrap();
            move || {
                for block in 0..blocks {
                    peer.write_all(&pattern(BLOCK, block)).unwrap();
                }
                peer.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut received = vec![0; BLOCK];
        for block in 0..blocks {
            peer.read_exact(&mut received).unwrap();
            assert!(received == pattern(BLOCK, block), "block {block}");
        }
        assert_eq!(peer.read(&mut received).unwrap(), 0, "nothing comes after the end");
        writer.join().unwrap();
    })
    .await?;
    let copied = copy(&stream, &mut &stream).await?;
    assert_eq!(copied, blocks * BLOCK as u64);
    (&stream).close().await?;
    peer.join().await;
    Ok(())
}

pub(crate) async fn vectored_both_ways() -> Result {
    let (mut stream, peer) = server(echo).await?;
    let parts = [&b"one "[..], b"", b"two ", b"three"].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&parts).await?, 13);
    let (mut front, mut back) = ([0; 6], [0; 20]);
    let mut filled = 0;
    while filled < 13 {
        // What is read first fills the first slice.
        let rooms = &mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut front), IoSliceMut::new(&mut back)];
        let count = stream.read_vectored(rooms).await?;
        assert!(count > 0);
        filled += count;
        if filled == 13 {
            assert_eq!((&front, &back[..7]), (b"one tw", &b"o three"[..]));
        }
    }
    // A write takes a part of what is too much for one.
    let long = vec![7; 1 << 20];
    let count = stream.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(&long)]).await?;
    assert!(0 < count && count <= 64 << 10, "{count}");
    let mut returned = vec![0; count];
    stream.read_exact(&mut returned).await?;
    assert!(returned[0] == b'x' && returned[1..].iter().all(|&byte| byte == 7));
    stream.close().await?;
    peer.join().await;
    Ok(())
}

pub(crate) async fn half_close() -> Result {
    let (mut stream, peer) = server(|mut peer| {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    })
    .await?;
    stream.write_all(&pattern(100_000, 1)).await?;
    stream.close().await?;
    stream.close().await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    assert_eq!(reply, "100000 bytes");
    peer.join().await;
    Ok(())
}

pub(crate) async fn empty_reads_and_writes() -> Result {
    let (mut one, mut other) = pair().await?;
    assert_eq!(one.read(&mut []).await?, 0, "and it does not wait");
    assert_eq!(one.read_vectored(&mut []).await?, 0);
    assert_eq!(one.write(&[]).await?, 0);
    assert_eq!(one.write_vectored(&[IoSlice::new(&[])]).await?, 0);
    one.push(Buffer::new()).await?;
    one.flush().await?;
    one.write_all(b"x").await?;
    let mut room = [0; 8];
    assert_eq!(other.read(&mut room).await?, 1, "nothing else was sent");
    Ok(())
}

pub(crate) async fn the_end_is_there_twice() -> Result {
    let (mut one, other) = pair().await?;
    drop(other);
    let mut room = [0; 8];
    for _ in 0..2 {
        assert_eq!(one.read(&mut room).await?, 0);
        assert!(one.pop().await?.is_empty());
        assert!(one.fill_buf().await?.is_empty());
        assert_eq!(one.peek(&mut room).await?, 0);
    }
    Ok(())
}

pub(crate) async fn writes_after_a_shutdown() -> Result {
    let (mut one, mut other) = pair().await?;
    one.write_all(b"before").await?;
    one.shutdown(Shutdown::Write)?;
    assert_eq!(one.write(b"after").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let push = one.push(Buffer::from_static(b"after")).await;
    assert_eq!(push.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut all = Vec::new();
    other.read_to_end(&mut all).await?;
    assert_eq!(all, b"before");
    // The other direction is open.
    other.write_all(b"back").await?;
    assert_eq!(one.pop().await?, b"back");
    Ok(())
}

pub(crate) async fn a_reset_reaches_the_writer() -> Result {
    let (mut stream, peer) = server(|mut peer| {
        // Not before the connection is there for the other side, too.
        peer.read_exact(&mut [0]).unwrap();
        let peer = socket2::Socket::from(peer);
        peer.set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await?;
    stream.write_all(b"x").await?;
    peer.join().await;
    let mut writes = 0;
    let error = loop {
        writes += 1;
        assert!(writes < 1000, "the reset is found");
        if let Err(error) = stream.write(b"into the void").await {
            break error;
        }
        sleep(Duration::from_millis(1)).await;
    };
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error:?}");
    // It was told, and whatever comes next is an error of its own.
    stream.flush().await?;
    assert!(stream.write(b"more").await.is_err() || stream.close().await.is_err());
    Ok(())
}

pub(crate) async fn peeking_takes_nothing() -> Result {
    let (one, mut other) = pair().await?;
    one.push(Buffer::from_static(b"look")).await?;
    let mut room = [0; 8];
    assert_eq!(other.peek(&mut []).await?, 0);
    assert_eq!(other.peek(&mut room[..2]).await?, 2);
    assert_eq!(other.peek(&mut room).await?, 4);
    assert_eq!(other.read(&mut room[4..]).await?, 4);
    assert_eq!(&room, b"looklook");
    Ok(())
}

/// Pushes and writes keep their order among each other, and so do pops and reads.
pub(crate) async fn bytes_and_buffers_mixed() -> Result {
    let (stream, peer) = client(read_all).await?;
    let mut sent = Vec::new();
    for round in 0..200 {
        let data = pattern(1 + round * 13, round as u64);
        sent.extend_from_slice(&data);
        if round % 2 == 0 {
            (&stream).write_all(&data).await?;
        } else {
            stream.push(Buffer::from(data)).detach();
        }
    }
    drop(stream);
    assert!(peer.join().await == sent);

    let (mut stream, peer) = client(move |mut peer| peer.write_all(&sent).map(|()| sent).unwrap()).await?;
    let mut received = Vec::new();
    let mut room = [0; 100];
    loop {
        let count = stream.read(&mut room).await?;
        received.extend_from_slice(&room[..count]);
        let buffer = stream.pop_up_to(333).await?;
        assert!(buffer.len() <= 333);
        received.extend_from_slice(&buffer);
        if buffer.is_empty() {
            break;
        }
    }
    assert!(peer.join().await == received);
    Ok(())
}

pub(crate) async fn exact_reads_across_pops() -> Result {
    let (one, mut other) = pair().await?;
    let sent = pattern(300_000, 5);
    let task = spawn({
        let sent = sent.clone();
        async move {
            for piece in sent.chunks(777) {
                one.push(Buffer::from(piece.to_vec())).await.unwrap();
            }
        }
    });
    let mut received = vec![0; sent.len()];
    for piece in received.chunks_mut(1000) {
        other.read_exact(piece).await?;
    }
    assert!(received == sent);
    let error = other.read_exact(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    task.await?;
    let _: &TcpStream = &other;
    Ok(())
}
