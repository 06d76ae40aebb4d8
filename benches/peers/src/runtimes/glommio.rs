//! glommio: one io_uring executor per core.

use super::{Channel, Runtime};
use crate::echo::{self, BUFFER};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::future::Future;
use std::time::Duration;

/// A `LocalExecutor` that the harness has pinned.
pub struct Glommio;

impl Runtime for Glommio {
    type Channel = Local;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
        executor.run(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = glommio::spawn_local(future).detach();
        async move { task.await.unwrap() }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }
}

/// `glommio::channels::local_channel`, unbounded.
pub struct Local;

impl Channel for Local {
    type Sender = LocalSender<u64>;
    type Receiver = LocalReceiver<u64>;

    fn pair() -> (Self::Sender, Self::Receiver) {
        local_channel::new_unbounded()
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

/// Serves on one core.
pub fn echo(core: usize) {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core)).make().unwrap();
    executor.run(async {
        let listener = TcpListener::bind(echo::ANY).unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok(stream) = listener.accept().await {
            glommio::spawn_local(connection(stream)).detach();
        }
    })
}
