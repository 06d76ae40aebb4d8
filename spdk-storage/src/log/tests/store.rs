//! Stores and logs as programs have them: in a runtime.

use crate::log::{Appended, Log, LogError, Seek, StoreOptions, log_error};
use crate::memory::{Disk, Faults, Loss};
use crate::{Geometry, Volume};
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::random::Random;
use demikernel_runtime::time::{Instant, sleep};
use demikernel_runtime::{Builder, Idle, Runtime, Time, spawn, wait_all, yield_now};
use std::io;
use std::time::Duration;

fn disk() -> Disk {
    Disk::new(Geometry::new(512, 1 << 20))
}

async fn open(disk: &Disk) -> Log {
    let volume = Volume::attach(disk.device());
    StoreOptions::new().create(true).open(volume).await.unwrap().log("log").await.unwrap()
}

fn run(test: impl AsyncFnOnce()) {
    Runtime::new().unwrap().block_on(test());
}

#[test]
fn what_was_pushed_is_popped_after_a_crash() {
    let disk = disk();
    for round in 0..3u64 {
        run(async || {
            let mut log = open(&disk).await;
            for number in 0..round * 100 {
                assert_eq!(log.pop().await.unwrap().data, number.to_string());
            }
            let push = |number: u64| log.push(Buffer::from(number.to_string()));
            let mut tokens: Vec<_> = (round * 100..round * 100 + 100).map(push).collect();
            let results: io::Result<Vec<Appended>> = wait_all(&mut tokens).await.into_iter().collect();
            assert_eq!(results.unwrap().last().unwrap().number, round * 100 + 99);
            // All of them waited for one flush.
            assert!(log.store().info().flushes <= 10, "{:?}", log.store().info());
        });
        disk.crash(Loss::Everything);
    }
}

#[test]
fn a_pop_waits_for_a_push() {
    run(async || {
        let log = open(&disk()).await;
        let mut reader = log.clone();
        let popped = spawn(async move { reader.pop().await.unwrap().data });
        yield_now().await;
        assert!(!popped.is_finished());
        log.push(Buffer::from("late")).await.unwrap();
        assert_eq!(popped.await.unwrap(), b"late");
    });
}

#[test]
fn a_pop_that_was_given_up_loses_nothing() {
    run(async || {
        let disk = disk();
        let mut log = open(&disk).await;
        log.push(Buffer::from("one")).await.unwrap();
        // Long enough for a machine that is busy with something else.
        disk.set_faults(Faults { latency: Duration::from_millis(300), ..Faults::default() });
        let waited = demikernel_runtime::time::timeout(Duration::from_millis(1), log.pop()).await;
        assert!(waited.is_err());
        assert_eq!(log.pop().await.unwrap().data, b"one");
    });
}

#[test]
fn pushes_go_on_when_all_handles_are_gone() {
    let disk = disk();
    run(async || {
        let log = open(&disk).await;
        log.push(Buffer::from("kept")).detach();
        drop(log);
        // The task ends by itself, and lets the device go.
        for _ in 0..10_000 {
            yield_now().await;
        }
        assert_eq!(
            demikernel_runtime::device_counters().iter().filter(|(name, _)| *name == "memory").count(),
            0
        );
    });
    disk.crash(Loss::Everything);
    run(async || assert_eq!(open(&disk).await.pop().await.unwrap().data, b"kept"));
}

