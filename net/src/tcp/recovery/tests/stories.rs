//! What happens to a sender, segment by segment.

use super::super::{CongestionState, Expired, Recovery, RecoveryConfig, Sent};
use super::script::{SEGMENT, Script, ms, reno};
use crate::tcp::congestion::CongestionControl;
use crate::wire::tcp::SequenceNumber;
use demikernel_runtime::time::Instant;

#[test]
fn it_is_small_and_an_idle_one_holds_no_memory() {
    assert!(size_of::<Recovery>() <= 256, "{}", size_of::<Recovery>());
    let mut script = Script::new(&reno());
    script.send(3);
    script.at(100).ack(0, &[(1, 3)]);
    assert!(script.recovery.cold.is_some());
    script.recovery.release();
    assert_eq!(script.in_flight(), 1, "what is in flight is not forgotten");
    script.ack(3, &[]);
    script.recovery.release();
    assert!(script.recovery.cold.is_none());
    assert!(script.recovery.pacing.is_none());
}

/// [rfc6298 5.1] [rfc6298 5.2] [rfc6298 5.3]
#[test]
fn the_timer_runs_while_something_is_in_flight() {
    let mut script = Script::new(&RecoveryConfig { sack: false, ..reno() });
    assert_eq!(script.deadline(), None);
    // The handshake took 100 ms: 100 + 4 * 50.
    script.send(1);
    assert_eq!(script.deadline(), Some(300));
    script.at(50).send(1);
    assert_eq!(script.deadline(), Some(250), "sending does not restart it");
    script.at(100).ack(1, &[]);
    assert_eq!(script.deadline(), Some(250), "100 + 4 * 37.5, from now on");
    script.at(150).ack(2, &[]);
    assert_eq!(script.deadline(), None);
}

/// [rfc9293 MUST-19] [rfc6298 5.4] [rfc6298 5.5] [rfc6298 5.6] [rfc5681 3.1-timeout] [rfc8961 4-4]
#[test]
fn a_timeout_sends_the_head_again_and_waits_twice_as_long() {
    let mut script = Script::new(&RecoveryConfig { sack: false, ..reno() });
    script.send(10);
    assert_eq!(script.expire(), Expired::Timeout { count: 1 });
    assert_eq!(script.now, script.recovery.active_at);
    assert_eq!((script.window(), script.lost(), script.in_flight()), (1, 10, 0));
    assert_eq!(script.recovery.slow_start_threshold(), 5 * SEGMENT);
    assert_eq!((script.resend(), script.resend()), (Some(0), None));
    assert_eq!(script.deadline(), Some(600));
    assert_eq!(script.expire(), Expired::Timeout { count: 2 });
    // [rfc5681 3.1-timeout] The threshold is not reduced a second time.
    assert_eq!(script.recovery.slow_start_threshold(), 5 * SEGMENT);
    assert_eq!(script.resend(), Some(0));
    assert_eq!(script.deadline(), Some(1_200));
}

/// [rfc9293 MUST-18] [rfc6298 3] [rfc8961 4-2d] [rfc7323 4.1]
#[test]
fn what_was_sent_twice_is_no_sample_without_timestamps() {
    let mut script = Script::new(&RecoveryConfig { sack: false, ..reno() });
    script.send(1).expire();
    script.resend();
    let before = script.recovery.smoothed_rtt();
    script.now += ms(10);
    assert_eq!(script.ack(1, &[]).rtt, None);
    assert_eq!(script.recovery.smoothed_rtt(), before);
    assert_eq!(script.recovery.backoff(), 1, "it stays until there is a sample");

    let mut script = Script::new(&reno());
    script.send(1);
    script.expire();
    script.expire();
    script.resend();
    assert_eq!(script.at(1_010).ack_echo(1, &[], 900).rtt, Some(ms(110)));
}

/// The acknowledgment was lost, not the segment: its timestamp, which the peer echoes when it gets the segment again, is as
/// old as our timeout was long. Taken for a round trip it made each timeout longer than the one before. [rfc6298 3]
#[test]
fn a_lost_acknowledgment_is_no_long_round_trip() {
    let mut script = Script::new(&reno());
    script.send(1).at(100).ack_echo(1, &[], 0);
    let rto = script.recovery.rto();
    script.send(1);
    script.at(1_000);
    while !matches!(script.expire(), Expired::Timeout { .. }) {
        script.probe_again();
    }
    assert_eq!(script.resend(), Some(1));
    script.now += ms(100);
    script.ack_echo(2, &[(1, 2)], 100);
    assert!(script.recovery.rto() <= rto, "{:?}", script.recovery.rto());
}

