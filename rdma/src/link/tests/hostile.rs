//! Peers that break the protocol: their connection is reset, and nobody else notices.

use super::random::Random;
use crate::link::{Counters, Event, Flags, HEADER, Header, Hello, Id, Kind, Link, LinkConfig};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use std::io::ErrorKind;

const NOW: Instant = Instant::from_nanos(1 << 50);

/// A link with a listener and one connection of a peer that this test plays.
struct Victim {
    link: Link,
    id: Id,
    sequence: u32,
}

impl Victim {
    fn new(config: LinkConfig) -> Victim {
        let mut link = Link::new(config);
        link.posted(link.missing());
        let listener = link.listen(8);
        let hello = Hello { credits: 4, buffer_size: 4096, notices: true };
        let (id, _) = link.request(NOW, listener, &hello.to_bytes()).unwrap();
        link.established(id, &[]);
        assert_eq!(link.accept(listener).unwrap(), id);
        Victim { link, id, sequence: 0 }
    }

    fn header(&mut self, kind: Kind, flags: Flags, length: u32) -> Header {
        self.sequence += 1;
        Header { kind, flags, grant: 0, returned: 0, recall: 0, length, sequence: self.sequence - 1 }
    }

    fn bytes(&mut self, header: Header) {
        let mut frame = header.to_bytes().to_vec();
        frame.resize(HEADER + header.length as usize, b'x');
        self.link.received(self.id, Buffer::copy_from_slice(&frame).unwrap());
        self.link.check();
    }

    fn data(&mut self) {
        let header = self.header(Kind::Data, Flags::END, 5);
        self.bytes(header);
    }

    /// The connection was reset for a fault of the peer.
    fn assert_reset(mut self, what: &str) {
        assert_eq!(self.link.counters().violations, 1, "{what}");
        assert_eq!(self.link.poll_disconnect(), Some(self.id), "{what}");
        let mut more = Sga::from(Buffer::from_static(b"more"));
        assert_eq!(self.link.send(self.id, &mut more).unwrap_err().kind(), ErrorKind::ConnectionReset);
        self.link.detached(self.id);
        self.link.close(NOW, self.id);
        while self.link.poll_event().is_some() {}
        self.link.assert_empty();
    }
}

fn victim() -> Victim {
    Victim::new(LinkConfig { buffers: 100, floor: 2, window: 8, ..LinkConfig::default() })
}

#[test]
fn a_peer_that_overdraws_its_credits_is_reset() {
    let mut peer = victim();
    peer.data();
    peer.data();
    assert_eq!(peer.link.counters().violations, 0);
    peer.data();
    peer.assert_reset("three frames with two credits");
}

#[test]
fn a_peer_that_sends_control_frames_without_end_is_reset() {
    let mut peer = victim();
    for _ in 0..2 {
        let header = peer.header(Kind::Control, Flags::default(), 0);
        peer.bytes(header);
    }
    peer.assert_reset("two control frames, and the first is not acknowledged");
}

#[test]
fn lies_about_credits_are_found_out() {
    let with = |change: &dyn Fn(&mut Header)| {
        let mut peer = victim();
        let mut header = peer.header(Kind::Data, Flags::END, 5);
        change(&mut header);
        peer.bytes(header);
        peer
    };
    with(&|header| header.returned = 2).assert_reset("one of two was used, and two are given back");
    with(&|header| header.grant = u16::MAX).assert_reset("more credits than can be");
    with(&|header| header.flags = header.flags.with_if(Flags::ACK, true)).assert_reset("nothing was sent");
    with(&|header| header.sequence = 7).assert_reset("out of order");
    let mut peer = with(&|header| header.flags = header.flags.with_if(Flags::FIN, true));
    peer.data();
    peer.assert_reset("behind the end");
}

#[test]
fn an_acknowledgment_without_control_is_found_out() {
    let mut peer = victim();
    let header = peer.header(Kind::Ack, Flags::ACK, 0);
    peer.bytes(header);
    peer.assert_reset("an acknowledgment of nothing");
}

