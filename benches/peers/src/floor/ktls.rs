//! TLS by rustls, and by the kernel with the keys that rustls has agreed on: what a message there and back costs a connection
//! over loopback, both ends in this thread, system calls included. TLS 1.3, AES-128-GCM.

use super::row;
use crate::web;
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, DigitallySignedStruct, Error, ExtractedSecrets,
    ServerConnection, SignatureScheme, Stream,
};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Bytes of a message, and how many are sent.
const SIZES: [(usize, u64); 3] = [(128, 400), (4096, 200), (16_384, 100)];

pub(super) fn run() {
    for (size, count) in SIZES {
        let mut ends = Ends::connect().expect("loopback works");
        row(&format!("TLS by rustls, {size} bytes there and back"), count, || ends.exchange(size, count));
        match Ends::connect().and_then(Ends::into_kernel) {
            Ok(mut ends) => {
                let name = format!("TLS by the kernel, {size} bytes there and back");
                row(&name, count, || ends.exchange(size, count));
            }
            Err(error) => println!("| TLS by the kernel: {error} | - | - |"),
        }
        let (mut client, mut server) = pair().expect("loopback works");
        row(&format!("no TLS, {size} bytes there and back"), count, || {
            there_and_back(&mut client, &mut server, size, count)
        });
    }
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

fn there_and_back(one: &mut (impl Read + Write), other: &mut (impl Read + Write), size: usize, count: u64) {
    let (message, mut room) = (vec![0x5a; size], vec![0; size]);
    for _ in 0..count {
        one.write_all(&message).expect("the other end is there");
        other.read_exact(&mut room).expect("it was sent");
        other.write_all(&room).expect("the first end is there");
        one.read_exact(&mut room).expect("it was sent");
    }
}

/// Both ends of a connection, with a session each.
struct Ends {
    client: (TcpStream, ClientConnection),
    server: (TcpStream, ServerConnection),
}

/// Both ends when the kernel has the keys.
struct KernelEnds(TcpStream, TcpStream);

impl Ends {
    fn connect() -> io::Result<Self> {
        let (client, server) = pair()?;
        let mut config = (*web::configuration()).clone();
        config.enable_secret_extraction = true;
        // Tickets would come after the keys have gone to the kernel.
        config.send_tls13_tickets = 0;
        let accepted = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connecting = ClientConnection::new(Arc::new(client_config()), name).map_err(io::Error::other)?;
        let mut ends = Ends { client: (client, connecting), server: (server, accepted) };
        ends.agree()?;
        Ok(ends)
    }

    fn agree(&mut self) -> io::Result<()> {
        let ((client, connecting), (server, accepted)) = (&mut self.client, &mut self.server);
        connecting.write_tls(client)?;
        accepted.read_tls(server)?;
        accepted.process_new_packets().map_err(io::Error::other)?;
        while accepted.wants_write() {
            accepted.write_tls(server)?;
        }
        while connecting.is_handshaking() {
            connecting.read_tls(client)?;
            connecting.process_new_packets().map_err(io::Error::other)?;
        }
        while connecting.wants_write() {
            connecting.write_tls(client)?;
        }
        while accepted.is_handshaking() {
            accepted.read_tls(server)?;
            accepted.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn exchange(&mut self, size: usize, count: u64) {
        let ((client, connecting), (server, accepted)) = (&mut self.client, &mut self.server);
        there_and_back(&mut Stream::new(connecting, client), &mut Stream::new(accepted, server), size, count);
    }

    fn into_kernel(self) -> io::Result<KernelEnds> {
        let ((client, connecting), (server, accepted)) = (self.client, self.server);
        give_keys(&client, &connecting.dangerous_extract_secrets().map_err(io::Error::other)?)?;
        give_keys(&server, &accepted.dangerous_extract_secrets().map_err(io::Error::other)?)?;
        Ok(KernelEnds(client, server))
    }
}

impl KernelEnds {
    fn exchange(&mut self, size: usize, count: u64) {
        there_and_back(&mut self.0, &mut self.1, size, count);
    }
}

/// Hands both directions to the kernel.
fn give_keys(stream: &TcpStream, secrets: &ExtractedSecrets) -> io::Result<()> {
    set(stream, libc::SOL_TCP, libc::TCP_ULP, b"tls")?;
    for (direction, (sequence, secrets)) in [(libc::TLS_TX, &secrets.tx), (libc::TLS_RX, &secrets.rx)] {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(io::Error::other("another cipher was agreed on"));
        };
        let (key, iv) = (key.as_ref(), iv.as_ref());
        // tls12_crypto_info_aes_gcm_128: version and cipher, the nonce's end, the key, the nonce's beginning, the number.
        let mut info = vec![];
        info.extend(libc::TLS_1_3_VERSION.to_ne_bytes());
        info.extend(libc::TLS_CIPHER_AES_GCM_128.to_ne_bytes());
        info.extend(&iv[4..]);
        info.extend(key);
        info.extend(&iv[..4]);
        info.extend(sequence.to_be_bytes());
        debug_assert_eq!(info.len(), size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        set(stream, libc::SOL_TLS, direction, &info)?;
    }
    Ok(())
}

fn set(stream: &TcpStream, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads so many bytes as it is told, of a value that lives across the call.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn client_config() -> ClientConfig {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let verifier = Arc::new(Anybody(provider.clone()));
    let config = ClientConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_safe_default_protocol_versions().expect("TLS 1.3 is one");
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = config.with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

/// Takes every certificate: the other end is this process.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
