//! `AsyncRead`, `AsyncWrite` and `AsyncSeek`.

use crate::common::{pattern, poll_once};
use crate::directory::Directory;
use demikernel_runtime::buffer::{Buffer, BufferMut, pool};
use demikernel_runtime::fs::{self, File};
use demikernel_runtime::spawn;
use demikernel_runtime::time::{Duration, sleep};
use futures::TryStreamExt;
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, copy};
use std::io::{self, ErrorKind, IoSlice, SeekFrom};

type Result = io::Result<()>;

async fn scratch(directory: &Directory) -> io::Result<File> {
    File::create_new(directory.path("scratch")).await
}

pub(crate) async fn write_seek_read(directory: Directory) -> Result {
    let mut file = scratch(&directory).await?;
    let data = pattern(3_000_000, 1);
    file.write_all(&data).await?;
    assert_eq!(file.stream_position().await?, 3_000_000);
    file.seek(SeekFrom::Start(0)).await?;
    let mut all = Vec::new();
    file.read_to_end(&mut all).await?;
    assert!(all == data);
    assert_eq!(file.read(&mut [0; 10]).await?, 0);
    assert_eq!(file.read(&mut []).await?, 0);
    assert_eq!(file.write(&[]).await?, 0);
    // In the middle, as one goes.
    file.seek(SeekFrom::End(-10)).await?;
    file.write_all(b"12345").await?;
    let mut rest = [0; 5];
    file.read_exact(&mut rest).await?;
    assert_eq!(rest, data[data.len() - 5..]);
    file.seek(SeekFrom::Current(-10)).await?;
    file.read_exact(&mut rest).await?;
    assert_eq!(&rest, b"12345");
    Ok(())
}

pub(crate) async fn reads_are_as_long_as_the_room(directory: Directory) -> Result {
    fs::write(directory.path("data"), pattern(200_000, 2)).await?;
    let mut file = File::open(directory.path("data")).await?;
    let mut position = 0;
    for length in [1, 7, 256, 257, 4095, 4096, 4097, 8192, 65_536, 70_000] {
        let mut room = vec![0; length];
        assert_eq!(file.read(&mut room).await?, length, "one read is enough in the middle of a file");
        assert!(room == pattern(200_000, 2)[position..position + length]);
        position += length;
        assert_eq!(file.stream_position().await?, position as u64);
    }
    Ok(())
}

pub(crate) async fn reads_see_what_was_written(directory: Directory) -> Result {
    let mut file = scratch(&directory).await?;
    file.write_all(b"old old old").await?;
    file.seek(SeekFrom::Start(0)).await?;
    let mut room = [0; 4];
    file.read_exact(&mut room).await?;
    // Nothing was read ahead.
    file.write_at(Buffer::from_static(b"new"), 4).await?;
    std::fs::OpenOptions::new().append(true).open(directory.path("scratch"))?;
    file.read_exact(&mut room).await?;
    assert_eq!(&room, b"new ");
    Ok(())
}

pub(crate) async fn appending(directory: Directory) -> Result {
    let path = directory.path("log");
    fs::write(&path, b"one\n").await?;
    let mut log = File::options().append(true).read(true).open(&path).await?;
    for line in ["two\n", "three\n"] {
        log.write_all(line.as_bytes()).await?;
    }
    log.flush().await?;
    // As everywhere, the position is behind what was appended.
    assert_eq!(log.stream_position().await?, 14);
    assert_eq!(log.read(&mut [0; 8]).await?, 0);
    log.seek(SeekFrom::Start(0)).await?;
    log.write_all(b"four\n").await?;
    log.close().await?;
    assert_eq!(fs::read_to_string(&path).await?, "one\ntwo\nthree\nfour\n");
    Ok(())
}

pub(crate) async fn a_dropped_read_does_not_move(directory: Directory) -> Result {
    let data = pattern(300_000, 3);
    fs::write(directory.path("data"), &data).await?;
    let mut file = File::open(directory.path("data")).await?;
    let mut received = Vec::new();
    let mut room = [0; 5000];
    for round in 0.. {
        // The next read is shorter or longer than the one that was dropped.
        let length = 1 + round * 617 % 5000;
        let read = match poll_once(file.read(&mut room[..length])).await {
            Some(read) => read?,
            None => file.read(&mut room[..1 + round * 331 % 5000]).await?,
        };
        if read == 0 {
            break;
        }
        received.extend_from_slice(&room[..read]);
    }
    assert!(received == data);
    Ok(())
}

