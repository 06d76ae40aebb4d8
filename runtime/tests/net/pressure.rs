//! Peers that do not read, and a pool without memory.

use crate::common::{pattern, poll_once};
use crate::peers::{client, echo, pair, read_all, server};
use demikernel_runtime::buffer::{Buffer, BufferMut, pool};
use demikernel_runtime::net::{TcpListener, TcpStream};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, sleep, timeout};
use futures::future::join_all;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::io;

type Result = io::Result<()>;

/// Writes until a write waits for as long as nobody reads; returns how much was taken.
async fn write_until_full(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < 256 << 20 {
        match timeout(Duration::from_millis(50), stream.write(data)).await {
            Ok(count) => written += count?,
            Err(_) => return Ok(written),
        }
    }
    panic!("256 MiB were written to a peer that does not read");
}

pub(crate) async fn a_peer_that_does_not_read_stops_the_writer() -> Result {
    let (mut one, mut other) = pair().await?;
    let before = pool::stats().in_use();
    let data = pattern(48 << 10, 1);
    let written = write_until_full(&mut one, &data).await?;
    let held = pool::stats().in_use() - before;
    assert!(held <= 256 << 10, "{held} bytes are held for a peer that does not read");
    assert!(poll_once(one.flush()).await.is_some(), "a flush waits for nothing");
    assert!(poll_once(one.close()).await.is_none(), "closing waits for the peer");
    // Nothing of it was lost, nor of what was not written.
    let reader = spawn(async move {
        let mut received = vec![0; written];
        other.read_exact(&mut received).await?;
        io::Result::Ok((other, received))
    });
    let (mut other, received) = reader.await??;
    assert!(received.chunks(data.len()).all(|chunk| chunk == &data[..chunk.len()]));
    one.write_all(b"the end").await?;
    one.close().await?;
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).await?;
    assert_eq!(rest, b"the end");
    Ok(())
}

pub(crate) async fn small_writes_are_bounded_too() -> Result {
    let (mut one, other) = pair().await?;
    // Fill what the system takes with large ones, then count the small ones.
    let mut written = write_until_full(&mut one, &[1; 64 << 10]).await?;
    let before = pool::stats().in_use();
    let mut small = 0;
    while small < 10_000
        && let Some(count) = poll_once(one.write(&[1])).await
    {
        small += count?;
    }
    assert!(small <= 64, "{small} small writes are under way");
    assert!(pool::stats().in_use().saturating_sub(before) <= 64 << 10);
    written += small;
    drop(one);
    let mut received = 0;
    while received < written {
        received += other.pop().await?.len();
    }
    assert!(other.pop().await?.is_empty());
    assert_eq!(received, written);
    Ok(())
}

/// Restores the limit of this thread's pool.
struct Limit(usize);

impl Limit {
    fn set(bytes: usize) -> Limit {
        let before = pool::limit();
        pool::set_limit(bytes);
        Limit(before)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        pool::set_limit(self.0);
    }
}

pub(crate) async fn a_writer_waits_for_memory() -> Result {
    let (mut stream, peer) = client(read_all).await?;
    pool::trim();
    let _limit = Limit::set(pool::stats().mapped.max(2 << 20));
    let mut held: Vec<Buffer> = Vec::new();
    for size in [1 << 20, 64 << 10, 16 << 10, 4 << 10, 2 << 10, 256] {
        while let Ok(buffer) = BufferMut::with_capacity(size) {
            held.push(buffer.freeze());
        }
    }
    let sent = pattern(100_000, 3);
    let writer = spawn({
        let sent = sent.clone();
        async move {
            stream.write_all(&sent).await?;
            stream.close().await
        }
    });
    sleep(Duration::from_millis(20)).await;
    assert!(!writer.is_finished(), "there is no memory");
    // As memory comes back the writer goes on.
    while !writer.is_finished() {
        drop(held.pop());
        sleep(Duration::from_micros(100)).await;
    }
    writer.await??;
    assert!(peer.join().await == sent);
    Ok(())
}

