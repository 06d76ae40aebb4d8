//! Buffers at offsets, opening, lengths.

use crate::common::{pattern, poll_once};
use crate::directory::Directory;
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::fs::{self, File, OpenOptions};
use demikernel_runtime::{wait_all, yield_now};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;

type Result = io::Result<()>;

async fn scratch(directory: &Directory) -> io::Result<File> {
    File::create_new(directory.path("scratch")).await
}

pub(crate) async fn blocks_at_offsets(directory: Directory) -> Result {
    let file = scratch(&directory).await?;
    file.write_at(Buffer::from_static(b"world"), 6).await?;
    file.write_at(Buffer::from_static(b"hello "), 0).await?;
    // Behind what is there already, and no more than there is room for.
    let mut buffer = BufferMut::with_capacity(100)?;
    buffer.extend_from_slice(b"> ");
    let buffer = file.read_at(buffer, 0).await?;
    assert_eq!(buffer, b"> hello world");
    let buffer = file.read_at(BufferMut::with_capacity(100)?, 9).await?;
    assert_eq!(buffer, b"ld");
    let end = file.read_at(BufferMut::with_capacity(100)?, 11).await?;
    assert!(end.is_empty());
    let beyond = file.read_at(BufferMut::with_capacity(100)?, 1 << 40).await?;
    assert!(beyond.is_empty());
    Ok(())
}

pub(crate) async fn many_at_once(directory: Directory) -> Result {
    const BLOCK: usize = 4096;
    let file = scratch(&directory).await?;
    let writes: Vec<_> = (0..64)
        .rev()
        .map(|block| file.write_at(Buffer::from(pattern(BLOCK, block)), block * BLOCK as u64))
        .collect();
    let mut writes = writes;
    for result in wait_all(&mut writes).await {
        result?;
    }
    file.sync_data().await?;
    assert_eq!(file.size()?, 64 * BLOCK as u64);
    let mut reads = Vec::new();
    for block in 0..64 {
        reads.push(file.read_at(BufferMut::with_capacity(BLOCK)?, block * BLOCK as u64));
    }
    for (block, result) in wait_all(&mut reads).await.into_iter().enumerate() {
        assert!(result? == pattern(BLOCK, block as u64), "block {block}");
    }
    Ok(())
}

pub(crate) async fn lists_of_buffers(directory: Directory) -> Result {
    let file = scratch(&directory).await?;
    let list: Sga = (0..100).map(|number| Buffer::from(pattern(number * 10, number as u64))).collect();
    let all = list.to_vec();
    file.write_at(list, 3).await?;
    file.write_at(Sga::new(), 0).await?;
    let read = fs::read(directory.path("scratch")).await?;
    assert!(read[..3] == [0; 3] && read[3..] == all);
    Ok(())
}

pub(crate) async fn past_the_page_cache(directory: Directory) -> Result {
    let mut options = File::options();
    let opened =
        options.read(true).write(true).create(true).direct(true).open(directory.path("direct")).await;
    let file = match opened {
        Ok(file) => file,
        // Not every file system has it.
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut block = BufferMut::with_capacity(8192)?;
    block.resize(8192, 7);
    file.write_at(block.freeze(), 4096).await?;
    let read = file.read_at(BufferMut::with_capacity(16 << 10)?, 0).await?;
    assert_eq!(read.len(), 12 << 10);
    assert!(read[..4096].iter().all(|&byte| byte == 0) && read[4096..].iter().all(|&byte| byte == 7));
    Ok(())
}

pub(crate) async fn lengths(directory: Directory) -> Result {
    let file = scratch(&directory).await?;
    assert_eq!(file.size()?, 0);
    file.set_len(10_000).await?;
    assert_eq!(file.size()?, 10_000);
    file.write_at(Buffer::from_static(b"x"), 9_999).await?;
    file.set_len(5).await?;
    assert_eq!(file.size()?, 5);
    file.sync_all().await?;
    assert_eq!(fs::read(directory.path("scratch")).await?, [0; 5]);
    let read_only = File::open(directory.path("scratch")).await?;
    assert!(read_only.set_len(0).await.is_err());
    assert!(read_only.write_at(Buffer::from_static(b"x"), 0).await.is_err());
    Ok(())
}

pub(crate) async fn opening(directory: Directory) -> Result {
    let path = directory.path("file");
    assert_eq!(File::open(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
    let nothing = OpenOptions::new().open(&path).await;
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::InvalidInput);
    let file = OpenOptions::new().write(true).create(true).mode(0o600).open(&path).await?;
    file.write_at(Buffer::from_static(b"content"), 0).await?;
    assert_eq!(fs::metadata(&path).await?.permissions().mode() & 0o777, 0o600);
    assert_eq!(File::create_new(&path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Opening leaves what is in it, creating does not.
    assert_eq!(File::open(&path).await?.size()?, 7);
    assert_eq!(OpenOptions::new().write(true).create(true).open(&path).await?.size()?, 7);
    assert_eq!(File::create(&path).await?.size()?, 0);
    let link = directory.path("link");
    std::os::unix::fs::symlink(&path, &link)?;
    File::open(&link).await?;
    let refused = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&link).await;
    assert!(refused.is_err());
    Ok(())
}

pub(crate) async fn a_dropped_open_leaves_no_file_open(directory: Directory) -> Result {
    for round in 0..50 {
        let path = directory.path("file");
        let mut open = Box::pin(File::create(&path));
        drop(poll_once(&mut open).await);
        for _ in 0..round {
            yield_now().await;
        }
        drop(open);
    }
    // That no descriptor is left is seen after the test.
    Ok(())
}

pub(crate) async fn dropped_operations(directory: Directory) -> Result {
    let file = scratch(&directory).await?;
    for round in 0..50_u64 {
        drop(file.write_at(Buffer::from(pattern(4096, round)), 0));
        drop(file.read_at(BufferMut::with_capacity(4096)?, 0));
        drop(poll_once(file.sync_all()).await);
    }
    file.write_at(Buffer::from_static(b"still works"), 1 << 20).await?;
    let read = file.read_at(BufferMut::with_capacity(100)?, 1 << 20).await?;
    assert_eq!(read, b"still works");
    // Dropped with operations under way.
    file.write_at(Buffer::from(pattern(1 << 20, 1)), 0).detach();
    let read = file.read_at(BufferMut::with_capacity(1 << 20)?, 0);
    drop(file);
    drop(read);
    Ok(())
}
