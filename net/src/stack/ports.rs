//! Who has which port: listeners, bound sockets, and connections that keep a port from being bound.

use crate::cores::{Place, Protocol};
use std::net::IpAddr;
use std::rc::Rc;

/// Ports in a page: most pages are never made.
const PAGE: usize = 256;

const NONE: u32 = u32::MAX;

/// What a socket is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Binding {
    pub(crate) socket: u32,
    /// Unspecified if any will do.
    pub(crate) address: IpAddr,
    /// An unspecified IPv6 address does not stand for IPv4 as well.
    pub(crate) v6_only: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) listens: bool,
}

impl Binding {
    /// Whether packets to `address` are for it; and whether by name, or as any other. So each address can have a
    /// listener of its own. [rfc9293 MUST-42]
    fn takes(&self, address: IpAddr) -> Option<bool> {
        if self.address == address {
            return Some(true);
        }
        let any = match self.address {
            IpAddr::V4(own) => own.is_unspecified() && address.is_ipv4(),
            IpAddr::V6(own) => own.is_unspecified() && (address.is_ipv6() || !self.v6_only),
        };
        any.then_some(false)
    }

    /// Whether some address is of both.
    fn overlaps(&self, other: &Binding) -> bool {
        self.takes(other.address).is_some() || other.takes(self.address).is_some()
    }

    /// Whether both may be there, in the rules of Linux: addresses are reused unless somebody listens.
    fn conflicts(&self, other: &Binding, datagrams: bool) -> bool {
        let reuse =
            self.reuse_address && other.reuse_address && (datagrams || !other.listens && !self.listens);
        let shared = self.reuse_port && other.reuse_port;
        self.overlaps(other) && !reuse && !shared
    }
}

#[derive(Clone, Copy, Debug)]
struct Port {
    /// The first of its bindings.
    first: u32,
    /// The first of the addresses at which connections have it, and keep others from binding it.
    held: u32,
}

impl Port {
    const FREE: Port = Port { first: NONE, held: NONE };
}

/// An address of ours at which connections have a port. It stays when they are gone, as others will come.
#[derive(Clone, Copy, Debug)]
struct Holding {
    address: IpAddr,
    connections: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    binding: Binding,
    next: u32,
}

/// The ports of one protocol, by number.
#[derive(Debug)]
pub(crate) struct Ports {
    pages: Vec<Option<Box<[Port; PAGE]>>>,
    nodes: Vec<Node>,
    free: u32,
    holdings: Vec<Holding>,
    /// Whether it is UDP.
    datagrams: bool,
    /// Who tells other cores, if there are.
    place: Option<Rc<Place>>,
}

impl Ports {
    pub(crate) fn new(protocol: Protocol, place: Option<Rc<Place>>) -> Ports {
        let (nodes, holdings) = (Vec::new(), Vec::new());
        let datagrams = protocol == Protocol::Udp;
        Ports { pages: vec![None; 65_536 / PAGE], nodes, free: NONE, holdings, datagrams, place }
    }

    /// Other cores know whether a port can be reached here.
    fn tell(&self, number: u16) {
        if let Some(place) = &self.place {
            let protocol = if self.datagrams { Protocol::Udp } else { Protocol::Tcp };
            place.set_port(protocol, number, self.is_bound(number));
        }
    }

    /// Takes a port that no core has: whether it was so.
    pub(crate) fn claim(&self, number: u16) -> bool {
        let protocol = if self.datagrams { Protocol::Udp } else { Protocol::Tcp };
        self.place.as_ref().is_none_or(|place| place.claim(protocol, number))
    }

    #[inline]
    fn port(&self, number: u16) -> Port {
        let page = &self.pages[usize::from(number) / PAGE];
        page.as_ref().map_or(Port::FREE, |page| page[usize::from(number) % PAGE])
    }

    fn port_mut(&mut self, number: u16) -> &mut Port {
        let page = self.pages[usize::from(number) / PAGE].get_or_insert_with(|| Box::new([Port::FREE; PAGE]));
        &mut page[usize::from(number) % PAGE]
    }

