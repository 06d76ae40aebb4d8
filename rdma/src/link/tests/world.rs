//! Hosts whose devices share a receive queue each, and reliable connections between them, in virtual time.
//!
//! Frames of a connection arrive in order and each takes a receive buffer of the device when it arrives, long before
//! the host looks at it. A frame that finds none is what must never be. Connections break at any step.

use super::random::Random;
use crate::link::{Event, Failure, Id, Link, LinkConfig, Refusal};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::time::Instant;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// One end of a connection.
pub(super) type End = (usize, Id);

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) hosts: Vec<Host>,
    /// What is on its way, by when it arrives.
    wire: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    ends: HashMap<End, Channel>,
}

pub(super) struct Host {
    pub(super) link: Link,
    /// Receive buffers that the device has.
    posted: u32,
    /// What the device has to tell.
    completions: VecDeque<(Id, Completion)>,
    /// Receive buffers that it may be given in a turn.
    pub(super) refill: u64,
}

/// The way from one end to the other.
struct Channel {
    peer: Option<End>,
    /// When the last frame arrives.
    last: Instant,
    /// The queue pair takes part.
    is_up: bool,
}

enum Completion {
    Received(Buffer),
    Sent(u32),
    Broken(Failure),
    Detached,
}

enum Arrival {
    Frame { from: End, frame: Buffer, sequence: u32, signalled: bool },
    Request { from: End, to: usize, listener: Id, private: Vec<u8> },
    Reply { to: End, from: End, private: Vec<u8> },
    Ready { to: End },
    Refused { to: End, private: Vec<u8> },
    Disconnected { to: End },
}

impl World {
    pub(super) fn new(seed: u64, configs: Vec<LinkConfig>) -> World {
        let hosts = configs.into_iter().map(|config| Host {
            link: Link::new(config),
            posted: 0,
            completions: VecDeque::new(),
            refill: u64::MAX,
        });
        let mut world = World {
            now: Instant::from_nanos(1 << 50),
            random: Random::new(seed),
            hosts: hosts.collect(),
            wire: BTreeMap::new(),
            sequence: 0,
            ends: HashMap::new(),
        };
        for host in 0..world.hosts.len() {
            world.refill(host);
        }
        world
    }

    /// Has a host ask another's listener for a connection.
    pub(super) fn connect(&mut self, from: usize, to: usize, listener: Id) -> std::io::Result<Id> {
        let (id, private) = self.hosts[from].link.connect(self.now)?;
        self.ends.insert((from, id), Channel { peer: None, last: self.now, is_up: true });
        self.send(self.now, Arrival::Request { from: (from, id), to, listener, private: private.to_vec() });
        Ok(id)
    }

    /// The other end.
    pub(super) fn peer_of(&self, end: End) -> Option<End> {
        self.ends.get(&end)?.peer
    }

    /// Breaks a connection as when a peer has died: what is on its way is lost.
    pub(super) fn break_now(&mut self, end: End, failure: Failure) {
        let peer = self.peer_of(end);
        for end in [Some(end), peer].into_iter().flatten() {
            if self.take_down(end) {
                self.hosts[end.0].completions.push_back((end.1, Completion::Broken(failure)));
            }
        }
    }

    /// A turn of a host; what has changed.
    pub(super) fn turn(&mut self, host: usize) -> Vec<Event> {
        self.hosts[host].link.begin_turn();
        self.transmit(host);
        let count = self.random.below(self.hosts[host].completions.len() as u64 + 2);
        for _ in 0..count {
            let Some((id, completion)) = self.hosts[host].completions.pop_front() else { break };
            let link = &mut self.hosts[host].link;
            match completion {
                Completion::Received(frame) => link.received(id, frame),
                Completion::Sent(sequence) => link.sent(id, sequence),
                Completion::Broken(failure) => link.broken(id, failure),
                Completion::Detached => link.detached(id),
            }
        }
        self.hosts[host].link.tick(self.now);
        self.refill(host);
        self.disconnect(host);
        self.check(host);
        std::iter::from_fn(|| self.hosts[host].link.poll_event()).collect()
    }

