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
