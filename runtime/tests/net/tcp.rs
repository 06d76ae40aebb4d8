//! Listening, connecting, addresses and options of TCP.

use crate::common::Make;
use crate::peers::{client, echo, pair, server};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::net::{Keepalive, TcpListener, TcpSocket, TcpStream, lookup_host};
use demikernel_runtime::time::Duration;
use demikernel_runtime::{attach, run_on_cores};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::{StreamExt, TryStreamExt};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Barrier;

type Result = io::Result<()>;

pub(crate) async fn connecting_by_name() -> Result {
    // The listener has one family; connecting tries the addresses of the name until one is right.
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let accept = listener.accept();
        let client = TcpStream::connect(local).await?;
        assert_eq!(client.peer_addr()?, local);
        accept.await?;
    }
    let listener = TcpListener::bind("localhost:0").await?;
    let port = listener.local_addr()?.port();
    let mut accepted = 0;
    let accepting = async {
        loop {
            listener.accept().await.unwrap();
            accepted += 1;
        }
    };
    let connecting = async {
        TcpStream::connect(("localhost", port)).await?;
        TcpStream::connect((String::from("localhost"), port)).await?;
        TcpStream::connect(format!("localhost:{port}")).await?;
        TcpStream::connect(&format!("localhost:{port}")[..]).await
    };
    let accepting = std::pin::pin!(accepting);
    let connecting = std::pin::pin!(connecting);
    match futures::future::select(accepting, connecting).await {
        futures::future::Either::Right((result, _)) => drop(result?),
        futures::future::Either::Left(_) => unreachable!("accepting never ends"),
    }
    Ok(())
}

pub(crate) async fn several_addresses() -> Result {
    let refused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let local = listener.local_addr()?;
    let stream = TcpStream::connect(&[refused, local][..]).await?;
    assert_eq!(stream.peer_addr()?, local);
    let none: &[SocketAddr] = &[];
    assert_eq!(TcpStream::connect(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let found: Vec<SocketAddr> = lookup_host(vec![refused, local]).await?.collect();
    assert_eq!(found, [refused, local]);
    Ok(())
}

pub(crate) async fn refused() -> Result {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let error = TcpStream::connect(free).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    Ok(())
}

pub(crate) async fn closed_listener() -> Result {
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let local = listener.local_addr()?;
        // The device is accepting when the listener goes.
        let mut accept = Box::pin(listener.accept());
        assert!(futures::poll!(&mut accept).is_pending());
        let client = TcpStream::connect(local).await?;
        drop(accept);
        drop(listener);
        let late = std::net::TcpStream::connect(local).map(drop);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(client);
    }
    Ok(())
}

pub(crate) async fn address_in_use() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let local = listener.local_addr()?;
    let error = TcpListener::bind(local).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&local.to_string()), "{error}");
    // A server that is started anew gets its address, though a connection lingers.
    let client = TcpStream::connect(local).await?;
    let (server, _) = listener.accept().await?;
    drop(server);
    drop(listener);
    assert!(client.pop().await?.is_empty());
    drop(client);
    TcpListener::bind(local).await?;
    Ok(())
}

pub(crate) async fn names_that_do_not_resolve() -> Result {
    // Longer than a label may be: the resolver refuses it without asking anybody.
    let host = "x".repeat(100);
    assert!(TcpStream::connect(format!("{host}:80")).await.is_err());
    assert!(TcpStream::connect("no port").await.is_err());
    assert!(TcpListener::bind("").await.is_err());
    assert!(lookup_host((host, 80)).await.is_err());
    Ok(())
}

pub(crate) async fn incoming_connections() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let clients = std::thread::spawn(move || {
        let connect = |_| std::net::TcpStream::connect(address).unwrap();
        (0..10).map(connect).collect::<Vec<_>>()
    });
    let streams: Vec<TcpStream> = listener.incoming().take(10).try_collect().await?;
    let clients = blocking::unblock(move || clients.join().unwrap()).await;
    let mut ours: Vec<SocketAddr> = streams.iter().map(|stream| stream.peer_addr().unwrap()).collect();
    let mut theirs: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    Ok(())
}

