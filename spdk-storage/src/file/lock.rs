//! Who may have a file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Tries again and again while somebody else has it. The kernel takes a moment to let go of what a process had that has
/// ended, and a ring of its own.
pub(super) fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(5);
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < patience => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Locks a file against other openings, in this process or another: for writing against all, for reading against writers.
pub(super) fn lock(file: &File, shared: bool, patience: Duration) -> io::Result<()> {
    let how = if shared { libc::LOCK_SH } else { libc::LOCK_EX };
    patiently(patience, || {
        loop {
            // SAFETY: no memory is passed; `file` is borrowed, and keeps its descriptor open during the call.
            if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    let text = "it is in use: somebody else has locked it";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
                }
                _ => return Err(error),
            }
        }
    })
}
