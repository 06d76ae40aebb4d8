//! Hosts joined by links, in one thread and one time.

use super::host::{Host, HostConfig};
use super::link::{Link, LinkConfig, LinkStats};
use crate::wire::ip::Version;
use crate::wire::{ipv4, ipv6};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::sim::Random;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Names a host of a [`Network`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(usize);

/// Hosts and links between them in virtual time. Everything follows from one seed: a run is the same each time.
///
/// Between hosts that no link was made for, there is one of the network's default.
///
/// ```
/// use demikernel_net::sim::{HostConfig, LinkConfig, Network};
/// use std::time::Duration;
///
/// let mut network = Network::new(7, LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::default() });
/// let one = network.add(HostConfig::new(["10.0.0.1".parse().unwrap()]));
/// let other = network.add(HostConfig::new(["10.0.0.2".parse().unwrap()]));
/// assert_ne!(one, other);
/// network.run_for(Duration::from_secs(1));
/// ```
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    /// By direction.
    links: HashMap<(HostId, HostId), Link>,
    /// In the order in which they were made, so that a run does not depend on hashes.
    order: Vec<(HostId, HostId)>,
    default: LinkConfig,
    owners: HashMap<IpAddr, HostId>,
    now: Instant,
    seed: u64,
    seeds: Random,
    /// Packets for addresses that nobody has.
    nowhere: u64,
}

impl Network {
    /// No hosts yet; links are like `default`.
    pub fn new(seed: u64, default: LinkConfig) -> Network {
        Network {
            hosts: Vec::new(),
            links: HashMap::new(),
            order: Vec::new(),
            default,
            owners: HashMap::new(),
            now: Instant::from_nanos(1_000_000_000),
            seed,
            seeds: Random::new(seed, 0x6e65_7477),
            nowhere: 0,
        }
    }

    /// What everything follows from: a test that fails tells it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a host. Its seed and its time are the network's.
    pub fn add(&mut self, mut config: HostConfig) -> HostId {
        config.seed = self.seeds.next();
        config.start = self.now;
        let id = HostId(self.hosts.len());
        self.owners.extend(config.addresses.iter().map(|(address, _)| (*address, id)));
        self.hosts.push(Host::new(config));
        id
    }

    /// A host.
    pub fn host(&mut self, id: HostId) -> &mut Host {
        &mut self.hosts[id.0]
    }

    /// The time, which all hosts have.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Changes the link between two hosts, both ways.
    pub fn configure(&mut self, one: HostId, other: HostId, change: impl Fn(&mut LinkConfig)) {
        for direction in [(one, other), (other, one)] {
            self.link(direction).configure(&change);
        }
    }

    /// Changes the link from one host to another.
    pub fn configure_one_way(&mut self, from: HostId, to: HostId, change: impl FnOnce(&mut LinkConfig)) {
        self.link((from, to)).configure(change);
    }

    /// What has become of packets from one host to another.
    pub fn stats(&mut self, from: HostId, to: HostId) -> LinkStats {
        self.link((from, to)).stats()
    }

    /// Packets for addresses that nobody has.
    pub fn nowhere(&self) -> u64 {
        self.nowhere
    }

    fn link(&mut self, direction: (HostId, HostId)) -> &mut Link {
        let (order, default) = (&mut self.order, &self.default);
        self.links.entry(direction).or_insert_with(|| {
            order.push(direction);
            // Of the seed and the direction alone, so that it does not matter which link is used first.
            let number = (direction.0.0 as u64) << 32 | direction.1.0 as u64;
            Link::new(default.clone(), self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        })
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let hosts = self.hosts.iter().filter_map(Host::next_deadline);
        let links = self.links.values().filter_map(Link::next_deadline);
        hosts.chain(links).min()
    }

    /// Packets that hosts have sent go onto the links. Call it after calls on hosts; the others do it themselves.
    pub fn flush(&mut self) {
        for index in 0..self.hosts.len() {
            while let Some(packet) = self.hosts[index].extract() {
                let Some(owner) = destination(&packet).and_then(|address| self.owners.get(&address)) else {
                    self.nowhere += 1;
                    continue;
                };
                let (owner, now) = (*owner, self.now);
                self.link((HostId(index), owner)).send(now, packet);
            }
        }
    }

    /// To the next thing that is due, if it is not after `until`; whether there was one.
    pub fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let Some(next) = self.next_deadline().filter(|next| *next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        for host in &mut self.hosts {
            host.advance_to(self.now);
        }
        for index in 0..self.order.len() {
            let (from, to) = self.order[index];
            let now = self.now;
            while let Some(packet) = self.link((from, to)).receive(now) {
                self.hosts[to.0].inject(&packet);
            }
        }
        self.flush();
        true
    }

    /// Lets time pass.
    pub fn run_until(&mut self, time: Instant) {
        while self.step(time) {}
        self.now = self.now.max(time);
        for host in &mut self.hosts {
            host.advance_to(self.now);
        }
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now.saturating_add(time));
    }

    /// Lets time pass until `done` says so, looking after each thing that happens; whether it did before `time` was over.
    pub fn run_while(&mut self, time: Duration, mut done: impl FnMut(&mut Network) -> bool) -> bool {
        let end = self.now.saturating_add(time);
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                self.run_until(end);
                return done(self);
            }
        }
    }
}

/// Where an IP packet goes.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match Version::of(packet).ok()? {
        Version::V4 => ipv4::Header::parse_quoted(packet).ok().map(|(header, _)| header.destination.into()),
        Version::V6 => ipv6::Header::parse_quoted(packet).ok().map(|header| header.destination.into()),
    }
}
