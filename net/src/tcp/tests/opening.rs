//! How connections begin.

use super::lone::*;
use crate::tcp::*;
use crate::wire::tcp::{Flags, Options, SequenceNumber, Timestamps};

/// [rfc9293 MUST-14], [rfc9293 MUST-67], [rfc9293 SHLD-5], [rfc9293 MAY-3], [rfc7323 2.2], [rfc2018 2]: everything is offered in the SYN.
#[test]
fn a_syn_offers_everything() {
    let mut lone = Lone::connecting(Config::default());
    lone.sends(&["S 0:0(0)"]);
    let options = lone.header().options;
    let expected = Options {
        maximum_segment_size: Some(1000),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1_000_000, echo: 0 }),
        ..Options::default()
    };
    assert_eq!((options, lone.header().window), (expected, u16::MAX));
    lone.gets("S. 0:0(0) ack 1 mss 500 ws 3 sackok ts 70 1000000 win 1000");
    lone.sends(&[". 1:1(0) ack 1"]);
    let info = lone.connection.info(lone.now);
    assert!(info.timestamps && info.sack);
    // The window of a SYN is not shifted, those that follow are.
    assert_eq!((info.snd_mss, info.snd_wnd, info.snd_wscale, info.rcv_wscale), (488, 1000, 3, 7));
    assert_eq!(lone.header().options.timestamps, Some(Timestamps { value: 1_000_000, echo: 70 }));
    lone.gets(". 1:1(0) ack 1 ts 71 1000000 win 1000");
    assert_eq!(lone.connection.info(lone.now).snd_wnd, 8000);
}

/// [rfc7323 2.2], [rfc7323 3.2], [rfc2018 2], [rfc9293 MUST-15], [rfc9293 MUST-65]: what the peer does not offer is not used.
#[test]
fn what_the_peer_does_not_offer_is_not_used() {
    let mut lone = Lone::connecting(Config::default());
    lone.sends(&["S 0:0(0)"]);
    lone.gets("S. 0:0(0) ack 1");
    lone.sends(&[". 1:1(0) ack 1"]);
    let info = lone.connection.info(lone.now);
    assert!(!info.timestamps && !info.sack);
    assert_eq!((info.snd_mss, info.snd_wscale, info.rcv_wscale), (536, 0, 0));
    assert_eq!(lone.header().options, Options::default());
}

#[test]
fn a_syn_ack_answers_only_what_was_offered() {
    let mut lone = Lone::accepting(Config::default(), "S 0:0(0) mss 700");
    lone.sends(&["S. 0:0(0) ack 1"]);
    let options = Options { maximum_segment_size: Some(1000), ..Options::default() };
    assert_eq!(lone.header().options, options);
    lone.gets(". 1:1(0) ack 1");
    assert_eq!(lone.connection.state(), State::Established);
    assert!(lone.connection.take_events().contains(Events::CONNECTED));
    assert_eq!(lone.connection.info(lone.now).snd_mss, 700);

    let mut lone = Lone::accepting(Config::default(), "S 0:0(0) mss 700 ws 9 sackok ts 5 0");
    lone.sends(&["S. 0:0(0) ack 1"]);
    assert!(lone.header().options.sack_permitted && lone.header().options.window_scale == Some(7));
    assert_eq!(lone.header().options.timestamps.unwrap().echo, 5);
}

/// Data and even a FIN may come with the acknowledgment of our SYN.
#[test]
fn data_may_complete_a_connection() {
    let mut lone = Lone::accepting(plain(), "S 0:0(0) mss 700");
    lone.drain();
    lone.gets("FP. 1:5(4) ack 1");
    assert_eq!(lone.connection.state(), State::CloseWait);
    assert_eq!(lone.receive_all(), [1, 2, 3, 4]);
    lone.sends(&[". 1:1(0) ack 6"]);
}

/// [rfc9293 MUST-10]: both sides ask at once. [rfc9293 3.5]
#[test]
fn simultaneous_open() {
    let mut lone = Lone::connecting(plain());
    lone.sends(&["S 0:0(0)"]);
    lone.gets("S 0:0(0) mss 700");
    assert_eq!(lone.connection.state(), State::SynReceived(Origin::Active));
    lone.sends(&["S. 0:0(0) ack 1"]);
    lone.gets("S. 0:0(0) ack 1 mss 700");
    assert_eq!(lone.connection.state(), State::Established);
    lone.send(3);
    assert_eq!(lone.drain().first().map(String::as_str), Some("P. 1:4(3) ack 1"));
}

/// [rfc9293 MUST-22], [rfc9293 MUST-23]: a SYN is tried for three minutes at least; then it has timed out.
#[test]
fn a_syn_that_nobody_answers_times_out() {
    let mut lone = Lone::connecting(plain());
    lone.drain();
    let tries = lone.wait(180 * SECOND);
    assert!(tries.len() == 7 && tries.iter().all(|line| line.ends_with(": S 0:0(0)")), "{tries:?}");
    assert_eq!(lone.connection.state(), State::SynSent);
    lone.wait(200 * SECOND);
    assert_eq!(lone.connection.state(), State::Closed);
    assert_eq!(lone.connection.take_error(), Some(Error::TimedOut));
    assert!(lone.connection.is_finished() && lone.connection.next_deadline().is_none());
}

/// A SYN that comes again is answered again. [rfc9293 3.8.1]
#[test]
fn a_syn_again_is_answered_again() {
    let mut lone = Lone::accepting(plain(), "S 0:0(0) mss 700");
    lone.sends(&["S. 0:0(0) ack 1"]);
    lone.gets("S 0:0(0) mss 700");
    lone.sends(&["S. 0:0(0) ack 1"]);
    let again = lone.wait(300 * SECOND);
    assert_eq!(again.len(), 5);
    assert_eq!(lone.connection.state(), State::Closed);
}

