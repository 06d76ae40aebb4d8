//! Files.

use crate::harness::{Directory, Net};
use crate::operations::{buffer, pattern};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga, pool};
use demikernel_runtime::time::{Duration, sleep};
use demikernel_runtime::transport::{OpenMode, Qd};
use futures::future::join_all;
use std::io::ErrorKind;
use std::pin::Pin;

type Run = Pin<Box<dyn Future<Output = ()>>>;

/// To read and write, made if it is not there.
fn new_file() -> OpenMode {
    let mut mode = OpenMode::default();
    (mode.read, mode.write, mode.create, mode.mode) = (true, true, true, 0o600);
    mode
}

fn room(size: usize) -> BufferMut {
    BufferMut::with_capacity(size).unwrap()
}

async fn read_exactly(net: &Net, file: Qd, offset: u64, count: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < count {
        let more = net.read_at(file, offset + data.len() as u64, room(64 << 10)).await.unwrap();
        assert!(!more.is_empty(), "the file ends after {} of {count} bytes", data.len());
        data.extend_from_slice(&more);
    }
    data.truncate(count);
    data
}

pub(crate) fn what_is_written_is_read(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        let file = net.open(&directory.file("data"), new_file()).await.unwrap();
        let data = pattern(3 << 20, 1);
        // All parts at once, in any order.
        let part = 200_000;
        let writes = data.chunks(part).enumerate().map(|(index, bytes)| {
            let pieces: Sga = bytes.chunks(7001).map(buffer).collect();
            net.write_at(file, (index * part) as u64, pieces)
        });
        let writes: Vec<_> = writes.collect();
        assert!(join_all(writes).await.iter().all(Result::is_ok));
        net.sync(file, true).await.unwrap();
        net.sync(file, false).await.unwrap();
        assert_eq!(net.storage.length(file).unwrap(), data.len() as u64);
        assert!(read_exactly(&net, file, 0, data.len()).await == data);
        assert!(read_exactly(&net, file, 12_345, 77).await == data[12_345..12_345 + 77]);

        // After what a buffer has already, and up to its capacity.
        let mut begun = room(4096);
        begun.extend_from_slice(b"header");
        let capacity = begun.capacity();
        let read = net.read_at(file, 5, begun).await.unwrap();
        assert_eq!((&read[..6], read.len()), (&b"header"[..], capacity));
        assert!(read[6..] == data[5..5 + capacity - 6]);

        assert!(net.read_at(file, data.len() as u64, room(10)).await.unwrap().is_empty());
        assert!(net.read_at(file, u64::MAX, room(10)).await.is_err());
        net.storage.close_file(file);
        assert!(net.read_at(file, 0, room(10)).await.is_err());
        assert!(net.contents(&directory.file("data")).await == data);
    })
}

pub(crate) fn files_append_and_truncate(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        let path = directory.file("log");
        let mut mode = OpenMode::default();
        (mode.append, mode.create, mode.mode) = (true, true, 0o600);
        let log = net.open(&path, mode).await.unwrap();
        net.write_at(log, 0, buffer(b"one ")).await.unwrap();
        net.write_at(log, 0, buffer(b"two")).await.unwrap();
        net.write_at(log, 0, Sga::new()).await.unwrap();
        assert_eq!(net.contents(&path).await, b"one two");
        assert!(net.read_at(log, 0, room(10)).await.is_err(), "it is not open for reading");
        net.storage.close_file(log);

        let file = net.open(&path, new_file()).await.unwrap();
        net.truncate(file, 2).await.unwrap();
        assert_eq!(net.storage.length(file).unwrap(), 2);
        net.truncate(file, 6).await.unwrap();
        assert_eq!(read_exactly(&net, file, 0, 6).await, b"on\0\0\0\0");
        assert!(net.truncate(file, u64::MAX).await.is_err());
        net.storage.close_file(file);

        let mut empty = new_file();
        empty.truncate = true;
        let file = net.open(&path, empty).await.unwrap();
        assert_eq!(net.storage.length(file).unwrap(), 0);
        net.storage.close_file(file);
    })
}

pub(crate) fn opening_fails_as_it_should(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        let path = directory.file("there");
        let mut read = OpenMode::default();
        read.read = true;
        let error = net.open(&path, read).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("there"), "{error}");
        net.make_file(&path, b"x").await;
        let mut new = new_file();
        new.create_new = true;
        assert_eq!(net.open(&path, new).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(net.open(&path, OpenMode::default()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let file = net.open(&path, read).await.unwrap();
        assert!(net.write_at(file, 0, buffer(b"y")).await.is_err(), "it is not open for writing");
        net.storage.close_file(file);
        // Opened and given up: the descriptor is closed by whoever gets it.
        for _ in 0..20 {
            drop(net.open(&path, read));
        }
    })
}

pub(crate) fn a_cancelled_read_keeps_its_buffer(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        let path = directory.file("pipe");
        net.make_file(&path, &pattern(1 << 20, 4)).await;
        let file = net.open(&path, new_file()).await.unwrap();
        let before = pool::stats().in_use();
        for round in 0..200 {
            let read = net.read_at(file, 0, room(64 << 10));
            let write = net.write_at(file, 0, buffer(&[round; 9000]));
            drop((read, write, net.sync(file, true)));
            // Memory that is given out anew is nobody else's.
            let mut fresh = room(64 << 10);
            fresh.resize(64 << 10, 0xaa);
            if round % 10 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(fresh.iter().all(|&byte| byte == 0xaa));
        }
        for _ in 0..1000 {
            if pool::stats().in_use() <= before {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert!(pool::stats().in_use() <= before);
        net.storage.close_file(file);
    })
}

pub(crate) fn direct_input_and_output(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        let mut direct = new_file();
        direct.direct = true;
        let file = match net.open(&directory.file("blocks"), direct).await {
            Ok(file) => file,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let mut block = room(64 << 10);
        block.extend_from_slice(&pattern(64 << 10, 5));
        let block = block.freeze();
        net.write_at(file, 0, block.clone()).await.unwrap();
        net.sync(file, false).await.unwrap();
        let read = net.read_at(file, 4096, room(4096)).await.unwrap();
        assert!(read == block[4096..8192]);
        let unaligned = net.write_at(file, 1, block.slice(..100)).await.unwrap_err();
        assert!(unaligned.to_string().contains("whole blocks"), "{unaligned}");
        net.storage.close_file(file);
    })
}

pub(crate) fn close_is_after_what_is_under_way(net: Net) -> Run {
    Box::pin(async move {
        let directory = Directory::new();
        for index in 0..20 {
            let path = directory.file(&index.to_string());
            let file = net.open(&path, new_file()).await.unwrap();
            let data = pattern(100_000, index);
            let write = net.write_at(file, 0, Buffer::from(data.clone()));
            net.storage.close_file(file);
            write.await.unwrap();
            assert!(net.contents(&path).await == data);
        }
    })
}
