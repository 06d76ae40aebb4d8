//! How connections end.

use super::lone::*;
use super::pair::{Faults, Pair};
use crate::tcp::*;
use demikernel_runtime::buffer::{Buffer, Sga};

/// [rfc9293 3.6]: we close first, the peer goes on for a while.
#[test]
fn the_active_side() {
    let mut lone = Lone::in_state(State::Established);
    lone.send(3);
    lone.shutdown();
    assert_eq!(lone.connection.state(), State::FinWait1);
    lone.sends(&["FP. 1:4(3) ack 1"]);
    lone.gets(". 1:1(0) ack 5");
    assert_eq!(lone.connection.state(), State::FinWait2);
    lone.gets("P. 1:3(2) ack 5");
    assert_eq!(lone.receive_all(), [1, 2]);
    lone.gets("F. 3:3(0) ack 5");
    assert!(lone.connection.take_time_wait().is_none(), "the last acknowledgment has not left");
    lone.sends(&[". 5:5(0) ack 4"]);
    assert!(lone.connection.take_events().contains(Events::TIME_WAIT | Events::PEER_CLOSED));
    // [rfc9293 MUST-13]: two lifetimes.
    let time_wait = lone.connection.take_time_wait().expect("it is in TIME-WAIT");
    assert_eq!(time_wait.until(), lone.now + 60 * SECOND);
    assert_eq!(lone.connection.state(), State::Closed);
    assert!(matches!(lone.connection.receive(lone.now, 1), Ok(Receiving::End)));
}

/// The peer closes first.
#[test]
fn the_passive_side() {
    let mut lone = Lone::in_state(State::Established);
    lone.gets("FP. 1:3(2) ack 1");
    assert!(lone.connection.take_events().contains(Events::PEER_CLOSED | Events::READABLE));
    lone.sends(&[". 1:1(0) ack 4"]);
    lone.send(2);
    lone.sends(&["P. 1:3(2) ack 4"]);
    assert_eq!(lone.receive_all(), [1, 2]);
    lone.connection.close(lone.now);
    lone.sends(&["FP. 3:3(0) ack 4".replace("FP", "F").as_str()]);
    assert_eq!(lone.connection.state(), State::LastAck);
    lone.gets(". 4:4(0) ack 4");
    assert!(lone.connection.is_finished());
    assert_eq!(lone.connection.take_error(), None);
}

/// TIME-WAIT ends, also if nobody takes the small value that stands for it.
#[test]
fn time_wait_ends() {
    let mut lone = Lone::in_state(State::TimeWait);
    lone.wait(30 * SECOND);
    lone.gets("F. 1:1(0) ack 2");
    lone.sends(&[". 2:2(0) ack 2"]);
    lone.wait(59 * SECOND);
    assert_eq!(lone.connection.state(), State::TimeWait);
    lone.wait(2 * SECOND);
    assert_eq!(lone.connection.state(), State::Closed);
}

/// [rfc9293 MAY-1], [rfc9293 SHLD-3], [rfc2525 2.17]: what came and was not taken is lost, and the peer is told.
#[test]
fn closing_with_data_resets() {
    let mut lone = Lone::in_state(State::Established);
    lone.gets("P. 1:3(2) ack 1");
    lone.connection.close(lone.now);
    lone.sends(&["R. 1:1(0) ack 3"]);
    assert!(lone.connection.is_finished());
}

/// [rfc9293 SHLD-3]: data that come after the user has closed.
#[test]
fn data_after_close_reset() {
    let mut lone = Lone::in_state(State::Established);
    lone.connection.close(lone.now);
    lone.sends(&["F. 1:1(0) ack 1"]);
    lone.gets("P. 1:3(2) ack 2");
    assert_eq!(lone.drain().first().map(|line| &line[..2]), Some("R."));
    assert_eq!(lone.shared.counter(Counter::DataAfterClose), 1);
}

