//! Unix sockets.

use crate::common::pattern;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::net::{UnixListener, UnixStream};
use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

type Result = io::Result<()>;

/// A path of its own, removed in the end.
struct Path(PathBuf);

impl Path {
    fn new() -> Path {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Path(std::env::temp_dir().join(format!("demikernel-net-{}-{number}", std::process::id())))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) async fn echo_unix() -> Result {
    let path = Path::new();
    let listener = UnixListener::bind(&path.0)?;
    assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path.0));
    let client = std::thread::spawn({
        let path = path.0.clone();
        move || {
            let mut peer = std::os::unix::net::UnixStream::connect(path).unwrap();
            let sent = pattern(300_000, 1);
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
        }
    });
    let mut stream = listener.incoming().next().await.unwrap()?;
    assert!(stream.peer_addr()?.is_unnamed());
    {
        let (reading, mut writing) = stream.split_mut();
        futures::io::copy(reading, &mut writing).await?;
    }
    stream.close().await?;
    blocking::unblock(move || client.join().unwrap()).await;
    Ok(())
}

pub(crate) async fn names_of_the_abstract_namespace() -> Result {
    let name = format!("\0demikernel-net-{}", std::process::id());
    let listener = UnixListener::bind(&name)?;
    assert_eq!(listener.local_addr()?.as_abstract_name(), Some(&name.as_bytes()[1..]));
    let accept = listener.accept();
    let mut client = UnixStream::connect(&name).await?;
    let (mut server, peer) = accept.await?;
    assert!(peer.is_unnamed());
    client.write_all(b"abstract").await?;
    let mut room = [0; 8];
    server.read_exact(&mut room).await?;
    assert_eq!(&room, b"abstract");
    Ok(())
}

pub(crate) async fn refused_and_in_use() -> Result {
    let path = Path::new();
    let error = UnixStream::connect(&path.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let listener = UnixListener::bind(&path.0)?;
    let error = UnixListener::bind(&path.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(listener);
    let error = UnixStream::connect(&path.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    Ok(())
}

pub(crate) async fn lists_of_buffers() -> Result {
    let path = Path::new();
    let listener = UnixListener::bind(&path.0)?;
    let (client, accepted) = futures::join!(UnixStream::connect(&path.0), listener.accept());
    let (client, (server, _)) = (client?, accepted?);
    let list: Sga = (0..20).map(|number| Buffer::from(vec![number; 100])).collect();
    client.push_sga(list).await?;
    drop(client);
    let mut received = Vec::new();
    let mut buffers = server.into_buffers();
    while let Some(buffer) = buffers.next().await {
        received.extend_from_slice(&buffer?);
    }
    assert!(received.chunks(100).enumerate().all(|(number, chunk)| chunk == [number as u8; 100]));
    assert_eq!(received.len(), 2000);
    Ok(())
}
