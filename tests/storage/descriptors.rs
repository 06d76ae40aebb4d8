//! The PDPIX calls on logs.

use crate::small_store;
use demikernel::pdpix::{self, Opcode, QResult, Qd};
use demikernel::storage::{self, Store, memory::Faults};
use demikernel::{Buffer, Builder};
use std::io::{self, SeekFrom};

/// Runs a test on a store with this many segments of 8 KiB.
fn on_store<T>(segments: u64, test: impl AsyncFnOnce(Store, storage::memory::Disk) -> io::Result<T>) -> T {
    let runtime = Builder::new().transport("epoll").build().unwrap();
    let main = async {
        let (store, disk) = small_store(segments).await;
        storage::set_default(&store);
        test(store, disk).await
    };
    runtime.block_on(main).unwrap()
}

async fn open(path: &str, flags: i32) -> io::Result<Qd> {
    let (qd, qt) = pdpix::open(path, flags, 0)?;
    let result = pdpix::wait(qt, None).await?;
    assert_eq!(result.qd, qd);
    result.ok().map(|_| qd)
}

async fn push(qd: Qd, text: &str) -> io::Result<()> {
    let result = pdpix::wait(pdpix::push(qd, Buffer::from(text.to_owned()))?, None).await?;
    result.ok().map(drop)
}

fn text(result: QResult) -> String {
    assert_eq!(result.opcode, Opcode::Pop, "{result:?}");
    String::from_utf8(result.value.sga().unwrap().to_vec()).unwrap()
}

async fn pop(qd: Qd) -> io::Result<String> {
    pdpix::wait(pdpix::pop(qd, None)?, None).await.map(text)
}

#[track_caller]
fn number<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    let error = result.unwrap_err();
    error.raw_os_error().unwrap_or_else(|| panic!("{error:?} has no number"))
}

const NEW: i32 = libc::O_RDWR | libc::O_CREAT;

