//! Whole stories in virtual time, read off the trace: every delay is ten microseconds, and nothing is cut.

mod datagrams;
mod files;
mod streams;

use super::{Memory, MemoryConfig};
use crate::buffer::Buffer;
use crate::executor::operation;
use crate::transport::{Accepted, Domain, Endpoint, Network, Qd, SocketKind, Transport};
use crate::{Builder, Completion, QToken, Time};
use std::io;
use std::rc::Rc;
use std::time::Duration;

fn config() -> MemoryConfig {
    MemoryConfig {
        latency: Duration::from_micros(10),
        jitter: Duration::ZERO,
        splits: 0.0,
        joins: 0.0,
        storage_latency: Duration::from_micros(10),
        storage_jitter: Duration::ZERO,
        trace: true,
        ..MemoryConfig::default()
    }
}

/// Tells a story on a device of its own.
fn tell<F: Future>(config: MemoryConfig, story: impl FnOnce(Rc<Memory>) -> F) -> F::Output {
    let runtime = Builder::new().time(Time::Virtual).build().unwrap();
    let memory = Memory::with_config(config);
    runtime.attach(Transport::both(memory.clone()));
    runtime.block_on(story(memory))
}

fn token<T: 'static>(start: impl FnOnce(Completion<T>)) -> QToken<T> {
    let (token, completion) = operation();
    start(completion);
    token
}

fn at(text: &str) -> Endpoint {
    Endpoint::Inet(text.parse().unwrap())
}

/// Short names for what the stories do.
trait Acts {
    fn stream(&self) -> Qd;
    fn listener(&self, address: &str) -> Qd;
    fn start_accept(&self, qd: Qd) -> QToken<io::Result<Accepted>>;
    fn start_connect(&self, qd: Qd, peer: &str) -> QToken<io::Result<()>>;
    fn push_bytes(&self, qd: Qd, bytes: &'static [u8]) -> QToken<io::Result<()>>;
    fn start_pop(&self, qd: Qd) -> QToken<io::Result<Buffer>>;
    async fn pair(&self) -> (Qd, Qd);
}

impl Acts for Memory {
    fn stream(&self) -> Qd {
        self.socket(Domain::V4, SocketKind::Stream).unwrap()
    }

    fn listener(&self, address: &str) -> Qd {
        let qd = self.stream();
        self.bind(qd, &at(address)).unwrap();
        self.listen(qd, 16).unwrap();
        qd
    }

    fn start_accept(&self, qd: Qd) -> QToken<io::Result<Accepted>> {
        token(|done| self.accept(qd, done))
    }

    fn start_connect(&self, qd: Qd, peer: &str) -> QToken<io::Result<()>> {
        token(|done| self.connect(qd, &at(peer), done))
    }

    fn push_bytes(&self, qd: Qd, bytes: &'static [u8]) -> QToken<io::Result<()>> {
        token(|done| self.push(qd, Buffer::from_static(bytes).into(), done))
    }

    fn start_pop(&self, qd: Qd) -> QToken<io::Result<Buffer>> {
        token(|done| self.pop(qd, 1 << 20, done))
    }

    /// Both ends of a connection between 10.0.0.1 (the client) and 10.0.0.2.
    async fn pair(&self) -> (Qd, Qd) {
        let listener = self.listener("10.0.0.2:80");
        let client = self.stream();
        self.bind(client, &at("10.0.0.1:0")).unwrap();
        let connected = self.start_connect(client, "10.0.0.2:80");
        let server = self.start_accept(listener).await.unwrap().qd;
        connected.await.unwrap();
        self.close(listener);
        (client, server)
    }
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}
