//! Files.

use crate::common::pattern;
use crate::sockets::{popped, text};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::pdpix::{Opcode, Qd, close, creat, lseek, open, pop, push, truncate, wait, wait_all};
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A path for a file, which is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let (process, name) = (std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        Scratch(std::env::temp_dir().join(format!("demikernel-pdpix-{process}-{name}")))
    }

    fn with(bytes: &[u8]) -> Scratch {
        let scratch = Scratch::new();
        std::fs::write(&scratch.0, bytes).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn opened(path: &Path, flags: i32) -> io::Result<Qd> {
    let (qd, qt) = open(path, flags, 0o600)?;
    let result = wait(qt, None).await?;
    assert_eq!(result.qd, qd);
    result.ok()?;
    Ok(qd)
}

pub(crate) async fn written_and_read() -> io::Result<()> {
    let scratch = Scratch::new();
    let (qd, made) = creat(&scratch.0, 0o600)?;
    assert_eq!(push(qd, text("too early")).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    assert_eq!(wait(made, None).await?.opcode, Opcode::Open);
    // Each begins where the one before ends, also while that is under way.
    let mut list = Sga::from(text("one "));
    list.push(text("two "));
    let pushes = [push(qd, list)?, push(qd, text("three"))?];
    for result in wait_all(&pushes, None).await? {
        assert_eq!(result.opcode, Opcode::Push);
    }
    close(qd)?;
    assert_eq!(std::fs::read(&scratch.0)?, b"one two three");

    let qd = opened(&scratch.0, libc::O_RDWR).await?;
    assert_eq!(popped(wait(pop(qd, Some(7))?, None).await?), b"one two");
    wait(push(qd, text(" and"))?, None).await?.ok()?;
    assert_eq!(popped(wait(pop(qd, None)?, None).await?), b"ee");
    assert_eq!(lseek(qd, SeekFrom::Start(0))?, 0);
    assert_eq!(popped(wait(pop(qd, None)?, None).await?), b"one two andee");
    assert_eq!(wait(truncate(qd, 3)?, None).await?.opcode, Opcode::Truncate);
    lseek(qd, SeekFrom::Start(0))?;
    assert_eq!(popped(wait(pop(qd, None)?, None).await?), b"one");
    close(qd)
}

pub(crate) async fn appended() -> io::Result<()> {
    let scratch = Scratch::with(b"log:");
    let qd = opened(&scratch.0, libc::O_WRONLY | libc::O_APPEND).await?;
    for line in ["a", "b"] {
        lseek(qd, SeekFrom::Start(0))?;
        wait(push(qd, text(line))?, None).await?.ok()?;
    }
    close(qd)?;
    assert_eq!(std::fs::read(&scratch.0)?, b"log:ab");
    Ok(())
}

pub(crate) async fn several_reads_at_once() -> io::Result<()> {
    let bytes = pattern(300_000, 3);
    let scratch = Scratch::with(&bytes);
    let qd = opened(&scratch.0, libc::O_RDONLY).await?;
    let pops = (0..5).map(|_| pop(qd, Some(60_000))).collect::<io::Result<Vec<_>>>()?;
    let read: Vec<u8> = wait_all(&pops, None).await?.into_iter().flat_map(popped).collect();
    assert!(read == bytes, "the pieces follow each other");
    close(qd)
}

pub(crate) async fn the_end_of_a_file() -> io::Result<()> {
    let scratch = Scratch::with(b"short");
    let qd = opened(&scratch.0, libc::O_RDWR).await?;
    assert_eq!(popped(wait(pop(qd, Some(100))?, None).await?), b"short");
    assert_eq!(popped(wait(pop(qd, Some(100))?, None).await?), b"");
    // What is written now follows what was read.
    wait(push(qd, Buffer::from("er"))?, None).await?.ok()?;
    close(qd)?;
    assert_eq!(std::fs::read(&scratch.0)?, b"shorter");
    Ok(())
}

pub(crate) async fn files_that_cannot_be_opened() -> io::Result<()> {
    let scratch = Scratch::new();
    let (qd, qt) = open(&scratch.0, libc::O_RDONLY, 0)?;
    let error = wait(qt, None).await?.ok().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(close(qd).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is gone already");
    assert_eq!(open(&scratch.0, libc::O_ACCMODE, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));

    std::fs::write(&scratch.0, "there")?;
    let (_, qt) = open(&scratch.0, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)?;
    assert_eq!(wait(qt, None).await?.ok().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    Ok(())
}

pub(crate) async fn closed_while_it_opens() -> io::Result<()> {
    let scratch = Scratch::with(b"there");
    let (qd, qt) = open(&scratch.0, libc::O_RDONLY, 0)?;
    close(qd)?;
    let error = wait(qt, None).await?.ok().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    Ok(())
}

pub(crate) async fn seeking() -> io::Result<()> {
    let scratch = Scratch::with(b"0123456789");
    let qd = opened(&scratch.0, libc::O_RDONLY).await?;
    assert_eq!(lseek(qd, SeekFrom::End(-3))?, 7);
    assert_eq!(popped(wait(pop(qd, Some(2))?, None).await?), b"78");
    assert_eq!(lseek(qd, SeekFrom::Current(-4))?, 5);
    assert_eq!(lseek(qd, SeekFrom::End(5))?, 15);
    assert_eq!(popped(wait(pop(qd, Some(2))?, None).await?), b"");
    for before in [SeekFrom::Current(-16), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
        assert_eq!(lseek(qd, before).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
    assert_eq!(lseek(qd, SeekFrom::Current(0))?, 15, "it has not moved");
    assert_eq!(truncate(qd, u64::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    close(qd)
}