pub(crate) async fn a_file_dropped_after_a_write(directory: Directory) -> Result {
    let data = pattern(2_500_000, 4);
    let path = directory.path("scratch");
    let mut file = scratch(&directory).await?;
    file.write_all(&data).await?;
    drop(file);
    for _ in 0..2000 {
        if fs::metadata(&path).await?.len() == data.len() as u64 {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(fs::read(&path).await? == data);
    Ok(())
}

pub(crate) async fn large_copy(directory: Directory) -> Result {
    let data = pattern(8 << 20, 5);
    fs::write(directory.path("from"), &data).await?;
    let from = BufReader::with_capacity(100_000, File::open(directory.path("from")).await?);
    let mut to = File::create(directory.path("to")).await?;
    assert_eq!(copy(from, &mut to).await?, data.len() as u64);
    to.close().await?;
    to.sync_all().await?;
    assert!(fs::read(directory.path("to")).await? == data);
    Ok(())
}

pub(crate) async fn vectored(directory: Directory) -> Result {
    let mut file = scratch(&directory).await?;
    let parts = [&b"one "[..], b"", b"two"].map(IoSlice::new);
    assert_eq!(file.write_vectored(&parts).await?, 7);
    file.flush().await?;
    assert_eq!(fs::read(directory.path("scratch")).await?, b"one two");
    Ok(())
}

pub(crate) async fn lines(directory: Directory) -> Result {
    let text: Vec<String> = (0..3000).map(|number| format!("line {number}")).collect();
    fs::write(directory.path("text"), text.join("\n")).await?;
    let file = File::open(directory.path("text")).await?;
    let lines: Vec<String> = BufReader::new(file).lines().try_collect().await?;
    assert!(lines == text);
    Ok(())
}

pub(crate) async fn refused_at_the_next_call(directory: Directory) -> Result {
    fs::write(directory.path("data"), b"data").await?;
    let mut file = File::open(directory.path("data")).await?;
    // Depending on the transport the error is there at once or with the flush, and once.
    let error = match file.write(b"no").await {
        Ok(_) => file.flush().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    file.flush().await?;
    Ok(())
}

pub(crate) async fn a_write_waits_for_memory(directory: Directory) -> Result {
    let mut file = scratch(&directory).await?;
    pool::trim();
    let limit = pool::limit();
    pool::set_limit(pool::stats().mapped.max(2 << 20));
    let mut held: Vec<Buffer> = Vec::new();
    for size in [1 << 20, 64 << 10, 16 << 10, 4 << 10, 2 << 10, 256] {
        while let Ok(buffer) = BufferMut::with_capacity(size) {
            held.push(buffer.freeze());
        }
    }
    let writer = spawn(async move {
        file.write_all(b"when there is memory").await?;
        file.flush().await
    });
    sleep(Duration::from_millis(10)).await;
    assert!(!writer.is_finished(), "there is no memory");
    held.clear();
    writer.await??;
    pool::set_limit(limit);
    assert_eq!(fs::read(directory.path("scratch")).await?, b"when there is memory");
    Ok(())
}

pub(crate) async fn seeking(directory: Directory) -> Result {
    let mut file = scratch(&directory).await?;
    file.write_all(b"0123456789").await?;
    assert_eq!(file.seek(SeekFrom::End(5)).await?, 15);
    assert_eq!(file.read(&mut [0; 4]).await?, 0);
    assert_eq!(file.seek(SeekFrom::Current(-12)).await?, 3);
    for wrong in [SeekFrom::Current(-4), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
        assert_eq!(file.seek(wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let mut rest = String::new();
    file.read_to_string(&mut rest).await?;
    assert_eq!(rest, "3456789", "a refused seek leaves the position");
    file.seek(SeekFrom::Start(12)).await?;
    file.write_all(b"hole").await?;
    file.flush().await?;
    assert_eq!(fs::read(directory.path("scratch")).await?, b"0123456789\0\0hole");
    Ok(())
}
