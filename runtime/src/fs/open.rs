//! `OpenOptions`.

use super::file::File;
use super::handle::Handle;
use crate::executor::default_storage;
use crate::transport::{OpenMode, Storage};
use std::io;
use std::path::Path;
use std::rc::Rc;

/// How a file is opened; the options are those of [`std::fs::OpenOptions`], and O_DIRECT.
///
/// ```
/// use demikernel_runtime::fs::OpenOptions;
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # let path = std::env::temp_dir().join(format!("demikernel-open-{}", std::process::id()));
/// # runtime.block_on(async {
/// let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).await?;
/// # assert_eq!(log.size()?, 0);
/// # demikernel_runtime::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    mode: OpenMode,
}

impl OpenOptions {
    /// Options with which nothing can be opened: at least one of `read`, `write` and `append` must be set.
    #[expect(clippy::new_without_default, reason = "as in the standard library, where it says little, too")]
    pub fn new() -> OpenOptions {
        OpenOptions { mode: OpenMode { mode: 0o666, ..OpenMode::default() } }
    }

    /// Whether to read.
    pub fn read(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.read = yes;
        self
    }

    /// Whether to write.
    pub fn write(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.write = yes;
        self
    }

    /// Whether every write goes to the end of the file.
    pub fn append(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.append = yes;
        self
    }

    /// Whether to cut the file to nothing.
    pub fn truncate(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.truncate = yes;
        self
    }

    /// Whether to make the file if it does not exist.
    pub fn create(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.create = yes;
        self
    }

    /// Whether to make the file, and fail if it exists.
    pub fn create_new(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.create_new = yes;
        self
    }

    /// Whether to go past the page cache (O_DIRECT). Offsets, lengths and addresses must be multiples of
    /// the block size of the device; buffers of the pool of 4 KiB and more are aligned to 4 KiB.
    pub fn direct(&mut self, yes: bool) -> &mut OpenOptions {
        self.mode.direct = yes;
        self
    }

    /// The permissions of a file that is made, from which those of the umask are taken; 0o666 unless set.
    pub fn mode(&mut self, permissions: u32) -> &mut OpenOptions {
        self.mode.mode = permissions;
        self
    }

    /// More flags of open(2), such as `libc::O_NOFOLLOW`. Those that say how to access are ignored.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.mode.custom_flags = flags;
        self
    }

    /// Opens a file on the runtime's default transport.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no file open, but the file may have been made or cut.
    ///
    /// # Errors
    /// As open(2): `NotFound`, `PermissionDenied`, `AlreadyExists`; `InvalidInput` for options that
    /// contradict each other. `Unsupported` if the runtime has no transport for files.
    pub async fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        self.open_on(&default_storage()?, path).await
    }

    /// Opens a file on the transport given; else as [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_on<P: AsRef<Path>>(&self, storage: &Rc<dyn Storage>, path: P) -> io::Result<File> {
        let handle = Handle::open(storage, path.as_ref(), self.mode).await?;
        Ok(File::new(handle, self.mode.append))
    }
}