    /// Goes on to when something arrives next; whether anything does, or is due.
    pub(super) fn advance(&mut self) -> bool {
        let Some((&(at, _), _)) = self.wire.first_key_value() else { return false };
        self.now = self.now.max(at);
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let arrival = entry.remove();
            self.arrive(arrival);
        }
        true
    }

    /// Nothing is on its way, and no host has anything to do.
    pub(super) fn is_quiet(&self) -> bool {
        self.wire.is_empty()
            && self.hosts.iter().all(|host| host.completions.is_empty() && !host.link.is_busy())
    }

    /// Gives the device buffers, not always as many as it might have.
    fn refill(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        let missing = host.link.missing();
        let count = u64::from(missing).min(host.refill) as u32;
        host.posted += count;
        if count > 0 {
            host.link.posted(count);
        }
    }

    fn transmit(&mut self, host: usize) {
        while let Some(post) = self.hosts[host].link.poll_transmit() {
            let mut bytes = post.header.to_vec();
            post.payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
            let frame = Buffer::copy_from_slice(&bytes).unwrap();
            let from = (host, post.id);
            let delay = self.delay();
            let channel = self.ends.get_mut(&from).expect("it was set up");
            if !channel.is_up {
                continue;
            }
            channel.last = channel.last.max(self.now + delay);
            let at = channel.last;
            self.send(at, Arrival::Frame { from, frame, sequence: post.sequence, signalled: post.signalled });
        }
    }

    fn disconnect(&mut self, host: usize) {
        while let Some(id) = self.hosts[host].link.poll_disconnect() {
            let end = (host, id);
            let peer = self.peer_of(end);
            if self.take_down(end)
                && let Some(peer) = peer
            {
                let at = self.ends[&end].last.max(self.now + self.delay());
                self.send(at, Arrival::Disconnected { to: peer });
            }
            self.hosts[host].completions.push_back((id, Completion::Detached));
        }
    }

    /// The queue pair of an end takes no more part; whether it did.
    fn take_down(&mut self, end: End) -> bool {
        self.ends.get_mut(&end).is_some_and(|channel| std::mem::replace(&mut channel.is_up, false))
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Frame { from, frame, sequence, signalled } => {
                let peer = self.peer_of(from).filter(|peer| self.ends[peer].is_up);
                let Some(peer) = peer.filter(|_| self.ends[&from].is_up) else { return };
                let host = &mut self.hosts[peer.0];
                assert!(host.posted > 0, "receiver not ready: a frame has found no buffer");
                host.posted -= 1;
                host.completions.push_back((peer.1, Completion::Received(frame)));
                if signalled {
                    self.hosts[from.0].completions.push_back((from.1, Completion::Sent(sequence)));
                }
            }
            Arrival::Request { from, to, listener, private } => {
                let answer = self.hosts[to].link.request(self.now, listener, &private);
                self.answer(from, to, answer.map(|(id, private)| (id, private.to_vec())));
            }
            Arrival::Reply { to, from, private } => {
                if !self.ends[&to].is_up {
                    return;
                }
                self.hosts[to.0].link.established(to.1, &private);
                let at = self.now + self.delay();
                self.send(at, Arrival::Ready { to: from });
            }
            Arrival::Ready { to } => self.hosts[to.0].link.established(to.1, &[]),
            Arrival::Refused { to, private } => self.hosts[to.0].link.refused(to.1, &private),
            Arrival::Disconnected { to } => {
                if self.take_down(to) {
                    self.hosts[to.0].completions.push_back((to.1, Completion::Broken(Failure::Reset)));
                }
            }
        }
    }

    fn answer(&mut self, from: End, to: usize, answer: Result<(Id, Vec<u8>), Refusal>) {
        let at = self.now + self.delay();
        match answer {
            Ok((id, private)) => {
                let end = (to, id);
                let is_up = self.ends[&from].is_up;
                self.ends.insert(end, Channel { peer: Some(from), last: at, is_up });
                self.ends.get_mut(&from).unwrap().peer = Some(end);
                if is_up {
                    self.send(at, Arrival::Reply { to: from, from: end, private });
                } else {
                    self.hosts[to].completions.push_back((id, Completion::Broken(Failure::Reset)));
                }
            }
            Err(refusal) => {
                self.send(at, Arrival::Refused { to: from, private: refusal.to_bytes().to_vec() });
            }
        }
    }

    fn delay(&mut self) -> Duration {
        Duration::from_nanos(1 + self.random.below(5000))
    }

    fn send(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.wire.insert((at, self.sequence), arrival);
    }

    /// What must hold at any time.
    pub(super) fn check(&self, host: usize) {
        let link = &self.hosts[host].link;
        link.check();
        let (posted, promised) = link.buffers();
        assert!(posted >= promised, "{promised} buffers are promised, and {posted} posted");
    }
}
