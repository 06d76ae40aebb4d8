//! What is full, long, many, gone or not ours.

use super::*;
use crate::log::format::{MOST_LOGS, Superblock};

#[test]
fn records_come_back_in_order_with_their_places() {
    let disk = formatted(512, 4096, 8);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    let data = |number: usize| vec![number as u8; number * 37 % 900];
    let places: Vec<Appended> = (0..30).map(|number| store.append(log, &data(number)).unwrap()).collect();
    for store in [store, Store::open(&disk)] {
        let (records, holes) = store.read(log);
        assert!(holes.is_empty());
        for (number, (record, place)) in records.iter().zip(&places).enumerate() {
            assert_eq!((record.number, record.position), (place.number, place.position));
            assert_eq!(record.data, data(number));
        }
        assert_eq!(records.len(), 30);
        let mut cursor = Cursor::new(log);
        for place in places.iter().rev() {
            cursor.seek_position(place.position, &store.engine).unwrap();
            let Next::Record(record) = next(&mut cursor, &store.engine, &disk) else { panic!("{place:?}") };
            assert_eq!(record.number, place.number);
        }
        for position in [0, places[3].position + 8, places[3].position + 1, 4096 * 100, u64::MAX] {
            let sought = cursor.seek_position(position, &store.engine);
            let sought = sought.map(|()| next(&mut cursor, &store.engine, &disk));
            assert!(
                matches!(
                    sought,
                    Err(LogError::NoRecord { .. }) | Ok(Next::Failed(LogError::NoRecord { .. }))
                ),
                "{position}: {sought:?}"
            );
        }
    }
}

#[test]
fn pushes_that_wait_together_share_one_flush() {
    let disk = formatted(512, 1 << 20, 4);
    let mut store = Store::open(&disk);
    let logs = [store.create("one"), store.create("two")];
    let before = store.engine.count;
    for number in 0..64u8 {
        store.push(logs[usize::from(number % 2)], &[number; 64], Sync::Durable);
    }
    store.run();
    let after = store.engine.count;
    assert_eq!((after.flushes - before.flushes, after.records - before.records), (1, 64));
}

#[test]
fn what_need_not_be_durable_costs_no_flush_until_it_has_to_be() {
    let disk = formatted(512, 1 << 20, 4);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    let before = store.engine.count.flushes;
    for _ in 0..10 {
        let ticket = store.push(log, b"record", Sync::Written);
        store.run();
        assert!(store.over[&ticket].is_ok());
    }
    assert_eq!(store.engine.count.flushes, before);
    assert_eq!(store.read(log).0.len(), 10);
    let ticket = store.sync(log);
    store.done(ticket);
    assert_eq!(store.engine.count.flushes, before + 1);
    let ticket = store.sync(log);
    store.done(ticket);
    assert_eq!(store.engine.count.flushes, before + 1, "there was nothing to flush");
    disk.crash(crate::memory::Loss::Everything);
    assert_eq!(Store::open(&disk).read(log).0.len(), 10);
}

#[test]
fn a_full_store_refuses_and_goes_on_after_a_truncation() {
    let disk = formatted(512, 2048, 4);
    let mut store = Store::open(&disk);
    let (log, other) = (store.create("log"), store.create("other"));
    store.append(other, b"first").unwrap();
    let mut count = 0;
    let error = loop {
        match store.append(log, &[count as u8; 300]) {
            Ok(appended) => assert_eq!(appended.number, count),
            Err(error) => break error,
        }
        count += 1;
    };
    assert_eq!(error, LogError::Full);
    // What is small still finds room, and what was there is there.
    assert_eq!(store.append(log, b"small").unwrap().number, count);
    store.append(other, b"second").unwrap();
    let mut store = Store::open(&disk);
    assert_eq!(store.read(log).0.len() as u64, count + 1);
    assert_eq!(store.read(other).0.len(), 2);
    assert_eq!(store.append(log, &[0; 300]), Err(LogError::Full));
    let ticket = store.change(Change::Truncate(log, 5));
    store.done(ticket);
    assert_eq!(store.append(log, &[1; 300]).unwrap().number, count + 1);
    assert_eq!(store.read(log).0[0].number, 5);
}

