//! What is sent, written, read.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use demikernel_runtime::buffer::{Buffer, Sga, pool};

use super::*;

fn statuses(completions: &[Completion]) -> Vec<Option<Status>> {
    let status = |completion: &Completion| match &completion.outcome {
        Outcome::Failed { error, .. } => Some(error.status),
        _ => None,
    };
    completions.iter().map(status).collect()
}

#[test]
fn messages_come_in_order_with_the_tag_of_the_queue_pair_and_the_token_of_the_receive() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    join(&near, &far);
    for token in 0..3 {
        far.receive(space(64), 10 + token).unwrap();
    }
    for (token, text) in [b"one".as_slice(), b"two", b"three"].into_iter().enumerate() {
        near.send(message(&[text]), Flags::SIGNALLED, token as u64).unwrap();
    }
    let sent = client.completed();
    assert_eq!(sent.iter().map(|sent| (sent.tag, sent.token)).collect::<Vec<_>>(), [(1, 0), (1, 1), (1, 2)]);
    let arrived = server.completed();
    assert_eq!(arrived.iter().map(|one| one.token).collect::<Vec<_>>(), [10, 11, 12]);
    let texts = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()].map(|text| (2, text));
    assert_eq!(received(arrived), texts);
    near.set_tag(7);
    near.send(message(&[b"four"]), Flags::SIGNALLED, 9).unwrap();
    assert_eq!(near.tag(), 7);
}

#[test]
fn a_message_is_gathered_from_several_buffers_and_more_than_agreed_are_refused() {
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { segments: 3, ..tagged(1) };
    let (near, far) = (client.pair(&config), server.pair(&tagged(2)));
    join(&near, &far);
    far.receive(space(4096), 0).unwrap();
    let long = bytes(1000, b'x');
    let parts: Sga =
        [Buffer::from("head"), long.clone(), Buffer::copy_from_slice(b"tail").unwrap()].into_iter().collect();
    let refused = near.send(parts, Flags::default(), 0).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidInput);
    assert!(refused.error.to_string().contains("not in memory that double reaches"), "{}", refused.error);
    assert_eq!(refused.work.segments(), 3, "it comes back");
    near.send(message(&[b"head", &long, b"tail"]), Flags::default(), 0).unwrap();
    let text = [b"head".as_slice(), &long, b"tail"].concat();
    assert_eq!(received(server.completed()), [(2, text)]);
    let refused = near.send(message(&[b"1", b"2", b"3", b"4"]), Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("more pieces"), "{}", refused.error);
}

#[test]
fn what_is_short_goes_inline_from_any_memory_and_is_let_go_of_at_once() {
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { inline: 1000, ..tagged(1) };
    let (near, far) = (client.pair(&config), server.pair(&tagged(2)));
    assert!((100..1000).contains(&near.inline_limit()), "the device gave less than it was asked for");
    join(&near, &far);
    far.receive(space(512), 0).unwrap();
    far.receive(space(512), 0).unwrap();
    double::hold(true);
    let part = bytes(20, b'a');
    near.send([Buffer::from_static(b"static "), part.clone()].into_iter().collect(), Flags::SIGNALLED, 0)
        .unwrap();
    assert!(part.is_unique(), "the device has taken the bytes along");
    let long = bytes(near.inline_limit() + 1, b'b');
    near.send(long.clone().into(), Flags::SIGNALLED, 0).unwrap();
    assert!(!long.is_unique(), "these are still the device's");
    double::hold(false);
    let mut sent = client.completed();
    assert_eq!(received(server.completed())[0].1, [b"static ".as_slice(), &part].concat());
    assert!(!long.is_unique());
    match sent.pop().unwrap().outcome {
        Outcome::Sent(data) => assert_eq!(data.len(), long.len()),
        other => panic!("{other:?}"),
    }
    assert!(long.is_unique());
}

