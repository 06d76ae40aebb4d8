//! tokio-uring: tokio's local set with io_uring beside its epoll.

use super::{Runtime, tokio::Unbounded};
use crate::echo::{self, BUFFER};
use std::future::Future;
use std::time::Duration;
use tokio_uring::net::{TcpListener, TcpStream};

/// `tokio_uring::start` and `tokio_uring::spawn`.
pub struct TokioUring;

impl Runtime for TokioUring {
    type Channel = Unbounded;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        tokio_uring::start(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = tokio_uring::spawn(future);
        async move { task.await.unwrap() }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

async fn connection(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
    loop {
        let (result, back) = stream.read(buffer).await;
        buffer = back;
        if !matches!(result, Ok(n) if n > 0) {
            return;
        }
        echo::seen(&buffer);
        let (result, back) = stream.write_all(buffer).await;
        buffer = back;
        if result.is_err() {
            return;
        }
        buffer.clear();
    }
}

/// Serves with the default ring, or with the single-issuer flags.
///
/// DEFER_TASKRUN cannot be had: tokio-uring waits in epoll for the ring to become readable, and nothing
/// completes on such a ring until somebody enters it.
pub fn echo(single_issuer: bool) {
    let mut ring = tokio_uring::uring_builder();
    if single_issuer {
        ring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
    }
    let mut builder = tokio_uring::builder();
    builder.entries(1024).uring_builder(&ring);
    builder.start(async {
        let listener = TcpListener::bind(echo::ANY).unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            tokio_uring::spawn(connection(stream));
        }
    })
}
