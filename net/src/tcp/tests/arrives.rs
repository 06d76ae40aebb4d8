//! RFC 9293 section 3.10.7: each state and each step.

use demikernel_runtime::buffer::{Buffer, Sga};
use proptest::prelude::*;

use super::lone::*;
use crate::tcp::State::*;
use crate::tcp::*;
use crate::wire::tcp::{Flags, SackBlock, Segment, SequenceNumber, Timestamps};

const PASSIVE: State = SynReceived(Origin::Passive);
const ACTIVE: State = SynReceived(Origin::Active);

/// State, segment, state afterwards, what is sent.
type Row = (State, &'static str, State, &'static [&'static str]);

fn check(table: &[Row]) {
    for (state, segment, after, sent) in table {
        let mut lone = Lone::in_state(*state);
        lone.gets(segment);
        let lines = lone.drain();
        assert_eq!(lone.connection.state(), *after, "{state:?} gets {segment}, sends {lines:?}");
        assert_eq!(&lines, sent, "{state:?} gets {segment}");
    }
}

/// [rfc9293 3.10.7.3], [rfc5961 3.2-syn-sent]
#[test]
fn syn_sent() {
    check(&[
        (SynSent, ". 0:0(0) ack 0", SynSent, &["R 0:0(0)"]),
        (SynSent, ". 0:0(0) ack 2", SynSent, &["R 2:2(0)"]),
        (SynSent, "S. 0:0(0) ack 2", SynSent, &["R 2:2(0)"]),
        (SynSent, "R. 0:0(0) ack 2", SynSent, &[]),
        (SynSent, "R 0:0(0)", SynSent, &[]),
        (SynSent, "R. 0:0(0) ack 1", Closed, &[]),
        (SynSent, ". 0:0(0) ack 1", SynSent, &[]),
        (SynSent, "F. 0:0(0) ack 1", SynSent, &[]),
        (SynSent, "S 0:0(0)", ACTIVE, &["S. 0:0(0) ack 1"]),
        (SynSent, "S. 0:0(0) ack 1", Established, &[". 1:1(0) ack 1"]),
        (SynSent, "SF. 0:0(0) ack 1", CloseWait, &[". 1:1(0) ack 2"]),
    ]);
    let mut lone = Lone::in_state(SynSent);
    lone.gets("R. 0:0(0) ack 1");
    assert_eq!(lone.connection.take_error(), Some(Error::Refused));
}

/// Step 1. [rfc9293 3.10.7.4]: outside of the window there is only an answer, and none to a reset.
#[test]
fn the_sequence_number_is_checked() {
    for state in [PASSIVE, ACTIVE, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck] {
        for segment in [". 60002:60012(10) ack 1", "P. 4294900000:4294900001(1) ack 1"] {
            let mut lone = Lone::in_state(state);
            lone.gets(segment);
            let lines = lone.drain();
            assert!(lines.len() == 1 && lines[0].contains(" ack "), "{state:?} {segment}: {lines:?}");
            assert_eq!(lone.connection.state(), state);
            assert_eq!(lone.connection.receivable(), 0);
        }
        let mut lone = Lone::in_state(state);
        lone.gets("R 60002:60002(0)");
        lone.sends(&[]);
        assert_eq!(lone.connection.state(), state);
    }
}

/// Step 1: what begins before the window, or ends behind it, is cut.
#[test]
fn what_lies_outside_is_cut_off() {
    let mut lone = Lone::in_state(Established);
    lone.gets("P. 1:5(4) ack 1");
    lone.gets("P. 3:9(6) ack 1");
    assert_eq!(lone.receive_all(), [1, 2, 3, 4, 5, 6, 7, 8]);
    lone.connection.set_receive_buffer(100);
    let mut lone = Lone::established(Config { receive_buffer: 10, ..plain() });
    lone.gets("FP. 1:15(14) ack 1");
    assert_eq!(lone.connection.receivable(), 10);
    assert_eq!(lone.connection.state(), Established);
    lone.sends(&[". 1:1(0) ack 11"]);
    assert_eq!(lone.header().window, 0);
}

/// Step 2. [rfc5961 3.2], [rfc9293 MUST-11], [rfc9293 SHLD-2]: exactly the next number resets, another in the window is asked about.
#[test]
fn resets() {
    check(&[
        (PASSIVE, "R 1:1(0)", Closed, &[]),
        (PASSIVE, "R 2:2(0)", PASSIVE, &[". 1:1(0) ack 1"]),
        (ACTIVE, "R 1:1(0)", Closed, &[]),
        (Established, "R 1:1(0)", Closed, &[]),
        (Established, "R. 1:1(0) ack 77", Closed, &[]),
        (Established, "R 2:2(0)", Established, &[". 1:1(0) ack 1"]),
        (Established, "R 60000:60000(0)", Established, &[". 1:1(0) ack 1"]),
        (Established, "R 1:9(8)", Closed, &[]),
        (FinWait1, "R 1:1(0)", Closed, &[]),
        (FinWait2, "R 1:1(0)", Closed, &[]),
        (FinWait2, "R 2:2(0)", FinWait2, &[". 2:2(0) ack 1"]),
        (CloseWait, "R 2:2(0)", Closed, &[]),
        (Closing, "R 2:2(0)", Closed, &[]),
        (LastAck, "R 2:2(0)", Closed, &[]),
        // [rfc1337 3-F1]
        (TimeWait, "R 2:2(0)", TimeWait, &[]),
        // In SYN-RECEIVED as well: one that is merely in the window ends nothing.
        (ACTIVE, "R 2:2(0)", ACTIVE, &[". 1:1(0) ack 1"]),
        (FinWait1, "R 2:2(0)", FinWait1, &[". 2:2(0) ack 1"]),
        (CloseWait, "R 3:3(0)", CloseWait, &[". 1:1(0) ack 2"]),
        (Closing, "R 3:3(0)", Closing, &[". 2:2(0) ack 2"]),
        (LastAck, "R 3:3(0)", LastAck, &[". 2:2(0) ack 2"]),
    ]);
    let reasons = [
        (PASSIVE, "R 1:1(0)", None),
        (ACTIVE, "R 1:1(0)", Some(Error::Refused)),
        (Established, "R 1:1(0)", Some(Error::Reset)),
        (CloseWait, "R 2:2(0)", Some(Error::BrokenPipe)),
        (LastAck, "R 2:2(0)", None),
    ];
    for (state, segment, reason) in reasons {
        let mut lone = Lone::in_state(state);
        lone.gets(segment);
        assert_eq!(lone.connection.take_error(), reason, "{state:?}");
        assert!(lone.connection.take_events().contains(Events::CLOSED));
    }
}

/// Step 4. [rfc5961 4.2]: whatever its number, a SYN is asked about.
#[test]
fn syns_within_a_connection() {
    check(&[
        (PASSIVE, "S 5:5(0)", Closed, &[]),
        (PASSIVE, "S 4294900000:4294900000(0)", PASSIVE, &[". 1:1(0) ack 1"]),
        (ACTIVE, "S 5:5(0)", ACTIVE, &[". 1:1(0) ack 1"]),
        (Established, "S 1:1(0)", Established, &[". 1:1(0) ack 1"]),
        (Established, "S. 0:0(0) ack 1", Established, &[". 1:1(0) ack 1"]),
        (Established, "S 4294900000:4294900000(0)", Established, &[". 1:1(0) ack 1"]),
        (FinWait1, "S 1:1(0)", FinWait1, &[". 2:2(0) ack 1"]),
        (FinWait2, "S 1:1(0)", FinWait2, &[". 2:2(0) ack 1"]),
        (CloseWait, "S 2:2(0)", CloseWait, &[". 1:1(0) ack 2"]),
        (Closing, "S 2:2(0)", Closing, &[". 2:2(0) ack 2"]),
        (LastAck, "S 2:2(0)", LastAck, &[". 2:2(0) ack 2"]),
        (TimeWait, "S 2:2(0)", TimeWait, &[". 2:2(0) ack 2"]),
    ]);
}

/// Step 5. [rfc9293 3.10.7.4], [rfc5961 5.2], [rfc9293 MAY-12]
#[test]
fn acknowledgments() {
    check(&[
        (PASSIVE, "P 1:2(1)", PASSIVE, &[]),
        (PASSIVE, ". 1:1(0) ack 0", PASSIVE, &["R 0:0(0)"]),
        (PASSIVE, ". 1:1(0) ack 2", PASSIVE, &["R 2:2(0)"]),
        (PASSIVE, ". 1:1(0) ack 1", Established, &[]),
        (ACTIVE, ". 1:1(0) ack 1", Established, &[]),
        (Established, "P 1:2(1)", Established, &[]),
        (Established, ". 1:1(0) ack 1", Established, &[]),
        (Established, ". 1:1(0) ack 2", Established, &[". 1:1(0) ack 1"]),
        (Established, "P. 1:2(1) ack 4294900000", Established, &[". 1:1(0) ack 1"]),
        (FinWait1, ". 1:1(0) ack 1", FinWait1, &[]),
        (FinWait1, ". 1:1(0) ack 2", FinWait2, &[]),
        (Closing, ". 2:2(0) ack 1", Closing, &[]),
        (Closing, ". 2:2(0) ack 2", TimeWait, &[]),
        (LastAck, ". 2:2(0) ack 1", LastAck, &[]),
        (LastAck, ". 2:2(0) ack 2", Closed, &[]),
        (FinWait2, ". 1:1(0) ack 2", FinWait2, &[]),
        (CloseWait, ". 2:2(0) ack 1", CloseWait, &[]),
        (TimeWait, ". 2:2(0) ack 2", TimeWait, &[]),
        // Of what was never sent.
        (FinWait1, ". 1:1(0) ack 3", FinWait1, &[". 2:2(0) ack 1"]),
        (FinWait2, ". 1:1(0) ack 3", FinWait2, &[". 2:2(0) ack 1"]),
        (CloseWait, ". 2:2(0) ack 2", CloseWait, &[". 1:1(0) ack 2"]),
        (Closing, ". 2:2(0) ack 3", Closing, &[". 2:2(0) ack 2"]),
        (LastAck, ". 2:2(0) ack 3", LastAck, &[". 2:2(0) ack 2"]),
        // Without the bit nothing is looked at.
        (FinWait1, "F 1:1(0)", FinWait1, &[]),
        (FinWait2, "F 1:1(0)", FinWait2, &[]),
        (CloseWait, "P 2:3(1)", CloseWait, &[]),
        (Closing, "P 2:3(1)", Closing, &[]),
        (LastAck, "P 2:3(1)", LastAck, &[]),
        (TimeWait, "P 2:3(1)", TimeWait, &[]),
    ]);
}

/// Steps 7 and 8. [rfc9293 3.10.7.4]
#[test]
fn text_and_fins() {
    check(&[
        (PASSIVE, "F. 1:1(0) ack 1", CloseWait, &[". 1:1(0) ack 2"]),
        (Established, "F. 1:1(0) ack 1", CloseWait, &[". 1:1(0) ack 2"]),
        (Established, "FP. 1:4(3) ack 1", CloseWait, &[". 1:1(0) ack 5"]),
        (FinWait1, "F. 1:1(0) ack 1", Closing, &[". 2:2(0) ack 2"]),
        (FinWait1, "F. 1:1(0) ack 2", TimeWait, &[". 2:2(0) ack 2"]),
        (FinWait2, "F. 1:1(0) ack 2", TimeWait, &[". 2:2(0) ack 2"]),
        (FinWait2, "FP. 1:4(3) ack 2", TimeWait, &[". 2:2(0) ack 5"]),
        // The FIN again: our acknowledgment was lost.
        (CloseWait, "F. 1:1(0) ack 1", CloseWait, &[". 1:1(0) ack 2"]),
        (Closing, "F. 1:1(0) ack 1", Closing, &[". 2:2(0) ack 2"]),
        (LastAck, "F. 1:1(0) ack 1", LastAck, &[". 2:2(0) ack 2"]),
        (TimeWait, "F. 1:1(0) ack 2", TimeWait, &[". 2:2(0) ack 2"]),
        // Behind the FIN there is nothing.
        (CloseWait, "P. 2:5(3) ack 1", CloseWait, &[]),
        (Closing, "P. 2:5(3) ack 1", Closing, &[]),
        (LastAck, "P. 2:5(3) ack 1", LastAck, &[]),
        (TimeWait, "P. 2:5(3) ack 2", TimeWait, &[". 2:2(0) ack 2"]),
    ]);
    for state in [Established, FinWait1, FinWait2] {
        let mut lone = Lone::in_state(state);
        lone.gets("P. 1:4(3) ack 1");
        assert_eq!(lone.receive_all(), [1, 2, 3], "{state:?}");
        assert_eq!(lone.connection.state(), state);
    }
}

/// Step 6. [rfc9293 MUST-31]: urgent data are data, in their place.
#[test]
fn urgent_data_are_in_line() {
    let mut lone = Lone::in_state(Established);
    lone.gets("PU. 1:4(3) ack 1");
    lone.gets("P. 4:6(2) ack 1");
    assert_eq!(lone.receive_all(), [1, 2, 3, 4, 5]);
}

/// Step 6 in each state: a segment does what it does without URG, whatever that points to. [rfc9293 3.10.7.4]
#[test]
fn an_urgent_pointer_changes_nothing() {
    for state in
        [SynSent, PASSIVE, ACTIVE, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait]
    {
        for (plain, urgent) in
            [("P. 1:4(3) ack 1", "PU. 1:4(3) ack 1"), ("F. 1:4(3) ack 1", "FU. 1:4(3) ack 1")]
        {
            let [expected, seen] = [plain, urgent].map(|line| {
                let mut lone = Lone::in_state(state);
                lone.gets(line);
                let sent = lone.drain();
                (sent, lone.receive_all(), lone.connection.state(), lone.connection.take_events())
            });
            assert_eq!(seen, expected, "{state:?}: {urgent}");
        }
    }
}

/// [rfc5961 7]: however many guesses come, challenges have a limit.
#[test]
fn challenges_have_a_limit() {
    let mut lone = Lone::established(Config { challenge_acks: 5, ..plain() });
    let mut sent = 0;
    for guess in 0..100 {
        lone.gets(&format!("R {}:{}(0)", guess + 2, guess + 2));
        sent += lone.drain().len();
    }
    assert_eq!(sent, 5);
    assert_eq!(lone.shared.counter(Counter::ChallengeLimited), 95);
    // An answer to our SYN that comes again is none.
    lone.gets("S. 0:0(0) ack 1");
    assert_eq!(lone.drain().len(), 1);
}

/// [rfc7323 5.3-R1], [rfc7323 3.2-drop]: an old stamp, or none.
#[test]
fn old_stamps_are_refused() {
    let mut lone = Lone::connecting(Config { window_scaling: false, sack: false, ..Config::default() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000 ts 100 1000000");
    lone.drain();
    lone.gets("P. 1:3(2) ack 1 ts 99 1000000");
    lone.sends(&[". 1:1(0) ack 1"]);
    lone.gets("P. 1:3(2) ack 1");
    lone.sends(&[]);
    assert_eq!((lone.connection.receivable(), lone.shared.counter(Counter::OldTimestamp)), (0, 1));
    lone.gets("P. 1:3(2) ack 1 ts 100 1000000");
    assert_eq!(lone.connection.receivable(), 2);
    // A reset needs no stamp. [rfc7323 3.2-reset]
    lone.gets("R 3:3(0)");
    assert_eq!(lone.connection.state(), Closed);
}

/// [rfc7323 4.3-2], [rfc7323 5.3-R3]: an acknowledgment that was delayed echoes the stamp of the first segment that it covers.
#[test]
fn the_earliest_stamp_is_echoed() {
    let mut lone = Lone::connecting(Config { window_scaling: false, sack: false, ..Config::default() });
    lone.drain();
    lone.gets("S. 0:0(0) ack 1 mss 1000 ts 100 1000000");
    lone.drain();
    lone.connection.receive.quick = 0;
    lone.gets("P. 1:3(2) ack 1 ts 101 1000000");
    lone.gets("P. 3:5(2) ack 1 ts 150 1000000");
    assert_eq!(lone.wait(50 * MS).len(), 1);
    assert_eq!(lone.header().options.timestamps.unwrap().echo, 101);
}

/// [rfc9293 MUST-66]: with the window shut, acknowledgments and resets still count, and probes are answered.
#[test]
fn a_shut_window_takes_acknowledgments() {
    let shut = || {
        let mut lone = Lone::established(Config { receive_buffer: 10, ..plain() });
        lone.gets("P. 1:11(10) ack 1");
        lone.wait(50 * MS);
        assert_eq!(lone.header().window, 0);
        lone.send(5);
        lone.sends(&["P. 1:6(5) ack 11"]);
        lone
    };
    let mut lone = shut();
    lone.gets(". 11:12(1) ack 6");
    lone.sends(&[". 6:6(0) ack 11"]);
    assert_eq!((lone.connection.unacknowledged(), lone.connection.receivable()), (0, 10));
    let mut lone = shut();
    lone.gets("R 11:11(0)");
    assert_eq!(lone.connection.state(), Closed);
    let mut lone = shut();
    // A FIN behind data that are not taken is not taken either.
    lone.gets("FP. 11:13(2) ack 6");
    assert_eq!((lone.connection.state(), lone.connection.receivable()), (Established, 10));
    let mut lone = shut();
    lone.gets("F. 11:11(0) ack 6");
    assert_eq!((lone.connection.state(), lone.connection.info(lone.now).rcv_wnd), (CloseWait, 0));
}

/// Two sides that disagree do not answer each other for ever.
#[test]
fn answers_to_nothing_are_rare() {
    let mut lone = Lone::in_state(Established);
    let mut sent = 0;
    for _ in 0..100 {
        lone.gets(". 0:0(0) ack 1");
        sent += lone.drain().len();
        lone.wait(100 * MS);
    }
    assert_eq!(sent, 20);
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Segment { sequence: i32, acknowledgment: i32, flags: u8, window: u16, length: u16, options: u8, ecn: u8 },
    Send(u16),
    Receive(u16),
    Wait(u32),
    Call(u8),
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => -3..4i32, 2 => -3000..3000i32, 1 => -80_000..80_000i32, 1 => any::<i32>()]
}

fn act() -> impl Strategy<Value = Act> {
    let segment = (number(), number(), any::<u8>(), any::<u16>(), 0u16..2000, any::<u8>(), 0u8..4);
    prop_oneof![
        8 => segment.prop_map(|(sequence, acknowledgment, flags, window, length, options, ecn)| Act::Segment {
            sequence, acknowledgment, flags, window, length: if options & 64 == 0 { length } else { 0 }, options, ecn,
        }),
        2 => any::<u16>().prop_map(Act::Send),
        2 => any::<u16>().prop_map(Act::Receive),
        2 => (0u32..100_000).prop_map(Act::Wait),
        1 => any::<u8>().prop_map(Act::Call),
    ]
}

fn perform(lone: &mut Lone, act: Act) {
    match act {
        Act::Segment { sequence, acknowledgment, flags, window, length, options, ecn } => {
            let mut segment = Segment {
                sequence: lone.connection.receive.next + sequence as u32,
                acknowledgment: lone.connection.send.next + acknowledgment as u32,
                // Mostly plain ones, or all would end at the first bits.
                flags: Flags::from_bits(if options & 3 == 0 { flags } else { flags & 8 | 16 }),
                window,
                ..Segment::default()
            };
            if options & 4 != 0 || lone.connection.clock.is_on() {
                let value = lone.connection.clock.recent.wrapping_add(u32::from(options & 8)).wrapping_sub(1);
                segment.options.timestamps =
                    Some(Timestamps { value, echo: lone.connection.clock.value(lone.now) });
            }
            if options & 16 != 0 {
                let left = lone.connection.send.unacknowledged + u32::from(window);
                segment.options.sack.push(SackBlock { left, right: left + u32::from(length) });
            }
            if options & 32 != 0 {
                segment.options.maximum_segment_size = Some(window);
                segment.options.window_scale = Some(flags);
            }
            let payload = vec![0u8; usize::from(length)].into();
            lone.connection.handle_segment(lone.now, &segment, payload, Ecn::from_bits(ecn));
        }
        Act::Send(octets) => {
            let mut data = Sga::from(Buffer::from(vec![1u8; usize::from(octets)]));
            let _ = lone.connection.send(lone.now, &mut data);
        }
        Act::Receive(limit) => drop(lone.connection.receive(lone.now, usize::from(limit) + 1)),
        Act::Wait(ms) => drop(lone.wait(ms * MS)),
        Act::Call(which) => call(lone, which),
    }
}

fn call(lone: &mut Lone, which: u8) {
    let (now, connection) = (lone.now, &mut lone.connection);
    match which % 11 {
        0 => drop(connection.shutdown_write(now)),
        1 if which > 200 => connection.close(now),
        2 if which > 240 => connection.abort(),
        3 => connection.set_keepalive_times(now, u32::from(which) * SECOND, SECOND, 2),
        4 => connection.set_keepalive(now, true),
        5 => connection.set_cork(which & 64 != 0),
        6 => connection.handle_too_big(now, connection.send.unacknowledged, u16::from(which) * 8),
        7 => connection.handle_unreachable(now, connection.send.unacknowledged, Unreachable::Host),
        8 => connection.set_user_timeout(now, Some(u32::from(which) * SECOND)),
        9 => connection.handle_mtu(now, u16::from(which) * 16),
        10 => connection.set_receive_buffer(u32::from(which) * 100),
        _ => {}
    }
}

/// What must be true whatever has come.
fn check_invariants(
    lone: &Lone,
    before: (SequenceNumber, Option<SequenceNumber>),
) -> Result<(), TestCaseError> {
    let connection = &lone.connection;
    let send = &connection.send;
    prop_assert!(send.unacknowledged.is_at_or_before(send.next));
    prop_assert!(send.unacknowledged.is_at_or_after(before.0), "SND.UNA moved back");
    prop_assert!(connection.receive.next.is_at_or_before(connection.receive.edge));
    let shrank = before.1.is_some_and(|edge| connection.receive.edge.is_before(edge));
    prop_assert!(!shrank, "the window shrank");
    prop_assert!(connection.state != Closed || connection.next_deadline().is_none());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// In every state, whatever comes: no panic, nothing for ever, and the invariants hold.
    #[test]
    fn anything_may_arrive(
        state in prop::sample::select(vec![
            SynSent, PASSIVE, ACTIVE, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait,
        ]),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut lone = Lone::in_state(state);
        for act in acts {
            let synchronized = lone.connection.state.is_synchronized();
            let edge = synchronized.then_some(lone.connection.receive.edge);
            let before = (lone.connection.send.unacknowledged, edge);
            perform(&mut lone, act);
            lone.drain();
            check_invariants(&lone, before)?;
        }
    }
}
