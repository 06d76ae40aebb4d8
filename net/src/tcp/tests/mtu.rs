//! The size of segments follows the path.

use super::lone::*;
use crate::tcp::*;
use crate::wire::tcp::SequenceNumber;

/// [rfc1191 3], [rfc8201 4], [rfc9293 3.9.2.2], [rfc9293 MUST-16], [rfc9293 SHLD-6]: what was too big goes again at once, in smaller pieces.
#[test]
fn a_report_makes_segments_smaller() {
    let mut lone = Lone::established(plain());
    lone.send(3000);
    assert_eq!(lone.drain().len(), 3);
    lone.connection.handle_too_big(lone.now, SequenceNumber::new(OURS) + 5000, 700);
    lone.sends(&[]);
    lone.connection.handle_too_big(lone.now, SequenceNumber::new(OURS) + 1, 700);
    assert_eq!(lone.drain().first().map(String::as_str), Some(". 1:661(660) ack 1"));
    assert_eq!(lone.connection.info(lone.now).pmtu, 700);
    assert_eq!(lone.connection.info(lone.now).advmss, 1000);
}

/// [rfc8899 4.3]: large segments vanish without a report; small ones get through.
#[test]
fn a_black_hole_is_found() {
    let mut config = plain();
    config.receive_buffer = 65_000;
    let mut lone = Lone::connecting(config);
    lone.connection = Connection::connect(lone.shared.clone(), lone.now, Start { mtu: 1500, ..start() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1460");
    lone.drain();
    lone.send(20_000);
    lone.drain();
    let tries = lone.wait(4 * SECOND);
    assert!(tries.iter().any(|line| line.contains(" 1:1025(1024)")), "{tries:?}");
}

/// [rfc8899 3], [rfc8899 5.3]: later more is tried, and kept if it arrives.
#[test]
fn larger_segments_are_tried_later() {
    let mut lone = Lone::established(plain());
    lone.send(1000);
    lone.drain();
    lone.connection.handle_too_big(lone.now, SequenceNumber::new(OURS) + 1, 600);
    lone.drain();
    lone.gets(". 1:1(0) ack 1001");
    lone.wait(601 * SECOND);
    lone.send(5000);
    let lines = lone.drain();
    assert_eq!(lines.first().map(String::as_str), Some(". 1001:2001(1000) ack 1"));
    assert_eq!(lines.get(1).map(String::as_str), Some(". 2001:2561(560) ack 1"));
    lone.gets(". 1:1(0) ack 2001");
    assert_eq!(lone.connection.info(lone.now).pmtu, 1040);
}

/// The user's limit holds both ways.
#[test]
fn the_user_limits_segments() {
    let mut lone = Lone::connecting(plain());
    lone.connection.set_maximum_segment(300);
    lone.drain();
    assert_eq!(lone.header().options.maximum_segment_size, Some(300));
    lone.gets("S. 0:0(0) ack 1 mss 1000");
    assert_eq!(lone.connection.info(lone.now).snd_mss, 300);
}
