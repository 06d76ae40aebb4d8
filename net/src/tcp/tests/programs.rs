//! Random programs at both ends of a random link: bytes arrive once, in order, unaltered, and connections end.

use demikernel_runtime::time::Duration;
use proptest::prelude::*;

use super::pair::{Faults, Pair};
use crate::tcp::*;

/// What a user does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u16),
    Receive(u16),
    Wait(u16),
    ShutdownWrite,
    Close,
    Abort,
    Cork(bool),
    NoDelay(bool),
    ReceiveBuffer(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u16..40_000).prop_map(Step::Send),
        8 => (1u16..60_000).prop_map(Step::Receive),
        6 => (1u16..400).prop_map(Step::Wait),
        1 => Just(Step::ShutdownWrite),
        1 => any::<bool>().prop_map(Step::Cork),
        1 => any::<bool>().prop_map(Step::NoDelay),
        1 => (500u16..30_000).prop_map(Step::ReceiveBuffer),
    ]
}

/// Mostly messages that a segment takes.
fn small_step() -> impl Strategy<Value = Step> {
    prop_oneof![8 => (1u16..700).prop_map(Step::Send), 4 => (1u16..400).prop_map(Step::Wait), 4 => step()]
}

fn last_step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => Just(Step::ShutdownWrite), 2 => Just(Step::Close), 1 => Just(Step::Abort)]
}

