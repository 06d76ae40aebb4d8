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

/// On a path that takes 600 octets a probe of 1,000 is under way, and what follows it.
fn probing(sack: bool) -> Lone {
    let mut lone = Lone::connecting(Config { sack, ..plain() });
    lone.drain();
    lone.gets(if sack { "S. 0:0(0) ack 1 mss 1000 sackok" } else { "S. 0:0(0) ack 1 mss 1000" });
    lone.send(1000);
    lone.drain();
    lone.connection.handle_too_big(lone.now, SequenceNumber::new(OURS) + 1, 600);
    lone.drain();
    lone.gets(". 1:1(0) ack 1001");
    lone.wait(601 * SECOND);
    // Too little for a probe.
    lone.send(560);
    lone.sends(&["P. 1001:1561(560) ack 1"]);
    lone.gets(". 1:1(0) ack 1561");
    lone.send(5000);
    let lines = lone.drain();
    assert_eq!(lines[..2], [". 1561:2561(1000) ack 1", ". 2561:3121(560) ack 1"]);
    lone
}

/// [rfc8899 3-lost], whether the peer says what it has or not: a lost probe goes again in pieces, and the window stays.
#[test]
fn a_lost_probe_is_no_congestion() {
    let told = |at: u32| format!(". 1:1(0) ack 1561 sack 2561-{at}");
    let stories = [(true, [3121, 3681, 4241].map(told)), (false, [". 1:1(0) ack 1561"; 3].map(String::from))];
    for (sack, acknowledgments) in stories {
        let mut lone = probing(sack);
        let before = lone.connection.info(lone.now);
        for line in acknowledgments {
            lone.now += MS;
            lone.gets(&line);
        }
        lone.sends(&[". 1561:2121(560) ack 1", ". 2121:2561(440) ack 1"]);
        lone.gets(". 1:1(0) ack 1561");
        lone.sends(&[]);
        let after = lone.connection.info(lone.now);
        assert_eq!((after.cwnd, after.ssthresh), (before.cwnd, before.ssthresh), "sack: {sack}");
        assert_eq!((after.ca_state, after.pmtu), (CongestionState::Disorder, 600));
        lone.gets(". 1:1(0) ack 6561");
        assert_eq!(lone.connection.info(lone.now).ca_state, CongestionState::Open);
    }
}

/// [rfc8899 3-lost]: if something else is lost, too, the path is congested.
#[test]
fn a_probe_that_is_not_lost_alone_is_congestion() {
    let mut lone = probing(true);
    let before = lone.connection.info(lone.now).cwnd;
    for at in [3681, 4241, 4801] {
        lone.now += MS;
        lone.gets(&format!(". 1:1(0) ack 1561 sack 3121-{at}"));
    }
    let after = lone.connection.info(lone.now);
    assert_eq!(after.ca_state, CongestionState::Recovery);
    assert!(after.ssthresh < before);
}

/// A probe that nothing follows would cost a time-out if it is lost: here the peer's window lets nothing follow.
#[test]
fn no_probe_whose_loss_nobody_would_tell() {
    for (window, probes) in [(2000, false), (3000, true)] {
        let mut lone = probing(false);
        lone.window = window;
        lone.gets(". 1:1(0) ack 2561");
        lone.gets(". 1:1(0) ack 6561");
        lone.connection.handle_mtu(lone.now, 600);
        lone.wait(601 * SECOND);
        lone.send(9000);
        let lines = lone.drain();
        assert_eq!(lines.iter().any(|line| line.contains("(1000)")), probes, "{window}: {lines:?}");
    }
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
