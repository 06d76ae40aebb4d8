//! TLS by futures-rustls at both ends of a pair of streams.

use demikernel::spawn;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::ring::default_provider;
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, client, server};
use std::io;
use std::sync::Arc;

/// Two ends that trust each other, and speak these protocols.
pub(crate) fn ends(protocols: &[&str]) -> (TlsAcceptor, TlsConnector) {
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

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("server.test").unwrap()
}

pub(crate) async fn agree<S>(
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
pub(crate) async fn exchange<S>(client: S, server: S) -> io::Result<()>
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
