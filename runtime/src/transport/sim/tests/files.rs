//! Files.

use super::{config, kind, tell, token};
use crate::QToken;
use crate::buffer::{Buffer, BufferMut};
use crate::transport::sim::{Sim, SimConfig};
use crate::transport::{Device, OpenMode, Qd, Storage};
use std::io;
use std::path::Path;
use std::time::Duration;

fn open(sim: &Sim, path: &str) -> QToken<io::Result<Qd>> {
    let mode = OpenMode { read: true, write: true, create: true, ..OpenMode::default() };
    token(|done| sim.open(Path::new(path), mode, done))
}

fn write(sim: &Sim, file: Qd, bytes: &[u8], offset: u64) -> QToken<io::Result<()>> {
    token(|done| sim.write_at(file, offset, Buffer::from(bytes.to_vec()).into(), done))
}

fn read(sim: &Sim, file: Qd, offset: u64) -> QToken<io::Result<BufferMut>> {
    token(|done| sim.read_at(file, offset, BufferMut::with_capacity(100).unwrap(), done))
}

#[test]
fn files_are_there_for_tests_to_look_at() {
    tell(config(), |sim| async move {
        sim.write_file("config", b"a longer text");
        sim.write_file("config", b"text");
        let file = open(&sim, "config").await.unwrap();
        assert_eq!(read(&sim, file, 1).await.unwrap(), b"ext");
        write(&sim, file, b"!", 4).await.unwrap();
        assert_eq!(sim.read_file("config").unwrap(), b"text!");
        assert_eq!(sim.files(), [Path::new("config")]);
        assert!(sim.remove_file("config") && !sim.remove_file("config"));
        assert!(sim.read_file("config").is_none());
        // Whoever has it open keeps it.
        assert_eq!(read(&sim, file, 0).await.unwrap(), b"text!");
        sim.close_file(file);
        assert_eq!(sim.counters()[0], ("sockets and files open", 0));
    });
}

#[test]
fn what_is_under_way_together_takes_effect_in_any_order() {
    let last = |seed| {
        let config = SimConfig { seed, storage_jitter: Duration::from_millis(1), ..config() };
        tell(config, |sim| async move {
            let file = open(&sim, "x").await.unwrap();
            let writes: Vec<_> = (0..10).map(|number| write(&sim, file, &[number], 0)).collect();
            for write in writes {
                write.await.unwrap();
            }
            sim.read_file("x").unwrap()[0]
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
    tell(config(), |sim| async move {
        let file = open(&sim, "x").await.unwrap();
        sim.configure(|config| config.storage_errors = 1.0);
        let failed = write(&sim, file, &[1; 1000], 0).await.unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EIO));
        assert!(read(&sim, file, 0).await.is_err());
        assert!(token(|done| sim.sync(file, true, done)).await.is_err());
        assert!(token(|done| sim.truncate(file, 0, done)).await.is_err());
        // Of what failed some may have been written, and it is what was to be written.
        let written = sim.read_file("x").unwrap();
        assert!(written.len() <= 1000 && written.iter().all(|&byte| byte == 1));
        sim.configure(|config| config.storage_errors = 0.0);
        write(&sim, file, &[2; 1000], 0).await.unwrap();
        assert_eq!(sim.read_file("x").unwrap(), [2; 1000]);
        assert_eq!(sim.counters()[15], ("file errors", 4));
    });
}

#[test]
fn what_was_given_up_leaves_nothing_open() {
    tell(config(), |sim| async move {
        drop(open(&sim, "x"));
        let file = open(&sim, "y").await.unwrap();
        drop((read(&sim, file, 0), write(&sim, file, b"z", 0)));
        token(|done| sim.sync(file, false, done)).await.unwrap();
        sim.close_file(file);
        assert_eq!(sim.counters()[0], ("sockets and files open", 0));
        assert_eq!(sim.read_file("y").unwrap(), b"z", "what was started is done");
        assert_eq!(kind(read(&sim, file, 0).await), std::io::Error::from_raw_os_error(libc::EBADF).kind());
    });
}
