//! What is dropped, and when.

use demikernel_runtime::buffer::Sga;

use super::*;

#[test]
fn buffers_are_the_devices_until_a_queue_pair_is_gone_and_nothing_of_it_is_reported() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    let other = client.pair(&tagged(3));
    join(&near, &far);
    join(&other, &server.pair(&tagged(4)));
    far.receive(space(4096), 0).unwrap();
    let sent = bytes(1000, 1);
    double::hold(true);
    near.send(sent.clone().into(), Flags::SIGNALLED, 0).unwrap();
    near.receive(space(4096), 0).unwrap();
    // Something of another queue pair between what is of this one.
    other.receive(space(64), 9).unwrap();
    other.fail().unwrap();
    assert!(!sent.is_unique());
    drop(near);
    assert!(sent.is_unique(), "the device cannot reach it any more");
    let left = client.completed();
    assert_eq!(left.iter().map(|one| (one.tag, one.token)).collect::<Vec<_>>(), [(3, 9)]);
    double::hold(false);
    assert!(server.completed().is_empty());
}

#[test]
fn what_was_taken_from_the_device_before_is_not_reported_either() {
    let (client, server) = (Side::new(), Side::new());
    let shared = SharedReceiveQueue::new(&server.domain, 8).unwrap();
    shared.post_many(std::iter::repeat_with(|| space(64))).unwrap();
    let near = [client.pair(&tagged(1)), client.pair(&tagged(2))];
    let mut far = vec![server.sharing(&shared, &tagged(11)), server.sharing(&shared, &tagged(12))];
    near.iter().zip(&far).for_each(|(near, far)| join(near, far));
    for (pair, text) in [(0, b"a"), (1, b"b"), (0, b"c"), (1, b"d")] {
        near[pair].send(message(&[text]), Flags::default(), 0).unwrap();
    }
    assert_eq!(server.completions.poll().unwrap(), 4);
    assert!(server.completions.take().is_some());
    drop(far.remove(0));
    near[1].send(message(&[b"e"]), Flags::default(), 0).unwrap();
    assert_eq!(received(server.completed()), [b"b", b"d", b"e"].map(|text| (12, text.to_vec())));
    assert_eq!(shared.room(), 5, "the receives that the other one had taken can be posted again");
}

#[test]
fn whoever_gets_the_number_of_one_that_is_gone_does_not_get_its_messages() {
    for is_taken in [false, true] {
        let (client, server) = (Side::new(), Side::new());
        let shared = SharedReceiveQueue::new(&server.domain, 8).unwrap();
        shared.post_many(std::iter::repeat_with(|| space(64))).unwrap();
        let (near, far) = (client.pair(&tagged(1)), server.sharing(&shared, &tagged(11)));
        join(&near, &far);
        near.send(message(&[b"old"]), Flags::default(), 0).unwrap();
        if is_taken {
            server.completions.poll().unwrap();
        }
        let near = client.pair(&tagged(2));
        let number = far.number();
        drop(far);
        double::number_next(number);
        let far = server.sharing(&shared, &tagged(12));
        assert_eq!(far.number(), number);
        join(&near, &far);
        near.send(message(&[b"new"]), Flags::default(), 0).unwrap();
        assert_eq!(received(server.completed()), [(12, b"new".to_vec())]);
        assert_eq!(shared.room(), 2);
    }
}

#[test]
fn a_queue_pair_that_fails_gives_back_all_it_had() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&QueuePairConfig { inline: 0, ..tagged(1) }), server.pair(&tagged(2)));
    join(&near, &far);
    double::hold(true);
    near.send(message(&[b"one"]), Flags::default(), 1).unwrap();
    near.send(message(&[b"two"]), Flags::SIGNALLED, 2).unwrap();
    near.read(space(64), &RemoteMemory { address: 0, len: 8, key: 0 }, 0, 8, Flags::default(), 3).unwrap();
    near.receive(space(64), 4).unwrap();
    near.fail().unwrap();
    let back = client.completed().into_iter().map(|completion| match completion.outcome {
        Outcome::Failed { error, work } => {
            assert_eq!(error.status, Status::Flushed);
            (completion.token, matches!(work, Work::Send(_)), matches!(work, Work::Read(_)))
        }
        other => panic!("{other:?}"),
    });
    let back: Vec<_> = back.collect();
    assert_eq!(back, [(1, true, false), (2, true, false), (3, false, true), (4, false, false)]);
    assert_eq!((near.sends(), near.receives()), (0, 0));
    double::hold(false);
}

