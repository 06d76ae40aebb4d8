//! Sockets.

use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::pdpix::{
    Opcode, QResult, Qd, Value, accept, bind, close, connect, getpeername, getsockname, getsockopt, listen,
    pop, push, pushto, setsockopt, socket, wait, wait_all, wait_any,
};
use demikernel_runtime::spawn;
use demikernel_runtime::transport::{Domain, Endpoint, OptionName, SocketKind, SocketOption};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A listening socket and its address.
pub(crate) fn listener() -> io::Result<(Qd, Endpoint)> {
    let qd = socket(Domain::V4, SocketKind::Stream)?;
    bind(qd, loopback())?;
    listen(qd, 64)?;
    Ok((qd, getsockname(qd)?))
}

/// Both ends of a connection.
pub(crate) async fn pair() -> io::Result<(Qd, Qd)> {
    let (listener, address) = listener()?;
    let client = socket(Domain::V4, SocketKind::Stream)?;
    let results = wait_all(&[accept(listener)?, connect(client, address)?], None).await?;
    close(listener)?;
    Ok((client, results[0].value.accepted().expect("accepted")))
}

pub(crate) fn text(text: &'static str) -> Buffer {
    Buffer::from_static(text.as_bytes())
}

pub(crate) fn popped(result: QResult) -> Vec<u8> {
    assert_eq!(result.opcode, Opcode::Pop, "{result:?}");
    result.value.into_sga().unwrap().to_vec()
}

fn failed(result: &QResult) -> &io::Error {
    assert_eq!(result.opcode, Opcode::Failed, "{result:?}");
    result.value.error().unwrap()
}

/// The way in which programs for Demikernel are written: one loop around one wait.
pub(crate) async fn an_echo_server_of_one_loop() -> io::Result<()> {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 20;
    let (listener, address) = listener()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = address.clone();
            spawn(async move {
                let qd = socket(Domain::V4, SocketKind::Stream)?;
                wait(connect(qd, address)?, None).await?.ok()?;
                for round in 0..ROUNDS {
                    let message = format!("{client}.{round};").repeat(100);
                    wait(push(qd, Buffer::from(message.clone()))?, None).await?.ok()?;
                    let mut reply = Vec::new();
                    while reply.len() < message.len() {
                        reply.extend(popped(wait(pop(qd, None)?, None).await?));
                    }
                    assert_eq!(reply, message.as_bytes());
                }
                close(qd)
            })
        })
        .collect();

    let mut tokens = vec![accept(listener)?];
    let mut open = HashMap::new();
    let mut closed = 0;
    while closed < CLIENTS {
        let (index, result) = wait_any(&tokens, Some(Duration::from_secs(20))).await?;
        assert_eq!(tokens.swap_remove(index), result.qt);
        match (result.opcode, result.value) {
            (Opcode::Accept, Value::Accepted { qd, address }) => {
                assert_eq!(getpeername(qd)?, address);
                open.insert(qd, 0);
                tokens.push(pop(qd, None)?);
                tokens.push(accept(listener)?);
            }
            (Opcode::Pop, Value::Popped { sga, from }) => {
                assert_eq!(from, None);
                if sga.is_empty() {
                    assert_eq!(open.remove(&result.qd), Some(100 * ROUNDS * 4 + 100 * (ROUNDS - 10)));
                    close(result.qd)?;
                    closed += 1;
                } else {
                    *open.get_mut(&result.qd).expect("open") += sga.len();
                    tokens.push(push(result.qd, sga)?);
                }
            }
            (Opcode::Push, Value::None) => tokens.push(pop(result.qd, None)?),
            other => panic!("{other:?}"),
        }
    }
    for client in clients {
        client.await.expect("no panic")?;
    }
    close(listener)?;
    // The accept that is left.
    failed(&wait(tokens[0], None).await?);
    Ok(())
}