#[test]
fn what_was_received_before_can_be_read() {
    let mut peer = victim();
    peer.data();
    peer.data();
    peer.data();
    assert_eq!(peer.link.receive(peer.id, 100).unwrap(), b"xxxxx");
    assert_eq!(peer.link.receive(peer.id, 100).unwrap(), b"xxxxx");
    let error = peer.link.receive(peer.id, 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(error.to_string(), "the peer broke the protocol: the peer sends more than it has credits for");
}

#[test]
fn frames_of_a_connection_that_has_ended_take_what_its_peer_was_promised() {
    let mut peer = Victim::new(LinkConfig { buffers: 4, floor: 2, ..LinkConfig::default() });
    peer.link.abort(peer.id);
    for left in [2, 1, 0] {
        peer.data();
        let (posted, promised) = peer.link.buffers();
        assert_eq!((posted, promised), (left + 1, left), "nothing is posted again");
    }
}

/// Random frames, most of them nearly right: nothing panics, memory stays bounded, and sums stay right.
#[test]
fn nonsense_does_no_harm() {
    let (mut violations, mut frames) = (0, 0);
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let config =
            LinkConfig { buffers: 40, floor: 1 + random.below(3) as u16, window: 6, ..LinkConfig::default() };
        let mut peer = Victim::new(config);
        for _ in 0..60 {
            let kind = if random.one_in(40) { Kind::Ack } else { Kind::Data };
            let kind = if random.one_in(10) { Kind::Control } else { kind };
            let flag = |random: &mut Random, flags: Flags, flag: Flags, one_in: u64| {
                flags.with_if(flag, random.one_in(one_in))
            };
            let mut flags = Flags::default().with_if(Flags::END, kind == Kind::Data);
            flags = flag(&mut random, flags, Flags::ACK, if kind == Kind::Ack { 1 } else { 30 });
            flags = flag(&mut random, flags, Flags::WANT, 5);
            flags = flag(&mut random, flags, Flags::FIN, 100);
            let length = if kind == Kind::Data { 1 + random.below(50) as u32 } else { 0 };
            let mut header = peer.header(kind, flags, length);
            header.grant = random.below(3) as u16;
            header.returned = u16::from(random.one_in(30));
            header.recall = if kind == Kind::Control { random.below(3) as u16 } else { 0 };
            let mut frame = header.to_bytes().to_vec();
            frame.resize(HEADER + length as usize, 0);
            if random.one_in(50) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] = random.next() as u8;
            }
            frame.truncate(if random.one_in(100) { random.below(20) as usize } else { usize::MAX });
            peer.link.received(peer.id, Buffer::copy_from_slice(&frame).unwrap_or_default());
            peer.link.check();
            step(&mut peer, &mut random);
        }
        violations += peer.link.counters().violations;
        frames += peer.link.counters().frames_received;
        peer.link.abort(peer.id);
        peer.link.detached(peer.id);
        while peer.link.poll_event().is_some() {}
        while peer.link.poll_disconnect().is_some() {}
        peer.link.assert_empty();
    }
    assert!(violations > 1500 && frames > 5 * 3000, "of {frames} frames {violations} were wrong");
}

/// What the victim's side does meanwhile.
fn step(peer: &mut Victim, random: &mut Random) {
    if random.one_in(2) {
        let _ = peer.link.receive(peer.id, 100);
    }
    if random.one_in(4) {
        let _ = peer.link.send(peer.id, &mut Sga::from(Buffer::from_static(b"a reply")));
    }
    if random.one_in(2) {
        peer.link.posted(peer.link.missing());
    }
    peer.link.begin_turn();
    while let Some(post) = peer.link.poll_transmit() {
        peer.link.sent(post.id, post.sequence);
    }
    while let Some(event) = peer.link.poll_event() {
        assert!(matches!(event, Event::Connection(_) | Event::Listener(_)));
    }
}

#[test]
fn one_who_never_reads_is_sent_no_more_than_its_window() {
    let mut peer = victim();
    let mut taken = 0;
    for _ in 0..100 {
        peer.link.posted(peer.link.missing());
        peer.link.begin_turn();
        while let Some(post) = peer.link.poll_transmit() {
            let header = Header::parse(&post.header).unwrap();
            taken += u32::from(header.grant);
            peer.link.sent(post.id, post.sequence);
            if header.kind == Kind::Control {
                let header = peer.header(Kind::Ack, Flags::ACK, 0);
                peer.bytes(header);
            }
        }
        if peer.link.connections_granted(peer.id) > 0 {
            let header = peer.header(Kind::Data, Flags::END.with_if(Flags::WANT, true), 5);
            peer.bytes(header);
        }
    }
    // What it has granted since the first two, of a window of eight.
    assert_eq!(taken, 6);
    assert_eq!(peer.link.counters(), Counters { violations: 0, ..peer.link.counters() });
}
