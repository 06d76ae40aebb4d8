//! tokio: on the current thread, with workers, and by `axum::serve`.

use super::{Arc, ServerConfig, converse, router};
use crate::echo;
use axum::Router;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

pub(super) enum Flavor {
    CurrentThread,
    /// A runtime whose tasks need not be `Send`.
    Local,
    /// As many workers as this process has cores: one.
    MultiThread,
}

pub(super) fn serve(flavor: Flavor, tls: Option<Arc<ServerConfig>>) {
    let acceptor = tls.map(TlsAcceptor::from);
    match flavor {
        Flavor::CurrentThread => {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            // The future that is blocked on is polled apart from the tasks.
            runtime.block_on(async { tokio::spawn(accept(acceptor, spawn)).await.unwrap() });
        }
        Flavor::Local => {
            let runtime = Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
            runtime.block_on(async { spawn_local(accept(acceptor, spawn_here)).await.unwrap() });
        }
        Flavor::MultiThread => {
            let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::spawn(accept(acceptor, spawn)).await.unwrap() });
        }
    }
}

type Spawn = fn(TcpStream, Option<TlsAcceptor>, Router);

fn spawn(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    tokio::spawn(attend(stream, acceptor, router));
}

fn spawn_here(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    spawn_local(attend(stream, acceptor, router));
}

fn accept(acceptor: Option<TlsAcceptor>, spawn: Spawn) -> impl Future<Output = ()> + Send {
    async move {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        let router = router();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            spawn(stream, acceptor.clone(), router.clone());
        }
    }
}

async fn attend(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router) {
    match acceptor {
        None => converse(TokioIo::new(stream), router).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(TokioIo::new(stream), router).await;
            }
        }
    }
}

pub(super) fn serve_axum() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        // Its listener's `tap_io` is how its documentation sets the option.
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| _ = stream.set_nodelay(true));
        tokio::spawn(async { axum::serve(listener, router()).await }).await.unwrap().unwrap();
    });
}
