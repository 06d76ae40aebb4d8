//! Deadlines, and what ICMP reports.

use super::lone::*;
use crate::tcp::*;
use crate::wire::tcp::SequenceNumber;

/// [rfc9293 MUST-20], [rfc9293 SHLD-9], [rfc9293 SHLD-10], [rfc9293 SHLD-11]: data are retransmitted for a long time,
/// and whoever wants to know is told; then the peer has gone.
#[test]
fn data_that_nobody_acknowledges_time_out() {
    let mut lone = Lone::established(plain());
    lone.send(10);
    lone.drain();
    let soon = lone.wait(SECOND);
    assert!(soon.len() < 3 && !lone.connection.take_events().contains(Events::STALLED), "{soon:?}");
    let mut tries = [soon, lone.wait(100 * SECOND)].concat();
    assert!(lone.connection.take_events().contains(Events::STALLED));
    assert_eq!(lone.connection.state(), State::Established);
    tries.extend(lone.wait(7200 * SECOND));
    assert!((15..20).contains(&tries.len()), "{tries:?}");
    assert_eq!(lone.connection.take_error(), Some(Error::TimedOut));
    assert_eq!(lone.shared.counter(Counter::TimedOut), 1);
}

/// [rfc5482 3.1], [rfc9293 MUST-21]: the user is less patient, or more.
#[test]
fn the_user_says_how_patient_it_is() {
    for seconds in [5u32, 3000] {
        let mut lone = Lone::established(plain());
        lone.connection.set_user_timeout(lone.now, Some(seconds * SECOND));
        lone.send(10);
        lone.drain();
        lone.wait((seconds - 1) * SECOND);
        assert_eq!(lone.connection.state(), State::Established, "{seconds}");
        lone.wait(2 * SECOND);
        assert_eq!(lone.connection.take_error(), Some(Error::TimedOut), "{seconds}");
    }
}

fn with_user_timeouts() -> Config {
    Config { user_timeout_option: true, user_timeout_most: 1000 * SECOND, ..plain() }
}

/// [rfc5482 3.1-option]: in the SYN, and later in all that is sent until some of it is acknowledged.
#[test]
fn the_peer_is_told_how_patient_the_user_is() {
    let mut lone = Lone::connecting(with_user_timeouts());
    lone.connection.set_user_timeout(lone.now, Some(300 * SECOND));
    lone.drain();
    assert_eq!(lone.header().options.user_timeout, Some(300));
    lone.gets("S. 0:0(0) ack 1 mss 1000");
    lone.drain();
    assert_eq!(lone.header().options.user_timeout, None);
    lone.connection.set_user_timeout(lone.now, Some(100_000 * SECOND));
    lone.send(2000);
    lone.sends(&[". 1:997(996) ack 1", ". 997:1993(996) ack 1", "P. 1993:2001(8) ack 1"]);
    assert_eq!(lone.header().options.user_timeout, Some(1 << 15 | 1667));
    lone.gets(". 1:1(0) ack 997");
    lone.send(3000);
    lone.sends(&[". 2001:2997(996) ack 1", ". 2997:3997(1000) ack 1", ". 3997:4997(1000) ack 1"]);
    assert_eq!(lone.header().options.user_timeout, None);
    // Nobody is told if that is not configured.
    let mut lone = Lone::connecting(plain());
    lone.connection.set_user_timeout(lone.now, Some(300 * SECOND));
    lone.drain();
    assert_eq!(lone.header().options.user_timeout, None);
}

/// [rfc5482 3.1-adapt]: the peer's patience is ours, within limits, unless the user has its own.
#[test]
fn the_peer_says_how_patient_it_is() {
    // What the peer says, what the user here has said, after how many seconds it ends.
    let cases = [
        (300, None, 300),
        (5, None, 100),
        (1 << 15 | 10, None, 600),
        (1 << 15 | 20, None, 1000),
        (300, Some(150 * SECOND), 150),
    ];
    for (told, ours, seconds) in cases {
        for in_syn in [false, true] {
            let mut lone = Lone::connecting(with_user_timeouts());
            lone.connection.set_user_timeout(lone.now, ours);
            lone.drain();
            let told = format!("uto {told}");
            lone.gets(&format!("S. 0:0(0) ack 1 mss 1000 {}", if in_syn { &told } else { "" }));
            lone.drain();
            if !in_syn {
                lone.gets(&format!("P. 1:2(1) ack 1 {told}"));
            }
            lone.send(10);
            lone.wait((seconds - 1) * SECOND);
            assert_eq!(lone.connection.state(), State::Established, "{told} {ours:?}");
            lone.wait(2 * SECOND);
            assert_eq!(lone.connection.take_error(), Some(Error::TimedOut), "{told} {ours:?}");
        }
    }
    // Nothing says nothing, and so does anything if it is not configured.
    for (config, told) in [(with_user_timeouts(), 0), (with_user_timeouts(), 1 << 15), (plain(), 5)] {
        let mut lone = Lone::established(config);
        lone.gets(&format!("P. 1:2(1) ack 1 uto {told}"));
        lone.send(10);
        lone.wait(200 * SECOND);
        assert_eq!(lone.connection.state(), State::Established);
    }
}

