//! All of it on the double.

mod connections; // the connection manager
mod ends; // what is dropped, and when
mod transfers; // what is sent, written, read

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};

use super::*;

/// A device with queues.
pub(super) struct Side {
    pub(super) device: Device,
    pub(super) domain: ProtectionDomain,
    pub(super) completions: CompletionQueue,
}

impl Side {
    pub(super) fn new() -> Side {
        let device = double::device().unwrap();
        let domain = ProtectionDomain::new(&device).unwrap();
        let completions = CompletionQueue::new(&device, 4, None).unwrap();
        Side { device, domain, completions }
    }

    pub(super) fn pair(&self, config: &QueuePairConfig) -> QueuePair {
        QueuePair::new(&self.domain, &self.completions, &self.completions, None, config).unwrap()
    }

    pub(super) fn sharing(&self, queue: &SharedReceiveQueue, config: &QueuePairConfig) -> QueuePair {
        QueuePair::new(&self.domain, &self.completions, &self.completions, Some(queue), config).unwrap()
    }

    /// All that has completed.
    pub(super) fn completed(&self) -> Vec<Completion> {
        let mut all = Vec::new();
        while self.completions.poll().unwrap() > 0 {
            all.extend(std::iter::from_fn(|| self.completions.take()));
        }
        all
    }
}

pub(super) fn tagged(tag: u64) -> QueuePairConfig {
    QueuePairConfig { tag, ..QueuePairConfig::default() }
}

/// Joins queue pairs of two sides.
pub(super) fn join(one: &QueuePair, other: &QueuePair) {
    let route = route();
    for (pair, peer) in [(one, other), (other, one)] {
        let port = pair.domain().device().active_port(1).unwrap();
        pair.join(&port, &route, peer.number()).unwrap();
    }
}

pub(super) fn route() -> Route {
    Route { port: 1, gid: Some(double::ADDRESS.to_ipv6_mapped().octets()), ..Route::default() }
}

pub(super) fn bytes(len: usize, value: u8) -> Buffer {
    let mut buffer = BufferMut::with_capacity(len).unwrap();
    buffer.resize(len, value);
    buffer.freeze()
}

pub(super) fn message(parts: &[&[u8]]) -> Sga {
    parts.iter().map(|part| Buffer::copy_from_slice(part).unwrap()).collect()
}

pub(super) fn space(len: usize) -> BufferMut {
    BufferMut::with_capacity(len).unwrap()
}

/// What has been received, by tag.
pub(super) fn received(completions: Vec<Completion>) -> Vec<(u64, Vec<u8>)> {
    let received = completions.into_iter().filter_map(|completion| match completion.outcome {
        Outcome::Received { data, .. } => Some((completion.tag, data.to_vec())),
        _ => None,
    });
    received.collect()
}

/// How many bytes of this thread's heap are in use.
pub(super) fn in_use() -> usize {
    demikernel_runtime::buffer::pool::stats().in_use()
}