#[test]
fn a_header_is_copied_and_what_is_behind_it_goes_from_where_it_is() {
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { inline: 96, segments: 3, ..tagged(1) };
    let (near, far) = (client.pair(&config), server.pair(&tagged(2)));
    join(&near, &far);
    (0..4).for_each(|_| far.receive(space(4096), 0).unwrap());
    double::hold(true);
    let (short, long) = (bytes(80, b's'), bytes(1000, b'l'));
    let mut header = *b"header of 16 B: ";
    near.send_behind(&header, short.clone().into(), Flags::default(), 1).unwrap();
    assert!(short.is_unique(), "the device has taken the bytes along");
    near.send_behind(&header, Sga::new(), Flags::default(), 2).unwrap();
    near.send_behind(&header, long.clone().into(), Flags::default(), 3).unwrap();
    near.send_behind(&header, message(&[&long, b"end"]), Flags::SIGNALLED, 4).unwrap();
    assert!(!long.is_unique(), "these are still the device's");
    header.fill(0);
    double::hold(false);
    let sent = client.completed();
    let expected = [&*short, b"", &*long, &[&*long, b"end"].concat()];
    for (received, expected) in received(server.completed()).into_iter().zip(expected) {
        assert_eq!(received, (2, [b"header of 16 B: ", expected].concat()));
    }
    match &sent[..] {
        [Completion { token: 4, outcome: Outcome::Sent(data), .. }] => assert_eq!(data.len(), 1003),
        other => panic!("{other:?}"),
    }
    assert!(long.is_unique(), "the one before was let go of, too");
    // The header takes the place of a piece, and what cannot go comes back.
    let refused = near.send_behind(b"h", message(&[&long, b"2", b"3"]), Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("more pieces"), "{}", refused.error);
    assert_eq!(refused.work.segments(), 3);
    let foreign = Buffer::from_static(&[7; 1000]);
    let refused = near.send_behind(b"h", foreign.into(), Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("not in memory that double reaches"), "{}", refused.error);
    let datagrams = client.pair(&QueuePairConfig { kind: Kind::Datagrams, ..tagged(3) });
    assert!(datagrams.send_behind(b"h", Sga::new(), Flags::default(), 0).is_err());
}

#[test]
fn unsignalled_sends_are_released_by_the_next_signalled_and_the_queue_never_stays_full() {
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { send_depth: 8, inline: 0, ..tagged(1) };
    let (near, far) =
        (client.pair(&config), server.pair(&QueuePairConfig { receive_depth: 256, ..tagged(2) }));
    join(&near, &far);
    let long = bytes(300, 1);
    for _ in 0..3 {
        far.receive(space(512), 0).unwrap();
        near.send(long.clone().into(), Flags::default(), 5).unwrap();
    }
    assert!(client.completed().is_empty());
    assert_eq!((near.room(), near.sends()), (5, 3));
    far.receive(space(512), 0).unwrap();
    near.send(long.clone().into(), Flags::default(), 6).unwrap();
    let completed = client.completed();
    assert_eq!(
        completed.iter().map(|one| one.token).collect::<Vec<_>>(),
        [6],
        "one of half a queue is signalled"
    );
    assert_eq!(near.room(), 8);
    drop(completed);
    assert!(long.is_unique());
    for _ in 0..100 {
        far.receive(space(512), 0).unwrap();
        near.send(long.clone().into(), Flags::default(), 0).unwrap();
        client.completed();
    }
}

#[test]
fn a_full_queue_refuses_with_would_block_and_gives_the_message_back() {
    let (client, server) = (Side::new(), Side::new());
    let config = QueuePairConfig { send_depth: 2, ..tagged(1) };
    let (near, far) = (client.pair(&config), server.pair(&tagged(2)));
    join(&near, &far);
    double::hold(true);
    for _ in 0..2 {
        near.send(message(&[b"full"]), Flags::default(), 0).unwrap();
    }
    let refused = near.send(message(&[b"more"]), Flags::default(), 0).unwrap_err();
    assert_eq!((refused.error.kind(), refused.work.to_vec()), (ErrorKind::WouldBlock, b"more".to_vec()));
    double::hold(false);
    let config = QueuePairConfig { receive_depth: 1, ..tagged(1) };
    let pair = client.pair(&config);
    join(&pair, &server.pair(&tagged(3)));
    pair.receive(space(64), 0).unwrap();
    assert_eq!(pair.receive(space(64), 0).unwrap_err().error.kind(), ErrorKind::WouldBlock);
    double::refuse_next(libc::ENOMEM);
    let refused = near.send(message(&[b"more"]), Flags::default(), 0).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::WouldBlock, "the driver counts as well");
}

#[test]
fn a_peer_without_receives_fails_the_send_or_has_it_wait() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    join(&near, &far);
    near.send(message(&[b"early"]), Flags::SIGNALLED, 0).unwrap();
    assert!(client.completed().is_empty());
    far.receive(space(64), 0).unwrap();
    assert_eq!(received(server.completed()), [(2, b"early".to_vec())]);
    assert_eq!(statuses(&client.completed()), [None]);
}

