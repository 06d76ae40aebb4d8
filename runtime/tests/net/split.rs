//! Halves.

use crate::common::pattern;
use crate::peers::{client, echo, pair, server};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, timeout};
use futures::TryStreamExt;
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use std::io::{self, Write};

type Result = io::Result<()>;

pub(crate) async fn borrowed_halves_at_once() -> Result {
    let (mut stream, peer) = server(echo).await?;
    let sent = pattern(4 << 20, 1);
    let mut received = vec![0; sent.len()];
    {
        let (mut reading, mut writing) = stream.split_mut();
        assert_eq!(reading.as_ref().peer_addr()?, writing.as_ref().peer_addr()?);
        let (read, written) = futures::join!(reading.read_exact(&mut received), writing.write_all(&sent));
        read?;
        written?;
    }
    assert!(received == sent);
    // Whole again.
    stream.push(Buffer::from_static(b"more")).await?;
    assert_eq!(stream.pop().await?, b"more");
    drop(stream);
    peer.join().await;
    Ok(())
}

pub(crate) async fn owned_halves_in_two_tasks() -> Result {
    let (stream, peer) = server(echo).await?;
    let (mut reading, mut writing) = stream.into_split();
    let sent = pattern(4 << 20, 2);
    let writer = spawn({
        let sent = sent.clone();
        async move {
            writing.write_all(&sent).await?;
            writing.flush().await
        }
    });
    let mut received = Vec::new();
    reading.read_to_end(&mut received).await?;
    writer.await??;
    assert!(received == sent);
    peer.join().await;
    Ok(())
}

pub(crate) async fn reunited_halves() -> Result {
    let (stream, other) = pair().await?;
    let (mut reading, mut writing) = stream.into_split();
    writing.write_all(b"there").await?;
    other.push(Buffer::from_static(b"and back")).await?;
    let mut room = [0; 3];
    reading.read_exact(&mut room).await?;
    let stream = reading.reunite(writing).unwrap();
    // What one half has received and not given out is still there.
    assert_eq!(stream.pop().await?, b" back");
    let (reading, writing) = stream.into_split();
    let stream = writing.reunite(reading).unwrap();
    stream.push(Buffer::from_static(b"!")).await?;
    drop(stream);
    let mut other = other;
    let mut all = String::new();
    other.read_to_string(&mut all).await?;
    assert_eq!(all, "there!");
    Ok(())
}

pub(crate) async fn halves_of_different_streams() -> Result {
    let (one, other) = pair().await?;
    let (reading, _writing) = one.into_split();
    let (_reading, writing) = other.into_split();
    let error = reading.reunite(writing).unwrap_err();
    assert_eq!(error.to_string(), "the halves are of two different streams");
    let (reading, writing) = (error.0, error.1);
    // Both still work.
    writing.push(Buffer::from_static(b"works")).await?;
    assert_eq!(reading.pop().await?, b"works");
    Ok(())
}

pub(crate) async fn a_dropped_writing_half_ends_its_direction() -> Result {
    let (one, mut other) = pair().await?;
    let (reading, mut writing) = one.into_split();
    writing.write_all(b"last words").await?;
    drop(writing);
    let mut all = String::new();
    other.read_to_string(&mut all).await?;
    assert_eq!(all, "last words");
    other.write_all(b"still here").await?;
    assert_eq!(reading.pop().await?, b"still here");
    Ok(())
}

pub(crate) async fn a_forgotten_one_does_not() -> Result {
    let (one, other) = pair().await?;
    let (reading, writing) = one.into_split();
    writing.forget();
    assert!(timeout(Duration::from_millis(20), other.pop()).await.is_err(), "the direction is open");
    drop(reading);
    assert!(other.pop().await?.is_empty());
    Ok(())
}

pub(crate) async fn lines_of_a_half() -> Result {
    let text: String = (0..5000).map(|number| format!("line {number} of a half\n")).collect();
    let sent = text.clone();
    let (stream, peer) = client(move |mut peer| peer.write_all(sent.as_bytes()).unwrap()).await?;
    let (reading, writing) = stream.into_split();
    let lines: Vec<String> = reading.lines().try_collect().await?;
    assert!(lines.join("\n") + "\n" == text);
    drop(writing);
    peer.join().await;

    let (mut one, mut other) = pair().await?;
    one.write_all(b"a\nb").await?;
    drop(one);
    let (mut reading, writing) = other.split_mut();
    let mut line = String::new();
    reading.read_line(&mut line).await?;
    assert_eq!(line, "a\n");
    // What is lent out is still the stream's.
    assert_eq!(reading.fill_buf().await?, b"b");
    assert_eq!(writing.as_ref().pop().await?, b"b");
    reading.consume_unpin(0);
    assert!(reading.fill_buf().await?.is_empty());
    Ok(())
}
