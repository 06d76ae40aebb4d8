//! Acknowledgments, windows, and what comes out of order.

use super::lone::*;
use super::pair::{Faults, Pair};
use crate::tcp::*;
use crate::wire::tcp::Flags;

/// [rfc9293 MUST-40], [rfc9293 SHLD-18], [rfc5681 4.2], [rfc1122 4.2.3.2]: an acknowledgment waits, for less than
/// half a second.
#[test]
fn an_acknowledgment_waits() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:101(100) ack 1");
    lone.sends(&[]);
    assert_eq!(lone.wait(SECOND), ["40: . 1:1(0) ack 101"]);
}

/// [rfc9293 SHLD-19], [rfc9293 MUST-59], [rfc9293 MUST-58]: every second full segment is acknowledged at once, both
/// together.
#[test]
fn every_second_segment_is_acknowledged() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:1001(1000) ack 1");
    lone.sends(&[]);
    lone.gets(". 1001:2001(1000) ack 1");
    lone.sends(&[". 1:1(0) ack 2001"]);
    lone.gets(". 2001:3001(1000) ack 1");
    lone.sends(&[]);
    lone.gets("P. 3001:3101(100) ack 1");
    lone.sends(&[". 1:1(0) ack 3101"]);
}

/// An answer takes the acknowledgment with it; who answers does not acknowledge at once.
#[test]
fn an_answer_takes_the_acknowledgment_along() {
    let mut lone = Lone::established(plain());
    lone.connection.receive.quick = 9;
    lone.gets("P. 1:11(10) ack 1");
    lone.sends(&[". 1:1(0) ack 11"]);
    lone.send(5);
    lone.sends(&["P. 1:6(5) ack 11"]);
    lone.gets("P. 11:21(10) ack 6");
    lone.sends(&[]);
    lone.send(5);
    lone.sends(&["P. 6:11(5) ack 21"]);
    assert!(lone.wait(100 * MS).is_empty());
}

/// As Linux: a peer in slow start needs acknowledgments soon.
#[test]
fn acknowledgments_are_quick_at_first() {
    let mut lone = Lone::connecting(plain());
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000");
    lone.drain();
    for number in 0..16 {
        lone.gets(&format!(". {}:{}(100) ack 1", number * 100 + 1, number * 100 + 101));
        assert_eq!(lone.drain().len(), 1, "{number}");
    }
    lone.gets(". 1601:1701(100) ack 1");
    lone.sends(&[]);
    lone.connection.set_quick_acknowledgment(true);
    lone.sends(&[". 1:1(0) ack 1701"]);
}

