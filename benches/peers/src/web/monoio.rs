//! monoio: completions of io_uring through `monoio-compat`, and readiness ("poll I/O") on io_uring and on epoll.

use super::{Arc, ServerConfig, converse, router};
use crate::echo;
use ::monoio::io::IntoPollIo;
use ::monoio::io::poll_io::{AsyncRead, AsyncWrite};
use ::monoio::net::{TcpListener, TcpStream};
use ::monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use axum::Router;
use monoio_compat::TcpStreamCompat;
use monoio_compat::hyper::MonoioIo;
use tokio_rustls::TlsAcceptor;

/// With monoio-compat's buffers, which hold what goes to the ring and what comes from it.
pub(super) fn serve_uring(defer_taskrun: bool, tls: Option<Arc<ServerConfig>>) {
    let mut ring = monoio_io_uring::IoUring::builder();
    if defer_taskrun {
        ring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
    }
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring);
    builder.build().unwrap().block_on(accept(tls, |stream, acceptor, router| {
        monoio::spawn(attend(TcpStreamCompat::new(stream), acceptor, router));
    }));
}

pub(super) fn serve_poll(tls: Option<Arc<ServerConfig>>) {
    RuntimeBuilder::<IoUringDriver>::new().build().unwrap().block_on(accept(tls, poll));
}

pub(super) fn serve_legacy(tls: Option<Arc<ServerConfig>>) {
    RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(accept(tls, poll));
}

fn poll(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    monoio::spawn(attend(stream.into_poll_io().unwrap(), acceptor, router));
}

type Spawn = fn(TcpStream, Option<TlsAcceptor>, Router);

async fn accept(tls: Option<Arc<ServerConfig>>, spawn: Spawn) {
    let acceptor = tls.map(TlsAcceptor::from);
    let listener = TcpListener::bind(echo::ANY).unwrap();
    echo::announce(listener.local_addr().unwrap());
    let router = router();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        spawn(stream, acceptor.clone(), router.clone());
    }
}

async fn attend<S>(stream: S, acceptor: Option<TlsAcceptor>, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match acceptor {
        None => converse(MonoioIo::new(stream), router).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(MonoioIo::new(stream), router).await;
            }
        }
    }
}
