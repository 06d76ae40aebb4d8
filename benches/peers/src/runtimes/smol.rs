//! smol: its local executor, and async-executor's leaked variant of it.

use super::{Channel, Runtime};
use crate::echo::{self, BUFFER};
use async_executor::StaticLocalExecutor;
use smol::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use std::cell::Cell;
use std::future::{Future, pending};
use std::time::Duration;

thread_local! {
    static LOCAL: Cell<Option<&'static LocalExecutor<'static>>> = const { Cell::new(None) };
    static STATIC: Cell<Option<&'static StaticLocalExecutor>> = const { Cell::new(None) };
}

/// `smol::LocalExecutor` under `smol::block_on`.
pub struct Smol;

impl Runtime for Smol {
    type Channel = AsyncChannel;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let executor: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
        LOCAL.set(Some(executor));
        smol::block_on(executor.run(async { Self::spawn(future).await }))
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        LOCAL.get().unwrap().spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        let timer = smol::Timer::after(duration);
        async move {
            timer.await;
        }
    }
}

/// `async_executor::StaticLocalExecutor`: smol's executor without the tasks' registry.
pub struct Static;

impl Runtime for Static {
    const TIMERS: bool = false;
    type Channel = AsyncChannel;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let executor: &'static StaticLocalExecutor = Box::leak(Box::new(StaticLocalExecutor::new()));
        STATIC.set(Some(executor));
        smol::future::block_on(executor.run(async { Self::spawn(future).await }))
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        STATIC.get().unwrap().spawn(future)
    }

    fn sleep(_: Duration) -> impl Future<Output = ()> + 'static {
        pending()
    }
}

/// `smol::channel`, unbounded.
pub struct AsyncChannel;

impl Channel for AsyncChannel {
    type Sender = smol::channel::Sender<u64>;
    type Receiver = smol::channel::Receiver<u64>;

    fn pair() -> (Self::Sender, Self::Receiver) {
        smol::channel::unbounded()
    }

    fn send(sender: &mut Self::Sender, value: u64) {
        sender.try_send(value).unwrap();
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

/// Serves on the local executor.
pub fn echo() {
    let executor: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
    smol::block_on(executor.run(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            executor.spawn(connection(stream)).detach();
        }
    }))
}
