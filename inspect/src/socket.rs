//! The file of the socket: for its user alone from the moment at which it can be found.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Listens there. What a process has left that is gone is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    // bind(2) gives the file the permissions of the umask, which is the whole process's: so it is made where nobody
    // else can reach it.
    let directory = Directory::new(path)?;
    let inside = directory.0.join("s");
    let listener = UnixListener::bind(&inside)?;
    fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
    fs::rename(&inside, path)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something is there that is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// A directory beside the socket for this user alone, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(path: &Path) -> io::Result<Directory> {
        // Short, since the address of a socket has no more than 107 bytes.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = path.with_file_name(format!(".{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Directory(directory))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "a directory is left behind");
        }
    }
}