fn faults() -> impl Strategy<Value = Faults> {
    let busy = prop_oneof![2 => Just(0u64), 1 => 1u64..10, 1 => 1u64..2000];
    (0u64..60, 0u64..30, 0u8..20, 0u8..10, 0u8..20, busy).prop_map(
        |(delay, jitter, lost, repeated, marked, busy)| Faults {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            lost,
            repeated,
            marked,
            busy: Duration::from_millis(busy),
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    (any::<(bool, bool, bool)>(), 0u8..4, 500u32..200_000, 1u32..200_000).prop_map(
        |((timestamps, window_scaling, sack), ecn, receive, send)| Config {
            timestamps,
            window_scaling,
            sack,
            ecn: [EcnMode::Off, EcnMode::Accept, EcnMode::Request, EcnMode::Exact][usize::from(ecn)],
            receive_buffer: receive,
            send_buffer: send,
            ..Config::default()
        },
    )
}

fn perform(pair: &mut Pair, end: usize, step: Step) {
    let now = pair.now;
    let user = &mut pair.ends[end];
    match step {
        Step::Send(octets) => user.send(now, usize::from(octets)),
        Step::Receive(limit) => user.receive(now, usize::from(limit)),
        Step::Wait(ms) => pair.run(Duration::from_millis(u64::from(ms))),
        _ => {
            let Some(connection) = &mut user.connection else { return };
            match step {
                Step::ShutdownWrite => drop(connection.shutdown_write(now)),
                Step::Close => connection.close(now),
                Step::Abort => connection.abort(),
                Step::Cork(on) => connection.set_cork(on),
                Step::NoDelay(on) => connection.set_no_delay(on),
                Step::ReceiveBuffer(octets) => connection.set_receive_buffer(u32::from(octets)),
                _ => {}
            }
        }
    }
}

/// The bytes at one end are the first of those sent at the other.
fn check_prefix(pair: &Pair) -> Result<(), TestCaseError> {
    for end in 0..2 {
        let (sent, received) = (&pair.ends[1 - end].sent, &pair.ends[end].received);
        prop_assert!(sent.starts_with(received), "{} octets of {} received", received.len(), sent.len());
    }
    Ok(())
}

/// Half seconds after which users close although the other side has not: a reset may be lost, and then that side waits
/// for a peer that has gone, as long as somebody holds it.
const PATIENCE: u32 = 2000;

/// Runs the program; both users take what comes until the end, and close; after `patience` half seconds in any case.
fn run(pair: &mut Pair, program: &[(bool, Step)], patience: u32) -> Result<(), TestCaseError> {
    for (end, step) in program {
        perform(pair, usize::from(*end), *step);
        check_prefix(pair)?;
    }
    for turn in 0..2 * patience {
        if pair.ends.iter().all(|end| end.is_closed()) {
            return check_prefix(pair);
        }
        let now = pair.now;
        for end in &mut pair.ends {
            end.receive(now, usize::MAX);
            if let Some(connection) = &mut end.connection {
                let _ = connection.shutdown_write(now);
                if turn > patience {
                    connection.close(now);
                }
            }
        }
        for _ in 0..20 {
            pair.run(Duration::from_millis(25));
            let now = pair.now;
            pair.ends.iter_mut().for_each(|end| end.receive(now, usize::MAX));
        }
    }
    let states: Vec<_> = pair.ends.iter().map(|end| format!("{:?}", end.connection)).collect();
    prop_assert!(false, "they do not end: {states:?}");
    Ok(())
}

/// Fewer than usual, as each is long.
fn cases() -> u32 {
    ProptestConfig::default().cases / 2
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn bytes_arrive_once_in_order_unaltered(
        configs in [config(), config()],
        faults in faults(),
        seed in any::<u64>(),
        segmentation in prop_oneof![Just(0u32), Just(20_000)],
        mut program in prop::collection::vec(any::<bool>().prop_flat_map(|end| (Just(end), step())), 1..40),
        last in [last_step(), last_step()],
    ) {
        let mut pair = Pair::new(configs, faults, seed);
        pair.set_segmentation(0, segmentation);
        program.push((false, last[0]));
        program.push((true, last[1]));
        run(&mut pair, &program, PATIENCE)?;
    }

    /// Nobody aborts, nobody leaves before the end: everything arrives.
    #[test]
    fn everything_arrives_if_nobody_aborts(
        configs in [config(), config()],
        faults in faults(),
        seed in any::<u64>(),
        program in prop::collection::vec(any::<bool>().prop_flat_map(|end| (Just(end), step())), 1..40),
    ) {
        let mut pair = Pair::connected(configs, faults, seed);
        let mut program = program;
        program.extend([(false, Step::ShutdownWrite), (true, Step::ShutdownWrite)]);
        // Without timestamps a time-out that was doubled stays so until something arrives that was sent once: that may
        // take hours on the worst of these links, but it ends.
        run(&mut pair, &program, 20 * PATIENCE)?;
        for end in 0..2 {
            prop_assert_eq!(pair.ends[end].error, None.or(pair.ends[end].error.filter(|error| *error == Error::BrokenPipe)));
            prop_assert_eq!(&pair.ends[end].received, &pair.ends[1 - end].sent);
            prop_assert!(pair.ends[end].ended);
        }
    }

    /// What leaves in one look is what would leave otherwise: each header is the same.
    #[test]
    fn a_plain_segment_is_the_one_that_leaves(
        configs in [config(), config()],
        faults in faults(),
        seed in any::<u64>(),
        program in prop::collection::vec(any::<bool>().prop_flat_map(|end| (Just(end), small_step())), 1..60),
    ) {
        let traces = [false, true].map(|plain| {
            let mut pair = Pair::new(configs.clone(), faults, seed);
            pair.ends.iter_mut().for_each(|end| end.plain = plain);
            run(&mut pair, &program, PATIENCE).map(|()| pair.trace)
        });
        let [polled, plain] = traces;
        let (polled, plain) = (polled?, plain?);
        let first = polled.iter().zip(&plain).position(|(one, other)| one != other);
        let first = first.map(|first| [&polled[first.saturating_sub(3)..=first], &plain[first..=first]]);
        prop_assert!(first.is_none(), "{first:#?}");
        prop_assert_eq!(polled.len(), plain.len());
    }

    /// Prediction saves time and changes nothing: with and without, each header is the same.
    #[test]
    fn what_is_predicted_is_what_the_steps_do(
        configs in [config(), config()],
        faults in faults(),
        seed in any::<u64>(),
        program in prop::collection::vec(any::<bool>().prop_flat_map(|end| (Just(end), step())), 1..40),
    ) {
        let traces = [false, true].map(|unpredicted| {
            let mut pair = Pair::new(configs.clone(), faults, seed);
            pair.ends.iter_mut().for_each(|end| end.unpredicted = unpredicted);
            run(&mut pair, &program, PATIENCE).map(|()| pair.trace)
        });
        let [predicted, unpredicted] = traces;
        let (predicted, unpredicted) = (predicted?, unpredicted?);
        let first = predicted.iter().zip(&unpredicted).position(|(one, other)| one != other);
        let first = first.map(|first| [&predicted[first.saturating_sub(3)..=first], &unpredicted[first..=first]]);
        prop_assert!(first.is_none(), "{first:#?}");
        prop_assert_eq!(predicted.len(), unpredicted.len());
    }

    /// Two runs of a seed are the same, to the last bit of each header.
    #[test]
    fn a_seed_repeats(faults in faults(), seed in any::<u64>(), octets in 1usize..100_000) {
        let trace = || {
            let mut pair = Pair::connected([Config::default(), Config::default()], faults, seed);
            let now = pair.now;
            pair.ends[0].send(now, octets);
            pair.run(Duration::from_secs(60));
            pair.trace
        };
        prop_assert_eq!(trace(), trace());
    }
}
