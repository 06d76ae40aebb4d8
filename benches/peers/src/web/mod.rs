//! axum over HTTP/1.1, with TLS and without, served by each runtime, under wrk.
//!
//! The same router is given to the same hyper everywhere; what differs is what is below: the runtime, and its adapter
//! from streams to hyper. Where a project has a `serve` of its own for axum, that is a contender, too. TLS is rustls with
//! ring and TLS 1.3, one certificate, no tickets.
//!
//! A server is a child process pinned to one core, wrk is one thread on the other.

mod compio;
mod demikernel;
mod monoio;
pub mod rounds;
mod tokio;
mod wrk;

use ::futures_rustls::rustls::ServerConfig;
use ::futures_rustls::rustls::crypto::ring;
use ::futures_rustls::rustls::pki_types::PrivateKeyDer;
use axum::Router;
use axum::routing::get;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;

/// All servers, in the order of the table.
pub const SERVERS: [&str; 14] = [
    "tokio",
    "tokio-local",
    "tokio-multi",
    "tokio-axum",
    "monoio",
    "monoio-defer",
    "monoio-poll",
    "monoio-legacy",
    "compio",
    "compio-defer",
    "compio-axum",
    "demikernel",
    "demikernel-block",
    "demikernel-epoll",
];

/// Those that are there without TLS only, as a project's `serve` takes no streams but its own.
pub const PLAIN_ONLY: [&str; 2] = ["tokio-axum", "compio-axum"];

/// Runs a server in this process until it is killed.
pub fn serve(name: &str, core: usize, tls: bool) {
    crate::machine::pin(core);
    let tls = tls.then(configuration);
    match name {
        "tokio" => tokio::serve(tokio::Flavor::CurrentThread, tls),
        "tokio-local" => tokio::serve(tokio::Flavor::Local, tls),
        "tokio-multi" => tokio::serve(tokio::Flavor::MultiThread, tls),
        "tokio-axum" => tokio::serve_axum(),
        "monoio" => monoio::serve_uring(false, tls),
        "monoio-defer" => monoio::serve_uring(true, tls),
        "monoio-poll" => monoio::serve_poll(tls),
        "monoio-legacy" => monoio::serve_legacy(tls),
        "compio" => compio::serve(false, tls),
        "compio-defer" => compio::serve(true, tls),
        "compio-axum" => compio::serve_axum(),
        "demikernel" => demikernel::serve("io_uring", "adaptive", tls),
        "demikernel-block" => demikernel::serve("io_uring", "block", tls),
        "demikernel-epoll" => demikernel::serve("epoll", "block", tls),
        other => panic!("no server is called {other:?}"),
    }
}

/// What everybody serves.
fn router() -> Router {
    Router::new().route("/", get(async || "Hello, World!"))
}

/// One connection over any stream, as hyper's documentation has it.
async fn converse<I: Read + Write + Unpin + 'static>(io: I, router: Router) {
    // A client that goes away is no matter for anybody here.
    let _ = http1::Builder::new().serve_connection(io, TowerToHyperService::new(router)).await;
}

pub(crate) fn configuration() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("ring makes keys");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("ring has them");
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.into()], key);
    Arc::new(config.expect("the key is that of the certificate"))
}
