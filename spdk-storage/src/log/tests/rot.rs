//! Bits that turn over: what they alter is found, or was of no use; it is never given as data.

use super::*;

/// The records of each log, by its name.
type Content = BTreeMap<String, Vec<(u64, Vec<u8>)>>;

/// Two logs, one of them truncated, with records that fill several segments.
fn small_store(close: bool) -> (Disk, Content) {
    let disk = formatted(512, 1536, 7);
    let mut store = Store::open(&disk);
    let logs = [store.create("one"), store.create("two")];
    for number in 0..12u8 {
        for log in logs {
            store.append(log, &vec![number * 2 + log as u8; 40 + 29 * usize::from(number % 5)]).unwrap();
        }
    }
    let ticket = store.change(Change::Truncate(logs[0], 8));
    store.done(ticket);
    // An acknowledged batch behind the last one that anything proves.
    let tickets: Vec<Ticket> = (0..3).map(|_| store.push(logs[1], b"batch", Sync::Durable)).collect();
    store.run();
    assert!(tickets.iter().all(|ticket| store.over[ticket].is_ok()));
    if close {
        let ticket = store.change(Change::Close);
        store.done(ticket);
    }
    (disk.clone(), content(&disk))
}

fn content(disk: &Disk) -> Content {
    let engine = Engine::read_only(recover(disk).unwrap());
    let logs = engine.logs.iter().enumerate().map(|(place, log)| {
        let (records, holes) = read_all(&engine, disk, place);
        assert!(holes.is_empty());
        (log.name.clone(), records.iter().map(|record| (record.number, record.data.to_vec())).collect())
    });
    logs.collect()
}

/// What a flip did.
#[derive(PartialEq, Debug)]
enum Effect {
    /// Everything is there.
    Harmless { told: bool },
    /// Something is missing, and that is told.
    Told,
    /// A store that was not closed ends earlier.
    Cut { records: usize },
}

fn effect(disk: &Disk, before: &Content) -> Effect {
    let recovered = match recover(disk) {
        Ok(recovered) => recovered,
        Err(error) => panic!("one flip takes all: {error}"),
    };
    let told = !recovered.notes.is_empty();
    let lost = recovered.may_be_lost;
    let engine = Engine::read_only(recovered);
    let (mut missing, mut holes) = (0, 0);
    for (name, records) in before {
        let place = engine.find(name).unwrap();
        let (found, damages) = read_all(&engine, disk, place);
        let found: BTreeMap<u64, Vec<u8>> =
            found.iter().map(|record| (record.number, record.data.to_vec())).collect();
        for (number, data) in &found {
            let (_, expected) =
                records.iter().find(|(known, _)| known == number).expect("nothing is invented");
            assert_eq!(data, expected, "record {number} of {name} is altered");
        }
        for (number, _) in records.iter().filter(|(number, _)| !found.contains_key(number)) {
            missing += 1;
            holes += usize::from(damages.iter().any(|damage| (damage.first..damage.next).contains(number)));
        }
    }
    match missing {
        0 => Effect::Harmless { told },
        _ if holes == missing || lost => Effect::Told,
        _ => Effect::Cut { records: missing },
    }
}

#[test]
fn every_flip_of_a_closed_store_is_found_or_harmless() {
    let (disk, before) = small_store(true);
    let size = disk.geometry().capacity;
    let (mut harmless, mut told) = (0, 0);
    for at in 0..size {
        let disk = disk.fork();
        disk.flip(at, (at % 8) as u32);
        match effect(&disk, &before) {
            Effect::Harmless { .. } => harmless += 1,
            Effect::Told => told += 1,
            Effect::Cut { .. } => panic!("byte {at}: records are missing, and nobody says so"),
        }
    }
    // Superblocks are there twice, and half of the segments are free; the rest is records.
    let bytes: usize = before.values().flatten().map(|(_, data)| data.len() + 32).sum();
    assert!(told >= bytes, "{told} of {size} told, {harmless} harmless, {bytes} in records");
}

