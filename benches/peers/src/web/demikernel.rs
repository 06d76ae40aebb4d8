//! demikernel itself.

use super::{Arc, ServerConfig, converse, router};
use crate::echo;
use axum::Router;
use demikernel::hyper::Io;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::{Builder, spawn};
use futures::io::BufReader;
use futures_rustls::TlsAcceptor;

/// On a transport, with an idle policy.
pub(super) fn serve(transport: &str, idle: &str, tls: Option<Arc<ServerConfig>>) {
    let acceptor = tls.map(TlsAcceptor::from);
    let idle = idle.parse().unwrap();
    Builder::new().transport(transport).idle(idle).build().unwrap().block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        let router = router();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            spawn(attend(stream, acceptor.clone(), router.clone())).detach();
        }
    });
}

async fn attend(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    match acceptor {
        None => converse(Io::new(stream), router).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(Io::new(BufReader::new(stream)), router).await;
            }
        }
    }
}