#[test]
fn a_message_that_is_too_long_breaks_both_ends() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    join(&near, &far);
    far.receive(space(256), 0).unwrap();
    near.send(bytes(257, 1).into(), Flags::default(), 0).unwrap();
    assert_eq!(statuses(&client.completed()), [Some(Status::RemoteInvalidRequest)]);
    assert_eq!(statuses(&server.completed()), [Some(Status::LocalLength)]);
    near.send(message(&[b"after"]), Flags::default(), 0).unwrap();
    assert_eq!(statuses(&client.completed()), [Some(Status::Flushed)]);
}

#[test]
fn a_dead_peer_times_out() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    join(&near, &far);
    double::kill(far.number());
    near.send(message(&[b"hello"]), Flags::default(), 3).unwrap();
    let mut completed = client.completed();
    assert_eq!(completed[0].token, 3);
    match completed.pop().unwrap().outcome {
        Outcome::Failed { error, work: Work::Send(_) } => {
            assert_eq!(std::io::Error::from(error).kind(), ErrorKind::TimedOut);
        }
        other => panic!("{other:?}"),
    }
}

/// Two ends, of which the far one lets the near one do everything, and has exported memory.
fn exported(len: usize, access: Access) -> (Side, QueuePair, Side, QueuePair, MemoryRegion) {
    let (client, server) = (Side::new(), Side::new());
    let all = Access::READ | Access::WRITE | Access::ATOMIC;
    let (near, far) = (client.pair(&tagged(1)), server.pair(&QueuePairConfig { access: all, ..tagged(2) }));
    join(&near, &far);
    let memory = bytes(len, 0).try_into_mut().unwrap();
    let region = MemoryRegion::new(&server.domain, memory, access).unwrap();
    (client, near, server, far, region)
}

#[test]
fn memory_of_the_peer_is_written_and_read_without_its_doing() {
    let (client, near, server, _far, region) = exported(4096, Access::READ | Access::WRITE);
    let memory = region.describe();
    near.write(message(&[b"short"]), &memory, 8, Flags::default(), 0).unwrap();
    near.write(bytes(1000, b'y').into(), &memory, 3096, Flags::SIGNALLED, 0).unwrap();
    near.read(space(4096), &memory, 8, 5, Flags::default(), 7).unwrap();
    assert!(server.completed().is_empty());
    let completed = client.completed();
    assert_eq!(completed.len(), 2);
    match &completed[1] {
        Completion { token: 7, outcome: Outcome::Read(data), .. } => assert_eq!(data, b"short"),
        other => panic!("{other:?}"),
    }
    let mut end = [0; 8];
    region.copy_to(4088, &mut end);
    assert_eq!(end, [b'y'; 8]);
    let memory = region.revoke().unwrap();
    assert_eq!(&memory[8..13], b"short");
}

