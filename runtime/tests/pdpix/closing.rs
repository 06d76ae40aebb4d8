//! Giving connections up.

use crate::common::pattern;
use crate::sockets::{listener, pair, popped, text};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::pdpix::{
    Opcode, Qd, async_close, close, pop, push, queue, setsockopt, shutdown, socket, wait,
};
use demikernel_runtime::time::sleep;
use demikernel_runtime::transport::{Domain, SocketKind, SocketOption};
use std::io;
use std::net::Shutdown;
use std::time::Duration;

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

async fn until_the_end(qd: Qd) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match popped(wait(pop(qd, None)?, None).await?) {
            more if more.is_empty() => return Ok(all),
            more => all.extend(more),
        }
    }
}

pub(crate) async fn an_async_close_waits_for_the_peer() -> io::Result<()> {
    let (client, server) = pair().await?;
    let sent = pattern(4 << 20, 1);
    let earlier = pop(client, None)?;
    let pushed = push(client, Buffer::from(sent.clone()))?;
    let closing = async_close(client)?;
    assert_eq!(pop(client, None).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert!(until_the_end(server).await? == sent, "everything comes before the end");
    wait(push(server, text("for you"))?, None).await?.ok()?;
    assert_eq!(popped(wait(earlier, None).await?), b"for you");
    wait(push(server, text("for nobody"))?, None).await?.ok()?;
    assert_eq!(wait(closing, SHORT).await.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
    close(server)?;
    let result = wait(closing, None).await?;
    assert_eq!((result.opcode, result.qd, result.qt), (Opcode::Close, client, closing));
    wait(pushed, None).await?.ok().map(drop)
}

pub(crate) async fn an_async_close_needs_nobody_who_waits() -> io::Result<()> {
    let (client, server) = pair().await?;
    let closing = async_close(client)?;
    for _ in 0..20 {
        // More than one pop takes.
        wait(push(server, Buffer::from(pattern(100_000, 2)))?, None).await?.ok()?;
    }
    assert_eq!(until_the_end(server).await?, b"");
    close(server)?;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(wait(closing, Some(Duration::ZERO)).await?.opcode, Opcode::Close);
    Ok(())
}

pub(crate) async fn an_async_close_has_a_limit() -> io::Result<()> {
    let (client, server) = pair().await?;
    setsockopt(client, SocketOption::Linger(Some(Duration::from_secs(1))))?;
    let result = wait(async_close(client)?, Some(Duration::from_secs(20))).await?;
    assert_eq!((result.opcode, result.errno()), (Opcode::Failed, libc::ETIMEDOUT));
    close(server)
}

pub(crate) async fn an_async_close_says_that_the_peer_has_gone() -> io::Result<()> {
    let (client, server) = pair().await?;
    setsockopt(server, SocketOption::Linger(Some(Duration::ZERO)))?;
    let closing = async_close(client)?;
    // To linger for no time is to reset the connection, and to wait for nothing.
    assert_eq!(wait(async_close(server)?, None).await?.opcode, Opcode::Close);
    let result = wait(closing, None).await?;
    assert_eq!((result.opcode, result.errno()), (Opcode::Failed, libc::ECONNRESET));
    Ok(())
}

pub(crate) async fn other_queues_are_closed_at_once() -> io::Result<()> {
    let (listener, _) = listener()?;
    let streams = socket(Domain::V4, SocketKind::Stream)?;
    let datagrams = socket(Domain::V4, SocketKind::Datagram)?;
    for qd in [listener, streams, datagrams, queue()?] {
        let result = wait(async_close(qd)?, Some(Duration::ZERO)).await?;
        assert_eq!((result.opcode, result.qd), (Opcode::Close, qd));
        assert_eq!(async_close(qd).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
    Ok(())
}

pub(crate) async fn one_direction_ends() -> io::Result<()> {
    let (client, server) = pair().await?;
    let sent = pattern(1 << 20, 3);
    let pushed = push(client, Buffer::from(sent.clone()))?;
    shutdown(client, Shutdown::Write)?;
    assert!(until_the_end(server).await? == sent);
    wait(pushed, None).await?.ok()?;
    wait(push(server, text("the other way"))?, None).await?.ok()?;
    assert_eq!(popped(wait(pop(client, None)?, None).await?), b"the other way");
    let result = wait(push(client, text("too late"))?, None).await?;
    assert_eq!(result.errno(), libc::EPIPE);
    close(client)?;
    close(server)?;
    let unconnected = socket(Domain::V4, SocketKind::Stream)?;
    assert_eq!(shutdown(unconnected, Shutdown::Write).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(shutdown(queue()?, Shutdown::Write).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    close(unconnected)
}
