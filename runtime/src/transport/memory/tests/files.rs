//! Files.

use super::{config, kind, tell, token};
use crate::QToken;
use crate::buffer::{Buffer, BufferMut};
use crate::transport::memory::{Memory, MemoryConfig};
use crate::transport::{Device, OpenMode, Qd, Storage};
use std::io;
use std::path::Path;
use std::time::Duration;

fn open(memory: &Memory, path: &str) -> QToken<io::Result<Qd>> {
    let mode = OpenMode { read: true, write: true, create: true, ..OpenMode::default() };
    token(|done| memory.open(Path::new(path), mode, done))
}

fn write(memory: &Memory, file: Qd, bytes: &[u8], offset: u64) -> QToken<io::Result<()>> {
    token(|done| memory.write_at(file, offset, Buffer::from(bytes.to_vec()).into(), done))
}

fn read(memory: &Memory, file: Qd, offset: u64) -> QToken<io::Result<BufferMut>> {
    token(|done| memory.read_at(file, offset, BufferMut::with_capacity(100).unwrap(), done))
}

#[test]
fn files_are_there_for_tests_to_look_at() {
    tell(config(), |memory| async move {
        memory.write_file("config", b"a longer text");
        memory.write_file("config", b"text");
        let file = open(&memory, "config").await.unwrap();
        assert_eq!(read(&memory, file, 1).await.unwrap(), b"ext");
        write(&memory, file, b"!", 4).await.unwrap();
        assert_eq!(memory.read_file("config").unwrap(), b"text!");
        assert_eq!(memory.files(), [Path::new("config")]);
        assert!(memory.remove_file("config") && !memory.remove_file("config"));
        assert!(memory.read_file("config").is_none());
        // Whoever has it open keeps it.
        assert_eq!(read(&memory, file, 0).await.unwrap(), b"text!");
        memory.close_file(file);
        assert_eq!(memory.counters()[0], ("sockets and files open", 0));
    });
}

#[test]
fn what_is_under_way_together_takes_effect_in_any_order() {
    let last = |seed| {
        let config = MemoryConfig { seed, storage_jitter: Duration::from_millis(1), ..config() };
        tell(config, |memory| async move {
            let file = open(&memory, "x").await.unwrap();
            let writes: Vec<_> = (0..10).map(|number| write(&memory, file, &[number], 0)).collect();
            for write in writes {
                write.await.unwrap();
            }
            memory.read_file("x").unwrap()[0]
        })
    };
    let mut lasts: Vec<u8> = (0..20).map(last).collect();
    assert_eq!(last(3), lasts[3]);
    lasts.sort_unstable();
    lasts.dedup();
    assert!(lasts.len() > 4, "{lasts:?}");
}

#[test]
fn a_damaged_medium_fails_operations_but_not_the_device() {
    tell(config(), |memory| async move {
        let file = open(&memory, "x").await.unwrap();
        memory.configure(|config| config.storage_errors = 1.0);
        let failed = write(&memory, file, &[1; 1000], 0).await.unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EIO));
        assert!(read(&memory, file, 0).await.is_err());
        assert!(token(|done| memory.sync(file, true, done)).await.is_err());
        assert!(token(|done| memory.truncate(file, 0, done)).await.is_err());
        // Of what failed some may have been written, and it is what was to be written.
        let written = memory.read_file("x").unwrap();
        assert!(written.len() <= 1000 && written.iter().all(|&byte| byte == 1));
        memory.configure(|config| config.storage_errors = 0.0);
        write(&memory, file, &[2; 1000], 0).await.unwrap();
        assert_eq!(memory.read_file("x").unwrap(), [2; 1000]);
        assert_eq!(memory.counters()[15], ("file errors", 4));
    });
}

#[test]
fn what_was_given_up_leaves_nothing_open() {
    tell(config(), |memory| async move {
        drop(open(&memory, "x"));
        let file = open(&memory, "y").await.unwrap();
        drop((read(&memory, file, 0), write(&memory, file, b"z", 0)));
        token(|done| memory.sync(file, false, done)).await.unwrap();
        memory.close_file(file);
        assert_eq!(memory.counters()[0], ("sockets and files open", 0));
        assert_eq!(memory.read_file("y").unwrap(), b"z", "what was started is done");
        assert_eq!(kind(read(&memory, file, 0).await), std::io::Error::from_raw_os_error(libc::EBADF).kind());
    });
}
