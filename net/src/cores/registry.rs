//! What cores know of each other's sockets: on which cores a port can be reached, and which flows are not where their hash
//! would have them.

use crate::table::Flow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

/// What ports and flows are of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// The cores that a port can be reached on, a bit each: of TCP those with a listener, of UDP those with a socket.
struct Ports(Box<[AtomicU64]>);

impl Ports {
    fn new() -> Ports {
        Ports((0..=u16::MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

pub(super) struct Registry {
    tcp: Ports,
    udp: Ports,
    /// How many flows are listed; mostly none, and then nobody looks further.
    count: AtomicUsize,
    flows: RwLock<HashMap<(Protocol, Flow), u8>>,
}

impl Registry {
    pub(super) fn new() -> Registry {
        Registry {
            tcp: Ports::new(),
            udp: Ports::new(),
            count: AtomicUsize::new(0),
            flows: RwLock::default(),
        }
    }

    fn port(&self, protocol: Protocol, port: u16) -> &AtomicU64 {
        let ports = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        &ports.0[usize::from(port)]
    }

    /// The cores that have the port.
    #[inline]
    pub(super) fn cores_of(&self, protocol: Protocol, port: u16) -> u64 {
        self.port(protocol, port).load(Ordering::Relaxed)
    }

    /// Whether a core has the port.
    pub(super) fn set(&self, protocol: Protocol, port: u16, core: usize, has: bool) {
        match has {
            true => self.port(protocol, port).fetch_or(1 << core, Ordering::Relaxed),
            false => self.port(protocol, port).fetch_and(!(1 << core), Ordering::Relaxed),
        };
    }

    /// Takes a port for a core, if no core has it.
    pub(super) fn claim(&self, protocol: Protocol, port: u16, core: usize) -> bool {
        let (none, own) = (0, 1 << core);
        self.port(protocol, port).compare_exchange(none, own, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The core of a flow that is not where its hash would have it.
    #[inline]
    pub(super) fn stray(&self, protocol: Protocol, flow: &Flow) -> Option<usize> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let flows = self.flows.read().unwrap_or_else(PoisonError::into_inner);
        flows.get(&(protocol, *flow)).map(|core| usize::from(*core))
    }

    /// Lists a flow.
    pub(super) fn list(&self, protocol: Protocol, flow: &Flow, core: usize) {
        let mut flows = self.flows.write().unwrap_or_else(PoisonError::into_inner);
        flows.insert((protocol, *flow), core as u8);
        self.count.store(flows.len(), Ordering::Relaxed);
    }

    /// A core no longer has a flow that it may have listed.
    pub(super) fn unlist(&self, protocol: Protocol, flow: &Flow, core: usize) {
        let mut flows = self.flows.write().unwrap_or_else(PoisonError::into_inner);
        let key = (protocol, *flow);
        if flows.get(&key).is_some_and(|of| usize::from(*of) == core) {
            flows.remove(&key);
        }
        self.count.store(flows.len(), Ordering::Relaxed);
    }

    /// How many flows are listed.
    pub(super) fn strays(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_nobody_has_is_claimed_once() {
        let registry = Registry::new();
        assert!(registry.claim(Protocol::Udp, 5000, 1));
        assert!(!registry.claim(Protocol::Udp, 5000, 0) && !registry.claim(Protocol::Udp, 5000, 1));
        registry.set(Protocol::Udp, 5000, 0, true);
        assert_eq!((registry.cores_of(Protocol::Udp, 5000), registry.cores_of(Protocol::Tcp, 5000)), (3, 0));
        registry.set(Protocol::Udp, 5000, 1, false);
        assert_eq!(registry.cores_of(Protocol::Udp, 5000), 1);
    }

    #[test]
    fn a_flow_is_where_it_was_listed_last() {
        let registry = Registry::new();
        let flow = Flow::of([10, 0, 0, 1].into(), 80, [10, 0, 0, 2].into(), 4000);
        assert_eq!(registry.stray(Protocol::Tcp, &flow), None);
        registry.list(Protocol::Tcp, &flow, 1);
        assert_eq!(registry.stray(Protocol::Tcp, &flow), Some(1));
        assert_eq!(registry.stray(Protocol::Udp, &flow), None);
        registry.list(Protocol::Tcp, &flow, 2);
        registry.unlist(Protocol::Tcp, &flow, 1);
        assert_eq!(registry.stray(Protocol::Tcp, &flow), Some(2));
        registry.unlist(Protocol::Tcp, &flow, 2);
        assert_eq!((registry.stray(Protocol::Tcp, &flow), registry.strays()), (None, 0));
    }
}