/// What is not durable may be lost, and its number given to another record.
#[test]
fn only_what_is_durable_is_truncated() {
    let disk = formatted(512, 2048, 6);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    store.append(log, b"durable").unwrap();
    store.push(log, b"written", Sync::Written);
    store.run();
    let ticket = store.change(Change::Truncate(log, 2));
    // The superblock of this very change makes it durable, but it was not when it was asked for.
    store.done(ticket);
    assert_eq!(store.engine.logs[log].head, 1);
    let ticket = store.change(Change::Truncate(log, 100));
    store.done(ticket);
    assert_eq!((store.engine.logs[log].head, store.read(log).0.len()), (2, 0));
    assert_eq!(store.append(log, b"next").unwrap().number, 2);
}

#[test]
fn segments_are_used_again_and_again() {
    let disk = formatted(512, 2048, 5);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    for number in 0..2000u64 {
        let data = number.to_le_bytes().repeat(10);
        assert_eq!(store.append(log, &data).unwrap().number, number);
        if number % 10 == 9 {
            let ticket = store.change(Change::Truncate(log, number - 4));
            store.done(ticket);
        }
        if number % 100 == 99 {
            store = Store::open(&disk);
            let (records, holes) = store.read(log);
            assert!(holes.is_empty());
            let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
            assert_eq!(numbers, (number - 4..=number).collect::<Vec<_>>());
            assert!(records.iter().all(|record| record.data == record.number.to_le_bytes().repeat(10)));
        }
    }
}

#[test]
fn records_are_as_long_as_a_segment_at_most() {
    let disk = formatted(512, 4096, 4);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    let most = store.engine.longest_record();
    assert_eq!(most, 4096 - 512 - 32);
    store.append(log, &vec![1; most]).unwrap();
    store.append(log, b"").unwrap();
    store.append(log, &vec![2; most]).unwrap();
    assert_eq!(store.append(log, &vec![3; most + 1]), Err(LogError::TooLong { length: most + 1, most }));
    let (records, _) = Store::open(&disk).read(log);
    assert_eq!(records.iter().map(|record| record.data.len()).collect::<Vec<_>>(), [most, 0, most]);
}

#[test]
fn logs_begin_and_end() {
    let disk = formatted(512, 2048, 6);
    let mut store = Store::open(&disk);
    let (one, two) = (store.create("one"), store.create("two"));
    assert_eq!(store.create("one"), one);
    while store.append(one, &[1; 500]).is_ok() {}
    assert_eq!(store.append(two, &[2; 500]), Err(LogError::Full));
    let ticket = store.change(Change::Remove(one));
    store.done(ticket);
    assert_eq!(store.append(one, b"x"), Err(LogError::NoLog { name: "one".into() }));
    store.append(two, &[2; 500]).unwrap();
    // A log of the same name is another log.
    let again = store.create("one");
    assert!(again != one && store.read(again).0.is_empty());
    store.append(again, b"anew").unwrap();
    let store = Store::open(&disk);
    assert_eq!(store.read(store.engine.find("one").unwrap()).0[0].data, b"anew");
    assert_eq!(store.read(store.engine.find("two").unwrap()).0.len(), 1);
}

#[test]
fn names_are_checked_and_counted() {
    let disk = formatted(512, 1024, 4);
    let mut store = Store::open(&disk);
    let mut create = |name: &str| {
        let ticket = store.change(Change::Create(name.to_owned()));
        store.run();
        store.over.remove(&ticket).unwrap()
    };
    for bad in ["", &"n".repeat(81)] {
        assert!(matches!(create(bad), Err(LogError::BadName { .. })), "{bad}");
    }
    for number in 0..MOST_LOGS {
        create(&format!("{number} {}", "n".repeat(70))).unwrap();
    }
    assert_eq!(create("one more").unwrap_err(), LogError::TooManyLogs);
    assert_eq!(Store::open(&disk).engine.logs.len(), MOST_LOGS);
}

