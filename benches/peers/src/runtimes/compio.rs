//! compio: completion-based, io_uring here, with and without deferred task work.

use super::{NoChannel, Runtime};
use crate::echo::{self, BUFFER};
use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use std::future::Future;
use std::time::Duration;

/// The default runtime.
pub struct Compio;

impl Runtime for Compio {
    type Channel = NoChannel;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        compio::runtime::Runtime::new().unwrap().block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = compio::runtime::spawn(future);
        async move { task.await.unwrap() }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        compio::time::sleep(duration)
    }
}

async fn connection(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
    loop {
        let BufResult(result, back) = stream.read(buffer).await;
        buffer = back;
        if !matches!(result, Ok(n) if n > 0) {
            return;
        }
        echo::seen(&buffer);
        let BufResult(result, back) = stream.write_all(buffer).await;
        buffer = back;
        if result.is_err() {
            return;
        }
        buffer.clear();
    }
}

/// Serves on io_uring.
pub fn echo(defer_taskrun: bool) {
    let mut proactor = compio::driver::ProactorBuilder::new();
    if defer_taskrun {
        proactor.single_issuer(true).coop_taskrun(true).taskrun_flag(true).defer_taskrun(true);
    }
    let runtime = compio::runtime::RuntimeBuilder::new().with_proactor(proactor).build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            compio::runtime::spawn(connection(stream)).detach();
        }
    })
}
