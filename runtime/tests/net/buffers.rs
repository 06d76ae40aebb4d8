//! Byte streams as streams and sinks of buffers.

use crate::common::{pattern, poll_once};
use crate::peers::{pair, server};
use demikernel_runtime::buffer::{Buffer, pool};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, sleep};
use futures::stream::FusedStream;
use futures::{SinkExt, StreamExt, TryStreamExt};
use std::io::{self, Read, Write};

type Result = io::Result<()>;

pub(crate) async fn echo_by_forwarding() -> Result {
    let (stream, peer) = server(|mut peer| {
        let sent = pattern(4 << 20, 1);
        let writer = std::thread::spawn({
            let (mut peer, sent) = (peer.try_clone().unwrap(), sent.clone());
            move || {
                peer.write_all(&sent).unwrap();
                peer.shutdown(std::net::Shutdown::Write).unwrap();
            }
        });
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received == sent);
    })
    .await?;
    let (sink, buffers) = stream.into_buffers().split();
    // Forwarding closes the sink at the end.
    buffers.forward(sink).await?;
    peer.join().await;
    Ok(())
}

pub(crate) async fn the_stream_ends_once() -> Result {
    let (one, other) = pair().await?;
    one.push(Buffer::from_static(b"one")).await?;
    drop(one);
    let mut buffers = other.buffers();
    assert_eq!(buffers.try_next().await?.unwrap(), b"one");
    assert!(!buffers.is_terminated());
    assert!(buffers.next().await.is_none());
    assert!(buffers.is_terminated());
    assert!(buffers.next().await.is_none());
    Ok(())
}

pub(crate) async fn dropped_nexts_lose_nothing() -> Result {
    let (one, other) = pair().await?;
    let mut buffers = other.buffers();
    for number in 0..20_u8 {
        let mut next = buffers.next();
        assert!(poll_once(&mut next).await.is_none());
        one.push(Buffer::from(vec![number; 3])).await?;
        sleep(Duration::from_millis(1)).await;
        // It has arrived by now, and is not taken.
        drop(next);
        assert_eq!(buffers.try_next().await?.unwrap(), [number; 3]);
    }
    // The same when the adapter goes, too.
    assert!(poll_once(buffers.next()).await.is_none());
    one.push(Buffer::from_static(b"for whom?")).await?;
    sleep(Duration::from_millis(5)).await;
    drop(buffers);
    assert_eq!(other.into_buffers().into_inner().pop().await?, b"for whom?");
    Ok(())
}

pub(crate) async fn closing_the_sink() -> Result {
    let (one, other) = pair().await?;
    let mut sink = one.buffers();
    for _ in 0..100 {
        sink.feed(Buffer::from_static(b"0123456789")).await?;
    }
    sink.close().await?;
    sink.close().await?;
    let error = sink.send(Buffer::from_static(b"late")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let received = other.buffers().try_fold(0, async |sum, buffer| Ok(sum + buffer.len())).await?;
    assert_eq!(received, 1000);
    Ok(())
}

pub(crate) async fn the_sink_is_bounded() -> Result {
    let (one, other) = pair().await?;
    let mut sink = one.buffers();
    let before = pool::stats().in_use();
    let mut sent = 0;
    loop {
        let buffer = Buffer::copy_from_slice(&[1; 16 << 10])?;
        match poll_once(sink.feed(buffer)).await {
            Some(result) => result?,
            None => {
                // A transport may take some time for what it can take.
                sleep(Duration::from_millis(20)).await;
                if poll_once(futures::future::poll_fn(|cx| sink.poll_ready_unpin(cx))).await.is_none() {
                    break;
                }
                continue;
            }
        }
        sent += 16 << 10;
        assert!(sent < 256 << 20);
    }
    assert!(pool::stats().in_use() - before <= 256 << 10);
    let reader = spawn(async move {
        let mut received = 0;
        while received < sent {
            received += other.pop().await.unwrap().len();
        }
        received
    });
    sink.flush().await?;
    assert_eq!(reader.await?, sent);
    Ok(())
}

pub(crate) async fn halves_as_stream_and_sink() -> Result {
    let (mut one, other) = pair().await?;
    let (reading, writing) = other.into_split();
    let echo = spawn(async move {
        let incoming = reading.into_buffers();
        incoming.forward(writing.into_buffers()).await
    });
    {
        let (reading, writing) = one.split_mut();
        let (mut incoming, mut outgoing) = (reading.into_buffers(), writing.into_buffers());
        outgoing.send(Buffer::from_static(b"there and back")).await?;
        assert_eq!(incoming.try_next().await?.unwrap(), b"there and back");
        outgoing.close().await?;
        assert!(incoming.next().await.is_none());
    }
    echo.await??;
    Ok(())
}
