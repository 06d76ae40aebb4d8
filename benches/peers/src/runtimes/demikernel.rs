//! demikernel itself.

use super::{Channel, Runtime};
use crate::echo;
use crate::operations::{Plan, Samples};
use demikernel::channel::mpsc;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::{Builder, Completion, QToken, operation, spawn, yield_now};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The runtime with kernel sockets on io_uring and its usual way to idle.
pub struct Demikernel;

impl Runtime for Demikernel {
    type Channel = Bounded;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let runtime = Builder::new().transport("io_uring").build().unwrap();
        runtime.block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        let task = spawn(future);
        async move { task.await.unwrap() }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        demikernel::time::sleep(duration)
    }
}

/// `demikernel::channel::mpsc`, which is bounded.
pub struct Bounded;

impl Channel for Bounded {
    type Sender = mpsc::Sender<u64>;
    type Receiver = mpsc::Receiver<u64>;

    fn pair() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(16)
    }

    fn send(sender: &mut Self::Sender, value: u64) {
        sender.try_send(value).unwrap();
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.unwrap()
    }
}

/// Where the receiver of the next message leaves the promise that the sender keeps.
#[derive(Default)]
struct Desk {
    next: Cell<Option<Completion<u64>>>,
}

impl Desk {
    fn receive(&self) -> QToken<u64> {
        let (token, completion) = operation();
        self.next.set(Some(completion));
        token
    }

    /// Until the receiver is there.
    async fn wait(&self) {
        loop {
            let next = self.next.take();
            if next.is_some() {
                return self.next.set(next);
            }
            yield_now().await;
        }
    }

    fn send(&self, value: u64) {
        self.next.take().expect("the receiver waits").complete(value);
    }
}

/// [`crate::operations::TOKEN`].
pub fn ping_pong_of_tokens(plan: Plan) -> Samples {
    Demikernel::run(plan.sample(async move || {
        let (there, back) = (Rc::new(Desk::default()), Rc::new(Desk::default()));
        let (inbox, outbox) = (there.clone(), back.clone());
        let partner = spawn(async move {
            let mut message = inbox.receive();
            for _ in 0..plan.operations {
                let value = message.await;
                message = inbox.receive();
                outbox.send(value + 1);
            }
        });
        there.wait().await;
        for i in 0..plan.operations {
            let answer = back.receive();
            there.send(i);
            black_box(answer.await);
        }
        partner.await.unwrap();
        // Of the partner's last token, which nobody awaited.
        there.send(0);
    }))
}

async fn connection(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let buffer = stream.pop().await?;
        if buffer.is_empty() {
            return Ok(());
        }
        echo::seen(&buffer);
        stream.push(buffer).await?;
    }
}

/// Serves on a transport with an idle policy.
pub fn echo(transport: &str, idle: &str) {
    let idle = idle.parse().unwrap();
    let runtime = Builder::new().transport(transport).idle(idle).build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(echo::ANY).await.unwrap();
        echo::announce(listener.local_addr().unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            spawn(connection(stream)).detach();
        }
    })
}
