//! Segments, windows, Nagle, and what the peer's window forbids.

use super::lone::*;
use crate::tcp::*;
use crate::wire::tcp::Flags;
use demikernel_runtime::buffer::{Buffer, Sga};

/// [rfc9293 MUST-61], [rfc9293 SHLD-27], [rfc9293 SHLD-28]: full segments, and PSH where the user's data end.
#[test]
fn data_leave_in_segments() {
    let mut lone = Lone::established(plain());
    assert_eq!(lone.send(2500), 2500);
    lone.sends(&[". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1", "P. 2001:2501(500) ack 1"]);
    lone.gets(". 1:1(0) ack 2501");
    assert_eq!(lone.connection.unacknowledged(), 0);
}

/// The device cuts: whole segments in one, the rest by itself.
#[test]
fn a_device_that_cuts_gets_whole_segments() {
    let mut lone = Lone::established(plain());
    lone.send(4700);
    let limits = Limits { segmentation: 3500 };
    let mut sent = Vec::new();
    while let Some(transmit) = lone.connection.poll_transmit(lone.now, &limits) {
        sent.push((transmit.payload.len(), transmit.cut));
    }
    assert_eq!(sent, [(3000, Some(1000)), (1000, None), (700, None)]);
}

/// Blocks of what has come out of order take their room of what is sent again, too: the packet would be too long.
#[test]
fn what_is_sent_again_leaves_room_for_blocks() {
    let mut lone = Lone::connecting(Config { sack: true, ..plain() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000 sackok");
    lone.send(4000);
    lone.drain();
    lone.gets(". 101:201(100) ack 1");
    lone.drain();
    let again = lone.wait(SECOND);
    let is_whole = |line: &String| line.contains("(988)") && line.contains("sack 101-201");
    assert!(again.iter().filter(|line| is_whole(line)).count() >= 2, "{again:#?}");
    assert!(!again.iter().any(|line| line.contains("(1000)")), "{again:#?}");
}

/// Segments share the user's memory.
#[test]
fn nothing_is_copied() {
    let mut lone = Lone::established(plain());
    let buffer = Buffer::from(vec![1u8; 1500]);
    lone.connection.send(lone.now, &mut Sga::from(buffer.clone())).expect("it is connected");
    let mut transmit = || lone.connection.poll_transmit(lone.now, &Limits::default()).expect("there is more");
    assert_eq!(transmit().payload.first().map(|part| part.as_ptr()), Some(buffer.as_ptr()));
    assert_eq!(transmit().payload.first().map(|part| part.as_ptr()), Some(buffer[1000..].as_ptr()));
}

/// [rfc9293 SHLD-7], [rfc9293 MUST-17]: no second small segment while one is under way, unless the user wants it.
#[test]
fn nagle() {
    let mut lone = Lone::established(plain());
    lone.send(10);
    lone.sends(&["P. 1:11(10) ack 1"]);
    lone.send(10);
    lone.send(10);
    lone.sends(&[]);
    lone.send(985);
    lone.sends(&[". 11:1011(1000) ack 1"]);
    lone.gets(". 1:1(0) ack 11");
    // Minshall: only a full segment is under way, so a small one may follow.
    lone.sends(&["P. 1011:1016(5) ack 1"]);
    lone.send(10);
    lone.sends(&[]);
    lone.connection.set_no_delay(true);
    lone.sends(&["P. 1016:1026(10) ack 1"]);
    // A FIN lets the rest go.
    lone.connection.set_no_delay(false);
    lone.send(10);
    lone.shutdown();
    lone.sends(&["FP. 1026:1036(10) ack 1"]);
}

/// As Linux, [rfc9293 MUST-60]: what is corked leaves in full segments, or after a fifth of a second.
#[test]
fn cork() {
    let mut lone = Lone::established(plain());
    lone.connection.set_cork(true);
    lone.send(1300);
    lone.sends(&[". 1:1001(1000) ack 1"]);
    lone.gets(". 1:1(0) ack 1001");
    lone.sends(&[]);
    assert_eq!(lone.wait(SECOND).first().map(String::as_str), Some("200: P. 1001:1301(300) ack 1"));
    lone.gets(". 1:1(0) ack 1301");
    lone.send(10);
    lone.sends(&[]);
    lone.connection.set_cork(false);
    lone.sends(&["P. 1301:1311(10) ack 1"]);
}

/// [rfc9293 MUST-38]: a window that opens by little does not make little segments.
#[test]
fn no_silly_segments() {
    let mut lone = Lone::established(plain());
    lone.window = 3000;
    lone.gets(". 1:1(0) ack 1");
    lone.send(20_000);
    lone.sends(&[". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1", ". 2001:3001(1000) ack 1"]);
    lone.window = 2100;
    lone.gets(". 1:1(0) ack 1001");
    lone.sends(&[]);
    lone.window = 1900;
    lone.gets(". 1:1(0) ack 2001");
    lone.sends(&[]);
    lone.window = 2000;
    lone.gets(". 1:1(0) ack 2001");
    lone.sends(&[". 3001:4001(1000) ack 1"]);
}

/// [rfc9293 MUST-35], [rfc9293 MUST-36], [rfc9293 MUST-37], [rfc9293 SHLD-29], [rfc9293 SHLD-30]: a shut window is probed with the next
/// octet, ever more rarely, for as long as the peer answers.
#[test]
fn a_shut_window_is_probed() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:1(0) ack 1 win 0");
    lone.send(100);
    lone.sends(&[]);
    let mut waits = Vec::new();
    let mut last = lone.now;
    for _ in 0..30 {
        while lone.drain().is_empty() {
            let deadline = lone.connection.next_deadline().expect("it probes");
            lone.now = deadline;
            lone.connection.handle_deadline(deadline);
            if let Some(transmit) = lone.connection.poll_transmit(lone.now, &Limits::default()) {
                assert_eq!(line(&transmit), ". 1:2(1) ack 1");
                break;
            }
        }
        waits.push(lone.now.duration_since(last).as_millis());
        last = lone.now;
        lone.gets(". 1:1(0) ack 1 win 0");
    }
    assert_eq!(lone.connection.state(), State::Established);
    lone.gets(". 1:1(0) ack 1 win 1000");
    lone.sends(&["P. 1:101(100) ack 1"]);
    lone.gets(". 1:1(0) ack 101 win 1000");
    assert_eq!(lone.connection.unacknowledged(), 0);
}

/// The peer takes the octet of a probe.
#[test]
fn the_octet_of_a_probe_may_be_taken() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:1(0) ack 1 win 0");
    lone.send(100);
    lone.drain();
    assert_eq!(lone.wait(SECOND + MS).first().map(|line| line.ends_with(". 1:2(1) ack 1")), Some(true));
    lone.gets(". 1:1(0) ack 2 win 1000");
    lone.sends(&["P. 2:101(99) ack 1"]);
    lone.gets(". 1:1(0) ack 101");
    assert_eq!(lone.connection.unacknowledged(), 0);
}

