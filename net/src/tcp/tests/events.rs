//! RFC 9293 section 3.10: calls and time-outs in each state. Segments are in `arrives`.

use demikernel_runtime::time::Duration;

use super::lone::*;
use crate::tcp::State::*;
use crate::tcp::*;

const PASSIVE: State = SynReceived(Origin::Passive);
const ACTIVE: State = SynReceived(Origin::Active);

/// CLOSE: the state afterwards, and what is sent. [rfc9293 3.10.4]
#[test]
fn close() {
    let table: [(State, State, &[&str]); 10] = [
        (SynSent, Closed, &[]),
        // The FIN waits until the connection is open.
        (PASSIVE, PASSIVE, &[]),
        (ACTIVE, ACTIVE, &[]),
        (Established, FinWait1, &["F. 1:1(0) ack 1"]),
        (FinWait1, FinWait1, &[]),
        (FinWait2, FinWait2, &[]),
        (CloseWait, LastAck, &["F. 1:1(0) ack 2"]),
        (Closing, Closing, &[]),
        (LastAck, LastAck, &[]),
        (TimeWait, TimeWait, &[]),
    ];
    for (state, after, sent) in table {
        let mut lone = Lone::in_state(state);
        lone.connection.close(lone.now);
        assert_eq!(
            (lone.drain(), lone.connection.state()),
            (sent.iter().map(|it| it.to_string()).collect(), after)
        );
    }
}

/// SEND: what is queued leaves where it may, and waits for the connection where there is none yet. [rfc9293 3.10.4]
#[test]
fn send() {
    let table: [(State, Option<usize>, &[&str]); 11] = [
        (SynSent, Some(0), &[]),
        (PASSIVE, Some(0), &[]),
        (ACTIVE, Some(0), &[]),
        (Established, Some(3), &["P. 1:4(3) ack 1"]),
        (FinWait1, None, &[]),
        (FinWait2, None, &[]),
        (CloseWait, Some(3), &["P. 1:4(3) ack 2"]),
        (Closing, None, &[]),
        (LastAck, None, &[]),
        (TimeWait, None, &[]),
        (Closed, None, &[]),
    ];
    for (state, taken, sent) in table {
        let mut lone = if state == Closed { closed() } else { Lone::in_state(state) };
        let mut data = demikernel_runtime::buffer::Buffer::from_static(b"abc").into();
        assert_eq!(lone.connection.send(lone.now, &mut data).ok(), taken, "{state:?}");
        assert_eq!(lone.drain(), sent, "{state:?}");
        assert_eq!(lone.connection.state(), state);
    }
}

fn closed() -> Lone {
    let mut lone = Lone::in_state(Established);
    lone.connection.abort();
    lone.drain();
    lone
}

/// What no call nor segment can do any more.
#[test]
fn closed_is_the_end() {
    for line in ["S 0:0(0)", "P. 1:2(1) ack 1", "F. 1:1(0) ack 1", "R 1:1(0)", ". 1:1(0) ack 1"] {
        let mut lone = closed();
        lone.gets(line);
        lone.connection.handle_deadline(lone.now + 9000 * SECOND);
        lone.connection.close(lone.now);
        lone.connection.abort();
        assert!(lone.connection.shutdown_write(lone.now).is_err());
        lone.sends(&[]);
        assert_eq!((lone.connection.state(), lone.connection.next_deadline()), (Closed, None));
    }
}

/// STATUS, as Linux numbers the states.
#[test]
fn status() {
    let table = [
        (SynSent, 2),
        (PASSIVE, 3),
        (ACTIVE, 3),
        (Established, 1),
        (FinWait1, 4),
        (FinWait2, 5),
        (CloseWait, 8),
        (Closing, 11),
        (LastAck, 9),
        (TimeWait, 6),
    ];
    for (state, number) in table {
        let lone = Lone::in_state(state);
        let info = lone.connection.info(lone.now);
        assert_eq!((info.state, info.state.number()), (state, number));
    }
}

/// RETRANSMISSION TIMEOUT: the head goes again.
#[test]
fn retransmission_timeout() {
    let table = [
        (SynSent, Some("S 0:0(0)")),
        (PASSIVE, Some("S. 0:0(0) ack 1")),
        (ACTIVE, Some("S. 0:0(0) ack 1")),
        (Established, None),
        (FinWait1, Some("FP. 1:1(0) ack 1")),
        (FinWait2, None),
        (CloseWait, None),
        (Closing, Some("FP. 1:1(0) ack 2")),
        (LastAck, Some("FP. 1:1(0) ack 2")),
        (TimeWait, None),
    ];
    for (state, again) in table {
        let mut lone = Lone::in_state(state);
        let lines = lone.wait(1100 * MS);
        let first = lines.first().map(|line| line.split_once(": ").map_or(line.as_str(), |(_, line)| line));
        assert_eq!((first, lone.connection.state()), (again, state));
    }
}

/// USER TIMEOUT: only where something waits for its acknowledgment; the peer is told if it knows of a connection.
/// [rfc9293 MUST-21]
#[test]
fn user_timeout() {
    let table = [
        (SynSent, Closed, false),
        (PASSIVE, Closed, false),
        (ACTIVE, Closed, false),
        (Established, Established, false),
        (FinWait1, Closed, true),
        (FinWait2, FinWait2, false),
        (CloseWait, CloseWait, false),
        (Closing, Closed, true),
        (LastAck, Closed, true),
        (TimeWait, TimeWait, false),
    ];
    for (state, after, resets) in table {
        let mut lone = Lone::in_state(state);
        lone.connection.set_user_timeout(lone.now, Some(5 * SECOND));
        let lines = lone.wait(Duration::from_secs(6));
        assert_eq!(lone.connection.state(), after, "{state:?}");
        assert_eq!(lines.last().is_some_and(|line| line.contains(": R")), resets, "{state:?} {lines:?}");
        assert_eq!(lone.connection.take_error(), (after == Closed).then_some(Error::TimedOut), "{state:?}");
    }
}

/// TIME-WAIT TIMEOUT. [rfc9293 MUST-13]
#[test]
fn time_wait_timeout() {
    let mut lone = Lone::in_state(TimeWait);
    lone.wait(59 * SECOND);
    assert_eq!(lone.connection.state(), TimeWait);
    assert!(lone.wait(2 * SECOND).is_empty());
    assert_eq!(lone.connection.state(), Closed);
}