/// [rfc6928 2] [rfc6928 2-loss] [rfc6298 5.7] [rfc8985 7.2-initial]
#[test]
fn a_connection_begins_with_ten_segments_unless_its_syn_was_lost_twice() {
    let now = Instant::from_nanos(0);
    for (lost, segments) in [(0, 10), (1, 10), (2, 1)] {
        let first = SequenceNumber::new(7);
        let mut recovery = Recovery::new(&reno(), first, SEGMENT, now);
        recovery.on_sent(now, first, 1, Sent::New, false);
        let mut at = now;
        for count in 1..=lost {
            at = recovery.next_deadline().expect("the SYN is in flight");
            assert_eq!(recovery.on_deadline(at), Expired::Timeout { count });
            assert_eq!(recovery.next_retransmission(), Some((first, 1)));
            recovery.on_sent(at, first, 1, Sent::Retransmission, false);
        }
        let mut script_ack = super::super::Ack {
            now: at + ms(50),
            acknowledgment: first + 1,
            sack: &[],
            rtt: None,
            ece: false,
            duplicate: false,
            window: 65_535,
        };
        recovery.on_ack(&script_ack);
        assert_eq!(recovery.congestion_window(), segments * SEGMENT, "{lost} lost");
        assert_eq!(recovery.slow_start_threshold(), u32::MAX);
        let rto = if lost > 0 { ms(3_000) } else { ms(200) };
        assert_eq!(recovery.rto(), rto, "{lost} lost");
        if lost == 1 {
            recovery.on_sent(script_ack.now, first + 1, 2 * SEGMENT, Sent::New, false);
            let probe = recovery.next_deadline().expect("it is in flight");
            assert_eq!(probe - script_ack.now, ms(1_000), "there is no round trip to go by");
        }
        script_ack.acknowledgment = first;
        assert_eq!(recovery.on_ack(&script_ack).octets, 0, "an old acknowledgment");
    }
}

/// [rfc9293 MUST-19] [rfc5681 3.1-slow-start] [rfc5681 3.1-avoidance]
#[test]
fn the_window_doubles_and_then_grows_by_a_segment_in_each_round_trip() {
    let mut script = Script::new(&reno());
    script.recovery.window.threshold = 20 * SEGMENT;
    let mut sent = 0;
    for (round, window) in [10, 20, 21, 22, 23].into_iter().enumerate() {
        assert_eq!(script.window(), window);
        script.at(100 * round as u64).send(window);
        script.at(100 * (round as u64 + 1));
        for _ in 0..window {
            sent += 1;
            script.ack(sent, &[]);
        }
    }
}

/// [rfc7661 4.3] An application that uses less than half of the window does not open it.
#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut script = Script::new(&reno());
    for round in 0..50 {
        script.at(100 * round).send(2);
        script.at(100 * round + 100).ack(2 * (round as u32 + 1), &[]);
    }
    assert_eq!(script.window(), 10);
}

/// [rfc5681 4.1]
#[test]
fn after_idling_the_window_is_that_of_a_beginner() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(10, &[]);
    script.recovery.window.congestion = 80 * SEGMENT;
    let rto = script.recovery.rto().as_millis() as u64;
    script.at(100 + rto - 1);
    script.recovery.on_idle_restart(script.now);
    assert_eq!(script.window(), 80, "not yet");
    for (timeouts, window) in [(1, 40), (2, 20), (3, 10), (60, 10)] {
        script.recovery.window.congestion = 80 * SEGMENT;
        script.at(100 + timeouts * rto);
        script.recovery.on_idle_restart(script.now);
        assert_eq!(script.window(), window);
        assert!(script.recovery.window.threshold >= 60 * SEGMENT, "the way back is short");
    }
}