#[test]
fn records_come_back_in_order_and_then_there_are_none() {
    on_store(8, async |_, _| {
        let log = open("log:orders", NEW).await?;
        let pushes = ["one", "two", "three"].map(|text| pdpix::push(log, Buffer::from(text)).unwrap());
        for result in pdpix::wait_all(&pushes, None).await? {
            assert_eq!(result.opcode, Opcode::Push);
        }
        // All at once: each takes the record behind that of the one before.
        let pops: Vec<_> = (0..5).map(|_| pdpix::pop(log, None).unwrap()).collect();
        let mut results = pdpix::wait_all(&pops, None).await?;
        let last = results.split_off(3);
        assert_eq!(results.into_iter().map(text).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(last.into_iter().map(text).collect::<Vec<_>>(), ["", ""], "the end");
        // What comes later is read from where the end was.
        push(log, "four").await?;
        assert_eq!(pop(log).await?, "four");
        // Nothing is nothing, as with write(2).
        push(log, "").await?;
        push(log, "five").await?;
        assert_eq!(pop(log).await?, "five");
        assert_eq!(pdpix::lseek(log, SeekFrom::Current(0))?, 5);
        pdpix::close(log)
    });
}

#[test]
fn each_descriptor_has_a_place_of_its_own() {
    on_store(8, async |store, _| {
        let (one, other) = (open("log:orders", NEW).await?, open("log:orders", libc::O_RDONLY).await?);
        push(one, "a").await?;
        assert_eq!(pop(one).await?, "a");
        assert_eq!(pop(other).await?, "a");
        // The other way to the same log.
        store.log("orders").await?.push(Buffer::from("b")).await?;
        assert_eq!(pop(other).await?, "b");
        assert_eq!(pdpix::lseek(one, SeekFrom::Current(0))?, 1);
        Ok(())
    });
}

#[test]
fn places_are_numbers_of_records() {
    on_store(8, async |_, _| {
        let log = open("log:orders", NEW).await?;
        for count in 0..10 {
            push(log, &count.to_string()).await?;
        }
        assert_eq!(pdpix::lseek(log, SeekFrom::Start(7))?, 7);
        assert_eq!(pop(log).await?, "7");
        assert_eq!(pdpix::lseek(log, SeekFrom::Current(-6))?, 2);
        assert_eq!(pop(log).await?, "2");
        assert_eq!(pdpix::lseek(log, SeekFrom::End(-1))?, 9);
        assert_eq!(pop(log).await?, "9");
        for to in [SeekFrom::Current(-11), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
            assert_eq!(number(pdpix::lseek(log, to)), libc::EINVAL, "{to:?}");
        }
        assert_eq!(pdpix::lseek(log, SeekFrom::Current(0))?, 10, "it has not moved");
        // Beyond the end there is nothing, until there is.
        assert_eq!(pdpix::lseek(log, SeekFrom::End(1))?, 11);
        assert_eq!(pop(log).await?, "");
        push(log, "10").await?;
        assert_eq!(pop(log).await?, "");
        push(log, "11").await?;
        assert_eq!(pop(log).await?, "11");
        // What was started before the place was moved is not.
        pdpix::lseek(log, SeekFrom::Start(3))?;
        let mut pops = vec![pdpix::pop(log, None)?, pdpix::pop(log, None)?];
        assert_eq!(pdpix::lseek(log, SeekFrom::Current(1))?, 6);
        pops.push(pdpix::pop(log, None)?);
        pdpix::lseek(log, SeekFrom::Start(0))?;
        pops.push(pdpix::pop(log, None)?);
        let texts: Vec<_> = pdpix::wait_all(&pops, None).await?.into_iter().map(text).collect();
        assert_eq!(texts, ["3", "4", "6", "0"]);
        Ok(())
    });
}

#[test]
fn truncation_takes_what_is_before() {
    on_store(8, async |store, _| {
        let log = open("log:orders", NEW).await?;
        for count in 0..10 {
            push(log, &count.to_string()).await?;
        }
        let truncate = async |to| pdpix::wait(pdpix::truncate(log, to)?, None).await?.ok().map(drop);
        truncate(4).await?;
        assert_eq!(store.find("orders").unwrap().head(), 4);
        assert_eq!(pop(log).await?, "4");
        assert_eq!(pdpix::lseek(log, SeekFrom::Start(0))?, 4, "the first that is there");
        assert_eq!(number(truncate(11).await), libc::EINVAL);
        assert_eq!(number(pdpix::truncate(log, u64::MAX).map(drop)), libc::EINVAL);
        truncate(10).await?;
        assert_eq!(pop(log).await?, "");
        push(log, "10").await?;
        assert_eq!(pop(log).await?, "10");
        // creat gives up everything, and may not read.
        let (made, token) = pdpix::creat("log:orders", 0o600)?;
        pdpix::wait(token, None).await?.ok()?;
        push(made, "11").await?;
        assert_eq!(number(pdpix::pop(made, None)), libc::EBADF);
        assert_eq!(pdpix::lseek(log, SeekFrom::Start(0))?, 11, "numbers go on");
        assert_eq!(pop(log).await?, "11");
        Ok(())
    });
}

#[test]
fn opening_says_what_open_says() {
    on_store(8, async |store, _| {
        assert_eq!(number(open("log:orders", libc::O_RDWR).await), libc::ENOENT);
        assert_eq!(store.names(), [""; 0]);
        open("log:orders", NEW | libc::O_EXCL).await?;
        assert_eq!(number(open("log:orders", NEW | libc::O_EXCL).await), libc::EEXIST);
        open("log:orders", NEW | libc::O_DSYNC | libc::O_DIRECT | libc::O_APPEND | libc::O_CLOEXEC).await?;
        // Of two who want to make it one does.
        let tokens = [0; 2].map(|_| pdpix::open("log:new", NEW | libc::O_EXCL, 0).unwrap().1);
        let results = pdpix::wait_all(&tokens, None).await?;
        let failed: Vec<_> = results.into_iter().filter_map(|result| result.ok().err()).collect();
        assert_eq!(failed.iter().map(io::Error::raw_os_error).collect::<Vec<_>>(), [Some(libc::EEXIST)]);
        assert_eq!(number(open("log:", NEW).await), libc::ENOENT);
        assert_eq!(number(open(&format!("log:{}", "x".repeat(300)), NEW).await), libc::ENAMETOOLONG);
        let wrong = [
            (libc::O_RDONLY | libc::O_TRUNC, libc::EINVAL),
            (libc::O_ACCMODE, libc::EINVAL),
            (libc::O_DIRECTORY, libc::ENOTDIR),
            (libc::O_RDWR | libc::O_TMPFILE, libc::ENOTDIR),
            (libc::O_RDONLY | libc::O_PATH, libc::EINVAL),
        ];
        for (flags, expected) in wrong {
            assert_eq!(number(pdpix::open("log:orders", flags, 0)), expected, "{flags:#o}");
        }
        for count in 0.. {
            match open(&format!("log:{count}"), NEW).await {
                Ok(log) => pdpix::close(log)?,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                    break;
                }
            }
            assert!(count < 200);
        }
        Ok(())
    });
}

#[test]
fn a_descriptor_does_what_it_was_opened_for() {
    on_store(8, async |_, _| {
        let (writer, reader) = (open("log:orders", NEW).await?, open("log:orders", libc::O_RDONLY).await?);
        assert_eq!(number(pdpix::push(reader, Buffer::from("x"))), libc::EBADF);
        assert_eq!(number(pdpix::truncate(reader, 0)), libc::EBADF);
        assert_eq!(number(pdpix::pop(writer, Some(0))), libc::EINVAL);
        assert_eq!(number(pdpix::listen(writer, 1)), libc::ENOTSOCK);
        let (opening, token) = pdpix::open("log:orders", libc::O_RDWR, 0)?;
        assert_eq!(number(pdpix::push(opening, Buffer::from("x"))), libc::EBUSY);
        assert_eq!(number(pdpix::lseek(opening, SeekFrom::Start(0))), libc::EBUSY);
        pdpix::wait(token, None).await?.ok()?;
        // What was pushed is there though its descriptor is closed.
        let token = pdpix::push(opening, Buffer::from("last words"))?;
        pdpix::close(opening)?;
        assert_eq!(number(pdpix::pop(opening, None)), libc::EBADF);
        pdpix::wait(token, None).await?.ok()?;
        assert_eq!(pop(reader).await?, "last words");
        // Closed while it was being opened.
        let (opening, token) = pdpix::open("log:orders", libc::O_RDWR, 0)?;
        pdpix::close(opening)?;
        assert_eq!(number(pdpix::wait(token, None).await?.ok()), libc::ECANCELED);
        Ok(())
    });
}

