//! After warm-up, no operation on a socket allocates.

use demikernel_allocations::{Counting, of_thread};
use demikernel_runtime::net::{TcpListener, TcpStream, UdpSocket};
use demikernel_runtime::transport::Transport;
use demikernel_runtime::{Runtime, spawn};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use futures::{SinkExt, TryStreamExt};
use std::io;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: usize = 200;
const ROUNDS: u64 = 1000;

/// Allocations of the rounds after the first ones.
async fn count(mut round: impl AsyncFnMut() -> io::Result<()>) -> io::Result<u64> {
    for _ in 0..WARM_UP {
        round().await?;
    }
    let before = of_thread();
    for _ in 0..ROUNDS {
        round().await?;
    }
    Ok(of_thread() - before)
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let accept = listener.accept();
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, accept.await?.0))
}

async fn buffers() -> io::Result<u64> {
    let (client, server) = pair().await?;
    let echo = spawn(async move {
        loop {
            let buffer = server.pop().await?;
            if buffer.is_empty() {
                return io::Result::Ok(());
            }
            server.push(buffer).await?;
        }
    });
    let mut buffer = demikernel_runtime::buffer::Buffer::copy_from_slice(&[7; 64])?;
    let allocations = count(async || {
        client.push(buffer.clone()).await?;
        buffer = client.pop().await?;
        Ok(())
    })
    .await?;
    drop(client);
    echo.await??;
    Ok(allocations)
}

async fn bytes() -> io::Result<u64> {
    let (mut client, mut server) = pair().await?;
    let echo = spawn(async move {
        let mut room = [0; 1000];
        loop {
            match server.read(&mut room).await? {
                0 => return io::Result::Ok(()),
                count => server.write_all(&room[..count]).await?,
            }
        }
    });
    let mut line = Vec::with_capacity(200);
    let allocations = count(async || {
        client.write_all(&[b'x'; 99]).await?;
        client.write_all(b"\n").await?;
        line.clear();
        client.read_until(b'\n', &mut line).await?;
        assert_eq!(line.len(), 100);
        Ok(())
    })
    .await?;
    drop(client);
    echo.await??;
    Ok(allocations)
}

async fn streams_and_sinks() -> io::Result<u64> {
    let (client, server) = pair().await?;
    let echo = spawn(async move {
        let mut server = server.into_buffers();
        while let Some(buffer) = server.try_next().await? {
            server.send(buffer).await?;
        }
        io::Result::Ok(())
    });
    let mut client = client.into_buffers();
    let buffer = demikernel_runtime::buffer::Buffer::copy_from_slice(&[7; 64])?;
    let allocations = count(async || {
        client.send(buffer.clone()).await?;
        assert!(client.try_next().await?.is_some());
        Ok(())
    })
    .await?;
    drop(client);
    echo.await??;
    Ok(allocations)
}

async fn datagrams() -> io::Result<u64> {
    let one = UdpSocket::bind("127.0.0.1:0").await?;
    let other = UdpSocket::bind("127.0.0.1:0").await?;
    let address = other.local_addr()?;
    let mut room = [0; 100];
    count(async || {
        one.send_to(&[7; 64], address).await?;
        let (datagram, from) = other.pop_from().await?;
        other.push_to(datagram, from).await?;
        assert_eq!(one.recv_from(&mut room).await?, (64, address));
        Ok(())
    })
    .await
}

fn check(make: impl Fn() -> io::Result<Transport>) {
    let run = |name: &str, test: &dyn Fn(&Runtime) -> io::Result<u64>| {
        let transport = match make() {
            Ok(transport) => transport,
            Err(error) => {
                assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{error}");
                return eprintln!("skipped: {error}");
            }
        };
        let runtime = Runtime::new().unwrap();
        runtime.attach(transport);
        let allocations = test(&runtime).unwrap();
        // The memory of queues may grow once more when the timing is unusual; an allocation per round is
        // what may not be.
        assert!(allocations <= ROUNDS / 100, "{name}: {allocations} allocations in {ROUNDS} rounds");
    };
    run("buffers", &|runtime| runtime.block_on(buffers()));
    run("bytes", &|runtime| runtime.block_on(bytes()));
    run("streams and sinks", &|runtime| runtime.block_on(streams_and_sinks()));
    run("datagrams", &|runtime| runtime.block_on(datagrams()));
}

#[test]
fn on_epoll() {
    check(demikernel_runtime::transport::epoll::Epoll::transport);
}

#[test]
#[cfg(feature = "io-uring")]
fn on_io_uring() {
    use demikernel_runtime::transport::uring::{Config, Uring};
    check(|| Uring::new(Config::default()).map(Transport::both));
}
