//! How losses are found and repaired, and what happens if there were none.

use super::super::{CongestionState, Expired, RecoveryConfig};
use super::script::{SEGMENT, Script, ms, reno};

fn without_sack() -> RecoveryConfig {
    RecoveryConfig { sack: false, ..reno() }
}

/// [rfc5681 3.2] [rfc5681 3.2-limited] [rfc6582 3.2-recover] [rfc6582 3.2-partial] [rfc6582 3.2-full]
#[test]
fn newreno_repairs_one_loss_for_each_partial_acknowledgment() {
    let mut script = Script::new(&without_sack());
    // 0 and 4 are lost.
    script.send(10);
    script.at(100);
    for _ in 0..2 {
        script.ack(0, &[]);
        assert_eq!(script.recovery.state(), CongestionState::Disorder);
        assert_eq!(
            script.recovery.allowance(),
            SEGMENT * (10 - script.in_flight()),
            "a new segment for each"
        );
        script.send(1);
    }
    assert_eq!(script.resend(), None);
    let third = script.ack(0, &[]);
    assert_eq!((third.lost, third.reduced), (SEGMENT, true));
    assert_eq!(script.recovery.state(), CongestionState::Recovery);
    assert_eq!(script.recovery.slow_start_threshold(), 5 * SEGMENT);
    assert_eq!(script.resend(), Some(0));
    script.at(200).ack(4, &[]);
    assert_eq!(script.resend(), Some(4), "the partial acknowledgment shows the next hole");
    assert_eq!(script.recovery.state(), CongestionState::Recovery);
    script.at(300).ack(12, &[]);
    assert_eq!(script.recovery.state(), CongestionState::Open);
    assert_eq!(script.window(), 5);
    assert_eq!(script.in_flight(), 0);
}

/// [rfc6582 3.2-initial]
#[test]
fn newreno_does_not_begin_again_for_duplicates_of_what_it_sent_again() {
    let mut script = Script::new(&without_sack());
    script.send(10);
    script.at(100);
    for _ in 0..3 {
        script.ack(0, &[]);
    }
    script.resend();
    script.at(200).ack(10, &[]);
    script.send(4);
    for _ in 0..4 {
        script.ack(10, &[]);
    }
    assert_eq!(script.recovery.state(), CongestionState::Disorder);
    assert_eq!(script.lost(), 0);
}

/// [rfc6675 5-threshold] [rfc6675 4-setpipe] [rfc6675 5-recovery-point] [rfc8985 6.2-window]
#[test]
fn three_segments_overtaking_are_a_loss_if_the_path_does_not_reorder() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(0, &[(1, 2)]);
    assert_eq!((script.lost(), script.recovery.state()), (0, CongestionState::Disorder));
    assert_eq!(script.in_flight(), 9);
    script.ack(0, &[(1, 3)]);
    assert_eq!(script.lost(), 0);
    let third = script.ack(0, &[(1, 4)]);
    assert_eq!((third.lost, third.sacked), (SEGMENT, SEGMENT));
    assert_eq!((script.in_flight(), script.recovery.state()), (6, CongestionState::Recovery));
    assert_eq!(script.resend(), Some(0));
    assert_eq!((script.in_flight(), script.recovery.retransmitted()), (7, SEGMENT));
    script.at(200).ack(10, &[]);
    assert_eq!((script.window(), script.recovery.state()), (5, CongestionState::Open));
    assert_eq!(script.recovery.total_retransmitted(), SEGMENT);
}

/// [rfc8985 6.2-timer] [rfc8985 6.2-detect] [rfc8985 6.2-update]
#[test]
fn one_segment_overtaking_is_a_loss_after_a_quarter_of_the_round_trip() {
    let mut script = Script::new(&reno());
    script.send(2);
    script.at(100).ack(0, &[(1, 2)]);
    assert_eq!(script.deadline(), Some(25));
    assert_eq!(script.expire(), Expired::Nothing);
    assert_eq!(script.lost(), 1);
    assert_eq!(script.resend(), Some(0));
}