fn with_sack() -> Lone {
    let mut lone = Lone::connecting(Config { sack: true, ..plain() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000 sackok");
    lone.drain();
    lone.connection.receive.quick = 0;
    lone
}

/// [rfc5681 4.2], [rfc5681 4.2-hole], [rfc9293 SHLD-31], [rfc9293 MAY-13], [rfc2018 4], [rfc2018 3]: what is out of order is told at once, the newest first; so is a filled
/// hole.
#[test]
fn what_is_out_of_order_is_told_at_once() {
    let mut lone = with_sack();
    lone.gets(". 101:201(100) ack 1");
    lone.sends(&[". 1:1(0) ack 1 sack 101-201"]);
    lone.gets(". 301:401(100) ack 1");
    lone.sends(&[". 1:1(0) ack 1 sack 301-401 sack 101-201"]);
    lone.gets(". 201:301(100) ack 1");
    lone.sends(&[". 1:1(0) ack 1 sack 101-401"]);
    lone.gets(". 1:101(100) ack 1");
    lone.sends(&[". 1:1(0) ack 401"]);
    assert_eq!(lone.receive_all(), (1..401).map(|value| value as u8).collect::<Vec<_>>());
}

/// [rfc2018 2]: without the agreement nothing is told but the acknowledgment.
#[test]
fn no_blocks_unless_agreed_on() {
    let mut lone = Lone::established(plain());
    lone.gets(". 101:201(100) ack 1");
    lone.sends(&[". 1:1(0) ack 1"]);
    lone.gets(". 1:101(100) ack 1");
    lone.sends(&[". 1:1(0) ack 201"]);
}

/// [rfc2883 4], [rfc2883 4.1], [rfc2883 4.2]: duplicates are told in the first block, once.
#[test]
fn duplicates_are_told() {
    let mut lone = with_sack();
    lone.gets(". 1:101(100) ack 1");
    lone.gets(". 1:101(100) ack 1");
    lone.sends(&[". 1:1(0) ack 101 sack 1-101"]);
    lone.gets(". 301:401(100) ack 1");
    lone.sends(&[". 1:1(0) ack 101 sack 301-401"]);
    lone.gets(". 301:351(50) ack 1");
    lone.sends(&[". 1:1(0) ack 101 sack 301-351 sack 301-401"]);
    lone.gets(". 51:151(100) ack 1");
    lone.sends(&[". 1:1(0) ack 151 sack 51-101 sack 301-401"]);
    assert_eq!(lone.shared.counter(Counter::Duplicate), 1);
}

/// A FIN waits for its turn like everything else.
#[test]
fn a_fin_waits_for_its_turn() {
    let mut lone = with_sack();
    lone.gets("FP. 101:201(100) ack 1");
    lone.gets("F. 201:201(0) ack 1");
    assert_eq!(lone.connection.state(), State::Established);
    lone.gets(". 1:101(100) ack 1");
    assert_eq!(lone.connection.state(), State::CloseWait);
    lone.sends(&[". 1:1(0) ack 202"]);
    let mut lone = with_sack();
    lone.gets("F. 101:101(0) ack 1");
    lone.gets(". 1:101(100) ack 1");
    assert_eq!((lone.connection.state(), lone.receive_all().len()), (State::CloseWait, 100));
}

/// [rfc2018 8]: data that nobody asked for in any order: memory stays within limits, and so does what is told.
#[test]
fn a_flood_out_of_order_meets_limits() {
    let mut lone = with_sack();
    for number in (0..29_000u32).rev() {
        let sequence = 3 + 2 * number;
        lone.gets(&format!(". {sequence}:{}(1) ack 1", sequence + 1));
        while lone.connection.poll_transmit(lone.now, &Limits::default()).is_some() {}
    }
    assert!(lone.shared.counter(Counter::ReassemblyFull) > 28_000);
    assert_eq!(lone.connection.receivable(), 0);
}

/// [rfc9293 MUST-39]: the peer learns of room when there is enough of it, for ever not if there is none [rfc9293 MAY-8].
#[test]
fn room_is_told_when_there_is_enough() {
    let mut lone = Lone::established(Config { receive_buffer: 4000, ..plain() });
    for number in 0..4 {
        lone.gets(&format!(". {}:{}(1000) ack 1", number * 1000 + 1, number * 1000 + 1001));
    }
    lone.sends(&[". 1:1(0) ack 4001"]);
    assert_eq!(lone.header().window, 0);
    for (limit, told) in [(999, false), (1, true), (1000, false), (1000, true)] {
        let _ = lone.connection.receive(lone.now, limit);
        let lines = lone.drain();
        let _ = told;
        assert!(lines.len() <= 1);
    }
    assert!(lone.header().window >= 2000);
}

/// [rfc3168 6.1.3], [rfc3168 6.1.4]: congestion is echoed until the peer has heard of it.
#[test]
fn congestion_is_echoed() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Request, ..plain() });
    lone.drain();
    lone.gets("S.E 0:0(0) ack 1 mss 1000");
    lone.drain();
    lone.connection.receive.quick = 0;
    lone.gets_marked(". 1:101(100) ack 1", Ecn::Congestion);
    for _ in 0..2 {
        lone.wait(50 * MS);
        assert!(lone.header().flags.contains(Flags::ECE));
        assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::NotCapable));
        lone.gets_marked(". 1:101(100) ack 1", Ecn::Capable0);
    }
    lone.gets_marked("P.W 101:201(100) ack 1", Ecn::Capable0);
    lone.wait(50 * MS);
    assert!(!lone.header().flags.contains(Flags::ECE));
}

