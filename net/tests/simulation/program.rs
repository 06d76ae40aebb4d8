//! Random programs over links with faults: bytes arrive once, in order, unaltered; connections end; nothing is left.
//!
//! `DEMIKERNEL_SIM_SEEDS=N` runs N seeds instead of a few.

use super::*;
use demikernel_net::sim::Trace;
use demikernel_net::stack::{Shutdown, SocketOption};
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;

/// What one end of a connection does.
struct End {
    host: HostId,
    socket: usize,
    /// What it still has to send, and has sent.
    to_send: usize,
    sent: usize,
    received: usize,
    /// It has sent its FIN.
    shut: bool,
    /// The peer's end has come.
    ended: bool,
    closed: bool,
    /// It closes without waiting for the peer's end.
    hasty: bool,
    failed: bool,
}

/// A connection; from which byte on each end's pattern begins is its own.
struct Talk {
    ends: [Option<End>; 2],
    /// Somebody may reset it: then not all bytes need arrive.
    rude: bool,
    base: usize,
}

impl End {
    fn new(host: HostId, socket: usize, random: &mut Random) -> End {
        let to_send = random.below(3) as usize * random.below(100_000) as usize;
        let hasty = random.chance(0.1);
        End {
            host,
            socket,
            to_send,
            sent: 0,
            received: 0,
            shut: false,
            ended: false,
            closed: false,
            hasty,
            failed: false,
        }
    }

    /// Sends, receives and closes what it can. `ours` and `theirs` are where the patterns begin.
    fn go(&mut self, network: &mut Network, ours: usize, theirs: usize, random: &mut Random) {
        if self.closed {
            return;
        }
        let seed = network.seed();
        let host = network.host(self.host);
        if host.readiness(self.socket).unwrap().error {
            self.failed = true;
        }
        self.receive(host, theirs, seed);
        while self.sent < self.to_send && !self.failed {
            let length = (self.to_send - self.sent).min(1 + random.below(8000) as usize);
            match host.send(self.socket, &pattern(ours + self.sent, length)) {
                Ok(count) => self.sent += count,
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
                Err(_) => self.failed = true,
            }
        }
        let connected = host.peer(self.socket).is_ok();
        if self.sent == self.to_send && connected && !self.shut && !self.failed {
            self.shut = true;
            if !self.hasty {
                let _ = host.shutdown(self.socket, Shutdown::Write);
            }
        }
        if self.failed || self.shut && (self.ended || self.hasty) {
            self.closed = true;
            host.close(self.socket).unwrap();
        }
    }

    fn receive(&mut self, host: &mut Host, theirs: usize, seed: u64) {
        loop {
            match host.recv(self.socket, 10_000) {
                Ok(data) if data.is_empty() => {
                    self.ended = true;
                    return;
                }
                Ok(data) => {
                    let expected = pattern(theirs + self.received, data.len());
                    assert!(data == expected, "altered at {} with seed {seed}", self.received);
                    self.received += data.len();
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return,
                Err(_) => {
                    self.failed = true;
                    return;
                }
            }
        }
    }
}

fn faulty_link(random: &mut Random) -> LinkConfig {
    let bandwidth = [1_000_000, 10_000_000, 100_000_000][random.below(3) as usize];
    let delay = Duration::from_micros(50 + random.below(20_000));
    let mut link = LinkConfig::new(delay, bandwidth, 30_000 + random.below(200_000) as usize);
    if random.chance(0.5) {
        link.loss = random.below(100) as f64 / 1000.0;
    }
    if random.chance(0.3) {
        (link.reorder, link.reorder_delay) = (0.1, Duration::from_micros(random.below(30_000)));
    }
    if random.chance(0.3) {
        link.duplicate = 0.1;
    }
    if random.chance(0.3) {
        link.corrupt = 0.02;
    }
    if random.chance(0.3) {
        link.jitter = Duration::from_micros(random.below(5_000));
    }
    link
}

/// Runs a program; when it ended, and a digest of what happened.
pub(super) fn run(seed: u64) -> (Instant, Trace) {
    let (network, one, two) = two_hosts(seed, LinkConfig::default());
    run_between(network, one, two)
}

/// The same between two hosts that are there.
pub(super) fn run_between(mut network: Network, one: HostId, two: HostId) -> (Instant, Trace) {
    let seed = network.seed();
    let mut random = Random::new(seed, 77);
    let (there, back) = (faulty_link(&mut random), faulty_link(&mut random));
    network.configure_one_way(one, two, |link| *link = there);
    network.configure_one_way(two, one, |link| *link = back);
    let to = address(if random.chance(0.5) { "10.0.0.2:7" } else { "[fd00::2]:7" });
    let listener = listen(network.host(two), to);
    let count = 1 + random.below(4) as usize;
    let mut talks: Vec<Talk> = (0..count)
        .map(|number| {
            let socket = connect(network.host(one), to);
            if random.chance(0.3) {
                network.host(one).set_option(socket, &SocketOption::NoDelay(true)).unwrap();
            }
            let end = End::new(one, socket, &mut random);
            Talk { ends: [Some(end), None], rude: random.chance(0.1), base: number * 1_000_003 }
        })
        .collect();
    let ports: Vec<u16> = talks
        .iter()
        .map(|talk| network.host(one).local(talk.ends[0].as_ref().unwrap().socket).unwrap().port())
        .collect();
    let done = network.run_while(Duration::from_secs(4000), |network| {
        while let Ok((socket, peer)) = network.host(two).accept(listener) {
            let number = ports.iter().position(|port| *port == peer.port()).unwrap();
            talks[number].ends[1] = Some(End::new(two, socket, &mut random));
        }
        for talk in &mut talks {
            let base = talk.base;
            for (side, end) in talk.ends.iter_mut().enumerate() {
                let Some(end) = end else { continue };
                if talk.rude && !end.closed && random.chance(0.001) {
                    end.closed = true;
                    network.host(end.host).abort(end.socket).unwrap();
                }
                end.go(network, base + side * 500_000, base + (1 - side) * 500_000, &mut random);
            }
        }
        network.flush();
        talks.iter().all(|talk| talk.ends.iter().flatten().all(|end| end.closed))
    });
    assert!(done, "a connection does not end with seed {seed}");
    for talk in &talks {
        check(talk, seed);
    }
    network.host(two).close(listener).unwrap();
    network.run_for(Duration::from_secs(1500));
    for host in [one, two] {
        let sockets = network.host(host).stack().sockets();
        assert_eq!(sockets, 0, "sockets are left with seed {seed}");
    }
    assert_eq!(network.next_deadline(), None, "something is left to do with seed {seed}");
    (network.now(), network.trace())
}

/// What one end sent, the other has got, if nobody was rude.
fn check(talk: &Talk, seed: u64) {
    let [Some(one), Some(other)] = &talk.ends else { return };
    let polite = !talk.rude && !one.hasty && !other.hasty && !one.failed && !other.failed;
    if polite {
        assert_eq!(
            (one.received, other.received),
            (other.to_send, one.to_send),
            "lost bytes with seed {seed}"
        );
    }
    assert!(one.received <= other.sent && other.received <= one.sent, "more than was sent with seed {seed}");
}

#[test]
fn random_programs_over_faulty_links() {
    let seeds = std::env::var("DEMIKERNEL_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        run(seed);
    }
}

#[test]
fn a_program_runs_the_same_each_time() {
    assert_eq!(run(3), run(3));
}
