//! TLS by futures-rustls over the streams of each transport, and HTTP over it.

#[path = "programs/secured.rs"]
mod secured;

use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use demikernel::spawn;
use demikernel::time::{Duration, timeout};
use futures::AsyncReadExt;
use futures::io::BufReader;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use secured::{agree, ends, exchange, name};
use std::convert::Infallible;
use std::io;

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

#[demikernel::test]
async fn what_is_enciphered_comes_back_over_tcp() -> io::Result<()> {
    let (client, server) = pair().await?;
    exchange(client, server).await
}

#[demikernel::test]
async fn what_is_enciphered_comes_back_over_unix_sockets() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("demikernel-tls-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    let client = UnixStream::connect(&path).await?;
    let (server, _) = listener.accept().await?;
    let _ = std::fs::remove_file(&path);
    exchange(client, server).await
}

#[demikernel::test]
async fn a_client_that_does_not_trust_the_server_says_so() -> io::Result<()> {
    let ((acceptor, _), (_, stranger)) = (ends(&[]), ends(&[]));
    let (client, server) = pair().await?;
    let server = spawn(async move { acceptor.accept(server).await.map(drop) });
    let error = stranger.connect(name(), client).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    let told = server.await?.unwrap_err().to_string();
    assert!(told.contains("alert"), "{told}");
    Ok(())
}

#[demikernel::test]
async fn bytes_that_are_not_tls_end_the_handshake() -> io::Result<()> {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff\x01", &[0; 1000]] {
        let (acceptor, _) = ends(&[]);
        let (client, server) = pair().await?;
        client.push(garbage.into()).await?;
        client.shutdown(std::net::Shutdown::Write)?;
        let result = timeout(Duration::from_secs(10), acceptor.accept(server)).await;
        assert!(result.expect("it ends").is_err());
    }
    Ok(())
}

#[demikernel::test]
async fn a_stream_that_is_cut_off_is_not_taken_for_its_end() -> io::Result<()> {
    let (client, server) = pair().await?;
    let (mut client, server) = agree(client, server, &[]).await?;
    // The socket ends without a word of TLS.
    drop(server.into_inner());
    let error = client.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    Ok(())
}

#[demikernel::test]
async fn http_2_is_spoken_over_tls() -> Result<(), Box<dyn std::error::Error>> {
    let (client, server) = pair().await?;
    let (client, server) = agree(client, server, &["h2"]).await?;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let echo = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let serving = hyper::server::conn::http2::Builder::new(Executor)
        .timer(Timer)
        .serve_connection(Io::new(BufReader::new(server)), echo);
    let serving = spawn(serving);
    let io = Io::new(BufReader::new(client));
    let (sender, connection) =
        hyper::client::conn::http2::Builder::new(Executor).timer(Timer).handshake(io).await?;
    let connection = spawn(connection);
    // At the same time over one connection.
    let requests = (0..20).map(|index| {
        let mut sender = sender.clone();
        async move {
            let body = Bytes::from(vec![index as u8; index * 10_000]);
            let request = Request::post("https://server.test/").body(Full::new(body.clone())).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert!(response.into_body().collect().await.unwrap().to_bytes() == body, "request {index}");
        }
    });
    futures::future::join_all(requests).await;
    drop(sender);
    connection.await??;
    serving.await??;
    Ok(())
}
