//! TLS by futures-rustls over the streams of each transport, and HTTP over it.

use demikernel::hyper::{Executor, Io, Timer};
use demikernel::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use demikernel::spawn;
use demikernel::time::{Duration, timeout};
use futures::io::BufReader;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::ring::default_provider;
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, client, server};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

/// Two ends that trust each other, and speak these protocols.
fn ends(protocols: &[&str]) -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
    let protocols: Vec<_> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut server = server.with_single_cert(vec![made.cert.into()], key).unwrap();
    server.alpn_protocols.clone_from(&protocols);
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols;
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("server.test").unwrap()
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

async fn agree<S>(
    client: S,
    server: S,
    protocols: &[&str],
) -> io::Result<(client::TlsStream<S>, server::TlsStream<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (acceptor, connector) = ends(protocols);
    futures::try_join!(connector.connect(name(), client), acceptor.accept(server))
}

/// A megabyte there and back, in pieces that are no records.
async fn exchange<S>(client: S, server: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (client, server) = agree(client, server, &[]).await?;
    let echo = spawn(async move {
        let (reader, mut writer) = server.split();
        let copied = futures::io::copy(reader, &mut writer).await?;
        writer.close().await?;
        io::Result::Ok(copied)
    });
    let sent: Vec<u8> = (0..1_000_003_usize).map(|index| (index * 7 % 251) as u8).collect();
    let (mut reader, mut writer) = client.split();
    let mut received = Vec::new();
    let sending = async {
        for piece in sent.chunks(20_001) {
            writer.write_all(piece).await?;
        }
        writer.close().await
    };
    futures::try_join!(sending, reader.read_to_end(&mut received))?;
    assert!(received == sent, "{} bytes came back", received.len());
    assert_eq!(echo.await??, sent.len() as u64);
    Ok(())
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
