//! `File`.

use super::cursor::Cursor;
use super::handle::Handle;
use super::open::OpenOptions;
use crate::buffer::{BufferMut, Sga};
use crate::executor::QToken;
use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

/// An open file.
///
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at) take buffers and offsets, copy nothing, and
/// any number of them may be under way at once. `AsyncRead`, `AsyncWrite` and `AsyncSeek` work at a
/// position that the file keeps, one after the other, and copy. The two do not wait for each other.
///
/// A write through `AsyncWrite` has been started when it returns, and [flushed] when it is done; an error
/// that is found later is given by the next operation at the position. Dropping the file loses no write,
/// but its error. Only [`sync_all`](Self::sync_all) and [`sync_data`](Self::sync_data) make data durable.
///
/// ```
/// use demikernel_runtime::buffer::{Buffer, BufferMut};
/// use demikernel_runtime::fs::File;
///
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # let path = std::env::temp_dir().join(format!("demikernel-file-{}", std::process::id()));
/// # runtime.block_on(async {
/// let file = File::options().read(true).write(true).create(true).open(&path).await?;
/// file.write_at(Buffer::from_static(b"block one"), 4096).await?;
/// file.sync_data().await?;
///
/// let block = file.read_at(BufferMut::with_capacity(4096)?, 4096).await?;
/// assert_eq!(block.freeze(), b"block one");
/// # demikernel_runtime::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// [flushed]: futures_io::AsyncWrite::poll_flush
pub struct File {
    // Dropped in this order: a write is detached, and then the file closes, which lets it go first.
    cursor: RefCell<Cursor>,
    handle: Handle,
}

impl File {
    pub(super) fn new(handle: Handle, appends: bool) -> File {
        File { cursor: RefCell::new(Cursor::new(appends)), handle }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub async fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing; makes it if it does not exist, else cuts it to nothing.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub async fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// Makes a file, for reading and writing.
    ///
    /// # Errors
    /// As [`OpenOptions::open`]: `AlreadyExists` if there is one.
    pub async fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).await
    }

    /// Other ways to open a file.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads from `offset` into the room behind the bytes of `buffer`, and gives it back longer by what was
    /// read: as much as there is room for or less, and nothing only at the end of the file.
    ///
    /// # Cancel safety
    /// Dropping the token drops the buffer, once the system does not use it any more.
    ///
    /// # Errors
    /// As pread(2). The buffer is dropped.
    #[inline]
    pub fn read_at(&self, buffer: BufferMut, offset: u64) -> QToken<io::Result<BufferMut>> {
        self.handle.read_at(buffer, offset)
    }

    /// Writes all of a buffer, or of a list of them, at `offset`.
    ///
    /// # Cancel safety
    /// When the token is dropped, some, all or nothing of it may be written.
    ///
    /// # Errors
    /// As pwrite(2): `StorageFull`. Some may have been written.
    #[inline]
    pub fn write_at(&self, data: impl Into<Sga>, offset: u64) -> QToken<io::Result<()>> {
        self.handle.write_at(data.into(), offset)
    }

    /// Makes durable the file's metadata and what was written, as fsync(2). Writes through `AsyncWrite` go
    /// first; a [`write_at`](Self::write_at) must be done to be among them.
    ///
    /// # Errors
    /// As fsync(2). After an error the data may be lost, though another call succeeds.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.flushed().await?;
        self.handle.sync(false).await
    }

    /// As [`sync_all`](Self::sync_all), but of the metadata only what is needed to read the data, as
    /// fdatasync(2).
    ///
    /// # Errors
    /// As fdatasync(2). After an error the data may be lost, though another call succeeds.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.flushed().await?;
        self.handle.sync(true).await
    }

    /// Cuts the file, or makes it longer with zeros. The position stays.
    ///
    /// # Errors
    /// As ftruncate(2).
    pub async fn set_len(&self, length: u64) -> io::Result<()> {
        self.flushed().await?;
        self.handle.truncate(length).await
    }

    async fn flushed(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.cursor.borrow_mut().poll_flush(&self.handle, cx)).await
    }

    /// The length in bytes. Writes that are under way may make it longer.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn size(&self) -> io::Result<u64> {
        self.handle.length()
    }
}

/// Dropping a future that reads does not move the position.
impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cursor.get_mut().poll_read(&this.handle, room, cx)
    }
}

/// A write copies at most 1 MiB into a buffer of the pool, for which it waits if the pool is exhausted.
impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cursor.get_mut().poll_write(&this.handle, &[IoSlice::new(data)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cursor.get_mut().poll_write(&this.handle, data, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cursor.get_mut().poll_flush(&this.handle, cx)
    }

    /// Flushes; the file closes when it is dropped.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl AsyncSeek for File {
    fn poll_seek(self: Pin<&mut Self>, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        this.cursor.get_mut().poll_seek(&this.handle, to, cx)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.handle).finish()
    }
}