/// [rfc9293 MAY-5], [rfc9293 MUST-24], [rfc9293 MUST-25], [rfc9293 MUST-26], [rfc9293 MUST-27], [rfc9293 MUST-29],
/// [rfc9293 SHLD-12]: questions with an old number, when
/// nothing has come for long.
#[test]
fn keepalive() {
    let mut lone = Lone::established(plain());
    assert!(lone.wait(10_000 * SECOND).is_empty());
    lone.connection.set_keepalive_times(lone.now, 100 * SECOND, 10 * SECOND, 3);
    lone.connection.set_keepalive(lone.now, true);
    assert_eq!(lone.wait(101 * SECOND), ["100000: . 0:0(0) ack 1"]);
    lone.gets(". 1:1(0) ack 1");
    lone.sends(&[]);
    assert_eq!(lone.wait(99 * SECOND), [""; 0]);
    let asked = lone.wait(200 * SECOND);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[..3].iter().all(|line| line.ends_with(". 0:0(0) ack 1")) && asked[3].contains(": R"));
    assert_eq!(lone.connection.take_error(), Some(Error::TimedOut));
}

/// An answer counts for as long as no question follows it, however short the first silence is beside that between questions.
#[test]
fn keepalive_asks_on_as_long_as_it_is_answered() {
    for idle in [10, 5] {
        let mut lone = Lone::established(plain());
        lone.connection.set_keepalive_times(lone.now, idle * SECOND, 10 * SECOND, 2);
        lone.connection.set_keepalive(lone.now, true);
        for _ in 0..10 {
            assert_eq!(lone.wait(10 * SECOND).len(), 1);
            lone.gets(". 1:1(0) ack 1");
            lone.sends(&[]);
        }
        let asked = lone.wait(30 * SECOND);
        assert!(asked.len() == 3 && asked[2].contains(": R"), "{asked:?}");
        assert_eq!(lone.connection.take_error(), Some(Error::TimedOut));
    }
}

/// [rfc9293 MUST-28]: two hours, unless the user wants something else.
#[test]
fn keepalive_waits_two_hours() {
    let mut lone = Lone::established(plain());
    lone.connection.set_keepalive(lone.now, true);
    assert_eq!(lone.wait(7199 * SECOND).len(), 0);
    assert_eq!(lone.wait(2 * SECOND).len(), 1);
}

/// Nobody holds a connection in FIN-WAIT-2: it ends by itself; if somebody does, it waits.
#[test]
fn fin_wait_2_ends_if_nobody_holds_it() {
    let mut lone = Lone::in_state(State::Established);
    lone.connection.close(lone.now);
    lone.drain();
    lone.gets(". 1:1(0) ack 2");
    lone.wait(59 * SECOND);
    assert_eq!(lone.connection.state(), State::FinWait2);
    lone.wait(2 * SECOND);
    assert_eq!(lone.connection.state(), State::Closed);

    let mut lone = Lone::in_state(State::FinWait2);
    lone.wait(9000 * SECOND);
    assert_eq!(lone.connection.state(), State::FinWait2);
}

/// [rfc9293 MUST-54], [rfc9293 MUST-56], [rfc9293 MUST-47], [rfc9293 SHLD-25], [rfc5927 4.1],
/// [rfc5927 5]: reports end what is being opened, and nothing else; forged ones nothing at all.
#[test]
fn unreachable() {
    let reported = SequenceNumber::new(OURS);
    let mut lone = Lone::in_state(State::SynSent);
    lone.connection.handle_unreachable(lone.now, reported + 9, Unreachable::Host);
    assert_eq!((lone.connection.state(), lone.shared.counter(Counter::ForgedIcmp)), (State::SynSent, 1));
    lone.connection.handle_unreachable(lone.now, reported, Unreachable::Host);
    assert_eq!(lone.connection.take_error(), Some(Error::HostUnreachable));

    let mut lone = Lone::established(plain());
    lone.send(10);
    lone.drain();
    lone.connection.handle_unreachable(lone.now, reported + 1, Unreachable::Network);
    assert_eq!(lone.connection.state(), State::Established);
    assert_eq!(lone.connection.soft_error(), Some(Error::NetworkUnreachable));
    lone.wait(7200 * SECOND);
    assert_eq!(lone.connection.take_error(), Some(Error::NetworkUnreachable));
}

/// A deadline that is kept too early does no harm.
#[test]
fn early_is_no_harm() {
    let mut lone = Lone::established(plain());
    lone.send(10);
    lone.gets(". 1:11(10) ack 1");
    lone.drain();
    let before = lone.connection.next_deadline();
    for _ in 0..10 {
        lone.connection.handle_deadline(lone.now);
        lone.sends(&[]);
    }
    assert_eq!(lone.connection.next_deadline(), before);
}