#[test]
fn a_full_device_says_so_and_has_room_again() {
    on_store(3, async |store, _| {
        let log = open("log:orders", NEW).await?;
        let longest = store.info().longest_record;
        let error = push(log, &"x".repeat(longest + 1)).await;
        assert_eq!(number(error), libc::EMSGSIZE);
        let mut pushed = 0;
        while let Ok(()) = push(log, &"x".repeat(4000)).await {
            pushed += 1;
            assert!(pushed < 100);
        }
        assert_eq!(number(push(log, &"x".repeat(4000)).await), libc::ENOSPC);
        assert_eq!(pop(log).await?.len(), 4000, "what is there can be read");
        pdpix::wait(pdpix::truncate(log, pushed)?, None).await?.ok()?;
        push(log, "small").await?;
        assert_eq!(pop(log).await?, "small");
        Ok(())
    });
}

#[test]
fn rot_is_told_and_reading_goes_on_behind_it() {
    on_store(8, async |_, disk| {
        let log = open("log:orders", NEW).await?;
        for count in 0..5 {
            push(log, &format!("record {count} {}", "x".repeat(500))).await?;
        }
        let found = (0..disk.geometry().capacity)
            .step_by(512)
            .find(|at| disk.read(*at, 512).unwrap().windows(9).any(|bytes| bytes == b"record 2 "));
        let at = found.unwrap();
        let mut block = disk.read(at, 512).unwrap();
        let place = block.windows(9).position(|bytes| bytes == b"record 2 ").unwrap();
        block[place] ^= 1;
        disk.write(at, &block).unwrap();
        let pops: Vec<_> = (0..5).map(|_| pdpix::pop(log, None).unwrap()).collect();
        let results = pdpix::wait_all(&pops, None).await?;
        let mut said = Vec::new();
        for result in results {
            said.push(match result.ok() {
                Ok(value) => String::from_utf8(value.sga().unwrap().to_vec()[..8].to_vec()).unwrap(),
                Err(error) => format!("{:?}", error.raw_os_error().unwrap()),
            });
        }
        let rotten = libc::EBADMSG.to_string();
        assert_eq!(said, ["record 0", "record 1", rotten.as_str(), "record 3", "record 4"]);
        assert_eq!(pdpix::lseek(log, SeekFrom::Current(0))?, 5);
        Ok(())
    });
}

#[test]
fn a_device_that_fails_takes_nothing_more() {
    on_store(8, async |_, disk| {
        let log = open("log:orders", NEW).await?;
        push(log, "before").await?;
        disk.set_faults(Faults { errors: 1.0, ..Faults::default() });
        assert_eq!(number(push(log, "x").await), libc::EIO);
        disk.set_faults(Faults::default());
        assert_eq!(number(push(log, "x").await), libc::EIO);
        assert_eq!(number(pdpix::wait(pdpix::truncate(log, 1)?, None).await?.ok()), libc::EIO);
        assert_eq!(number(open("log:another", NEW).await), libc::EIO);
        Ok(())
    });
}

#[test]
fn a_closed_or_read_only_store_says_so() {
    on_store(8, async |store, disk| {
        let log = open("log:orders", NEW).await?;
        push(log, "x").await?;
        store.close().await?;
        assert_eq!(number(push(log, "x").await), libc::ESHUTDOWN);
        let read_only = storage::StoreOptions::new().read_only(true);
        storage::set_default(&read_only.open(storage::Volume::attach(disk.device())).await?);
        assert_eq!(number(open("log:orders", libc::O_RDWR).await), libc::EROFS);
        let log = open("log:orders", libc::O_RDONLY).await?;
        assert_eq!(pop(log).await?, "x");
        Ok(())
    });
}

#[test]
fn a_path_of_the_same_name_is_a_file() {
    on_store(8, async |store, _| {
        let directory = std::env::temp_dir().join(format!("demikernel-named-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("log:orders");
        let file = open(path.to_str().unwrap(), NEW).await?;
        push(file, "text").await?;
        pdpix::close(file)?;
        assert_eq!(std::fs::read(&path)?, b"text");
        assert_eq!(store.names(), [""; 0]);
        std::fs::remove_dir_all(&directory)
    });
}

#[test]
fn without_storage_there_are_no_logs() {
    let runtime = Builder::new().transport("epoll").configuration("").build().unwrap();
    let error = runtime.block_on(open("log:orders", NEW)).unwrap_err();
    assert!(error.to_string().contains("device under [storage]"), "{error}");
}