/// Without the superblock of the end, what was written last may be taken for what a crash has left: but nothing else, and
/// nothing altered.
#[test]
fn flips_of_a_store_that_was_not_closed_cut_the_last_batch_at_most() {
    let (disk, before) = small_store(false);
    let mut cut = 0;
    for at in 0..disk.geometry().capacity {
        let disk = disk.fork();
        disk.flip(at, (at % 8) as u32);
        if let Effect::Cut { records } = effect(&disk, &before) {
            assert!(records <= 3, "byte {at}: {records}");
            cut += 1;
        }
    }
    // Three records of 40 bytes, less the padding.
    assert!((3 * 36..=3 * 40).contains(&cut), "{cut}");
}

#[test]
fn flips_of_superblocks_are_told() {
    let (disk, before) = small_store(true);
    for at in [0, 40, 128 + 48, 16384 + 20] {
        let disk = disk.fork();
        disk.flip(at, 3);
        assert_eq!(effect(&disk, &before), Effect::Harmless { told: true });
        // Writing on mends it.
        Store::open(&disk);
        assert_eq!(effect(&disk, &before), Effect::Harmless { told: false });
    }
    disk.flip(0, 0);
    disk.flip(16384, 0);
    assert!(matches!(recover(&disk), Err(LogError::Foreign { .. })));
    disk.flip(0, 0);
    disk.flip(30, 0);
    assert_eq!(recover(&disk).unwrap_err(), LogError::NoSuperblock);
}

/// A store with a hole goes on: it is told again whenever it is read, and what comes later can be read.
#[test]
fn logs_go_on_behind_a_hole() {
    let disk = formatted(512, 4096, 8);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    let places: Vec<Appended> = (0..40u8).map(|number| store.append(log, &[number; 200]).unwrap()).collect();
    // In a segment before the last one, and in the last one.
    for number in [3, 38] {
        let Appended { position, .. } = places[number];
        let segment = store.engine.logs[log].segments[(position / 4096) as usize];
        disk.flip(store.engine.superblock.place(segment.number) + position % 4096 + 40, 1);
    }
    let mut store = Store::open(&disk);
    let appended = store.append(log, b"later").unwrap();
    assert_eq!(appended.number, 40);
    let (records, holes) = store.read(log);
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, (0..41).filter(|number| ![3, 38].contains(number)).collect::<Vec<_>>());
    let holes: Vec<(u64, u64)> = holes.iter().map(|hole| (hole.first, hole.next)).collect();
    assert_eq!(holes, [(3, 4), (38, 39)]);
    // Behind a hole and into it, by number.
    for (from, expected) in [(4, Ok(4)), (3, Err(3)), (39, Ok(39))] {
        let mut cursor = Cursor::new(log);
        cursor.seek_number(from);
        match (next(&mut cursor, &store.engine, &disk), expected) {
            (Next::Record(record), Ok(number)) => assert_eq!(record.number, number),
            (Next::Failed(LogError::Damaged(damage)), Err(first)) => assert_eq!(damage.first, first),
            other => panic!("{other:?}"),
        }
    }
}

/// The header of a segment in the midst of a log takes its records with it, and no others.
#[test]
fn a_segment_without_a_header_is_a_hole() {
    let disk = formatted(512, 2048, 8);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    (0..30u8).for_each(|number| assert!(store.append(log, &[number; 200]).is_ok()));
    let segments = store.engine.logs[log].segments.clone();
    disk.flip(store.engine.superblock.place(segments[1].number) + 40, 0);
    let recovered = recover(&disk).unwrap();
    assert!(!recovered.may_be_lost && recovered.damaged == [segments[1].number]);
    let mut store = Store::open(&disk);
    let (records, holes) = store.read(log);
    assert_eq!((holes[0].first, holes[0].next), (segments[1].header.first, segments[2].header.first));
    assert_eq!(records.len() as u64, 30 - (holes[0].next - holes[0].first));
    // What it may hold is not written over.
    while store.append(log, &[7; 200]).is_ok() {}
    assert!(store.engine.logs[log].segments.iter().all(|segment| segment.number != segments[1].number));
}

