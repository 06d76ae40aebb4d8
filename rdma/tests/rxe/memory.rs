//! One-sided operations.

use demikernel_rdma::verbs::*;

use super::*;

/// A connection whose near end may do everything, and memory that the far one has exported.
fn exported(
    client: &Side,
    server: &Side,
    len: usize,
    access: Access,
) -> (Connection, MemoryRegion, RemoteMemory) {
    let all = Access::READ | Access::WRITE | Access::ATOMIC;
    let far = server.pair(&QueuePairConfig { access: all, ..tagged(2) });
    let connection = connect(client, client.pair(&tagged(1)), server, far);
    let memory = bytes(len, 0).try_into_mut().unwrap();
    let region = MemoryRegion::new(&server.domain, memory, access).unwrap();
    let described = region.describe();
    (connection, region, described)
}

#[test]
fn memory_of_the_peer_is_written_and_read_and_counted_with() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let all = Access::READ | Access::WRITE | Access::ATOMIC;
    let (connection, region, memory) = exported(&client, &server, 65_536, all);
    let Connection { near, far, .. } = &connection;
    let parts: Sga = [bytes(20_000, 1), bytes(20_000, 2)].into_iter().collect();
    near.write(parts, &memory, 4096, Flags::default(), 0).unwrap();
    near.read(space(65_536), &memory, 4096, 40_000, Flags::default(), 6).unwrap();
    match client.completion() {
        Completion { token: 6, outcome: Outcome::Read(data), .. } => {
            assert_eq!(data.len(), 40_000);
            assert!(
                data[..20_000].iter().all(|byte| *byte == 1) && data[20_000..].iter().all(|byte| *byte == 2)
            );
        }
        other => panic!("{other:?}"),
    }
    far.receive(space(64), 4).unwrap();
    let flags = Flags { immediate: Some(0xfeed_0001), ..Flags::SIGNALLED };
    near.write(bytes(3000, 9).into(), &memory, 0, flags, 0).unwrap();
    match server.completion() {
        Completion { tag: 2, token: 4, outcome: Outcome::Written { immediate, len, .. } } => {
            assert_eq!((immediate, len), (0xfeed_0001, 3000));
        }
        other => panic!("{other:?}"),
    }
    client.completion();
    near.fetch_add(&memory, 65_528, 7, Flags::default(), 0).unwrap();
    near.compare_swap(&memory, 65_528, 7, 1 << 50, Flags::default(), 0).unwrap();
    near.compare_swap(&memory, 65_528, 7, 9, Flags::default(), 0).unwrap();
    for expected in [0, 7, 1 << 50] {
        match client.completion().outcome {
            Outcome::Fetched(value) => assert_eq!(value, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(region.load(65_528), 1 << 50);
    let mut some = [0; 4];
    region.copy_to(2998, &mut some);
    assert_eq!(some, [9, 9, 0, 0]);
    drop(connection);
    let memory = region.revoke().unwrap();
    assert!(memory[4096..24_096].iter().all(|byte| *byte == 1));
}

#[test]
fn the_peer_enforces_what_it_has_granted_and_lives() {
    let Some(_) = address() else { return };
    for attempt in 0..5 {
        let (client, server) = (Side::new(), Side::new());
        let (connection, region, memory) = exported(&client, &server, 8192, Access::READ);
        let mut region = Some(region);
        let near = &connection.near;
        match attempt {
            // One that lies about its bounds.
            0 => near
                .read(space(4096), &RemoteMemory { len: 100_000, ..memory }, 8000, 1000, Flags::default(), 0)
                .unwrap(),
            1 => near.write(message(&[b"1"]), &memory, 0, Flags::SIGNALLED, 0).unwrap(),
            2 => near.fetch_add(&memory, 0, 1, Flags::default(), 0).unwrap(),
            3 => near
                .write(
                    bytes(4000, 1).into(),
                    &RemoteMemory { key: memory.key ^ 0x1_0000, ..memory },
                    0,
                    Flags::SIGNALLED,
                    0,
                )
                .unwrap(),
            _ => {
                region.take().unwrap().revoke().unwrap();
                near.read(space(4096), &memory, 0, 100, Flags::default(), 0).unwrap();
            }
        }
        assert_eq!(failure(client.completion()), Status::RemoteAccess, "attempt {attempt}");
        // Its queue pair is done for; the process is not.
        let connection = connect(&client, client.pair(&tagged(3)), &server, server.pair(&tagged(4)));
        connection.far.receive(space(64), 0).unwrap();
        connection.near.send(message(&[b"alive"]), Flags::default(), 0).unwrap();
        assert_eq!(received(next_of(&server, 4)), (4, b"alive".to_vec()));
    }
}

/// The next completion of a queue pair.
fn next_of(side: &Side, tag: u64) -> Completion {
    loop {
        let completion = side.completion();
        if completion.tag == tag {
            return completion;
        }
    }
}

#[test]
fn a_queue_pair_grants_nothing_by_itself() {
    let Some(_) = address() else { return };
    let (client, server) = (Side::new(), Side::new());
    let connection = connect(&client, client.pair(&tagged(1)), &server, server.pair(&tagged(2)));
    let memory = bytes(64, 0).try_into_mut().unwrap();
    let region = MemoryRegion::new(&server.domain, memory, Access::READ | Access::WRITE).unwrap();
    connection.near.write(message(&[b"1"]), &region.describe(), 0, Flags::SIGNALLED, 0).unwrap();
    let status = failure(client.completion());
    assert!(matches!(status, Status::RemoteAccess | Status::RemoteInvalidRequest), "{status}");
    assert_eq!(region.revoke().unwrap()[0], 0);
}
