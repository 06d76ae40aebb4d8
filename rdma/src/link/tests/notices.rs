//! Notices, which take credits without frames, and heartbeats, which are frames without data.

use crate::link::{Event, Flags, HEADER, Header, Hello, Id, Keepalive, Kind, Link, LinkConfig, Notice};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use std::io::ErrorKind;
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(1 << 50);

/// A link with one connection of a peer that this test plays, which has said this of itself.
fn connected(notices: bool) -> (Link, Id) {
    let mut link = Link::new(LinkConfig { buffers: 100, floor: 2, window: 8, ..LinkConfig::default() });
    link.posted(link.missing());
    let listener = link.listen(8);
    let hello = Hello { credits: 3, buffer_size: 4096, notices };
    let (id, _) = link.request(NOW, listener, &hello.to_bytes()).unwrap();
    link.established(id, &[]);
    assert_eq!(link.accept(listener).unwrap(), id);
    while link.poll_event().is_some() {}
    (link, id)
}

fn header(kind: Kind, flags: Flags, sequence: u32) -> Header {
    Header { kind, flags, grant: 0, returned: 0, recall: 0, length: 0, sequence }
}

fn receive(link: &mut Link, id: Id, header: Header) {
    link.received(id, Buffer::copy_from_slice(&header.to_bytes()).unwrap());
    link.check();
}

/// The headers of what is sent in the next turn.
fn sent(link: &mut Link) -> Vec<Header> {
    link.begin_turn();
    std::iter::from_fn(|| link.poll_transmit())
        .map(|post| {
            let mut frame = post.header.to_vec();
            post.payload.iter().for_each(|piece| frame.extend_from_slice(piece));
            link_header(&frame)
        })
        .collect()
}

fn link_header(frame: &[u8]) -> Header {
    assert!(frame.len() >= HEADER);
    Header::parse(frame).unwrap()
}

#[test]
fn a_notice_takes_a_credit_and_a_buffer() {
    let (mut link, id) = connected(true);
    let (posted, promised) = link.buffers();
    link.notified(id, Notice::new(7, 100));
    link.check();
    assert_eq!(link.buffers(), (posted - 1, promised - 1));
    assert_eq!(link.poll_event(), Some(Event::Connection(id)));
    assert_eq!(link.take_notice(id).unwrap(), Some(Notice::new(7, 100)));
    assert_eq!(link.take_notice(id).unwrap_err().kind(), ErrorKind::WouldBlock);
    // The next frame has the number that it would have without.
    receive(&mut link, id, header(Kind::Control, Flags::default(), 0));
    assert_eq!(link.counters().violations, 0);
}

#[test]
fn credits_come_back_for_notices_that_are_taken_and_more_for_who_uses_them_up() {
    let (mut link, id) = connected(true);
    link.notified(id, Notice::new(1, 0));
    link.notified(id, Notice::new(2, 0));
    assert_eq!(link.connections_granted(id), 0);
    // Two of four are unread.
    let grants: Vec<_> = sent(&mut link).iter().map(|header| (header.kind, header.grant)).collect();
    assert_eq!(grants, [(Kind::Control, 2)]);
    for _ in 0..2 {
        link.take_notice(id).unwrap().unwrap();
    }
    receive(&mut link, id, header(Kind::Ack, Flags::ACK, 0));
    link.notified(id, Notice::new(3, 0));
    let grants: Vec<_> = sent(&mut link).iter().map(|header| (header.kind, header.grant)).collect();
    assert_eq!(grants, [(Kind::Control, 2)], "the window is four, one of which is unread and one unused");
}

#[test]
fn a_peer_that_tells_more_than_it_has_credits_for_is_reset() {
    let (mut link, id) = connected(true);
    for number in 0..3 {
        link.notified(id, Notice::new(number, 0));
    }
    assert_eq!(link.counters().violations, 1);
    let error = link.receive(id, 1).unwrap_err();
    assert_eq!(error.to_string(), "the peer broke the protocol: the peer sends more than it has credits for");
    // What came before is delivered.
    assert_eq!(link.take_notice(id).unwrap(), Some(Notice::new(0, 0)));
    assert_eq!(link.take_notice(id).unwrap(), Some(Notice::new(1, 0)));
    assert_eq!(link.take_notice(id).unwrap_err().kind(), ErrorKind::ConnectionReset);
    link.notified(id, Notice::new(4, 0));
    assert_eq!(link.poll_disconnect(), Some(id));
    link.detached(id);
    link.close(NOW, id);
    while link.poll_event().is_some() {}
    link.assert_empty();
}

#[test]
fn behind_the_end_there_are_none() {
    let (mut link, id) = connected(true);
    receive(&mut link, id, header(Kind::Data, Flags::FIN, 0));
    assert_eq!(link.take_notice(id).unwrap(), None);
    link.notified(id, Notice::new(1, 0));
    assert_eq!(link.counters().violations, 1);
}

#[test]
fn a_program_that_wants_nothing_more_gets_no_notices() {
    let (mut link, id) = connected(true);
    link.notified(id, Notice::new(1, 0));
    link.deafen(id).unwrap();
    assert_eq!(link.take_notice(id).unwrap(), None);
    link.notified(id, Notice::new(2, 0));
    assert_eq!((link.take_notice(id).unwrap(), link.counters().violations), (None, 0));
    let grants: u16 = sent(&mut link).iter().map(|header| header.grant).sum();
    assert_eq!(grants, 4, "the peer may go on");
}