/// [rfc9293 3.10.7.4]: both sides probe at once, and both take the other's octet, of which neither knows: the acknowledgments
/// cross, each with a number that the other has passed.
#[test]
fn probes_may_cross() {
    let mut lone = Lone::established(plain());
    lone.window = 0;
    lone.gets(". 1:1(0) ack 1");
    lone.send(5);
    assert!(lone.wait(2 * SECOND).iter().all(|line| line.ends_with(": . 1:2(1) ack 1")));
    lone.gets(". 1:2(1) ack 1");
    lone.wait(50 * MS);
    lone.window = 100;
    lone.gets(". 1:1(0) ack 2");
    assert_eq!(lone.drain(), ["P. 2:6(4) ack 2"]);
}

/// A peer that answers no probe has gone.
#[test]
fn a_shut_window_without_answers_times_out() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:1(0) ack 1 win 0");
    lone.send(100);
    let probes = lone.wait(3600 * SECOND);
    assert_eq!(lone.connection.take_error(), Some(Error::TimedOut));
    assert!((15..20).contains(&probes.len()), "{probes:?}");
}

/// [rfc9293 MUST-34], [rfc9293 SHLD-15], [rfc9293 SHLD-16], [rfc9293 MAY-7]: a window that shrinks is borne.
#[test]
fn a_window_may_shrink() {
    let mut lone = Lone::established(plain());
    lone.send(3000);
    assert_eq!(lone.drain().len(), 3);
    lone.send(1000);
    lone.gets(". 1:1(0) ack 1 win 500");
    lone.sends(&[]);
    assert!(lone.wait(2 * SECOND).iter().any(|line| line.contains(" 1:1001(1000)")));
    lone.gets(". 1:1(0) ack 3001 win 5000");
    lone.sends(&["P. 3001:4001(1000) ack 1"]);
}

/// The buffer is a limit, and whoever met it is told of room.
#[test]
fn the_send_buffer_is_a_limit() {
    let mut lone = Lone::established(Config { send_buffer: 3000, ..plain() });
    lone.connection.set_send_buffer(3000);
    let mut data = Sga::from(Buffer::from(vec![1u8; 5000]));
    assert_eq!(lone.connection.send(lone.now, &mut data), Ok(3000));
    assert_eq!((data.len(), lone.connection.sendable()), (2000, 0));
    lone.drain();
    assert!(!lone.connection.take_events().contains(Events::WRITABLE));
    lone.gets(". 1:1(0) ack 2001");
    assert!(lone.connection.take_events().contains(Events::WRITABLE));
    assert_eq!(lone.connection.send(lone.now, &mut data), Ok(2000));
}

/// [rfc3168 6.1.2], [rfc3168 6.1.2-cwr], [rfc3168 6.1.5]: new data are marked, nothing else is; one echo in a window is heard.
#[test]
fn marks_of_what_leaves() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Request, ..plain() });
    lone.drain();
    lone.gets("S.E 0:0(0) ack 1 mss 1000");
    lone.drain();
    assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::NotCapable));
    lone.send(2000);
    assert_eq!(lone.drain().len(), 2);
    assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::Capable0));
    lone.gets(".E 1:1(0) ack 1001");
    lone.send(1000);
    lone.sends(&["P.W 2001:3001(1000) ack 1"]);
    lone.gets(". 1:1(0) ack 3001");
    lone.send(1000);
    lone.sends(&["P. 3001:4001(1000) ack 1"]);
    assert!(!lone.wait(2 * SECOND).is_empty());
    assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::NotCapable));
    assert!(!lone.header().flags.contains(Flags::CWR));
}