/// A SYN that was to go once more does not, if it is acknowledged before it has: it would have the number of the first
/// octet.
#[test]
fn a_syn_that_is_acknowledged_does_not_go_again() {
    // The peer's comes twice, and the acknowledgment of ours with it.
    let mut lone = Lone::accepting(plain(), "S 0:0(0) mss 700");
    lone.sends(&["S. 0:0(0) ack 1"]);
    lone.gets("S 0:0(0) mss 700");
    lone.gets(". 1:1(0) ack 1");
    lone.sends(&[". 1:1(0) ack 1"]);
    lone.send(3);
    lone.sends(&["P. 1:4(3) ack 1"]);
    // The answer is late, and comes with the time-out.
    let mut lone = Lone::connecting(plain());
    lone.sends(&["S 0:0(0)"]);
    lone.now += SECOND;
    lone.connection.handle_deadline(lone.now);
    lone.gets("S. 0:0(0) ack 1 mss 700");
    lone.sends(&[". 1:1(0) ack 1"]);
    // Both ask at once: the peer waits for an acknowledgment of its own.
    let mut lone = Lone::connecting(plain());
    lone.sends(&["S 0:0(0)"]);
    lone.gets("S 0:0(0) mss 700");
    lone.gets("S. 0:0(0) ack 1 mss 700");
    lone.sends(&[". 1:1(0) ack 1"]);
}

/// [rfc3168 6.1.1], [rfc9293 SHLD-8]: two bits ask, one agrees.
#[test]
fn notification_is_agreed_on() {
    let table = [
        (EcnMode::Off, "SEW 0:0(0)", Flags::SYN | Flags::ACK),
        (EcnMode::Accept, "SEW 0:0(0)", Flags::SYN | Flags::ACK | Flags::ECE),
        (EcnMode::Accept, "SE 0:0(0)", Flags::SYN | Flags::ACK),
        (EcnMode::Accept, "S 0:0(0)", Flags::SYN | Flags::ACK),
    ];
    for (ecn, syn, flags) in table {
        let mut lone = Lone::accepting(Config { ecn, ..plain() }, syn);
        lone.drain();
        assert_eq!(lone.header().flags, flags, "{ecn:?} {syn}");
    }
    for (answer, agreed) in
        [("S.E 0:0(0) ack 1", true), ("S. 0:0(0) ack 1", false), ("S.EW 0:0(0) ack 1", false)]
    {
        let mut lone = Lone::connecting(Config { ecn: EcnMode::Request, ..plain() });
        lone.drain();
        assert_eq!(lone.header().flags, Flags::SYN | Flags::ECE | Flags::CWR);
        lone.gets(answer);
        assert_eq!(lone.connection.info(lone.now).ecn, agreed, "{answer}");
    }
}

/// [rfc3168 6.1.1.1]: who does not answer a SYN that asks may answer one that does not.
#[test]
fn an_unanswered_wish_for_notification_is_dropped() {
    let mut lone = Lone::connecting(Config { ecn: EcnMode::Request, ..plain() });
    lone.drain();
    lone.wait(4 * SECOND);
    assert_eq!(lone.header().flags, Flags::SYN);
}

/// [rfc4987 3.6]: a cookie that came back is a connection, with what it held.
#[test]
fn a_cookie_becomes_a_connection() {
    let shared = std::rc::Rc::new(Shared::new(Config::default()));
    let now = demikernel_runtime::time::Instant::from_nanos(1 << 50);
    let cookies = Cookies::new(Key::new([9; 16]));
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let tuple = Tuple { local: address, local_port: 1000, remote: address, remote_port: 2000 };
    let mut syn = crate::wire::tcp::Segment {
        source: 2000,
        destination: 1000,
        sequence: SequenceNumber::new(THEIRS),
        flags: Flags::SYN,
        ..Default::default()
    };
    syn.options.maximum_segment_size = Some(1220);
    syn.options.sack_permitted = true;
    syn.options.window_scale = Some(4);
    syn.options.timestamps = Some(Timestamps { value: 40, echo: 0 });
    let answer = cookies.answer(&shared, now, &tuple, &syn, 1000, &start().initial);
    let mut ack = crate::wire::tcp::Segment {
        source: 2000,
        destination: 1000,
        sequence: answer.acknowledgment,
        acknowledgment: answer.sequence + 1,
        flags: Flags::ACK,
        window: 100,
        ..Default::default()
    };
    ack.options.timestamps = Some(Timestamps { value: 41, echo: answer.options.timestamps.unwrap().value });
    let agreed = cookies.check(now, &tuple, &ack).expect("it is a cookie of ours");
    let mut connection = Connection::from_cookie(shared, now, start(), &ack, &agreed);
    connection.handle_segment(now, &ack, vec![1, 2, 3].into(), Ecn::NotCapable);
    assert_eq!(connection.state(), State::Established);
    let info = connection.info(now);
    assert_eq!((info.snd_mss, info.snd_wnd, info.snd_wscale), (988, 1600, 4));
    assert!(info.sack && info.timestamps && connection.receivable() == 3);
}

/// The window of our answer is that of the buffer that the user has set, and so are those that follow.
#[test]
fn a_buffer_that_is_set_before_the_answer_is_told_in_it() {
    let mut lone = Lone::accepting(plain(), "S 0:0(0) mss 1000");
    lone.connection.set_receive_buffer(3000);
    lone.drain();
    assert_eq!(lone.header().window, 3000);
    lone.gets(". 1:1001(1000) ack 1");
    lone.drain();
    assert_eq!(lone.header().window, 2000);
}
