//! Operations by short names, for tests of any transport: of this crate's, and of others that run them by path.

use crate::harness::Net;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::transport::{Accepted, Domain, Endpoint, Qd};
use demikernel_runtime::{Completion, QToken, operation};
use std::io;
use std::net::SocketAddr;

pub(crate) fn token<T: 'static>(start: impl FnOnce(Completion<T>)) -> QToken<T> {
    let (token, completion) = operation();
    start(completion);
    token
}

impl Net {
    /// The device's counter of a name, if it has one.
    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        self.device.counters().into_iter().find(|counter| counter.0 == name).map(|counter| counter.1)
    }

    /// Both ends of a connection.
    pub(crate) async fn pair(&self, domain: Domain) -> (Qd, Qd) {
        let (listener, address) = self.listener(domain);
        let client = self.stream(domain);
        let connected = self.connect(client, &address);
        let server = self.accept(listener).await.unwrap().qd;
        connected.await.unwrap();
        self.network.close(listener);
        (client, server)
    }

    pub(crate) fn accept(&self, qd: Qd) -> QToken<io::Result<Accepted>> {
        token(|done| self.network.accept(qd, done))
    }

    pub(crate) fn connect(&self, qd: Qd, peer: &Endpoint) -> QToken<io::Result<()>> {
        token(|done| self.network.connect(qd, peer, done))
    }

    pub(crate) fn push(&self, qd: Qd, data: impl Into<Sga>) -> QToken<io::Result<()>> {
        token(|done| self.network.push(qd, data.into(), done))
    }

    pub(crate) fn pop(&self, qd: Qd) -> QToken<io::Result<Buffer>> {
        self.pop_up_to(qd, 1 << 20)
    }

    pub(crate) fn pop_up_to(&self, qd: Qd, limit: usize) -> QToken<io::Result<Buffer>> {
        token(|done| self.network.pop(qd, limit, done))
    }

    pub(crate) fn push_to(&self, qd: Qd, data: impl Into<Sga>, peer: SocketAddr) -> QToken<io::Result<()>> {
        token(|done| self.network.push_to(qd, data.into(), peer, done))
    }

    pub(crate) fn pop_from(&self, qd: Qd, limit: usize) -> QToken<io::Result<(Buffer, SocketAddr)>> {
        token(|done| self.network.pop_from(qd, limit, done))
    }

    /// Pops until there are so many bytes.
    pub(crate) async fn pop_exactly(&self, qd: Qd, count: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(count);
        while data.len() < count {
            let more = self.pop_up_to(qd, count - data.len()).await.unwrap();
            assert!(!more.is_empty(), "the stream ended after {} of {count} bytes", data.len());
            data.extend_from_slice(&more);
        }
        data
    }

    /// Pops until the stream ends.
    pub(crate) async fn pop_all(&self, qd: Qd) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            match self.pop(qd).await.unwrap() {
                more if more.is_empty() => return data,
                more => data.extend_from_slice(&more),
            }
        }
    }
}

pub(crate) fn buffer(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

/// Bytes that are different everywhere, so that what is lost, doubled or moved shows.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