#[test]
fn stream_and_notices_share_the_credits_of_this_side() {
    let (mut link, id) = connected(true);
    let mut message = Sga::from(Buffer::from_static(b"data"));
    link.send(id, &mut message).unwrap();
    assert!(link.take_credit(id).unwrap());
    assert!(!link.take_credit(id).unwrap(), "the next is the stream's, which has something to send");
    assert_eq!(sent(&mut link).len(), 1);
    assert!(link.take_credit(id).unwrap());
    link.return_credit(id);
    assert!(link.take_credit(id).unwrap());
    assert!(!link.take_credit(id).unwrap(), "there were three");
    receive(&mut link, id, Header { grant: 1, ..header(Kind::Control, Flags::default(), 0) });
    assert!(link.take_credit(id).unwrap());
    link.finish(id).unwrap();
    assert_eq!(link.take_credit(id).unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (mut link, id) = connected(false);
    assert_eq!(link.take_credit(id).unwrap_err().kind(), ErrorKind::Unsupported, "an earlier version");
}

#[test]
fn a_silent_peer_is_sent_something_and_one_that_speaks_is_not() {
    let (mut link, id) = connected(true);
    let idle = Duration::from_secs(10);
    let keepalive = Some(Keepalive { idle, patience: 3 * idle });
    assert_eq!(link.next_deadline(), None);
    link.set_keepalive(NOW, id, keepalive).unwrap();
    receive(&mut link, id, header(Kind::Control, Flags::default(), 0));
    assert_eq!(sent(&mut link).len(), 1, "the acknowledgment");
    assert_eq!(link.next_deadline(), Some(NOW + idle));
    link.tick(NOW + idle);
    assert_eq!((sent(&mut link).len(), link.counters().heartbeats), (0, 0), "it has spoken since");
    assert_eq!(link.next_deadline(), Some(NOW + 2 * idle));
    link.tick(NOW + 2 * idle);
    assert!(link.is_busy());
    let frames: Vec<_> = sent(&mut link).iter().map(|header| (header.kind, header.grant)).collect();
    assert_eq!(frames, [(Kind::Control, 0)]);
    // One that has not been acknowledged is the device's affair.
    link.tick(NOW + 3 * idle);
    assert_eq!((sent(&mut link).len(), link.counters().heartbeats), (0, 1));
    receive(&mut link, id, header(Kind::Ack, Flags::ACK, 1));
    link.tick(NOW + 4 * idle);
    assert_eq!(sent(&mut link).len(), 0, "it has acknowledged");
    link.tick(NOW + 5 * idle);
    assert_eq!(sent(&mut link).len(), 1);
    link.set_keepalive(NOW, id, None).unwrap();
    assert_eq!(link.next_deadline(), None);
    link.set_keepalive(NOW, id, keepalive).unwrap();
    link.abort(id);
    assert_eq!(link.next_deadline(), None);
    assert!(link.set_keepalive(NOW, id, keepalive).is_err());
}

#[test]
fn a_peer_that_owes_an_acknowledgment_is_given_up_in_time() {
    let (mut link, id) = connected(true);
    let idle = Duration::from_secs(10);
    link.set_keepalive(NOW, id, Some(Keepalive { idle, patience: 3 * idle })).unwrap();
    link.tick(NOW + idle);
    assert_eq!(sent(&mut link).len(), 1);
    link.tick(NOW + 2 * idle);
    assert_eq!(link.counters().timeouts, 0);
    link.tick(NOW + 3 * idle);
    assert_eq!(link.receive(id, 1).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(link.next_deadline(), None);
}

#[test]
fn whose_data_wait_for_credits_is_looked_at_without_being_asked_for() {
    let (mut link, id) = connected(true);
    for _ in 0..3 {
        link.send(id, &mut Sga::from(Buffer::from_static(b"a credit each"))).unwrap();
    }
    assert_eq!(sent(&mut link).len(), 3);
    link.watch_waiting(NOW);
    assert_eq!(link.next_deadline(), None, "nothing waits");
    link.send(id, &mut Sga::from(Buffer::from_static(b"one too many"))).unwrap();
    assert_eq!(sent(&mut link).len(), 0);
    link.watch_waiting(NOW);
    let due = link.next_deadline().expect("it waits");
    link.tick(due);
    assert_eq!(sent(&mut link).iter().map(|header| header.kind).collect::<Vec<_>>(), [Kind::Control]);
    receive(&mut link, id, Header { grant: 2, ..header(Kind::Ack, Flags::ACK, 0) });
    assert_eq!(sent(&mut link).len(), 1);
    let due = link.next_deadline().expect("it is looked at once more");
    link.tick(due);
    assert_eq!((link.next_deadline(), sent(&mut link).len()), (None, 0), "nothing waits any more");
    // The same for notices.
    assert!(link.take_credit(id).unwrap());
    assert!(!link.take_credit(id).unwrap());
    link.watch_waiting(due);
    assert!(link.next_deadline().is_some());
}