/// [rfc8257 3.2]: or exactly as it comes.
#[test]
fn marks_are_echoed_exactly() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Exact, ..plain() });
    lone.drain();
    lone.gets("S.E 0:0(0) ack 1 mss 1000");
    lone.drain();
    for (number, met) in [false, true, true, false, true].into_iter().enumerate() {
        let ecn = if met { Ecn::Congestion } else { Ecn::Capable0 };
        lone.gets_marked(&format!(". {}:{}(10) ack 1", number * 10 + 1, number * 10 + 11), ecn);
        lone.wait(50 * MS);
        assert_eq!(lone.header().flags.contains(Flags::ECE), met, "{number}");
    }
}

/// [rfc8257 3.2]: what came before marks change is acknowledged at once, and without what came behind, so that the peer
/// counts each octet for what it met.
#[test]
fn a_change_of_marks_is_acknowledged_apart() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Exact, ..plain() });
    lone.drain();
    lone.gets("S.E 0:0(0) ack 1 mss 1000");
    lone.drain();
    lone.connection.receive.quick = 0;
    lone.gets_marked(". 1:11(10) ack 1", Ecn::Capable0);
    lone.sends(&[]);
    lone.gets_marked(". 11:21(10) ack 1", Ecn::Congestion);
    lone.sends(&[". 1:1(0) ack 11", ".E 1:1(0) ack 21"]);
    assert_eq!(lone.header().window, 59_980);
    // In one burst; nothing waits before the first change.
    lone.gets_marked(". 21:31(10) ack 1", Ecn::Capable0);
    lone.gets_marked(". 31:41(10) ack 1", Ecn::Congestion);
    lone.sends(&[". 1:1(0) ack 31", ".E 1:1(0) ack 41"]);
    lone.gets_marked(". 41:51(10) ack 1", Ecn::Congestion);
    lone.gets_marked(". 51:61(10) ack 1", Ecn::Capable0);
    lone.sends(&[".E 1:1(0) ack 51", ". 1:1(0) ack 61"]);
}

/// The receive buffer follows the path: twice what the user takes in a round trip.
#[test]
fn the_receive_buffer_grows() {
    let faults = Faults { delay: 50 * MS, ..Faults::NONE };
    let config = Config { send_buffer: 8 << 20, ..Config::default() };
    let mut pair = Pair::connected([config, Config::default()], faults, 1);
    let before = {
        let now = pair.now;
        pair.connection(1).info(now).rcv_space
    };
    for _ in 0..300 {
        let now = pair.now;
        pair.ends[0].send(now, 100_000);
        pair.run(10 * MS);
        let now = pair.now;
        pair.ends[1].receive(now, usize::MAX);
    }
    let now = pair.now;
    let after = pair.connection(1).info(now).rcv_space;
    assert!(after >= 4 * before, "{before} {after}");
    assert!(pair.ends[0].sent.starts_with(&pair.ends[1].received));
}

/// [rfc2018 3]: beside timestamps there is room for three.
#[test]
fn three_blocks_beside_timestamps() {
    let mut lone = Lone::connecting(Config { window_scaling: false, ..Config::default() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000 sackok ts 100 1000000");
    lone.drain();
    for hole in 1..6 {
        lone.gets(&format!(". {}:{}(10) ack 1 ts 100 1000000", hole * 100, hole * 100 + 10));
    }
    lone.drain();
    assert_eq!(lone.header().options.sack.len(), 3);
}