#[test]
fn a_failing_device_stops_the_store() {
    let disk = formatted(512, 2048, 6);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    store.append(log, b"before").unwrap();
    disk.set_room(0);
    let tickets = [store.push(log, b"during", Sync::Durable), store.change(Change::Truncate(log, 1))];
    store.run();
    for ticket in tickets {
        assert!(matches!(store.over[&ticket], Err(LogError::Stopped { .. })), "{:?}", store.over[&ticket]);
    }
    disk.set_room(u64::MAX);
    // A second attempt could claim what is not so.
    assert!(matches!(store.append(log, b"after"), Err(LogError::Stopped { .. })));
    let mut store = Store::open(&disk);
    assert_eq!(store.read(log).0.len(), 1);
    store.append(log, b"after").unwrap();
}

#[test]
fn a_closed_store_takes_nothing_more() {
    let disk = formatted(512, 2048, 6);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    let last = store.push(log, b"last", Sync::Written);
    let close = store.change(Change::Close);
    let late = store.push(log, b"late", Sync::Durable);
    store.done(close);
    assert!(store.over[&last].is_ok());
    assert!(matches!(store.over[&late], Err(LogError::Closed)));
    assert!(matches!(store.append(log, b"later"), Err(LogError::Closed)));
    assert!(recover(&disk).unwrap().superblock.clean);
    Store::open(&disk);
    assert!(!recover(&disk).unwrap().superblock.clean);
}

#[test]
fn what_is_only_read_is_not_written() {
    let disk = formatted(512, 2048, 6);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    store.append(log, b"record").unwrap();
    disk.set_read_only(true);
    let engine = Engine::read_only(recover(&disk).unwrap());
    let mut store = Store { disk: disk.clone(), engine, torn: None, next: 1, over: BTreeMap::new() };
    assert_eq!(store.read(log).0.len(), 1);
    assert_eq!(store.append(log, b"x"), Err(LogError::ReadOnly));
    let tickets = [store.change(Change::Truncate(log, 1)), store.change(Change::Create("new".into()))];
    assert!(!store.step());
    assert!(matches!(store.over[&tickets[0]], Err(LogError::ReadOnly)));
    assert!(matches!(store.over[&tickets[1]], Err(LogError::NoLog { .. })));
}

#[test]
fn what_is_not_ours_is_named() {
    let blank = Disk::new(Geometry::new(512, 1 << 20));
    assert_eq!(recover(&blank).unwrap_err(), LogError::Blank);
    blank.write(1024, &[[0; 56].as_slice(), &[0x53, 0xef], &[0; 454]].concat()).unwrap();
    let error = recover(&blank).unwrap_err();
    assert!(error.to_string().contains("ext4"), "{error}");
    let tiny = Disk::new(Geometry::new(512, 512));
    assert_eq!(recover(&tiny).unwrap_err(), LogError::Blank);
}

#[test]
fn a_store_needs_a_device_that_suits() {
    let disk = formatted(512, 2048, 6);
    let bytes = disk.read(0, disk.geometry().capacity as usize).unwrap();
    let on = |geometry: Geometry| {
        let other = Disk::new(geometry);
        let length = bytes.len().min(geometry.capacity as usize);
        other.write(0, &bytes[..length]).unwrap();
        recover(&other)
    };
    let capacity = disk.geometry().capacity;
    assert_eq!(on(Geometry::new(4096, 1 << 20)).unwrap_err(), LogError::BlockSize { log: 512, device: 4096 });
    let device = capacity - 2048;
    assert_eq!(on(Geometry::new(512, device)).unwrap_err(), LogError::Cut { store: capacity, device });
    on(Geometry::new(512, 1 << 20)).unwrap();
    // Smaller blocks do.
    assert_eq!(formatted(4096, 8192, 3).geometry().logical_block, 4096);
}

#[test]
fn a_newer_format_is_told() {
    let disk = formatted(512, 2048, 6);
    for second in [false, true] {
        let mut bytes = disk.read(Superblock::slot(second), 512).unwrap();
        bytes[8] = 9;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..128]);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        disk.write(Superblock::slot(second), &bytes).unwrap();
        assert_eq!(recover(&disk).unwrap_err(), LogError::Newer { version: 9 });
    }
}