pub(crate) async fn options_of_streams() -> Result {
    let (stream, peer) = client(echo).await?;
    for on in [true, false] {
        stream.set_nodelay(on)?;
        assert_eq!(stream.nodelay()?, on);
    }
    assert!(!stream.keepalive()?);
    let probes = Keepalive::new().idle(Duration::from_secs(60)).interval(Duration::from_secs(5)).count(3);
    stream.set_keepalive(probes)?;
    assert!(stream.keepalive()?);
    stream.set_keepalive(None)?;
    assert!(!stream.keepalive()?);
    stream.set_ttl(42)?;
    assert_eq!(stream.ttl()?, 42);
    assert_eq!(stream.linger()?, None);
    stream.set_linger(Some(Duration::from_secs(3)))?;
    assert_eq!(stream.linger()?, Some(Duration::from_secs(3)));
    stream.set_linger(None)?;
    stream.set_recv_buffer_size(64 << 10)?;
    stream.set_send_buffer_size(64 << 10)?;
    assert!(stream.recv_buffer_size()? >= 64 << 10);
    assert!(stream.send_buffer_size()? >= 64 << 10);
    drop(stream);
    peer.join().await;
    Ok(())
}

pub(crate) async fn options_before_binding() -> Result {
    let socket = TcpSocket::new_v6()?;
    socket.set_only_v6(true)?;
    assert!(socket.only_v6()?);
    socket.bind("[::1]:0".parse().unwrap())?;
    let listener = socket.listen(8)?;
    assert!(listener.only_v6()?);

    let first = TcpSocket::new_v4()?;
    first.set_reuse_port(true)?;
    assert!(first.reuse_port()? && !first.reuse_address()?);
    first.bind("127.0.0.1:0".parse().unwrap())?;
    let local = first.local_addr()?;
    let second = TcpSocket::new_v4()?;
    second.set_reuse_port(true)?;
    second.bind(local)?;
    let (first, second) = (first.listen(8)?, second.listen(8)?);
    assert_eq!(first.local_addr()?, second.local_addr()?);

    let client = TcpSocket::new_v4()?;
    client.set_nodelay(true)?;
    client.bind("127.0.0.1:0".parse().unwrap())?;
    let bound = client.local_addr()?;
    let client = client.connect(local).await?;
    assert_eq!(client.local_addr()?, bound);
    assert!(client.nodelay()?);
    Ok(())
}

pub(crate) async fn addresses() -> Result {
    let (one, other) = pair().await?;
    assert_eq!(one.local_addr()?, other.peer_addr()?);
    assert_eq!(one.peer_addr()?, other.local_addr()?);
    let text = format!("{one:?}");
    assert!(text.contains(&one.local_addr()?.to_string()), "{text}");
    Ok(())
}

/// Two transports in one runtime, with a connection between them.
pub(crate) async fn the_transport_given() -> Result {
    let second = crate::kernel::epoll()?;
    attach(second.clone());
    let network = second.network.unwrap();
    let listener = TcpListener::bind_on(&network, "127.0.0.1:0").await?;
    let (mut here, there) =
        futures::try_join!(TcpStream::connect(listener.local_addr()?), listener.accept())?;
    let (there, _) = there;
    here.write_all(b"across").await?;
    assert_eq!(there.pop().await?, b"across");
    there.push(Buffer::from_static(b"and back")).await?;
    let mut room = [0; 8];
    here.read_exact(&mut room).await?;
    assert_eq!(&room, b"and back");

    let (server, peer) = server(echo).await?;
    let on = TcpSocket::new_v4_on(&network)?;
    drop((on, server));
    peer.join().await;
    Ok(())
}

pub(crate) fn several_cores_share_a_port(make: Make) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let both = Barrier::new(2);
    let results = run_on_cores(
        2,
        |builder| {
            let runtime = builder.build()?;
            runtime.attach(make()?);
            Ok(runtime)
        },
        async || {
            let listener = TcpListener::bind(free).await?;
            // Both listen at the same time.
            both.wait();
            listener.local_addr()
        },
        |result| result.is_err(),
    );
    for result in results {
        assert_eq!(result.unwrap().unwrap().unwrap(), free);
    }
}