/// [rfc8985 6.2-sent-after] The second example of its section 3: a retransmission is lost, and found so by what was
/// sent after it.
#[test]
fn a_lost_retransmission_is_found_without_a_timeout() {
    let mut script = Script::new(&reno());
    script.send(5);
    script.at(100).ack(0, &[(1, 4)]);
    assert_eq!(script.resend(), Some(0));
    script.at(101).send(1);
    script.at(200).ack(0, &[(1, 5)]);
    assert_eq!(script.lost(), 0, "4 left before the retransmission");
    script.at(201).ack(0, &[(1, 6)]);
    assert_eq!(script.lost(), 1, "5 left after it");
    assert_eq!(script.resend(), Some(0));
    script.at(300).ack(6, &[]);
    assert_eq!(script.recovery.state(), CongestionState::Open);
}

/// [rfc8985 6.2-spurious]
#[test]
fn what_is_acknowledged_too_soon_was_the_first_transmission() {
    let mut script = Script::new(&reno());
    script.send(5);
    script.at(100).ack(0, &[(1, 4)]);
    assert_eq!(script.resend(), Some(0));
    let newest = script.recovery.scoreboard.rack.sent;
    script.at(110).ack(1, &[(1, 4)]);
    assert_eq!(script.recovery.scoreboard.rack.sent, newest);
    script.at(111).ack(5, &[]);
    assert_eq!(script.recovery.scoreboard.rack.sent, newest, "all left at once");
}

/// A window of which most is unused is reduced from what was in use [rfc7661 4.4.1].
#[test]
fn a_loss_counts_what_was_in_flight() {
    let mut script = Script::new(&reno());
    script.recovery.window.congestion = 100 * SEGMENT;
    script.send(8);
    script.at(100).ack(0, &[(1, 8)]);
    assert_eq!(script.recovery.slow_start_threshold(), 4 * SEGMENT);
}

/// [rfc8985 6.2-reordering] [rfc8985 6.2-window]
#[test]
fn a_path_that_reorders_is_given_time() {
    let mut script = Script::new(&reno());
    script.send(5);
    script.at(100).ack(0, &[(1, 2)]);
    script.at(110).ack(2, &[]);
    assert!(script.recovery.has_reordered());
    script.at(120).send(5);
    script.at(220).ack(5, &[(6, 10)]);
    assert_eq!(script.lost(), 0, "four have overtaken it, but it may be late");
    script.at(221).ack(10, &[]);
    assert_eq!(script.recovery.state(), CongestionState::Open);
    assert_eq!(script.recovery.total_retransmitted(), 0);
}

/// [rfc2883 4] [rfc2883 4-within] [rfc8985 6.2-dsack] [rfc8985 6.2-persist] and RFC 3708.
#[test]
fn a_retransmission_that_arrives_second_is_undone_and_makes_patient() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(0, &[(1, 4)]);
    assert_eq!(script.resend(), Some(0));
    script.at(102).ack(10, &[]);
    assert_eq!((script.recovery.state(), script.window()), (CongestionState::Open, 5));
    script.send(3);
    let undone = script.at(200).ack(10, &[(0, 1)]);
    assert!(undone.undone);
    assert_eq!(script.window(), 10);
    assert_eq!(script.recovery.slow_start_threshold(), u32::MAX);
    let cold = script.recovery.cold.as_ref().expect("something was out of order");
    assert_eq!((cold.reordering_steps, cold.reordering_persists), (2, 16));
    // The same round trip does not widen the window twice.
    script.ack(10, &[(11, 12), (11, 13)]);
    assert_eq!(script.recovery.sacked(), 2 * SEGMENT);
    assert_eq!(script.recovery.cold.as_ref().map(|cold| cold.reordering_steps), Some(2));
}