#[test]
fn a_write_with_a_number_takes_a_receive_and_says_how_much_was_written() {
    let (client, near, server, far, region) = exported(4096, Access::WRITE);
    far.receive(space(256), 4).unwrap();
    let flags = Flags { immediate: Some(0x0102_0304), ..Flags::SIGNALLED };
    near.write(bytes(300, 1).into(), &region.describe(), 0, flags, 0).unwrap();
    match server.completed().pop() {
        Some(Completion { tag: 2, token: 4, outcome: Outcome::Written { immediate, len, unused } }) => {
            assert_eq!((immediate, len, unused.len()), (0x0102_0304, 300, 0));
        }
        other => panic!("{other:?}"),
    }
    far.receive(space(256), 0).unwrap();
    near.send(message(&[b"with a number"]), flags, 0).unwrap();
    match server.completed().pop().unwrap().outcome {
        Outcome::Received { data, immediate, source } => {
            assert_eq!((&*data, immediate, source), (b"with a number".as_slice(), flags.immediate, None));
        }
        other => panic!("{other:?}"),
    }
    far.receive(space(256), 0).unwrap();
    near.send(Sga::new(), flags, 0).unwrap();
    match server.completed().pop().unwrap().outcome {
        Outcome::Received { data, immediate: Some(_), .. } => assert!(data.is_empty(), "only the number"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.completed().len(), 3);
}

#[test]
fn atomic_operations_give_the_former_value() {
    let (client, near, _server, _far, region) = exported(64, Access::ATOMIC);
    let memory = region.describe();
    near.fetch_add(&memory, 8, 5, Flags::default(), 0).unwrap();
    near.fetch_add(&memory, 8, u64::MAX, Flags::default(), 0).unwrap();
    near.compare_swap(&memory, 8, 4, 1 << 40, Flags::default(), 0).unwrap();
    near.compare_swap(&memory, 8, 4, 9, Flags::default(), 0).unwrap();
    let values = client.completed().into_iter().map(|completion| match completion.outcome {
        Outcome::Fetched(value) => value,
        other => panic!("{other:?}"),
    });
    assert_eq!(values.collect::<Vec<_>>(), [0, 5, 4, 1 << 40]);
    assert_eq!(region.load(8), 1 << 40);
    let error = near.fetch_add(&memory, 4, 1, Flags::default(), 0).unwrap_err();
    assert!(error.to_string().contains("multiples of 8"), "{error}");
}

#[test]
fn what_is_out_of_bounds_never_leaves_this_side() {
    let (client, near, _server, _far, region) = exported(64, Access::READ | Access::WRITE);
    let memory = region.describe();
    for offset in [60, 65, u64::MAX] {
        let refused = near.write(message(&[b"12345"]), &memory, offset, Flags::SIGNALLED, 0).unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::InvalidInput);
        assert_eq!(refused.work.to_vec(), b"12345");
        assert!(near.read(space(64), &memory, offset, 5, Flags::default(), 0).is_err());
        assert!(near.fetch_add(&memory, offset, 5, Flags::default(), 0).is_err());
    }
    let refused = near.read(space(256), &memory, 0, 300, Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("bounds"), "{}", refused.error);
    let wide = RemoteMemory { len: 1000, ..memory };
    let refused = near.read(space(256), &wide, 0, 300, Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("shorter"), "{}", refused.error);
    assert!(client.completed().is_empty());
}

#[test]
fn the_peer_enforces_bounds_access_and_keys_and_lives() {
    for attempt in 0..4 {
        let (client, near, server, _far, region) = exported(64, Access::READ);
        let memory = region.describe();
        let mut region = Some(region);
        match attempt {
            // A peer that lies about its bounds.
            0 => near
                .read(space(256), &RemoteMemory { len: 1000, ..memory }, 60, 8, Flags::default(), 0)
                .unwrap(),
            1 => near.write(message(&[b"1"]), &memory, 0, Flags::SIGNALLED, 0).unwrap(),
            2 => near.fetch_add(&memory, 0, 1, Flags::default(), 0).unwrap(),
            _ => {
                region.take().unwrap().revoke().unwrap();
                near.read(space(256), &memory, 0, 8, Flags::default(), 0).unwrap();
            }
        }
        assert_eq!(statuses(&client.completed()), [Some(Status::RemoteAccess)], "attempt {attempt}");
        let event = server.device.next_event().unwrap();
        assert_eq!(event, Some(DeviceEvent::QueuePairFailed { tag: 2 }));
        assert_eq!(server.device.next_event().unwrap(), None);
    }
}

#[test]
fn a_queue_pair_lets_the_peer_do_nothing_that_it_was_not_told_to() {
    let (client, server) = (Side::new(), Side::new());
    let (near, far) = (client.pair(&tagged(1)), server.pair(&tagged(2)));
    join(&near, &far);
    let memory = bytes(64, 0).try_into_mut().unwrap();
    let region = MemoryRegion::new(&server.domain, memory, Access::READ | Access::WRITE).unwrap();
    near.write(message(&[b"1"]), &region.describe(), 0, Flags::SIGNALLED, 0).unwrap();
    assert_eq!(statuses(&client.completed()), [Some(Status::RemoteAccess)]);
}