/// [rfc9293 3.10.5]
#[test]
fn abort_tells_the_peer() {
    use State::*;
    let resets = [
        (SynSent, false),
        (SynReceived(Origin::Passive), true),
        (Established, true),
        (FinWait1, true),
        (FinWait2, true),
        (CloseWait, true),
        (Closing, false),
        (LastAck, false),
        (TimeWait, false),
    ];
    for (state, resets) in resets {
        let mut lone = Lone::in_state(state);
        lone.connection.abort();
        let lines = lone.drain();
        assert_eq!(lines.len() == 1 && lines[0].starts_with('R'), resets, "{state:?}: {lines:?}");
        assert!(lone.connection.is_finished(), "{state:?}");
    }
}

/// Calls in each state: what Linux says.
#[test]
fn calls_in_each_state() {
    use State::*;
    // State, what sending says, what receiving says, what shutting down says.
    let table = [
        (SynSent, "Ok(0)", "Ok(Nothing)", "Err(NotConnected)"),
        (SynReceived(Origin::Active), "Ok(0)", "Ok(Nothing)", "Ok(())"),
        (Established, "Ok(1)", "Ok(Nothing)", "Ok(())"),
        (FinWait1, "Err(BrokenPipe)", "Ok(Nothing)", "Ok(())"),
        (FinWait2, "Err(BrokenPipe)", "Ok(Nothing)", "Ok(())"),
        (CloseWait, "Ok(1)", "Ok(End)", "Ok(())"),
        (Closing, "Err(BrokenPipe)", "Ok(End)", "Ok(())"),
        (LastAck, "Err(BrokenPipe)", "Ok(End)", "Ok(())"),
        (TimeWait, "Err(BrokenPipe)", "Ok(End)", "Ok(())"),
    ];
    for (state, send, receive, shutdown) in table {
        let mut lone = Lone::in_state(state);
        let mut data = Sga::from(Buffer::from_static(b"x"));
        assert_eq!(format!("{:?}", lone.connection.send(lone.now, &mut data)), send, "{state:?}");
        assert_eq!(format!("{:?}", lone.connection.receive(lone.now, 9)), receive, "{state:?}");
        assert_eq!(format!("{:?}", lone.connection.shutdown_write(lone.now)), shutdown, "{state:?}");
    }
}

/// [rfc9293 MUST-12]: the error is told once, after what was received; then it is the end, and a broken pipe.
#[test]
fn the_error_is_told_once() {
    let mut lone = Lone::in_state(State::Established);
    lone.gets("P. 1:3(2) ack 1");
    lone.gets("R 3:3(0)");
    assert!(lone.connection.take_events().contains(Events::ERROR | Events::CLOSED | Events::READABLE));
    assert!(matches!(lone.connection.receive(lone.now, 9), Ok(Receiving::Data(_))));
    assert_eq!(lone.connection.receive(lone.now, 9).unwrap_err(), Error::Reset);
    assert!(matches!(lone.connection.receive(lone.now, 9), Ok(Receiving::End)));
    assert_eq!(lone.connection.send(lone.now, &mut Sga::new()), Err(Error::BrokenPipe));
}

/// Whoever closes while both SYNs are under way, closes once the connection is open. [rfc9293 3.10.4]
#[test]
fn closing_before_it_is_open() {
    let mut lone = Lone::in_state(State::SynReceived(Origin::Active));
    lone.connection.close(lone.now);
    lone.sends(&[]);
    lone.gets(". 1:1(0) ack 1");
    lone.sends(&["F. 1:1(0) ack 1"]);
    assert_eq!(lone.connection.state(), State::FinWait1);
}

/// [rfc9293 3.6]: both FINs cross.
#[test]
fn simultaneous_close() {
    let mut pair = Pair::connected([Config::default(), Config::default()], Faults::NONE, 1);
    let now = pair.now;
    for end in 0..2 {
        pair.connection(end).shutdown_write(now).expect("it is connected");
    }
    pair.run(7 * MS);
    assert!(pair.ends.iter().all(|end| !end.is_closed()));
    pair.run(61 * SECOND);
    assert!(pair.ends.iter().all(|end| end.is_closed()));
}