/// [rfc8985 6.2-persist]
#[test]
fn the_patience_ends_after_sixteen_recoveries() {
    let mut script = Script::new(&reno());
    script.send(4);
    script.at(100).ack(4, &[(0, 1)]);
    assert_eq!(script.recovery.cold.as_ref().map(|cold| cold.reordering_steps), Some(2));
    let mut sent = 4;
    for episode in 0..16u64 {
        assert_eq!(script.recovery.cold.as_ref().map(|cold| cold.reordering_steps), Some(2), "{episode}");
        script.at(1_000 * (episode + 1)).send(5);
        script.at(1_000 * (episode + 1) + 100).ack(sent, &[(sent + 1, sent + 5)]);
        assert_eq!(script.resend(), Some(sent));
        sent += 5;
        script.at(1_000 * (episode + 1) + 200).ack(sent, &[]);
    }
    assert_eq!(script.recovery.cold.as_ref().map(|cold| cold.reordering_steps), Some(1));
}

/// RFC 3522, as RFC 4015 responds.
#[test]
fn a_timestamp_of_before_the_retransmission_undoes_it() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(0, &[(1, 4)]);
    assert_eq!(script.resend(), Some(0));
    assert!(script.at(110).ack_echo(4, &[], 0).undone);
    assert_eq!((script.window(), script.recovery.state()), (10, CongestionState::Open));

    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(0, &[(1, 4)]);
    script.resend();
    assert!(!script.at(200).ack_echo(10, &[], 100).undone, "it was the retransmission that arrived");
}

/// [rfc8985 7.2] [rfc8985 7.2-when] [rfc8985 7.3-rto] [rfc8985 7.4]
#[test]
fn a_lost_tail_is_repaired_by_a_probe() {
    let mut script = Script::new(&reno());
    script.send(3);
    script.at(100).ack(1, &[]);
    // 1 and 2 are lost: twice the round trip, and some slack.
    assert_eq!(script.deadline(), Some(202));
    assert_eq!(script.expire(), Expired::Probe);
    script.probe_again();
    assert_eq!(script.deadline(), Some(250), "only the retransmission timer runs now");
    script.now += ms(100);
    // The probe is the newest that has arrived, so what was sent long before it is lost.
    script.ack(1, &[(2, 3)]);
    assert_eq!(script.recovery.state(), CongestionState::Recovery);
    assert_eq!(script.resend(), Some(1));
    script.now += ms(100);
    script.ack(3, &[]);
    assert_eq!(script.recovery.state(), CongestionState::Open);
    assert_eq!(script.recovery.total_retransmitted(), 2 * SEGMENT);
}

/// [rfc8985 7.4] [rfc8985 7.3-end]
#[test]
fn a_probe_that_repaired_the_only_loss_reduces_the_window() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(8, &[]);
    assert_eq!(script.expire(), Expired::Probe);
    script.probe_again();
    script.now += ms(100);
    assert!(!script.ack(10, &[]).reduced, "it is not known which of the two has arrived");
    script.send(1);
    script.now += ms(100);
    assert!(script.ack(11, &[]).reduced, "no second acknowledgment has come: only one has");
}

/// [rfc8985 7.4-dsack] [rfc8985 7.3-new]
#[test]
fn a_probe_for_nothing_changes_nothing() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(8, &[]);
    let window = script.window();
    assert_eq!(script.expire(), Expired::Probe);
    script.probe_again();
    script.ack(10, &[]);
    script.now += ms(100);
    assert!(!script.ack(10, &[(9, 10)]).reduced);
    script.send(1);
    script.now += ms(100);
    assert!(!script.ack(11, &[]).reduced);
    assert!(script.window() >= window);

    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(8, &[]);
    assert_eq!(script.expire(), Expired::Probe);
    script.probe_new();
    script.now += ms(100);
    assert!(!script.ack(11, &[]).reduced, "new data were the probe");
    assert_eq!(script.recovery.total_retransmitted(), 0);
}

/// [rfc8985 7.2-delay] A single segment may be waiting for a delayed acknowledgment; the timeout is first if it is
/// sooner.
#[test]
fn a_single_segment_is_probed_late_and_a_syn_never() {
    let mut script = Script::new(&reno());
    script.send(1);
    assert_eq!(script.deadline(), Some(300), "the timeout is before 2 * 100 + 200");
    assert!(matches!(script.expire(), Expired::Timeout { .. }));
}