pub(crate) async fn many_connections() -> Result {
    const CONNECTIONS: usize = 300;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = spawn(async move {
        for _ in 0..CONNECTIONS {
            let (stream, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut stream = stream.into_buffers();
                while let Some(buffer) = futures::StreamExt::next(&mut stream).await {
                    stream.get_ref().push(buffer.unwrap()).await.unwrap();
                }
            })
            .detach();
        }
    });
    let clients = (0..CONNECTIONS).map(|number| async move {
        let mut stream = TcpStream::connect(address).await?;
        for round in 0..10 {
            let sent = pattern(1 + number * 7, (number * 10 + round) as u64);
            stream.write_all(&sent).await?;
            let mut received = vec![0; sent.len()];
            stream.read_exact(&mut received).await?;
            assert!(received == sent);
        }
        io::Result::Ok(())
    });
    for result in join_all(clients).await {
        result?;
    }
    accepting.await?;
    sleep(Duration::from_millis(5)).await;
    Ok(())
}

pub(crate) async fn a_slow_one_among_fast_ones() -> Result {
    let (reads, begin) = std::sync::mpsc::channel::<()>();
    let (mut slow, peer) = client(move |peer| {
        // Nobody sends anything: this is over when the other end is dropped.
        begin.recv().unwrap_err();
        read_all(peer).len()
    })
    .await?;
    let written = write_until_full(&mut slow, &[0; 64 << 10]).await?;
    let (mut fast, fast_peer) = server(echo).await?;
    let mut room = vec![0; 10_000];
    for round in 0..20 {
        fast.write_all(&pattern(10_000, round)).await?;
        timeout(Duration::from_secs(5), fast.read_exact(&mut room)).await??;
        assert!(room == pattern(10_000, round));
    }
    drop(reads);
    drop(slow);
    drop(fast);
    assert_eq!(peer.join().await, written);
    fast_peer.join().await;
    Ok(())
}

/// So many that a transport which treats receives of busy connections in another way does so.
const TOGETHER: usize = 8;

async fn answer(mut stream: TcpStream) -> Result {
    loop {
        let request = stream.pop().await?;
        if request.is_empty() {
            return Ok(());
        }
        // Not waited for: the receive of the next request goes behind it.
        stream.write_all(&request).await?;
        stream.flush().await?;
    }
}

pub(crate) async fn requests_behind_answers() -> Result {
    let mut clients = Vec::new();
    for _ in 0..TOGETHER {
        let (client, server) = pair().await?;
        spawn(answer(server)).detach();
        clients.push(client);
    }
    for round in 0..100_u8 {
        for client in &mut clients {
            client.write_all(&[round; 64]).await?;
        }
        for client in &mut clients {
            let mut reply = [0; 64];
            timeout(Duration::from_secs(20), client.read_exact(&mut reply)).await??;
            assert_eq!(reply, [round; 64]);
        }
    }
    Ok(())
}

pub(crate) async fn receives_behind_sends_that_are_stuck() -> Result {
    // More than the system takes for a peer that does not read.
    const MUCH: usize = 16 << 20;
    let talk = async |mut client: TcpStream, server: TcpStream| {
        let sent = server.push(Buffer::from(vec![7; MUCH]));
        let heard = server.pop();
        client.write_all(b"I read when I was heard").await?;
        let heard = timeout(Duration::from_secs(20), heard).await??;
        assert!(!heard.is_empty());
        let mut all = vec![0; MUCH];
        let (read, sent) = futures::join!(client.read_exact(&mut all), sent);
        assert!(all == vec![7; MUCH]);
        read.and(sent)
    };
    let mut pairs = Vec::new();
    for _ in 0..TOGETHER {
        pairs.push(pair().await?);
    }
    let talks = pairs.into_iter().map(|(client, server)| talk(client, server));
    join_all(talks).await.into_iter().collect()
}