pub(crate) async fn datagrams() -> io::Result<()> {
    let qds = [socket(Domain::V4, SocketKind::Datagram)?, socket(Domain::V4, SocketKind::Datagram)?];
    for qd in qds {
        bind(qd, loopback())?;
    }
    let addresses = [getsockname(qds[0])?.inet()?, getsockname(qds[1])?.inet()?];
    let waiting = pop(qds[1], None)?;
    wait(pushto(qds[0], text("ping"), addresses[1])?, None).await?.ok()?;
    let result = wait(waiting, None).await?;
    let Value::Popped { sga, from } = result.value else { panic!("{result:?}") };
    assert_eq!((sga.to_vec().as_slice(), from), (b"ping".as_slice(), Some(addresses[0])));

    wait(connect(qds[1], addresses[0])?, None).await?.ok()?;
    wait(push(qds[1], text("a longer reply"))?, None).await?.ok()?;
    let result = wait(pop(qds[0], Some(8))?, None).await?;
    assert_eq!(popped(result), b"a longer");
    qds.into_iter().try_for_each(close)
}

pub(crate) async fn a_unix_connection() -> io::Result<()> {
    let name =
        PathBuf::from(format!("\0demikernel-pdpix-{}-{:?}", std::process::id(), std::thread::current().id()));
    let listener = socket(Domain::Unix, SocketKind::Stream)?;
    bind(listener, Endpoint::Unix(Some(name.clone())))?;
    listen(listener, 1)?;
    let client = socket(Domain::Unix, SocketKind::Stream)?;
    let tokens = [connect(client, Endpoint::Unix(Some(name)))?, accept(listener)?];
    let results = wait_all(&tokens, None).await?;
    let server = results[1].value.accepted().unwrap();
    wait(push(client, text("hello"))?, None).await?.ok()?;
    assert_eq!(popped(wait(pop(server, Some(2))?, None).await?), b"he");
    assert_eq!(popped(wait(pop(server, None)?, None).await?), b"llo");
    [client, server, listener].into_iter().try_for_each(close)
}

pub(crate) async fn close_fails_what_waits() -> io::Result<()> {
    let (client, server) = pair().await?;
    let waiting = [pop(server, None)?, pop(server, None)?];
    close(server)?;
    for result in wait_all(&waiting, None).await? {
        failed(&result);
        assert_eq!(result.qd, server);
    }
    assert_eq!(pop(server, None).unwrap_err().raw_os_error(), Some(libc::EBADF));
    // What was pushed before goes first.
    let pushed = push(client, text("bye"))?;
    close(client)?;
    wait(pushed, None).await?;
    Ok(())
}

pub(crate) async fn a_closed_listener_accepts_no_more() -> io::Result<()> {
    let (listener, address) = listener()?;
    let waiting = accept(listener)?;
    close(listener)?;
    failed(&wait(waiting, None).await?);
    let client = socket(Domain::V4, SocketKind::Stream)?;
    let refused = wait(connect(client, address)?, None).await?;
    assert_eq!(failed(&refused).kind(), io::ErrorKind::ConnectionRefused);
    close(client)
}

pub(crate) async fn a_refused_connection() -> io::Result<()> {
    let (listener, address) = listener()?;
    close(listener)?;
    let client = socket(Domain::V4, SocketKind::Stream)?;
    let error = wait(connect(client, address)?, None).await?.ok().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    close(client)
}

pub(crate) async fn the_end_of_a_stream() -> io::Result<()> {
    let (client, server) = pair().await?;
    wait(push(client, text("last words"))?, None).await?.ok()?;
    close(client)?;
    let mut all = Vec::new();
    loop {
        match popped(wait(pop(server, Some(4))?, None).await?) {
            more if more.is_empty() => break,
            more => all.extend(more),
        }
    }
    assert_eq!(all, b"last words");
    close(server)
}

pub(crate) async fn options_and_names() -> io::Result<()> {
    let (client, server) = pair().await?;
    assert_eq!(getsockname(client)?, getpeername(server)?);
    assert_eq!(getpeername(client)?, getsockname(server)?);
    setsockopt(client, SocketOption::NoDelay(true))?;
    assert_eq!(getsockopt(client, OptionName::NoDelay)?, SocketOption::NoDelay(true));
    close(client)?;
    close(server)
}