/// [rfc8985 6.3]
#[test]
fn at_a_timeout_only_what_is_old_enough_is_lost() {
    let mut script = Script::new(&reno());
    script.send(2);
    assert_eq!(script.expire(), Expired::Probe);
    script.now += ms(299);
    script.send(1);
    assert_eq!(script.expire(), Expired::Timeout { count: 1 });
    assert_eq!((script.lost(), script.in_flight()), (2, 1));
    assert_eq!(script.window(), 2, "one more than is in flight");
}

/// [rfc2018 8] [rfc2018 5]
#[test]
fn a_peer_that_drops_what_it_had_gets_it_again() {
    let mut script = Script::new(&reno());
    script.send(4);
    script.at(100).ack(0, &[(1, 4)]);
    script.resend();
    script.at(200).ack(1, &[]);
    assert_eq!(script.recovery.sacked(), 3 * SEGMENT, "acknowledged up to what it has, but not beyond");
    assert!(matches!(script.expire(), Expired::Timeout { .. }));
    assert_eq!((script.recovery.sacked(), script.lost()), (0, 3));
    assert_eq!(script.resend(), Some(1));
}

/// [rfc2018 5]
#[test]
fn blocks_that_cannot_be_are_left_aside() {
    let mut script = Script::new(&reno());
    script.send(4);
    script.at(100);
    for block in [(4, 5), (3, 9), (2, 2), (3, 1), (1_000_000, 2_000_000)] {
        let acked = script.ack(0, &[block]);
        assert_eq!((acked.sacked, acked.lost, script.recovery.sacked()), (0, 0, 0), "{block:?}");
    }
    assert_eq!(script.in_flight(), 4);
}

/// [rfc5682 2.1-1] [rfc5682 2.1-3b] [rfc5682 3.1]
#[test]
fn a_timeout_because_of_a_delay_is_undone() {
    let mut script = Script::new(&reno());
    script.send(10);
    assert_eq!(script.expire(), Expired::Probe);
    assert!(matches!(script.expire(), Expired::Timeout { .. }));
    assert_eq!(script.resend(), Some(0));
    // The acknowledgments were late: of two segments the second was not sent again.
    assert!(script.ack(2, &[]).undone);
    assert_eq!((script.recovery.state(), script.lost()), (CongestionState::Open, 0));
    assert_eq!(script.window(), 10);
    assert_eq!(script.recovery.backoff(), 0);
}

/// [rfc5682 2.1-2] [rfc5682 2.1-2b] [rfc5682 2.1-3b] without SACK: new data tell.
#[test]
fn without_sack_two_acknowledgments_tell_that_a_timeout_was_for_nothing() {
    let mut script = Script::new(&without_sack());
    script.send(10).expire();
    assert_eq!(script.resend(), Some(0));
    assert!(!script.recovery.prefers_new_data());
    assert!(!script.ack(1, &[]).undone);
    assert!(script.recovery.prefers_new_data());
    script.send(2);
    assert!(!script.recovery.prefers_new_data());
    assert!(script.ack(2, &[]).undone);
    assert_eq!((script.window(), script.lost()), (10, 0));
}

/// [rfc5682 2.1-3a]
#[test]
fn a_timeout_because_of_losses_is_not_undone() {
    let mut script = Script::new(&without_sack());
    script.send(10).expire();
    script.resend();
    script.ack(1, &[]);
    script.send(2);
    assert!(!script.ack(1, &[]).undone, "a duplicate: the new data have overtaken");
    assert!(!script.recovery.prefers_new_data());
    assert_eq!(script.resend(), Some(1));
    script.now += ms(100);
    assert!(!script.ack(2, &[]).undone);
    assert_eq!(script.recovery.state(), CongestionState::Loss);
}

