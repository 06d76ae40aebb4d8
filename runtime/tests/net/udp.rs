//! Datagrams.

use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::net::UdpSocket;
use demikernel_runtime::time::{Duration, timeout};
use std::io::{self, ErrorKind};

type Result = io::Result<()>;

pub(crate) async fn echo_to_std() -> Result {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(address).await?;
        let local = socket.local_addr()?;
        let peer = std::net::UdpSocket::bind(address)?;
        let peer_address = peer.local_addr()?;
        let thread = std::thread::spawn(move || {
            for length in [0, 1, 1400, 9000, 60_000] {
                let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
                peer.send_to(&sent, local).unwrap();
                let mut room = vec![0; 1 << 16];
                let (count, from) = peer.recv_from(&mut room).unwrap();
                assert!(room[..count] == sent && from == local);
            }
        });
        for _ in 0..5 {
            let (datagram, from) = socket.pop_from().await?;
            assert_eq!(from, peer_address);
            socket.push_to(datagram, from).await?;
        }
        blocking::unblock(move || thread.join().unwrap()).await;
    }
    Ok(())
}

pub(crate) async fn connected() -> Result {
    let one = UdpSocket::bind("localhost:0").await?;
    let other = UdpSocket::bind(one.local_addr()?.ip().to_string() + ":0").await;
    let other = match other {
        Ok(other) => other,
        Err(_) => UdpSocket::bind((one.local_addr()?.ip(), 0)).await?,
    };
    assert_eq!(one.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    one.connect(other.local_addr()?).await?;
    other.connect(one.local_addr()?).await?;
    assert_eq!(one.peer_addr()?, other.local_addr()?);
    let list: Sga = [&b"two "[..], b"parts"].into_iter().map(Buffer::from_static).collect();
    one.push_sga(list).await?;
    assert_eq!(other.pop().await?, b"two parts");
    assert_eq!(other.send(b"slices").await?, 6);
    let mut room = [0; 4];
    assert_eq!(one.recv(&mut room).await?, 4, "the rest of the datagram is lost");
    assert_eq!(&room, b"slic");
    // Nobody else is heard.
    let stranger = UdpSocket::bind((one.local_addr()?.ip(), 0)).await?;
    stranger.send_to(b"psst", one.local_addr()?).await?;
    assert!(timeout(Duration::from_millis(10), one.pop()).await.is_err());
    Ok(())
}

pub(crate) async fn slices() -> Result {
    let one = UdpSocket::bind("127.0.0.1:0").await?;
    let other = UdpSocket::bind("127.0.0.1:0").await?;
    let port = other.local_addr()?.port();
    assert_eq!(one.send_to(b"hello", ("127.0.0.1", port)).await?, 5);
    assert_eq!(one.send_to(b"", other.local_addr()?).await?, 0);
    let list: Sga = [&b"a "[..], b"list"].into_iter().map(Buffer::from_static).collect();
    one.push_sga_to(list, other.local_addr()?).await?;
    let mut room = [0; 100];
    for expected in [&b"hello"[..], b"", b"a list"] {
        let (count, from) = other.recv_from(&mut room).await?;
        assert_eq!((&room[..count], from), (expected, one.local_addr()?));
    }
    let error = one.send_to(&[0; 70_000], other.local_addr()?).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    Ok(())
}

pub(crate) async fn options_of_datagrams() -> Result {
    let socket = UdpSocket::new_v6()?;
    socket.set_only_v6(true)?;
    socket.set_reuse_port(true)?;
    socket.bind_to("[::1]:0".parse().unwrap())?;
    assert!(socket.only_v6()? && socket.reuse_port()? && socket.local_addr()?.is_ipv6());
    let socket = UdpSocket::new_v4()?;
    assert!(!socket.broadcast()?);
    socket.set_broadcast(true)?;
    assert!(socket.broadcast()?);
    socket.set_ttl(3)?;
    assert_eq!(socket.ttl()?, 3);
    socket.set_recv_buffer_size(32 << 10)?;
    assert!(socket.recv_buffer_size()? >= 32 << 10);
    Ok(())
}

pub(crate) async fn nobody_there() -> Result {
    let free = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(free).await?;
    socket.send(b"anybody?").await?;
    let error = timeout(Duration::from_secs(5), socket.pop()).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    Ok(())
}