#[test]
fn readers_find_their_places() {
    run(async || {
        let mut log = open(&disk()).await;
        let mut places = Vec::new();
        for number in 0..50u64 {
            places.push(log.push(Buffer::from(vec![number as u8; 1000])).await.unwrap());
        }
        log.seek(Seek::Number(20)).unwrap();
        assert_eq!(log.pop().await.unwrap().number, 20);
        log.seek(Seek::Position(places[40].position)).unwrap();
        assert_eq!(log.pop().await.unwrap().number, 40);
        log.truncate(30).await.unwrap();
        log.seek(Seek::Head).unwrap();
        assert_eq!((log.next_number(), log.pop().await.unwrap().number), (30, 30));
        log.seek(Seek::End).unwrap();
        assert!(log.next().await.unwrap().is_none());
        let error = log.seek(Seek::Position(3)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(log_error(&error), Some(&LogError::NoRecord { position: 3 }));
    });
}

#[test]
fn a_reader_that_falls_behind_a_truncation_goes_on_at_the_head() {
    run(async || {
        let log = open(&disk()).await;
        let mut reader = log.clone();
        for number in 0..1000u32 {
            log.push_unsynced(Buffer::from(number.to_le_bytes().repeat(100))).await.unwrap();
            if number == 10 {
                assert_eq!(reader.pop().await.unwrap().number, 0);
            }
            if number % 100 == 99 {
                log.sync().await.unwrap();
                log.truncate(u64::from(number) - 20).await.unwrap();
            }
        }
        let record = reader.pop().await.unwrap();
        assert_eq!((record.number, record.data), (979, Buffer::from(979u32.to_le_bytes().repeat(100))));
    });
}

#[test]
fn what_a_device_holds_is_not_lost_unasked() {
    run(async || {
        let disk = disk();
        disk.write(1024, &[[0; 56].as_slice(), &[0x53, 0xef], &[0; 454]].concat()).unwrap();
        let volume = Volume::attach(disk.device());
        let error = StoreOptions::new().create(true).open(volume.clone()).await.unwrap_err();
        assert!(error.to_string().contains("ext4"), "{error}");
        let before = disk.read(0, 1 << 20).unwrap();
        let error = StoreOptions::new().open(volume.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.read(0, 1 << 20).unwrap(), before);
        let store =
            StoreOptions::new().overwrite(true).segment_size(8192).open(volume.clone()).await.unwrap();
        assert_eq!(store.info().segment_size, 8192);
        store.log("log").await.unwrap().push(Buffer::from("kept")).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        let store = StoreOptions::new().create(true).open(volume.clone()).await.unwrap();
        assert_eq!(store.names(), ["log"]);
        drop(store);
        let blank = Volume::attach(Disk::new(Geometry::new(512, 1 << 20)).device());
        let error = StoreOptions::new().open(blank).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_store_that_is_read_only_reads() {
    run(async || {
        let disk = disk();
        let log = open(&disk).await;
        log.push(Buffer::from("record")).await.unwrap();
        log.store().close().await.unwrap();
        drop(log);
        disk.set_read_only(true);
        let volume = Volume::attach(disk.device());
        let error = StoreOptions::new().open(volume.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let store = StoreOptions::new().read_only(true).open(volume).await.unwrap();
        let mut log = store.find("log").unwrap();
        assert_eq!(log.pop().await.unwrap().data, b"record");
        assert_eq!(log.push(Buffer::from("x")).await.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(store.find("other").is_none());
    });
}

#[test]
fn a_device_that_vanishes_ends_all_pushes() {
    run(async || {
        let disk = disk();
        let mut log = open(&disk).await;
        let mut reader = log.clone();
        log.push(Buffer::from("before")).await.unwrap();
        let waiting = spawn(async move {
            reader.seek(Seek::End).unwrap();
            reader.pop().await
        });
        yield_now().await;
        disk.vanish();
        let mut tokens = [log.push(Buffer::from("during")), log.push(Buffer::from("too"))];
        for result in wait_all(&mut tokens).await {
            let error = result.unwrap_err();
            assert!(matches!(log_error(&error), Some(LogError::Stopped { .. })), "{error}");
        }
        assert!(waiting.await.unwrap().is_err());
        assert!(log.pop().await.is_err());
    });
}

/// Delays and the order in which they end change nothing.
#[test]
fn slow_devices_keep_the_order() {
    let runtime = Builder::new().time(Time::Virtual).idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let disk = disk();
        let log = open(&disk).await;
        let (latency, jitter) = (Duration::from_millis(1), Duration::from_millis(20));
        disk.set_faults(Faults { latency, jitter, ..Faults::default() });
        let pushers: Vec<_> = (0..16u8)
            .map(|pusher| {
                let log = log.clone();
                spawn(async move {
                    let mut last = None;
                    for number in 0..20u8 {
                        let appended = log.push(Buffer::from(vec![pusher, number])).await.unwrap();
                        assert!(last < Some(appended.number));
                        last = Some(appended.number);
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        let mut log = log.clone();
        let mut next = [0; 16];
        for _ in 0..320 {
            let data = log.pop().await.unwrap().data;
            assert_eq!(data[1], next[usize::from(data[0])]);
            next[usize::from(data[0])] += 1;
        }
        assert!(log.store().info().flushes < 40, "{:?}", log.store().info());
    });
}

/// Those that push again some time after their record is durable, one after the other, share each flush nevertheless; when
/// they stop, one that goes on alone does not wait for them.
#[test]
fn who_comes_back_in_time_shares_the_flush() {
    const ROUNDS: u64 = 40;
    let runtime = Builder::new().time(Time::Virtual).idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let disk = disk();
        let log = open(&disk).await;
        // A write and a flush take so long each.
        let latency = Duration::from_millis(1);
        disk.set_faults(Faults { latency, ..Faults::default() });
        let pushers: Vec<_> = (0..16)
            .map(|pusher| {
                let log = log.clone();
                spawn(async move {
                    for _ in 0..ROUNDS {
                        sleep(Duration::from_micros(20 * pusher)).await;
                        log.push(Buffer::from("a record")).await.unwrap();
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        let flushes = log.store().info().flushes;
        assert!(flushes < ROUNDS + ROUNDS / 4, "{flushes}: two groups take turns");
        for _ in 0..2 {
            log.push(Buffer::from("alone")).await.unwrap();
        }
        let start = Instant::now();
        log.push(Buffer::from("alone")).await.unwrap();
        assert_eq!(start.elapsed(), 2 * latency);
    });
}

/// Records of all sizes, over the ends of reads and segments: in order, from anywhere, while more come, on a device that ends
/// reads in any order.
#[test]
fn who_reads_in_order_has_it_read_ahead() {
    let runtime = Builder::new().time(Time::Virtual).idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let disk = Disk::new(Geometry::new(512, 8 << 20));
        let volume = Volume::attach(disk.device());
        let store =
            StoreOptions::new().create(true).segment_size(1 << 20).open(volume.clone()).await.unwrap();
        let mut log = store.log("log").await.unwrap();
        let mut random = Random::new(1, 0);
        let mut lengths = Vec::new();
        let data = |number: usize, length: usize| Buffer::from(vec![number as u8; length]);
        let length = |random: &mut Random| match random.below(10) {
            0 => random.below(400_000) as usize,
            1..=3 => random.below(70_000) as usize,
            _ => random.below(300) as usize,
        };
        while log.segments() < 5 {
            lengths.push(length(&mut random));
            let number = lengths.len() - 1;
            log.push_unsynced(data(number, lengths[number])).await.unwrap();
        }
        log.sync().await.unwrap();
        let (latency, jitter) = (Duration::from_millis(1), Duration::from_millis(20));
        disk.set_faults(Faults { latency, jitter, ..Faults::default() });
        let started =
            |volume: &Volume| volume.counters().iter().find(|(name, _)| *name == "started").unwrap().1;
        let before = started(&volume);
        let start = demikernel_runtime::time::Instant::now();
        let total = lengths.len();
        for (number, length) in lengths.iter().enumerate() {
            let record = log.next().await.unwrap().unwrap();
            assert_eq!((record.number, record.data), (number as u64, data(number, *length)));
        }
        assert!(log.next().await.unwrap().is_none());
        let (reads, took) = (started(&volume) - before, start.elapsed());
        // One after the other they would take the latency and half of the jitter each.
        assert!(took < reads as u32 * Duration::from_millis(6), "{reads} reads in {took:?}");
        for from in [total / 3, total - 5] {
            log.seek(Seek::Number(from as u64)).unwrap();
            for number in from..total + 20 {
                if number == lengths.len() {
                    // The reader has caught up: what it has read has grown since.
                    lengths.push(length(&mut random));
                    log.push(data(number, lengths[number])).await.unwrap();
                }
                let record = log.next().await.unwrap().unwrap();
                assert_eq!((record.number, record.data), (number as u64, data(number, lengths[number])));
            }
        }
    });
}

#[test]
fn a_push_is_one_durable_write_where_that_is_faster() {
    let runtime = Builder::new().time(Time::Virtual).idle(Idle::Block).build().unwrap();
    runtime.block_on(async {
        let disk = Disk::new(Geometry { durable_writes: true, ..Geometry::new(512, 1 << 20) });
        // Of each operation: so one is faster than two.
        disk.set_faults(Faults { latency: Duration::from_millis(1), ..Faults::default() });
        let log = open(&disk).await;
        let operations = || {
            let counters = log.store().core().volume.counters();
            counters.iter().find(|(name, _)| *name == "started").unwrap().1
        };
        let before = operations();
        log.push(Buffer::from("first")).await.unwrap();
        assert_eq!((disk.unflushed(), operations() - before), (0, 1));
        // What was written before and may be lost needs the flush.
        log.push_unsynced(Buffer::from("second")).await.unwrap();
        assert_eq!(disk.unflushed(), 1);
        log.push(Buffer::from("third")).await.unwrap();
        assert_eq!(disk.unflushed(), 0);
        let before = operations();
        for _ in 0..100 {
            log.push(Buffer::from("more")).await.unwrap();
            assert_eq!(disk.unflushed(), 0);
        }
        assert!((101..105).contains(&(operations() - before)), "the other way is tried now and then");
        disk.crash(Loss::Everything);
    });
}
