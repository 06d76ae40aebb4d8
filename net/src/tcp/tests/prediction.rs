//! Header prediction does what the steps do. What follows was found by the test of random programs, which compares both.

use super::lone::*;
use crate::tcp::*;

/// Tells the story with prediction and without it, and compares what it tells.
fn both<T: PartialEq + std::fmt::Debug>(config: &Config, story: impl Fn(&mut Lone) -> T) -> T {
    let [predicted, unpredicted] = [false, true].map(|unpredicted| {
        let mut lone = Lone::established(config.clone());
        lone.unpredicted = unpredicted;
        let told = story(&mut lone);
        (told, format!("{:?}", lone.connection.recovery), lone.connection.info(lone.now))
    });
    assert_eq!(predicted, unpredicted);
    predicted.0
}

/// [rfc5681 2]: data that cross ours acknowledge nothing, and are no duplicates: neither a round trip ends nor does a window
/// change.
#[test]
fn data_that_cross_ours_say_nothing_of_them() {
    both(&plain(), |lone| {
        lone.send(5000);
        lone.drain();
        let before = format!("{:?}", lone.connection.recovery);
        lone.gets("P. 1:2(1) ack 1");
        assert_eq!(format!("{:?}", lone.connection.recovery), before);
        // Nor does what changes the window, or is a FIN; three of the others would be a loss.
        for line in [
            ". 2:2(0) ack 1 win 49000",
            ". 2:2(0) ack 1 win 49500",
            ". 2:2(0) ack 1 win 50000",
            "F. 3:3(0) ack 1",
        ] {
            lone.gets(line);
        }
        assert_eq!(lone.connection.info(lone.now).ca_state, CongestionState::Open);
        (0..3).for_each(|_| lone.gets(". 2:2(0) ack 1"));
        assert_eq!(lone.connection.info(lone.now).ca_state, CongestionState::Recovery);
        lone.gets(". 2:2(0) ack 5001");
    });
}

/// What waits because it is small waits a fifth of a second, whatever the peer sends meanwhile. [rfc9293 MUST-38]
#[test]
fn segments_that_come_do_not_prolong_the_wait_of_small_ones() {
    for window in [1400, 1401] {
        let lines = both(&plain(), |lone| {
            lone.window = 3000;
            lone.gets(". 1:1(0) ack 1");
            lone.window = 1400;
            lone.send(10_000);
            lone.drain();
            lone.gets(". 1:1(0) ack 3001");
            lone.drain();
            lone.gets(". 1:1(0) ack 4001");
            let mut lines = lone.drain();
            lone.window = 400;
            lone.gets(". 1:1(0) ack 4001");
            lines.extend(lone.wait(150 * MS));
            lone.window = window - 1000;
            lone.gets("P. 1:2(1) ack 4001");
            lines.extend(lone.wait(100 * MS));
            lines
        });
        assert!(lines.iter().any(|line| line.starts_with("50: . 4001:")), "{window}: {lines:?}");
    }
}

/// The window is that of the latest segment, not of the last that was predicted. [rfc9293 3.10.7.4]
#[test]
fn a_predicted_segment_does_not_make_an_older_one_set_the_window() {
    let window = both(&plain(), |lone| {
        lone.gets(". 101:101(0) ack 1");
        lone.gets("P. 1:51(50) ack 1");
        lone.window = 40_000;
        lone.gets("P. 51:61(10) ack 1");
        lone.connection.info(lone.now).snd_wnd
    });
    assert_eq!(window, 50_000);
}

/// Whatever answers a window probe lets the next one come as soon as the first. [rfc9293 SHLD-30]
#[test]
fn a_predicted_segment_answers_a_window_probe() {
    let probes = both(&plain(), |lone| {
        lone.send(10);
        lone.drain();
        lone.window = 0;
        lone.gets(". 1:1(0) ack 11");
        lone.send(10);
        lone.wait(5 * SECOND);
        // Of before the acknowledgment: all that it says is that the peer is there.
        lone.gets(". 1:1(0) ack 1");
        assert!(lone.connection.info(lone.now).probes > 1);
        lone.gets("P. 1:2(1) ack 11");
        lone.connection.info(lone.now).probes
    });
    assert_eq!(probes, 0);
}
