//! Streams with the traits of the other family, and tokio beside this runtime.

use demikernel::compat::{ForTokio, FromTokio, TokioThread};
use demikernel::net::{TcpListener, TcpStream};
use demikernel::{OnThread, spawn};
use futures::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 % 251) as u8).collect()
}

#[demikernel::test]
async fn tokios_copy_echoes_over_our_streams() -> io::Result<()> {
    let (client, server) = pair().await?;
    let echo = spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(ForTokio::new(server));
        let copied = tokio::io::copy(&mut reader, &mut writer).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut writer).await?;
        io::Result::Ok(copied)
    });
    let sent = pattern(1_000_000);
    let (mut reader, mut writer) = client.into_split();
    let data = sent.clone();
    let writing = spawn(async move {
        futures::AsyncWriteExt::write_all(&mut writer, &data).await?;
        futures::AsyncWriteExt::close(&mut writer).await
    });
    let mut received = Vec::new();
    futures::AsyncReadExt::read_to_end(&mut reader, &mut received).await?;
    assert!(received == sent, "{} bytes", received.len());
    writing.await??;
    assert_eq!(echo.await??, 1_000_000);
    Ok(())
}

#[demikernel::test]
async fn reads_are_no_longer_than_their_room_and_lose_nothing() -> io::Result<()> {
    let (client, server) = pair().await?;
    client.push("hello world\nand more".into()).await?;
    let mut server = ForTokio::new(server);
    assert_eq!(server.read(&mut []).await?, 0, "no room is not the end");
    let mut word = [0; 5];
    server.read_exact(&mut word).await?;
    assert_eq!(&word, b"hello");
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut server, &mut line).await?;
    assert_eq!(line, " world\n");
    // What was received and not read is still there when the wrapper is gone.
    let mut server = server.into_inner();
    drop(client);
    let mut rest = String::new();
    futures::AsyncReadExt::read_to_string(&mut server, &mut rest).await?;
    assert_eq!(rest, "and more");
    Ok(())
}

#[demikernel::test(transport = "memory")]
async fn futures_speak_over_a_stream_of_tokio() -> io::Result<()> {
    let (here, there) = tokio::io::duplex(64);
    let mut here = FromTokio::new(tokio::io::BufReader::new(here));
    let echo = spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(there);
        tokio::io::copy(&mut reader, &mut writer).await
    });
    let mut lines = 0;
    for length in [1, 63, 64] {
        let line = format!("{}\n", "x".repeat(length));
        let mut received = String::new();
        // More than fits at once: it is read while it is written.
        let (sent, read) = {
            let (mut reader, mut writer) = futures::AsyncReadExt::split(&mut here);
            let mut reader = futures::io::BufReader::new(&mut reader);
            futures::join!(writer.write_all(line.as_bytes()), reader.read_line(&mut received))
        };
        sent?;
        lines += read?;
        assert_eq!(received, line);
    }
    here.close().await?;
    let mut rest = Vec::new();
    here.read_to_end(&mut rest).await?;
    assert!(rest.is_empty());
    assert_eq!(echo.await??, lines as u64);
    Ok(())
}

#[demikernel::test]
async fn a_client_on_tokios_thread_speaks_to_a_server_here() -> io::Result<()> {
    if !["io_uring", "epoll"].contains(&demikernel::default_network()?.name()) {
        return Ok(()); // tokio's sockets are the kernel's
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = spawn(async move {
        let (stream, _) = listener.accept().await?;
        loop {
            let data = stream.pop().await?;
            if data.is_empty() {
                return io::Result::Ok(());
            }
            stream.push(data).await?;
        }
    });
    let tokio = TokioThread::start()?;
    let client = tokio.spawn(async move {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let mut reply = [0; 5];
        tokio::time::timeout(std::time::Duration::from_secs(10), async {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await?;
            stream.read_exact(&mut reply).await
        })
        .await??;
        io::Result::Ok(reply)
    });
    assert_eq!(&client.await.unwrap()?, b"hello");
    server.await?
}

#[demikernel::test(transport = "epoll")]
async fn what_runs_on_tokios_thread_ends_with_it() -> io::Result<()> {
    let tokio = TokioThread::start()?;
    let forever = tokio.spawn(std::future::pending::<()>());
    drop(tokio);
    assert!(forever.await.unwrap_err().is_cancelled());
    Ok(())
}

#[demikernel::test]
async fn streams_that_are_send_by_name() -> io::Result<()> {
    fn wants_send<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync>(stream: S) -> S {
        stream
    }
    let (client, mut server) = pair().await?;
    let mut client = wants_send(ForTokio::new(OnThread::new(client)));
    client.write_all(b"ping").await?;
    client.shutdown().await?;
    let mut received = String::new();
    futures::AsyncReadExt::read_to_string(&mut server, &mut received).await?;
    assert_eq!(received, "ping");
    Ok(())
}
