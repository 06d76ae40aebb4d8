//! Single connections, step by step.

use super::world::World;
use crate::link::{Failure, Id, LinkConfig};
use demikernel_runtime::buffer::{Buffer, Sga};
use std::io::{self, ErrorKind};

/// Two hosts and a connection between them.
struct Pair {
    world: World,
    ids: [Id; 2],
}

impl Pair {
    fn new(config: LinkConfig) -> Pair {
        let mut world = World::new(7, vec![config.clone(), config]);
        let listener = world.hosts[1].link.listen(8);
        let client = world.connect(0, 1, listener).unwrap();
        let mut pair = Pair { world, ids: [client, client] };
        pair.settle();
        pair.ids[1] = pair.world.hosts[1].link.accept(listener).unwrap();
        pair
    }

    /// Goes on until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.world.turn(0);
            self.world.turn(1);
            if !self.world.advance() && self.world.is_quiet() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn send(&mut self, side: usize, data: &[u8]) -> io::Result<()> {
        let mut message = Sga::from(Buffer::copy_from_slice(data).unwrap());
        self.world.hosts[side].link.send(self.ids[side], &mut message)
    }

    fn receive(&mut self, side: usize) -> io::Result<Vec<u8>> {
        self.world.hosts[side].link.receive(self.ids[side], 1000).map(|data| data.to_vec())
    }

    fn receive_kind(&mut self, side: usize) -> ErrorKind {
        self.receive(side).unwrap_err().kind()
    }

    fn finish(&mut self, side: usize) {
        self.world.hosts[side].link.finish(self.ids[side]).unwrap();
    }

    fn close(&mut self, side: usize) {
        let now = self.world.now;
        self.world.hosts[side].link.close(now, self.ids[side]);
    }

    fn frames(&self, side: usize) -> u64 {
        self.world.hosts[side].link.counters().frames_sent
    }

    fn assert_empty(self) {
        self.world.hosts.iter().for_each(|host| host.link.assert_empty());
    }
}