/// Nobody holds the connection, and the peer keeps its window shut: that ends, though it answers.
#[test]
fn a_shut_window_does_not_hold_a_closed_connection() {
    let mut lone = Lone::established(plain());
    lone.gets(". 1:1(0) ack 1 win 0");
    lone.send(100);
    lone.connection.close(lone.now);
    lone.drain();
    for _ in 0..30 {
        lone.wait(30 * SECOND);
        lone.gets(". 1:1(0) ack 1 win 0");
    }
    assert_eq!(lone.connection.state(), State::Closed);
}

/// [rfc9293 SHLD-17]: a window that shrinks to nothing, of a peer that answers, ends nothing.
#[test]
fn data_behind_a_shrunk_window_do_not_time_out() {
    let mut lone = Lone::established(plain());
    lone.send(3000);
    lone.drain();
    for _ in 0..200 {
        lone.gets(". 1:1(0) ack 1 win 0");
        lone.wait(30 * SECOND);
    }
    assert_eq!(lone.connection.state(), State::Established);
    lone.gets(". 1:1(0) ack 3001");
    assert_eq!(lone.connection.unacknowledged(), 0);
}

/// [rfc9293 MUST-1], [rfc9293 REC-1], [rfc7323 2.3-shift]: a window has no sign, and may have more than 16 bits.
#[test]
fn windows_are_numbers_without_a_sign() {
    for (scale, window, expected) in [(0u8, 60_000u32, 60_000u32), (14, 65_535, 65_535 << 14)] {
        let mut lone = Lone::connecting(Config { sack: false, timestamps: false, ..Config::default() });
        lone.drain();
        lone.gets(&format!("S. 0:0(0) ack 1 mss 1000 ws {scale}"));
        lone.gets(&format!(". 1:1(0) ack 1 win {window}"));
        assert_eq!(lone.connection.info(lone.now).snd_wnd, expected);
    }
}

/// [rfc9293 MAY-18]: each congestion control brings everything over, and may be changed meanwhile.
#[test]
fn congestion_control_is_chosen() {
    for control in CongestionControl::ALL {
        let config = Config { congestion: control, ..plain() };
        let mut lone = Lone::established(config);
        assert_eq!(lone.connection.info(lone.now).congestion, control);
        lone.send(3000);
        assert_eq!(lone.drain().len(), 3, "{control}");
        lone.connection.set_congestion_control(lone.now, CongestionControl::Reno);
        lone.gets(". 1:1(0) ack 3001");
        assert_eq!(lone.connection.info(lone.now).congestion, CongestionControl::Reno);
    }
}

/// [rfc9293 3.10.7.4]: a segment that was overtaken says nothing of the window any more.
#[test]
fn an_older_segment_does_not_set_the_window() {
    let mut lone = Lone::established(plain());
    lone.gets(". 101:201(100) ack 1 win 5000");
    lone.gets(". 1:101(100) ack 1 win 9000");
    assert_eq!(lone.connection.info(lone.now).snd_wnd, 5000);
    lone.gets(". 201:201(0) ack 1 win 7000");
    assert_eq!(lone.connection.info(lone.now).snd_wnd, 7000);
}

/// [rfc3168 6.1.6]: nor are probes of the window marked.
#[test]
fn window_probes_are_not_marked() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Request, ..plain() });
    lone.drain();
    lone.gets("S.E 0:0(0) ack 1 mss 1000 win 0");
    lone.drain();
    lone.send(10);
    assert!(lone.wait(2 * SECOND).iter().all(|line| line.ends_with(". 1:2(1) ack 1")));
    assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::NotCapable));
    lone.gets(". 1:1(0) ack 1 win 1000");
    lone.sends(&["P. 1:11(10) ack 1"]);
    assert_eq!(lone.last.as_ref().map(|transmit| transmit.ecn), Some(Ecn::Capable0));
}

/// [rfc8985 7.3]: the tail is probed with new data if the peer's window lets them go, else with the last segment again.
#[test]
fn a_tail_probe_is_new_data_if_there_are_any() {
    for (unsent, probe) in [(true, ": P. 1501:1511(10) ack 1"), (false, ": P. 1001:1501(500) ack 1")] {
        let mut lone = Lone::connecting(Config { sack: true, ..plain() });
        lone.wait(100 * MS);
        lone.gets("S. 0:0(0) ack 1 mss 1000 sackok");
        lone.drain();
        lone.send(1500);
        lone.drain();
        if unsent {
            // Held back for being small.
            lone.send(10);
        }
        let lines = lone.wait(250 * MS);
        assert!(lines.len() == 1 && lines[0].ends_with(probe), "{lines:?}");
    }
}
