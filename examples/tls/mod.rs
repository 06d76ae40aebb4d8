//! TLS for the servers among the examples: a certificate from files, or one made at the start.

use demikernel::net::TcpStream;
use demikernel::time::{Duration, timeout};
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::{TlsAcceptor, server};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long a client may take to agree on keys.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct TlsOptions {
    /// Speak TLS, with a certificate for localhost that is made at the start unless there is one in a file
    #[arg(long)]
    tls: bool,
    /// A certificate in PEM, followed by those between it and the authority; implies --tls
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// What makes TLS of accepted streams, if that is wanted. `protocols` are offered by ALPN, the best first.
    ///
    /// Cores share it: tickets that one of them has given are taken by the others, too.
    pub(crate) fn acceptor(&self, protocols: &[&str]) -> io::Result<Option<TlsAcceptor>> {
        let (chain, key) = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => from_files(cert, key)?,
            _ if self.tls => made_at_the_start()?,
            _ => return Ok(None),
        };
        // By name, as rustls has no provider of its own choice where several are compiled in.
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Agrees on keys with a client, which has to be quick about it.
pub(crate) async fn accept(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<server::TlsStream<TcpStream>> {
    match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not speak TLS")),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_files(cert: &Path, key: &Path) -> io::Result<Identity> {
    let refused = |path: &Path, error: String| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| refused(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(refused(cert, "no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, error.to_string()))?;
    Ok((chain, key))
}

/// Its own authority: clients have to be told not to mind.
fn made_at_the_start() -> io::Result<Identity> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Ok((vec![made.cert.into()], key))
}