/// [rfc6937 3-delivered] [rfc6937 3-out] [rfc6937 3-recoverfs] The first example of [rfc6937 3-proportional]: one of twenty segments is lost, and the window is halved: for every
/// two that arrive one leaves.
#[test]
fn the_window_is_reduced_in_proportion_to_what_arrives() {
    let mut script = Script::new(&reno());
    script.recovery.window.congestion = 20 * SEGMENT;
    script.recovery.window.threshold = 20 * SEGMENT;
    script.send(20);
    script.at(100);
    script.ack(0, &[(1, 2)]);
    script.send(1);
    script.ack(0, &[(1, 3)]);
    script.send(1);
    let mut sent = Vec::new();
    for last in 4..=20 {
        script.ack(0, &[(1, last)]);
        let mut count = u32::from(script.resend().is_some());
        while script.recovery.allowance() >= SEGMENT {
            script.send(1);
            count += 1;
        }
        sent.push(count);
    }
    // The last but one finds the pipe at the threshold. With the two of limited transmit ten have left.
    assert_eq!(sent, [1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1]);
    script.at(200).ack(20, &[]);
    // [rfc6937 3-end]
    assert_eq!(script.window(), 10);
}

/// The second: fifteen of twenty are lost. [rfc6937 3-crb] What arrives lets go as much, and [rfc6937 3-ssrb] one more
/// while the left edge advances.
#[test]
fn after_a_burst_of_losses_as_much_leaves_as_arrives() {
    let mut script = Script::new(&reno());
    script.recovery.window.congestion = 20 * SEGMENT;
    script.recovery.window.threshold = 20 * SEGMENT;
    script.send(20);
    script.at(100);
    // Only the last five have arrived.
    for last in 16..=17 {
        script.ack(0, &[(15, last)]);
        assert_eq!(script.resend(), None);
    }
    for next in 0..3 {
        script.ack(0, &[(15, 18 + next)]);
        assert_eq!((script.resend(), script.resend()), (Some(next), None));
    }
    // Their arrival is progress: slow start up to the threshold.
    script.at(200).ack(1, &[(15, 20)]);
    assert_eq!((script.resend(), script.resend(), script.resend()), (Some(3), Some(4), None));
    script.at(201).ack(2, &[(15, 20)]);
    assert_eq!((script.resend(), script.resend(), script.resend()), (Some(5), Some(6), None));
}

#[test]
fn duplicates_do_not_add_up_over_what_is_acknowledged() {
    let mut script = Script::new(&without_sack());
    script.send(10);
    script.at(100);
    script.ack(0, &[]);
    script.ack(0, &[]);
    script.ack(2, &[]);
    assert_eq!((script.recovery.state(), script.in_flight()), (CongestionState::Open, 8));
    script.ack(2, &[]);
    assert_eq!((script.recovery.state(), script.lost()), (CongestionState::Disorder, 0));
}

/// [rfc5682 2.1-1] Acknowledgments of what lay behind the head may have been lost.
#[test]
fn a_timeout_of_what_was_sent_again_before_is_never_undone() {
    let mut script = Script::new(&reno());
    script.send(10);
    script.at(100).ack(0, &[(1, 4)]);
    assert_eq!(script.resend(), Some(0));
    assert!(matches!(script.expire(), Expired::Timeout { .. }));
    assert_eq!(script.resend(), Some(0));
    script.now += ms(100);
    assert!(!script.ack(10, &[]).undone);
}

/// What is remembered of sequence numbers does not come back as that of others when they have gone around.
#[test]
fn losses_are_found_after_gigabytes_without_any() {
    for sack in [true, false] {
        let mut script = Script::new(&RecoveryConfig { sack, ..reno() });
        let block = |from: u32| if sack { vec![(from + 1, from + 4)] } else { vec![] };
        let (mut at, mut sent) = (0u64, 0);
        for gap in [10, 1_000_000, 2_200_000, 3_200_000, 4_294_970, 10] {
            for _ in 0..gap / 10 {
                script.at(at).send(10);
                sent += 10;
                at += 1;
                script.at(at).ack(sent, &[]);
            }
            script.send(5);
            at += 10;
            script.at(at);
            for _ in 0..3 {
                script.ack(sent, &block(sent));
            }
            assert_eq!(script.lost(), 1, "after {gap} segments, SACK {sack}");
            assert!(script.resend().is_some());
            sent += 5;
            at += 10;
            script.at(at).ack(sent, &[]);
            assert_eq!(script.recovery.state(), CongestionState::Open);
        }
    }
}