    #[inline]
    fn bindings(&self, number: u16) -> impl Iterator<Item = &Binding> {
        let mut next = self.port(number).first;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(&node.binding)
        })
    }

    fn holdings_of(&self, number: u16) -> impl Iterator<Item = &Holding> {
        let mut next = self.port(number).held;
        std::iter::from_fn(move || {
            let holding = self.holdings.get(next as usize)?;
            next = holding.next;
            Some(holding)
        })
    }

    /// Whether nobody stands in the way of `binding`.
    pub(crate) fn may_bind(&self, number: u16, binding: &Binding) -> bool {
        let is_held = |holding: &Holding| holding.connections > 0 && binding.takes(holding.address).is_some();
        let held = !binding.reuse_address && !binding.reuse_port && self.holdings_of(number).any(is_held);
        !held && !self.bindings(number).any(|other| binding.conflicts(other, self.datagrams))
    }

    /// Whether a connection may have it as its port without asking.
    pub(crate) fn is_bound(&self, number: u16) -> bool {
        self.port(number).first != NONE
    }

    pub(crate) fn bind(&mut self, number: u16, binding: Binding) {
        let node = Node { binding, next: self.port(number).first };
        let index = if let Some(hole) = self.nodes.get_mut(self.free as usize) {
            let index = self.free;
            self.free = hole.next;
            *hole = node;
            index
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        self.port_mut(number).first = index;
        self.tell(number);
    }

    /// Forgets the binding of a socket.
    pub(crate) fn release(&mut self, number: u16, socket: u32) {
        let mut before = NONE;
        let mut index = self.port(number).first;
        while let Some(node) = self.nodes.get(index as usize).copied() {
            if node.binding.socket != socket {
                (before, index) = (index, node.next);
                continue;
            }
            match self.nodes.get_mut(before as usize) {
                Some(before) => before.next = node.next,
                None => self.port_mut(number).first = node.next,
            }
            self.nodes[index as usize].next = self.free;
            self.free = index;
            return self.tell(number);
        }
    }

    /// Changes the binding of a socket.
    pub(crate) fn change(&mut self, number: u16, socket: u32, change: impl FnOnce(&mut Binding)) {
        let mut index = self.port(number).first;
        while let Some(node) = self.nodes.get_mut(index as usize) {
            if node.binding.socket == socket {
                return change(&mut node.binding);
            }
            index = node.next;
        }
    }

    /// A connection has the port at this address, and lets nobody bind it there.
    pub(crate) fn hold(&mut self, number: u16, address: IpAddr) {
        if let Some(holding) = self.holding_mut(number, address) {
            holding.connections += 1;
            return;
        }
        let index = self.holdings.len() as u32;
        let next = std::mem::replace(&mut self.port_mut(number).held, index);
        self.holdings.push(Holding { address, connections: 1, next });
    }

    /// It is over.
    pub(crate) fn let_go(&mut self, number: u16, address: IpAddr) {
        if let Some(holding) = self.holding_mut(number, address) {
            holding.connections = holding.connections.saturating_sub(1);
        }
    }

    fn holding_mut(&mut self, number: u16, address: IpAddr) -> Option<&mut Holding> {
        let mut index = self.port(number).held;
        loop {
            let holding = self.holdings.get(index as usize)?;
            if holding.address == address {
                return self.holdings.get_mut(index as usize);
            }
            index = holding.next;
        }
    }

    /// The socket for what comes to this address and port: one that is bound to it by name before one that takes any,
    /// and among equals by `spread`.
    #[inline]
    pub(crate) fn find(&self, number: u16, address: IpAddr, spread: u64) -> Option<u32> {
        let mut found: Option<(bool, u32)> = None;
        let mut equals = 0;
        for binding in self.bindings(number) {
            if !self.datagrams && !binding.listens {
                continue;
            }
            let Some(named) = binding.takes(address) else { continue };
            match found {
                Some((better, _)) if better && !named => {}
                Some((as_good, _)) if as_good == named => equals += 1,
                _ => (found, equals) = (Some((named, binding.socket)), 1),
            }
        }
        let (named, socket) = found?;
        if equals == 1 {
            return Some(socket);
        }
        let of_these = self
            .bindings(number)
            .filter(|binding| (self.datagrams || binding.listens) && binding.takes(address) == Some(named));
        of_these.map(|binding| binding.socket).nth((spread % equals) as usize)
    }

    /// All sockets that take what comes to this address and port: of a group, each gets it.
    pub(crate) fn all(&self, number: u16, address: IpAddr) -> Vec<u32> {
        self.bindings(number)
            .filter(|binding| binding.takes(address).is_some())
            .map(|binding| binding.socket)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(socket: u32, address: &str) -> Binding {
        Binding {
            socket,
            address: address.parse().unwrap(),
            v6_only: false,
            reuse_address: false,
            reuse_port: false,
            listens: true,
        }
    }

    #[test]
    fn the_name_goes_before_any() {
        let mut ports = Ports::new(Protocol::Tcp, None);
        for (socket, address) in [(1, "0.0.0.0"), (2, "10.0.0.1"), (3, "::1")] {
            assert!(ports.may_bind(80, &binding(socket, address)) || socket == 2);
            ports.bind(80, binding(socket, address));
        }
        let find = |ports: &Ports, address: &str| ports.find(80, address.parse().unwrap(), 0);
        assert_eq!(find(&ports, "10.0.0.1"), Some(2));
        assert_eq!(find(&ports, "10.0.0.2"), Some(1));
        assert_eq!(find(&ports, "::1"), Some(3));
        assert_eq!(find(&ports, "::2"), None);
        ports.release(80, 2);
        assert_eq!(find(&ports, "10.0.0.1"), Some(1));
        ports.release(80, 1);
        ports.release(80, 3);
        assert!(!ports.is_bound(80));
    }

    #[test]
    fn both_families_are_one_unless_they_are_not_to_be() {
        let mut ports = Ports::new(Protocol::Tcp, None);
        ports.bind(80, binding(1, "::"));
        assert!(!ports.may_bind(80, &binding(2, "0.0.0.0")));
        assert_eq!(ports.find(80, "10.0.0.1".parse().unwrap(), 0), Some(1));
        ports.change(80, 1, |binding| binding.v6_only = true);
        assert!(ports.may_bind(80, &binding(2, "0.0.0.0")));
        assert_eq!(ports.find(80, "10.0.0.1".parse().unwrap(), 0), None);
    }

    #[test]
    fn reuse_is_by_the_rules_of_linux() {
        let mut ports = Ports::new(Protocol::Tcp, None);
        let reuse = |socket, listens| Binding { reuse_address: true, listens, ..binding(socket, "0.0.0.0") };
        ports.bind(80, reuse(1, false));
        assert!(ports.may_bind(80, &reuse(2, false)));
        assert!(!ports.may_bind(80, &binding(2, "0.0.0.0")));
        ports.change(80, 1, |binding| binding.listens = true);
        assert!(!ports.may_bind(80, &reuse(2, false)));
        let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        ports.hold(81, here);
        ports.hold(81, here);
        assert!(!ports.may_bind(81, &binding(2, "0.0.0.0")) && ports.may_bind(81, &reuse(2, true)));
        assert!(!ports.may_bind(81, &binding(2, "10.0.0.1")) && ports.may_bind(81, &binding(2, "10.0.0.2")));
        ports.let_go(81, there);
        ports.let_go(81, here);
        assert!(!ports.may_bind(81, &binding(2, "10.0.0.1")));
        ports.let_go(81, here);
        assert!(ports.may_bind(81, &binding(2, "0.0.0.0")));
        let share = |socket| Binding { reuse_port: true, ..binding(socket, "0.0.0.0") };
        ports.bind(82, share(5));
        assert!(ports.may_bind(82, &share(6)));
        ports.bind(82, share(6));
        let address = "10.0.0.1".parse().unwrap();
        assert_ne!(ports.find(82, address, 0), ports.find(82, address, 1));
    }
}
