//! compio: `cyper-core`'s stream for hyper, and `cyper_axum::serve`.

use super::{Arc, ServerConfig, converse, router};
use crate::echo;
use axum::Router;
use compio::net::{TcpListener, TcpStream};
use compio::tls::TlsAcceptor;
use cyper_core::HyperStream;
use std::future::Future;

pub(super) fn serve(defer_taskrun: bool, tls: Option<Arc<ServerConfig>>) {
    let acceptor = tls.map(TlsAcceptor::from);
    run(defer_taskrun, async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        let router = router();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            compio::runtime::spawn(attend(stream, acceptor.clone(), router.clone())).detach();
        }
    });
}

fn run(defer_taskrun: bool, future: impl Future<Output = ()>) {
    let mut proactor = compio::driver::ProactorBuilder::new();
    if defer_taskrun {
        proactor.single_issuer(true).coop_taskrun(true).taskrun_flag(true).defer_taskrun(true);
    }
    compio::runtime::RuntimeBuilder::new().with_proactor(proactor).build().unwrap().block_on(future);
}

async fn attend(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    match acceptor {
        None => converse(HyperStream::new_plain(stream), router).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(HyperStream::new_tls(stream), router).await;
            }
        }
    }
}

/// It has no way to set TCP_NODELAY, which a response in one piece does not need.
pub(super) fn serve_axum() {
    run(false, async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        cyper_axum::serve(listener, router()).await.unwrap();
    });
}
