//! Files through io_uring: blocks, locks, what is not possible, and a store on them.
#![cfg(feature = "io-uring")]

use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::transport::Transport;
use demikernel_runtime::transport::epoll::Epoll;
use demikernel_runtime::transport::uring::{Config, Uring};
use demikernel_runtime::{Builder, Idle, Runtime, wait_all};
use demikernel_spdk_storage::file::FileOptions;
use demikernel_spdk_storage::log::StoreOptions;
use demikernel_spdk_storage::{Geometry, Volume};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that goes with the test: on a disk, as far as the build directory is on one.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// With each way to wait: by spinning, by the runtime's own call, and within other devices.
fn run(test: impl AsyncFn()) {
    for idle in [Idle::Spin, Idle::Block] {
        let transports = [
            None,
            Some(Epoll::transport().unwrap()),
            Uring::new(Config::default()).ok().map(Transport::both),
        ];
        for transport in transports {
            let runtime = Builder::new().idle(idle).build().unwrap();
            transport.into_iter().for_each(|transport| runtime.attach(transport));
            runtime.block_on(test());
        }
    }
}

fn aligned(byte: u8, length: usize) -> Buffer {
    let mut buffer = BufferMut::with_capacity(length.max(4096)).unwrap();
    buffer.resize(length, byte);
    buffer.freeze()
}

