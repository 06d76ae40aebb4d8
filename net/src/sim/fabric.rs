//! Links between all pairs of nodes, and who has which address.

use super::link::{Link, LinkConfig, LinkStats};
use super::trace::Trace;
use crate::wire::ip::Version;
use crate::wire::{ipv4, ipv6};
use demikernel_runtime::time::Instant;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// A node, by its number.
pub(super) type Node = usize;

#[derive(Debug)]
struct Edge {
    from: Node,
    to: Node,
    link: Link,
    /// When it is in the fabric's list of what is due.
    due: Option<Instant>,
}

/// Links of one network. Between two nodes there is one of the default as soon as it is used.
#[derive(Debug)]
pub(super) struct Fabric {
    seed: u64,
    default: LinkConfig,
    edges: Vec<Edge>,
    /// By direction. Never iterated over, so that nothing depends on the order of hashes.
    numbers: HashMap<(Node, Node), usize>,
    /// Links by the time of the next arrival, and then by their number.
    due: BTreeSet<(Instant, usize)>,
    owners: HashMap<IpAddr, Node>,
    /// Nodes that no packet leaves or reaches.
    isolated: BTreeSet<Node>,
    nowhere: u64,
    trace: Trace,
}

impl Fabric {
    pub(super) fn new(seed: u64, default: LinkConfig) -> Fabric {
        Fabric {
            seed,
            default,
            edges: Vec::new(),
            numbers: HashMap::new(),
            due: BTreeSet::new(),
            owners: HashMap::new(),
            isolated: BTreeSet::new(),
            nowhere: 0,
            trace: Trace::new(),
        }
    }

    pub(super) fn add_address(&mut self, address: IpAddr, node: Node) {
        self.owners.insert(address, node);
    }

    /// Takes a packet from a node onto the link to whoever has its destination.
    pub(super) fn send(&mut self, now: Instant, from: Node, packet: Vec<u8>) {
        let to = destination(&packet).and_then(|address| self.owners.get(&address).copied());
        let to = to.filter(|to| !self.isolated.contains(&from) && !self.isolated.contains(to));
        let Some(to) = to else {
            self.nowhere += 1;
            return;
        };
        self.trace.add(now, from, to, &packet);
        let number = self.number(from, to);
        self.edges[number].link.send(now, packet);
        self.reschedule(number);
    }

    /// The next packet that has arrived by `now`, and where.
    pub(super) fn receive(&mut self, now: Instant) -> Option<(Node, Vec<u8>)> {
        let (at, number) = *self.due.first()?;
        if at > now {
            return None;
        }
        let edge = &mut self.edges[number];
        let (from, to) = (edge.from, edge.to);
        let packet = edge.link.receive(now)?;
        self.trace.add(now, from, to, &packet);
        self.reschedule(number);
        Some((to, packet))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Changes every link, also those that are not used yet.
    pub(super) fn configure_all(&mut self, change: impl Fn(&mut LinkConfig)) {
        change(&mut self.default);
        for edge in &mut self.edges {
            edge.link.configure(&change);
        }
    }

    pub(super) fn configure(&mut self, from: Node, to: Node, change: impl FnOnce(&mut LinkConfig)) {
        let number = self.number(from, to);
        self.edges[number].link.configure(change);
    }

    pub(super) fn hold(&mut self, from: Node, to: Node) {
        let number = self.number(from, to);
        self.edges[number].link.hold();
    }

    pub(super) fn release(&mut self, now: Instant, from: Node, to: Node) {
        let number = self.number(from, to);
        self.edges[number].link.release(now);
        self.reschedule(number);
    }

    pub(super) fn isolate(&mut self, node: Node) {
        self.isolated.insert(node);
    }

    pub(super) fn rejoin(&mut self, node: Node) {
        self.isolated.remove(&node);
    }

    pub(super) fn stats(&mut self, from: Node, to: Node) -> LinkStats {
        let number = self.number(from, to);
        self.edges[number].link.stats()
    }

    /// Packets for addresses that nobody has, and from and to those that are isolated.
    pub(super) fn nowhere(&self) -> u64 {
        self.nowhere
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn trace(&self) -> Trace {
        self.trace
    }

    fn number(&mut self, from: Node, to: Node) -> usize {
        if let Some(number) = self.numbers.get(&(from, to)) {
            return *number;
        }
        // Of the seed and the direction alone, so that it does not matter which link is used first.
        let purpose = (from as u64) << 32 | to as u64;
        let link = Link::new(self.default.clone(), self.seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let number = self.edges.len();
        self.edges.push(Edge { from, to, link, due: None });
        self.numbers.insert((from, to), number);
        number
    }

    fn reschedule(&mut self, number: usize) {
        let edge = &mut self.edges[number];
        let next = edge.link.next_deadline();
        if next == edge.due {
            return;
        }
        if let Some(former) = std::mem::replace(&mut edge.due, next) {
            self.due.remove(&(former, number));
        }
        self.due.extend(next.map(|next| (next, number)));
    }
}

/// Where an IP packet goes.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match Version::of(packet).ok()? {
        Version::V4 => ipv4::Header::parse_quoted(packet).ok().map(|(header, _)| header.destination.into()),
        Version::V6 => ipv6::Header::parse_quoted(packet).ok().map(|header| header.destination.into()),
    }
}