#[test]
fn a_shared_queue_serves_whoever_needs_a_receive() {
    let (client, server) = (Side::new(), Side::new());
    let shared = SharedReceiveQueue::new(&server.domain, 40).unwrap();
    assert_eq!(shared.post_many(std::iter::repeat_with(|| space(256))).unwrap(), 40, "as many as it takes");
    assert_eq!((shared.room(), shared.posted()), (0, 40));
    assert_eq!(shared.post(space(256)).unwrap_err().error.kind(), ErrorKind::WouldBlock);
    let near = [client.pair(&tagged(1)), client.pair(&tagged(2))];
    let far = [server.sharing(&shared, &tagged(11)), server.sharing(&shared, &tagged(12))];
    near.iter().zip(&far).for_each(|(near, far)| join(near, far));
    shared.warn_below(39).unwrap();
    for (pair, text) in [(1, b"a"), (0, b"b"), (1, b"c")] {
        near[pair].send(message(&[text]), Flags::default(), 0).unwrap();
    }
    let arrived = received(server.completed());
    assert_eq!(arrived, [(12, b"a".to_vec()), (11, b"b".to_vec()), (12, b"c".to_vec())]);
    assert_eq!(shared.room(), 3);
    assert_eq!(server.device.next_event().unwrap(), Some(DeviceEvent::ReceivesLow));
    let refused = far[0].receive(space(64), 0).unwrap_err();
    assert!(refused.error.to_string().contains("shared"), "{}", refused.error);
    double::refuse_next(libc::EINVAL);
    assert_eq!(shared.post(space(256)).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    assert_eq!(shared.room(), 3, "what was not taken does not count");
    shared.post(space(256)).unwrap();
}

#[test]
fn completion_queues_are_as_long_as_all_that_may_complete_there() {
    let side = Side::new();
    let deep = QueuePairConfig { send_depth: 100, receive_depth: 100, ..tagged(0) };
    let pairs: Vec<_> = (0..4).map(|_| side.pair(&deep)).collect();
    assert!(side.completions.capacity() >= 800);
    drop(pairs);
    let capacity = side.completions.capacity();
    drop(side.pair(&QueuePairConfig { send_depth: 400, receive_depth: 400, ..tagged(0) }));
    assert_eq!(side.completions.capacity(), capacity, "room is used again");
    let error = CompletionQueue::new(&side.device, 1 << 21, None).unwrap_err();
    assert!(error.to_string().contains("1048576 completions in a queue at most, 2097152"), "{error}");
    let shared = SharedReceiveQueue::new(&side.domain, 1 << 15).unwrap();
    let before = side.completions.capacity();
    let sharing = [side.sharing(&shared, &tagged(0)), side.sharing(&shared, &tagged(0))];
    let after = side.completions.capacity();
    assert!(after >= (1 << 15) + 128 && before < after && after < 2 << 15 << 1);
    drop(sharing);
}

#[test]
fn a_channel_is_notified_once_per_arming() {
    let (client, server) = (Side::new(), Side::new());
    let channel = CompletionChannel::new(&server.device).unwrap();
    let completions = CompletionQueue::new(&server.device, 16, Some(&channel)).unwrap();
    let near = client.pair(&tagged(1));
    let far = QueuePair::new(&server.domain, &completions, &completions, None, &tagged(2)).unwrap();
    join(&near, &far);
    let send = |flags| {
        far.receive(space(64), 0).unwrap();
        near.send(message(&[b"x"]), flags, 0).unwrap();
    };
    let readable = || {
        let mut poll = libc::pollfd {
            fd: std::os::fd::AsRawFd::as_raw_fd(&channel.as_fd()),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor is looked at.
        unsafe { libc::poll(&mut poll, 1, 0) > 0 }
    };
    send(Flags::default());
    assert!(!readable(), "nobody has asked");
    completions.arm(false).unwrap();
    send(Flags::default());
    send(Flags::default());
    assert!(readable());
    assert_eq!((channel.drain().unwrap(), readable()), (1, false));
    completions.arm(true).unwrap();
    send(Flags::default());
    assert!(!readable(), "it was not marked");
    send(Flags { solicited: true, ..Flags::default() });
    assert_eq!(channel.drain().unwrap(), 1);
}

#[test]
fn datagrams_say_who_has_sent_them() {
    let (client, server) = (Side::new(), Side::new());
    let datagrams = QueuePairConfig { kind: Kind::Datagrams, ..tagged(1) };
    let (near, far) = (client.pair(&datagrams), server.pair(&QueuePairConfig { tag: 2, ..datagrams }));
    near.open(1, 0x11).unwrap();
    far.open(1, 0x22).unwrap();
    let there = AddressHandle::new(&client.domain, &route()).unwrap();
    far.receive(space(256), 0).unwrap();
    near.send_to(message(&[b"lost"]), &there, far.number(), 0x33, Flags::SIGNALLED, 0).unwrap();
    near.send_to(message(&[b"ping"]), &there, far.number(), 0x22, Flags::SIGNALLED, 0).unwrap();
    drop(there);
    assert_eq!(statuses(&client.completed()), [None, None]);
    let source = match server.completed().pop().unwrap().outcome {
        Outcome::Received { data, source: Some(source), .. } => {
            assert_eq!((&*data, source.number), (b"ping".as_slice(), near.number()));
            source
        }
        other => panic!("{other:?}"),
    };
    let back = AddressHandle::new(&server.domain, &Route::back(1, 0, &source)).unwrap();
    near.receive(space(256), 0).unwrap();
    far.send_to(bytes(200, b'p').into(), &back, source.number, 0x11, Flags::default(), 0).unwrap();
    assert_eq!(received(client.completed()), [(1, vec![b'p'; 200])]);
}

#[test]
fn queue_pairs_refuse_what_the_other_kind_does() {
    let side = Side::new();
    let reliable = side.pair(&tagged(1));
    let datagrams = side.pair(&QueuePairConfig { kind: Kind::Datagrams, ..tagged(2) });
    let address = AddressHandle::new(&side.domain, &route()).unwrap();
    let memory = RemoteMemory { address: 0, len: 100, key: 0 };
    let kinds = [
        datagrams.send(message(&[b"1"]), Flags::default(), 0).unwrap_err().error,
        datagrams.write(message(&[b"1"]), &memory, 0, Flags::default(), 0).unwrap_err().error,
        datagrams.read(space(64), &memory, 0, 1, Flags::default(), 0).unwrap_err().error,
        datagrams.fetch_add(&memory, 0, 1, Flags::default(), 0).unwrap_err(),
        reliable.send_to(message(&[b"1"]), &address, 1, 1, Flags::default(), 0).unwrap_err().error,
        reliable.open(1, 1).unwrap_err(),
        datagrams.join(&side.device.port(1).unwrap(), &route(), 1).unwrap_err(),
    ]
    .map(|error| error.kind());
    assert_eq!(kinds, [ErrorKind::InvalidInput; 7]);
    let elsewhere = AddressHandle::new(&Side::new().domain, &route()).unwrap();
    assert!(datagrams.send_to(message(&[b"1"]), &elsewhere, 1, 1, Flags::default(), 0).is_err());
}

#[test]
fn memory_that_may_not_be_locked_is_named_with_the_limit() {
    let side = Side::new();
    let memory = bytes(4096, 0).try_into_mut().unwrap();
    double::lock_at_most(Some(1000));
    let refused = MemoryRegion::new(&side.domain, memory, Access::READ).unwrap_err();
    assert_eq!((refused.error.kind(), refused.work.len()), (ErrorKind::OutOfMemory, 4096));
    let text = refused.error.to_string();
    assert!(text.contains("cannot register 4096 bytes with double") && text.contains("ulimit -l"), "{text}");
    let error = ProtectionDomain::new(&side.device).unwrap_err();
    assert!(error.to_string().contains("ulimit -l"), "{error}");
    // What is mapped from now on is out of reach, and says why.
    let far = bytes(3 << 20, 0);
    assert!(!side.domain.reaches(far.region()));
    let pair = side.pair(&tagged(0));
    let refused = pair.send(far.into(), Flags::default(), 0).unwrap_err();
    assert!(refused.error.to_string().contains("ulimit -l"), "{}", refused.error);
    double::lock_at_most(None);
}

#[test]
fn regions_are_registered_when_they_are_mapped_and_no_longer_than_that() {
    let side = Side::new();
    let before = double::alive();
    let far = bytes(3 << 20, 0);
    assert_eq!(double::alive(), before + 1);
    assert!(side.domain.reaches(far.region()) && !side.domain.reaches(None));
    drop(far);
    pool::trim();
    assert!(double::alive() <= before);
}

#[test]
fn addresses_of_the_wrong_type_and_ports_that_do_not_exist_are_named() {
    let device = double::device().unwrap();
    assert_eq!(device.gids().unwrap()[0].address(), Some(double::ADDRESS.into()));
    assert!(device.gid(1, 0, GidType::RoceV2).is_ok());
    let error = device.gid(1, 0, GidType::InfiniBand).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("is an address of RoCE v2 192.0.2.1, not an InfiniBand"), "{error}");
    assert!(device.gid(1, 9, GidType::RoceV2).unwrap_err().to_string().contains("is none"));
    assert!(device.port(2).is_err());
    let port = device.active_port(1).unwrap();
    assert_eq!((port.mtu(), port.is_ethernet(), port.number()), (4096, true, 1));
}
