//! The arguments of open(2).

use crate::transport::OpenMode;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The flags of open(2), always with O_CLOEXEC.
///
/// # Errors
/// `InvalidInput` for combinations that [`std::fs::OpenOptions`] refuses.
pub(crate) fn open_flags(mode: OpenMode) -> io::Result<i32> {
    let access = match (mode.read, mode.write, mode.append) {
        (true, false, false) => libc::O_RDONLY,
        (false, true, false) => libc::O_WRONLY,
        (true, true, false) => libc::O_RDWR,
        (false, _, true) => libc::O_WRONLY | libc::O_APPEND,
        (true, _, true) => libc::O_RDWR | libc::O_APPEND,
        (false, false, false) => return Err(invalid("a file is opened to read, write or append")),
    };
    let makes = mode.create || mode.create_new;
    if !mode.write && !mode.append && (mode.truncate || makes) {
        return Err(invalid("a file that is created or truncated must be opened to write or append"));
    }
    if mode.append && mode.truncate && !mode.create_new {
        return Err(invalid("a file that is opened to append cannot be truncated"));
    }
    let creation = match (mode.create_new, mode.create, mode.truncate) {
        (true, _, _) => libc::O_CREAT | libc::O_EXCL,
        (false, true, true) => libc::O_CREAT | libc::O_TRUNC,
        (false, true, false) => libc::O_CREAT,
        (false, false, true) => libc::O_TRUNC,
        (false, false, false) => 0,
    };
    let direct = if mode.direct { libc::O_DIRECT } else { 0 };
    // The access mode was said above, and is not for custom flags to change.
    Ok(access | creation | direct | libc::O_CLOEXEC | (mode.custom_flags & !libc::O_ACCMODE))
}

/// The path for open(2).
///
/// # Errors
/// `InvalidInput` if it has a NUL byte.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid("a path cannot contain a NUL byte"))
}

/// An offset or a length as the kernel has them, which are signed. Negative ones mean other things to some
/// calls: to io_uring, and to preadv2(2), -1 is the file's current position.
///
/// # Errors
/// `InvalidInput` if it is beyond what a file can have.
pub(crate) fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| {
        let message = format!("offset or length {offset} is beyond what files can have");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