#[test]
fn a_direction_ends_and_the_other_goes_on() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.send(0, b"question").unwrap();
    pair.finish(0);
    assert_eq!(pair.send(0, b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    pair.settle();
    assert_eq!(pair.frames(0), 1, "the end goes along with the data");
    assert_eq!(pair.receive(1).unwrap(), b"question");
    assert_eq!((pair.receive(1).unwrap(), pair.receive(1).unwrap()), (vec![], vec![]));
    pair.send(1, b"answer").unwrap();
    pair.close(1);
    pair.settle();
    assert_eq!(pair.receive(0).unwrap(), b"answer");
    assert_eq!(pair.receive(0).unwrap(), b"");
    pair.close(0);
    pair.settle();
    pair.assert_empty();
}

#[test]
fn closing_with_unread_data_resets() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.send(0, b"nobody reads this").unwrap();
    pair.settle();
    pair.close(1);
    pair.settle();
    assert_eq!(pair.receive_kind(0), ErrorKind::ConnectionReset);
    assert_eq!(pair.send(0, b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
    pair.close(0);
    pair.settle();
    pair.assert_empty();
}

#[test]
fn data_for_one_who_has_closed_resets() {
    let mut pair = Pair::new(LinkConfig::default());
    pair.close(1);
    pair.settle();
    assert_eq!(pair.receive(0).unwrap(), b"", "it ended in order");
    assert_eq!(pair.send(0, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    pair.close(0);
    pair.settle();
    pair.assert_empty();
}

#[test]
fn data_for_one_who_is_closing_resets() {
    let mut pair = Pair::new(LinkConfig { buffer_size: 80, ..LinkConfig::default() });
    pair.send(1, &[1; 64 * 200]).unwrap();
    pair.close(1);
    pair.settle();
    assert_eq!(pair.receive(0).unwrap(), [1; 64], "the rest waits until it is read");
    pair.send(0, b"nobody will read this").unwrap();
    pair.settle();
    while let Ok(part) = pair.receive(0) {
        assert!(!part.is_empty());
    }
    assert_eq!(pair.receive_kind(0), ErrorKind::ConnectionReset);
    pair.close(0);
    pair.settle();
    pair.assert_empty();
}

/// One connection has used much, and rests; another, to the same host, wants as much, and there is not enough for both.
#[test]
fn the_idle_give_back_what_others_want() {
    let config = LinkConfig { buffers: 40, window: 30, buffer_size: 80, ..LinkConfig::default() };
    let mut pair = Pair::new(config);
    let stream = |pair: &mut Pair| {
        pair.send(0, &[1; 64 * 200]).unwrap();
        let mut received = 0;
        while received < 64 * 200 {
            pair.step();
            while let Ok(part) = pair.receive(1) {
                received += part.len();
            }
        }
        pair.settle();
        pair.world.hosts[1].link.connections_granted(pair.ids[1])
    };
    let first = pair.ids;
    assert!(stream(&mut pair) > 20);
    let listener = pair.world.hosts[1].link.listen(8);
    pair.ids[0] = pair.world.connect(0, 1, listener).unwrap();
    pair.settle();
    pair.ids[1] = pair.world.hosts[1].link.accept(listener).unwrap();
    assert!(stream(&mut pair) > 15);
    assert_eq!(pair.world.hosts[1].link.connections_granted(first[1]), 2, "the floor");
    assert_eq!(pair.world.hosts[1].link.counters().recalls, 1);
    pair.ids = first;
    pair.send(0, b"it goes on").unwrap();
    pair.settle();
    assert_eq!(pair.receive(1).unwrap(), b"it goes on");
}

#[test]
fn what_came_before_a_reset_is_read_first() {
    for (failure, kind) in
        [(Failure::Reset, ErrorKind::ConnectionReset), (Failure::TimedOut, ErrorKind::TimedOut)]
    {
        let mut pair = Pair::new(LinkConfig::default());
        pair.send(0, b"one").unwrap();
        pair.settle();
        pair.world.break_now((0, pair.ids[0]), failure);
        pair.settle();
        assert_eq!(pair.receive(1).unwrap(), b"one");
        assert_eq!((pair.receive_kind(1), pair.receive_kind(1)), (kind, kind), "it is not an end");
        pair.close(0);
        pair.close(1);
        pair.settle();
        pair.assert_empty();
    }
}

#[test]
fn an_echo_needs_no_frames_but_its_own() {
    let mut pair = Pair::new(LinkConfig::default());
    for round in 1..=1000 {
        pair.send(0, b"ping").unwrap();
        while pair.receive_kind_or_data(1).is_none() {
            pair.step();
        }
        pair.send(1, b"pong").unwrap();
        while pair.receive_kind_or_data(0).is_none() {
            pair.step();
        }
        assert_eq!((pair.frames(0), pair.frames(1)), (round, round));
    }
}

impl Pair {
    fn step(&mut self) {
        self.world.turn(0);
        self.world.turn(1);
        self.world.advance();
    }

    fn receive_kind_or_data(&mut self, side: usize) -> Option<Vec<u8>> {
        self.receive(side).ok()
    }
}

#[test]
fn silence_is_silent() {
    let mut pair = Pair::new(LinkConfig { floor: 1, ..LinkConfig::default() });
    for _ in 0..10 {
        pair.send(0, b"to nobody who answers").unwrap();
        pair.settle();
        pair.receive(1).unwrap();
        pair.settle();
    }
    // Each message uses up all credits, so each is followed by new ones and by the acknowledgment of those.
    assert_eq!((pair.frames(0), pair.frames(1)), (20, 10));
}

#[test]
fn who_sends_much_gets_more_credits() {
    let mut pair =
        Pair::new(LinkConfig { buffers: 200, window: 64, buffer_size: 80, ..LinkConfig::default() });
    let data = vec![5; 64 * 500];
    pair.send(0, &data).unwrap();
    let mut received = 0;
    while received < data.len() {
        pair.step();
        while let Ok(part) = pair.receive(1) {
            received += part.len();
        }
    }
    pair.settle();
    assert!(pair.world.hosts[1].link.connections_granted(pair.ids[1]) > 32);
    let control = pair.world.hosts[1].link.counters().control_sent;
    assert!(control < 40, "{control} control frames for 500 of data");
}

#[test]
fn a_connection_that_is_slow_to_close_is_given_up() {
    let mut pair = Pair::new(LinkConfig { buffer_size: 80, ..LinkConfig::default() });
    // More than the peer has room for, and it does not read.
    pair.send(0, &[1; 64 * 200]).unwrap();
    pair.close(0);
    pair.settle();
    assert_eq!(pair.world.hosts[0].link.connections(), 1);
    let due = pair.world.hosts[0].link.next_deadline().unwrap();
    pair.world.hosts[0].link.tick(due);
    pair.settle();
    pair.world.hosts[0].link.assert_empty();
    while let Ok(part) = pair.receive(1) {
        assert!(!part.is_empty());
    }
    assert_eq!(pair.receive_kind(1), ErrorKind::ConnectionReset);
}

#[test]
fn an_idle_connection_is_small() {
    let size = crate::link::Link::bytes_per_connection();
    assert!(size <= 384, "{size} bytes");
}