/// [rfc3168 6.1.2] [rfc3168 6.1.2-cwr]
#[test]
fn a_mark_reduces_the_window_once_in_a_round_trip() {
    let mut script = Script::new(&reno());
    script.recovery.window.threshold = 10 * SEGMENT;
    script.send(10);
    script.at(100);
    assert!(script.ack_ece(1).reduced);
    assert_eq!(script.recovery.state(), CongestionState::CongestionWindowReduced);
    assert_eq!(script.recovery.slow_start_threshold(), 5 * SEGMENT);
    for next in 2..=9 {
        assert!(!script.ack_ece(next).reduced, "the same round trip");
    }
    script.ack(10, &[]);
    assert_eq!(script.recovery.state(), CongestionState::Open);
    assert_eq!(script.window(), 5);
    script.send(5);
    script.at(200);
    assert!(script.ack_ece(11).reduced, "the next");
    assert_eq!(script.recovery.slow_start_threshold(), 2 * SEGMENT + SEGMENT / 2);
}

#[test]
fn the_size_of_segments_and_the_congestion_control_change_under_way() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.recovery.set_segment_size(500);
    script.at(100).ack(10, &[]);
    assert_eq!(script.recovery.congestion_window(), 20 * SEGMENT);
    for control in [CongestionControl::Bbr, CongestionControl::Cubic, CongestionControl::Dctcp] {
        script.recovery.set_congestion_control(control, script.now);
        assert_eq!(script.recovery.congestion_control(), control);
        assert!(script.recovery.congestion_window() >= 20 * SEGMENT);
        assert_eq!(script.recovery.send_at(), None);
    }
}

/// [rfc9438 4.6] with pacing: no more than a burst leaves at once, and a window in a round trip.
#[test]
fn pacing_spreads_a_window_in_bursts() {
    let mut script = Script::new(&RecoveryConfig { pacing: true, ..reno() });
    script.recovery.window =
        crate::tcp::congestion::Window { threshold: 1, ..crate::tcp::congestion::Window::new(100, SEGMENT) };
    script.recovery.most_in_flight = 100 * SEGMENT;
    script.send(2);
    script.at(100).ack(2, &[]);
    assert_eq!(script.recovery.pacing_rate() / 1_000, 1_200, "1.2 windows of 100 segments in 100 ms");
    let begin = script.now;
    let mut bursts = Vec::new();
    for _ in 0..10 {
        let mut burst = 0;
        while script.recovery.send_at().is_none_or(|at| at <= script.now) {
            script.send(1);
            burst += 1;
        }
        bursts.push(burst);
        script.now = script.recovery.send_at().expect("the burst has closed the gate");
    }
    assert_eq!(bursts, [2; 10]);
    let rate = 20_000.0 / (script.now - begin).as_secs_f64();
    assert!((1_190_000.0..1_210_000.0).contains(&rate), "{rate}");
}

/// Octets delivered while the newest of them was in flight, over the longer of sending and acknowledging.
#[test]
fn the_delivery_rate_is_measured() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(10, &[]);
    assert_eq!(script.recovery.delivery_rate(), 100_000, "10,000 octets in 100 ms");
    assert_eq!(script.recovery.delivered(), 10_000);
    script.send(10);
    script.at(150).ack(20, &[]);
    assert_eq!(script.recovery.delivery_rate(), 200_000);
    assert_eq!(script.recovery.min_rtt(), Some(ms(50)));
}

/// [rfc1191 6.5]
#[test]
fn a_smaller_path_has_everything_sent_again_and_the_window_kept() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.recovery.set_segment_size(600);
    script.at(10);
    script.recovery.resend_oversized();
    assert_eq!((script.lost(), script.in_flight(), script.window()), (10, 0, 10));
    let mut pieces = Vec::new();
    while let Some((at, length)) = script.recovery.next_retransmission() {
        let length = length.min(600);
        script.recovery.on_sent(script.now, at, length, Sent::Retransmission, false);
        pieces.push(length);
    }
    assert_eq!(pieces, [600, 400].repeat(10));
    assert_eq!(script.in_flight(), 10);
    script.at(110).ack(10, &[]);
    assert_eq!(
        (script.recovery.state(), script.recovery.slow_start_threshold()),
        (CongestionState::Open, u32::MAX)
    );
    assert!(script.window() >= 10);
}
