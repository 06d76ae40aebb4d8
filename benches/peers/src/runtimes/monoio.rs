//! monoio: on io_uring, with and without deferred task work, and on epoll ("legacy").

use super::{Channel, Runtime};
use crate::echo::{self, BUFFER};
use local_sync::mpsc::unbounded;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use std::future::Future;
use std::time::Duration;

/// The io_uring driver with timers.
pub struct Monoio;

impl Runtime for Monoio {
    type Channel = LocalSync;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        monoio::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        monoio::time::sleep(duration)
    }
}

/// `local_sync::mpsc`, which monoio's documentation recommends; mini uses it too.
pub struct LocalSync;

impl Channel for LocalSync {
    type Sender = unbounded::Tx<u64>;
    type Receiver = unbounded::Rx<u64>;

    fn pair() -> (Self::Sender, Self::Receiver) {
        unbounded::channel()
    }

    fn send(sender: &mut Self::Sender, value: u64) {
        assert!(sender.send(value).is_ok());
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.unwrap()
    }
}

async fn connection(mut stream: TcpStream) {
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

async fn serve() {
    let listener = TcpListener::bind(echo::ANY).unwrap();
    echo::announce(listener.local_addr().unwrap());
    while let Ok((stream, _)) = listener.accept().await {
        monoio::spawn(connection(stream));
    }
}

/// Serves on io_uring.
pub fn echo_uring(defer_taskrun: bool) {
    let mut ring = monoio_io_uring::IoUring::builder();
    if defer_taskrun {
        ring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_defer_taskrun();
    }
    RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build().unwrap().block_on(serve())
}

/// Serves on epoll.
pub fn echo_legacy() {
    RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(serve())
}