/// The last segment of a store that was not closed may hold what nothing else tells of.
#[test]
fn the_header_of_a_last_segment_is_missed() {
    let disk = formatted(512, 2048, 8);
    let mut store = Store::open(&disk);
    let log = store.create("log");
    (0..20u8).for_each(|number| assert!(store.append(log, &[number; 200]).is_ok()));
    let last = *store.engine.logs[log].segments.back().unwrap();
    disk.flip(store.engine.superblock.place(last.number) + 9, 7);
    assert!(recover(&disk).unwrap().may_be_lost);
    // The superblock of the end tells of it.
    let ticket = store.change(Change::Close);
    store.done(ticket);
    let recovered = recover(&disk).unwrap();
    assert!(!recovered.may_be_lost);
    let engine = Engine::read_only(recovered);
    let (records, holes) = read_all(&engine, &disk, log);
    assert_eq!((holes[0].first, holes[0].next), (last.header.first, 20));
    assert_eq!(records.last().unwrap().number + 1, last.header.first);
    let mut store = Store::open(&disk);
    assert_eq!(store.append(log, b"next").unwrap().number, 20);
}

/// Whatever is on the device, nothing panics and nothing takes more memory than the device has.
#[test]
fn noise_is_no_store() {
    use demikernel_runtime::random::Random;
    let (disk, _) = small_store(false);
    let size = disk.geometry().capacity;
    for seed in 0..300 {
        let disk = disk.fork();
        let mut random = Random::new(seed, 0);
        for _ in 0..1 + random.below(200) {
            disk.flip(random.below(size), random.below(8) as u32);
        }
        if let Ok(recovered) = recover(&disk) {
            let engine = Engine::read_only(recovered);
            (0..engine.logs.len()).for_each(|log| drop(read_all(&engine, &disk, log)));
        }
    }
}

/// Whoever can compute checksums can write anything: it may be nonsense, but it ends and panics nowhere.
#[test]
fn forged_stores_end() {
    use crate::log::format::{RecordHeader, SegmentHeader, Superblock};
    use demikernel_runtime::random::Random;
    let (disk, _) = small_store(false);
    let superblock = recover(&disk).unwrap().superblock;
    for seed in 0..1000 {
        let (disk, mut random) = (disk.fork(), Random::new(seed, 0));
        let any = |random: &mut Random| match random.below(4) {
            0 => random.below(1 << 62),
            1 => (1 << 62) - 1 - random.below(3),
            _ => random.below(20),
        };
        for _ in 0..1 + random.below(4) {
            let place = superblock.place(random.below(7) as u32);
            let header = SegmentHeader {
                log: 1 + random.below(2),
                index: any(&mut random),
                serial: any(&mut random),
                first: any(&mut random),
                epoch: any(&mut random) as u32,
            };
            let mut block = header.encode(&superblock.uuid).to_vec();
            block.resize(512, 0);
            disk.write(place, &block).unwrap();
            let record = RecordHeader {
                length: any(&mut random) as u32,
                number: any(&mut random),
                epoch: any(&mut random) as u32,
                durable: any(&mut random) as u32,
            };
            let mut block = record.encode(header.seed(&superblock.uuid), std::iter::empty()).to_vec();
            block.resize(512, 0);
            disk.write(place + 512, &block).unwrap();
        }
        let mut forged: Superblock = superblock.clone();
        let entry = &mut forged.logs[(seed % 2) as usize];
        for number in [&mut entry.head, &mut entry.first, &mut entry.proven.index, &mut entry.proven.number] {
            if random.chance(0.3) {
                *number = any(&mut random);
            }
        }
        entry.proven.offset = random.below(1537) as u32;
        forged.epoch = any(&mut random) as u32;
        disk.write(0, &forged.encode()).unwrap();
        disk.write(16384, &forged.encode()).unwrap();
        let Ok(recovered) = recover(&disk) else { continue };
        let engine = Engine::read_only(recovered);
        (0..engine.logs.len()).for_each(|log| drop(read_all(&engine, &disk, log)));
        let mut store = Store::begin(&disk, recover(&disk).unwrap());
        store.run();
        (0..2).for_each(|log| drop(store.append(log, &[1; 100])));
    }
}