#[test]
fn things_go_in_the_right_order_however_they_are_dropped() {
    let before = double::alive();
    let unused = in_use();
    for order in 0..24 {
        let side = Side::new();
        let shared = SharedReceiveQueue::new(&side.domain, 8).unwrap();
        shared.post(space(64)).unwrap();
        let pair = side.sharing(&shared, &tagged(1));
        let Side { device, domain, completions } = side;
        let mut things: Vec<Option<Box<dyn std::any::Any>>> = vec![
            Some(Box::new(device)),
            Some(Box::new(domain)),
            Some(Box::new((completions, shared))),
            Some(Box::new(pair)),
        ];
        // All orders of four.
        let mut rest = order;
        for count in (1..=4).rev() {
            let mut left = things.iter_mut().filter(|thing| thing.is_some());
            left.nth(rest % count).unwrap().take();
            rest /= count;
        }
        assert_eq!(double::alive(), before, "order {order}");
        assert_eq!(in_use(), unused, "order {order}");
    }
}

#[test]
fn a_panic_in_the_middle_leaves_nothing_behind() {
    let before = double::alive();
    let panicked = std::panic::catch_unwind(|| {
        let side = Side::new();
        let pair = side.pair(&tagged(1));
        join(&pair, &side.pair(&tagged(2)));
        pair.receive(space(64), 0).unwrap();
        let shared = SharedReceiveQueue::new(&side.domain, 64).unwrap();
        let mut count = 0;
        let _ = shared.post_many(std::iter::from_fn(|| {
            count += 1;
            assert!(count < 20, "on purpose");
            Some(space(64))
        }));
    });
    assert!(panicked.is_err());
    assert_eq!(double::alive(), before);
    assert_eq!(in_use(), 0);
}

/// A generator, the same from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Whatever is done to queue pairs, in whatever order: messages arrive in order and whole, or their connection has failed,
/// and every buffer comes back.
fn random_program(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (client, server) = (Side::new(), Side::new());
    let shared = SharedReceiveQueue::new(&server.domain, 32).unwrap();
    // By tag: both ends, the next number to send, the next to receive.
    let mut connections: Vec<Option<(QueuePair, QueuePair, u32, u32)>> = (0..4).map(|_| None).collect();
    for _ in 0..300 {
        let at = random.below(4) as usize;
        let Some((near, far, sent, _)) = &mut connections[at] else {
            let config = QueuePairConfig { send_depth: 8, inline: 16, ..tagged(at as u64) };
            let (near, far) = (client.pair(&config), server.sharing(&shared, &config));
            join(&near, &far);
            connections[at] = Some((near, far, 0, 0));
            continue;
        };
        match random.below(20) {
            0 => connections[at] = None,
            1 => near.fail().unwrap(),
            2 => far.fail().unwrap(),
            3 => double::hold(true),
            4..6 => double::hold(false),
            6 => double::refuse_next(libc::ENOMEM),
            7..10 => drop(shared.post(space(512))),
            10..13 => {
                let arrived = server.completed();
                check_order(&mut connections, arrived);
            }
            13 => drop(client.completed()),
            _ => {
                let mut data: Sga = message(&[&sent.to_le_bytes()]);
                data.push(bytes(random.below(400) as usize, *sent as u8));
                let flags = Flags { signalled: random.below(2) == 0, ..Flags::default() };
                if near.send(data, flags, 0).is_ok() {
                    *sent += 1;
                }
            }
        }
    }
    double::hold(false);
    drop(connections);
}

fn check_order(connections: &mut [Option<(QueuePair, QueuePair, u32, u32)>], completions: Vec<Completion>) {
    for (tag, data) in received(completions) {
        let (_, _, _, expected) =
            connections[tag as usize].as_mut().expect("nothing is reported of what is gone");
        let number = u32::from_le_bytes(*data.first_chunk().unwrap());
        assert_eq!(number, *expected);
        *expected += 1;
        assert!(data[4..].iter().all(|byte| *byte == number as u8));
    }
}

#[test]
fn random_programs_lose_and_leak_nothing() {
    let few = if std::env::var_os("DEMIKERNEL_VALGRIND").is_some() { 10 } else { 200 };
    let seeds = std::env::var("DEMIKERNEL_SEEDS").map_or(few, |seeds| seeds.parse().unwrap());
    let before = double::alive();
    let first = std::env::var("DEMIKERNEL_SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in first..first + seeds {
        random_program(seed);
        assert_eq!((double::alive(), in_use()), (before, 0), "seed {seed}");
    }
}
