//! tokio: the current-thread runtime, the local runtime, and a `LocalSet`.

use super::{Channel, Runtime};
use crate::echo::{self, BUFFER};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// `Builder::new_current_thread` and `tokio::spawn`.
pub struct CurrentThread;

/// `tokio::spawn` asks for `Send`, which the operations' futures are not.
struct AssertSend<T>(T);

// SAFETY: the runtime is a current-thread one: whatever is spawned on it never leaves the thread.
unsafe impl<T> Send for AssertSend<T> {}

impl<F: Future> Future for AssertSend<F> {
    type Output = AssertSend<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the field is pinned whenever the wrapper is; nothing moves out of it.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll(cx).map(AssertSend)
    }
}

impl Runtime for CurrentThread {
    type Channel = Unbounded;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = tokio::spawn(AssertSend(future));
        async move { task.await.unwrap().0 }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

/// `Builder::build_local` and `spawn_local`.
pub struct Local;

impl Runtime for Local {
    type Channel = Unbounded;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = tokio::task::spawn_local(future);
        async move { task.await.unwrap() }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

/// A `LocalSet` on a current-thread runtime.
pub struct LocalSet;

impl Runtime for LocalSet {
    type Channel = Unbounded;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        Local::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

/// `tokio::sync::mpsc`, unbounded.
pub struct Unbounded;

impl Channel for Unbounded {
    type Sender = mpsc::UnboundedSender<u64>;
    type Receiver = mpsc::UnboundedReceiver<u64>;

    fn pair() -> (Self::Sender, Self::Receiver) {
        mpsc::unbounded_channel()
    }

    fn send(sender: &mut Self::Sender, value: u64) {
        sender.send(value).unwrap();
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.unwrap()
    }
}

async fn connection(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => {
                echo::seen(&buffer[..n]);
                if stream.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Serves on the current-thread runtime.
pub fn echo_current_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream));
        }
    })
}

/// Serves on the local runtime.
pub fn echo_local() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(connection(stream));
        }
    })
}