fn counter(volume: &Volume, name: &str) -> u64 {
    volume.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn blocks_are_written_and_read_either_way() {
    for direct in [true, false] {
        let file = Temporary::new(&format!("blocks-{direct}"));
        run(async || {
            let options = FileOptions::new().create(1 << 20).direct(direct);
            let volume = Volume::attach(options.open(&file.0).unwrap());
            let Geometry { capacity, logical_block: block, .. } = volume.geometry();
            assert_eq!(capacity, 1 << 20);
            assert!(direct || counter(&volume, "direct") == 0);
            let mut tokens: Vec<_> =
                (0..200u64).map(|number| volume.write(number * 4096, aligned(number as u8, 4096))).collect();
            wait_all(&mut tokens).await.into_iter().collect::<io::Result<()>>().unwrap();
            volume.flush().await.unwrap();
            for number in 0..200u64 {
                assert_eq!(volume.read(number * 4096, 4096).await.unwrap(), [number as u8; 4096]);
            }
            several_pieces(&volume, block as usize).await;
            match volume.discard(0, 8192).await {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            }
            match volume.write_zeroes(8192, 4096).await {
                Ok(()) => assert_eq!(volume.read(8192, 4096).await.unwrap(), [0; 4096]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            }
        });
    }
}

/// Several pieces, and memory that is not aligned.
async fn several_pieces(volume: &Volume, block: usize) {
    let pieces: Sga = [aligned(1, 4096), aligned(2, 8192)].into_iter().collect();
    volume.write(4096, pieces).await.unwrap();
    let odd = Buffer::from(vec![3; block + 1]).slice(1..);
    volume.write(16384, odd).await.unwrap();
    let rooms = vec![BufferMut::with_capacity(4096).unwrap(), BufferMut::with_capacity(16384).unwrap()];
    let read = volume.read_vectored(4096, rooms).await.unwrap();
    let read: Vec<u8> = read.iter().flat_map(|part| part.to_vec()).collect();
    assert_eq!(read[..12288], [[1; 4096], [2; 4096], [2; 4096]].concat());
    assert_eq!(read[12288..][..block], vec![3; block]);
    assert_eq!(counter(volume, "bounced"), counter(volume, "direct"));
}

#[test]
fn a_file_has_one_writer_or_any_number_of_readers() {
    let file = Temporary::new("locks");
    run(async || {
        let writer = Volume::attach(FileOptions::new().create(1 << 20).open(&file.0).unwrap());
        for options in [FileOptions::new(), FileOptions::new().read_only(true)] {
            let error = options.lock_patience(Duration::from_millis(20)).open(&file.0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
            assert!(error.to_string().contains("locks-"), "{error}");
        }
        drop(writer);
        let reader = Volume::attach(FileOptions::new().read_only(true).open(&file.0).unwrap());
        let other = Volume::attach(FileOptions::new().read_only(true).open(&file.0).unwrap());
        reader.read(0, 4096).await.unwrap();
        other.read(0, 4096).await.unwrap();
        assert!(FileOptions::new().lock_patience(Duration::ZERO).open(&file.0).is_err());
        let error = reader.write(0, aligned(0, 4096)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    let open = |path: &str| FileOptions::new().open(path).unwrap_err();
    assert_eq!(open("/nowhere/log").kind(), io::ErrorKind::NotFound);
    assert!(open("/nowhere/log").to_string().starts_with("/nowhere/log: "));
    assert_eq!(open("/dev/null").kind(), io::ErrorKind::InvalidInput);
    let empty = Temporary::new("empty");
    std::fs::write(&empty.0, "").unwrap();
    assert!(FileOptions::new().open(&empty.0).unwrap_err().to_string().contains("empty"));
    let error = FileOptions::new().create(1 << 20).poll(true).open(&empty.0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("it cannot be polled: files are not"), "{error}");
}

#[test]
fn a_file_that_is_cut_is_an_error() {
    let file = Temporary::new("cut");
    run(async || {
        let volume = Volume::attach(FileOptions::new().create(1 << 20).open(&file.0).unwrap());
        let length =
            |bytes| std::fs::OpenOptions::new().write(true).open(&file.0).unwrap().set_len(bytes).unwrap();
        length(8192);
        volume.read(4096, 4096).await.unwrap();
        let error = volume.read(4096, 8192).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        length(1 << 20);
    });
}

#[test]
fn more_than_the_queue_takes_waits() {
    let file = Temporary::new("depth");
    run(async || {
        let volume = Volume::attach(FileOptions::new().create(1 << 20).depth(2).open(&file.0).unwrap());
        let mut tokens: Vec<_> =
            (0..100u64).map(|number| volume.write(number * 4096, aligned(number as u8, 4096))).collect();
        wait_all(&mut tokens).await.into_iter().collect::<io::Result<()>>().unwrap();
        assert_eq!(counter(&volume, "waited"), 98);
        for number in 0..100u64 {
            assert_eq!(volume.read(number * 4096, 4096).await.unwrap()[..2], [number as u8; 2]);
        }
    });
}

#[test]
fn what_nobody_waits_for_is_written_before_the_runtime_ends() {
    let file = Temporary::new("end");
    let runtime = Runtime::new().unwrap();
    let volume = runtime.block_on(async {
        let volume = Volume::attach(FileOptions::new().create(1 << 20).open(&file.0).unwrap());
        drop(volume.write(0, aligned(5, 1 << 19)));
        drop(volume.read(0, 4096));
        volume
    });
    drop(runtime);
    drop(volume);
    assert_eq!(std::fs::read(&file.0).unwrap()[..1 << 19], vec![5; 1 << 19]);
}

#[test]
fn a_store_lives_in_a_file() {
    let file = Temporary::new("store");
    for round in 0..3u64 {
        run(async || {
            let volume = Volume::attach(FileOptions::new().create(4 << 20).open(&file.0).unwrap());
            let store = StoreOptions::new().create(true).open(volume).await.unwrap();
            let mut log = store.log("log").await.unwrap();
            let before = log.end();
            assert!(before >= round * 200);
            for number in 0..before {
                assert_eq!(log.pop().await.unwrap().data, number.to_string());
            }
            let push = |number: u64| log.push(Buffer::from(number.to_string()));
            let mut tokens: Vec<_> = (before..before + 100).map(push).collect();
            assert!(wait_all(&mut tokens).await.iter().all(Result::is_ok));
            if round == 1 {
                store.close().await.unwrap();
            }
        });
    }
}

#[test]
fn single_writes_are_durable_where_that_is_asked_for() {
    let file = Temporary::new("durable");
    for durable in [true, false] {
        run(async || {
            let options = FileOptions::new().create(1 << 20).durable_writes(durable);
            let volume = Volume::attach(options.open(&file.0).unwrap());
            assert_eq!(volume.geometry().durable_writes, durable);
            let written = volume.write_durable(4096, aligned(7, 8192)).await;
            if !durable {
                assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
                return;
            }
            written.unwrap();
            assert_eq!(volume.read(4096, 8192).await.unwrap(), vec![7; 8192]);
            let store = StoreOptions::new().overwrite(true).open(volume).await.unwrap();
            let log = store.log("log").await.unwrap();
            log.push(Buffer::from("durable")).await.unwrap();
        });
    }
}

/// What was never written has extents that the first write must change, and the flush then waits for.
#[test]
fn a_file_that_is_made_is_written() {
    let file = Temporary::new("written");
    let size = (3 << 20) + 4096;
    drop(FileOptions::new().create(size).open(&file.0).unwrap());
    let metadata = std::fs::metadata(&file.0).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(std::fs::read(&file.0).unwrap().iter().all(|byte| *byte == 0));
}
