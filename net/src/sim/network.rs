//! Hosts joined by links, in one thread and one time.

use super::fabric::Fabric;
use super::host::{Host, HostConfig};
use super::link::{LinkConfig, LinkStats};
use super::trace::Trace;
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use std::time::Duration;

/// Names a host of a [`Network`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(usize);

/// Hosts and links between them in virtual time. Everything follows from one seed: a run is the same each time.
///
/// Between hosts that no link was made for, there is one of the network's default. For programs instead of hosts that
/// are called from outside, see [`Simulation`](super::Simulation). When a test panics, the network says its seed.
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
    fabric: Fabric,
    now: Instant,
    seeds: Random,
}

impl Network {
    /// No hosts yet; links are like `default`.
    pub fn new(seed: u64, default: LinkConfig) -> Network {
        Network {
            hosts: Vec::new(),
            fabric: Fabric::new(seed, default),
            now: Instant::from_nanos(1_000_000_000),
            seeds: Random::new(seed, 0x6e65_7477),
        }
    }

    /// What everything follows from: a test that fails tells it.
    pub fn seed(&self) -> u64 {
        self.fabric.seed()
    }

    /// Adds a host. Its seed and its time are the network's.
    pub fn add(&mut self, mut config: HostConfig) -> HostId {
        config.seed = self.seeds.next();
        config.start = self.now;
        let id = HostId(self.hosts.len());
        for (address, _) in &config.addresses {
            self.fabric.add_address(*address, id.0);
        }
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
        for (from, to) in [(one, other), (other, one)] {
            self.fabric.configure(from.0, to.0, &change);
        }
    }

    /// Changes the link from one host to another.
    pub fn configure_one_way(&mut self, from: HostId, to: HostId, change: impl FnOnce(&mut LinkConfig)) {
        self.fabric.configure(from.0, to.0, change);
    }

    /// What has become of packets from one host to another.
    pub fn stats(&mut self, from: HostId, to: HostId) -> LinkStats {
        self.fabric.stats(from.0, to.0)
    }

    /// Packets for addresses that nobody has.
    pub fn nowhere(&self) -> u64 {
        self.fabric.nowhere()
    }

    /// All packets so far: the same in each run that does the same.
    pub fn trace(&self) -> Trace {
        self.fabric.trace()
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let hosts = self.hosts.iter().filter_map(Host::next_deadline);
        hosts.chain(self.fabric.next_deadline()).min()
    }

    /// Packets that hosts have sent go onto the links. Call it after calls on hosts; the others do it themselves.
    pub fn flush(&mut self) {
        for (index, host) in self.hosts.iter_mut().enumerate() {
            while let Some(packet) = host.extract() {
                self.fabric.send(self.now, index, packet);
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
        while let Some((to, packet)) = self.fabric.receive(self.now) {
            self.hosts[to].inject(&packet);
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

impl Drop for Network {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("note: the simulated network had seed {}; its trace is {}", self.seed(), self.trace());
        }
    }
}
