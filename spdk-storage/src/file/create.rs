//! A new file gets its size.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Nobody is to wait for a large disk being written from end to end.
const MOST_WRITTEN: u64 = 4 << 30;

/// Gives an empty file its size, with room on the disk where the file system can promise that, and zeros there: what has
/// only been promised is noted in the file system's journal when it is first written, and each flush then waits for that.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    if fallocate(file, FALLOC_FL_WRITE_ZEROES, length).is_err() {
        match fallocate(file, 0, length) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                file.set_len(bytes)?;
            }
            Err(error) => return Err(error),
        }
        write_zeros(file, bytes.min(MOST_WRITTEN))?;
    }
    file.sync_all()
}

/// Of linux/falloc.h, since Linux 6.17: where the disk writes zeros by itself.
const FALLOC_FL_WRITE_ZEROES: i32 = 0x80;

fn fallocate(file: &File, mode: i32, length: i64) -> io::Result<()> {
    // SAFETY: no memory is passed; `file` is borrowed, and keeps its descriptor open during the call.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes zeros at the beginning of a file: whole blocks only, as may have to be; the rest of it cannot be used anyway.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    /// As aligned as any device asks for.
    #[repr(align(4096))]
    struct Zeros([u8; 1 << 20]);
    static ZEROS: Zeros = Zeros([0; 1 << 20]);
    let end = bytes - bytes % 4096;
    let mut at = 0;
    while at < end {
        let length = (end - at).min(ZEROS.0.len() as u64);
        file.write_all_at(&ZEROS.0[..length as usize], at)?;
        at += length;
    }
    Ok(())
}
