//! How a file or a device is opened.

use super::block;
use super::calls::Calls;
use super::create::allocate;
use super::dialect::Dialect;
use super::driver::FileDriver;
use super::engine::{Engine, Setup};
use super::lock::{lock, patiently};
use super::namespace::{self, Namespace};
use crate::{Geometry, Queue};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How a file, a block device or an NVMe namespace of the kernel is opened as a block device of the runtime.
///
/// It is opened past the page cache (O_DIRECT) where that is possible, and locked, so that no other process that asks for
/// the lock writes it. A block device of which something is mounted is refused.
///
/// The character device of an NVMe namespace, `/dev/ng0n1`, takes commands of NVMe (since Linux 6.1; before 6.2 only from
/// root) that the kernel's driver passes through past its block layer. The page cache of the block device that is the same,
/// `/dev/nvme0n1`, does not know what is written there. What is longer than a command is divided, and done part by part.
///
/// ```no_run
/// use demikernel_spdk_storage::{Volume, file::FileOptions, log::StoreOptions};
///
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let file = FileOptions::new().create(256 << 20).open("orders.log")?;
/// let store = StoreOptions::new().create(true).open(Volume::attach(file)).await?;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    create: Option<u64>,
    read_only: bool,
    direct: bool,
    depth: u32,
    fixed_buffers: bool,
    durable_writes: Option<bool>,
    poll: Option<bool>,
    patience: Duration,
}

impl Default for FileOptions {
    fn default() -> Self {
        FileOptions::new()
    }
}

impl FileOptions {
    /// To read and write a file or a device that is there.
    pub fn new() -> FileOptions {
        let patience = Duration::from_secs(1);
        FileOptions {
            create: None,
            read_only: false,
            direct: true,
            depth: 128,
            fixed_buffers: true,
            durable_writes: None,
            poll: None,
            patience,
        }
    }

    /// Makes the file if it is not there, and gives it so many bytes if it is empty. The first 4 GiB are written once, so
    /// that later writes change nothing of the file but its bytes, and a flush is the disk's alone: to make a file takes as
    /// long as the disk needs for so much, and blocks the thread.
    pub fn create(mut self, bytes: u64) -> FileOptions {
        self.create = Some(bytes);
        self
    }

    /// Only reads. Others may then read, too.
    pub fn read_only(mut self, yes: bool) -> FileOptions {
        self.read_only = yes;
        self
    }

    /// Whether to go past the page cache, which is the default. Where the file system has no such thing, a warning is
    /// logged, and the page cache is used.
    pub fn direct(mut self, yes: bool) -> FileOptions {
        self.direct = yes;
        self
    }

    /// How many operations are under way at most; 128 unless set, and 4096 at most.
    pub fn depth(mut self, operations: u32) -> FileOptions {
        self.depth = operations.clamp(1, 4096);
        self
    }

    /// Whether the heap's memory is registered with the ring, so that the kernel need not look it up each time. It counts
    /// as locked memory then (`ulimit -l`); where that does not suffice, it is not registered.
    pub fn fixed_buffers(mut self, yes: bool) -> FileOptions {
        self.fixed_buffers = yes;
        self
    }

    /// Whether single writes can be [durable by themselves](crate::Geometry::durable_writes) (RWF_DSYNC), as they are unless
    /// set. A disk that can do so (FUA) writes past its cache then; else a work queue of the kernel flushes it after each.
    pub fn durable_writes(mut self, yes: bool) -> FileOptions {
        self.durable_writes = Some(yes);
        self
    }

    /// Whether reads and writes are polled (IOPOLL): the drive then interrupts nobody, and the runtime spins while any are
    /// under way, whatever its idle policy. Unless set, those of a block device or a namespace are if the drive has queues for
    /// that, which the kernel has to be told to make (`nvme.poll_queues=N` on its command line). With `true` it is an error if
    /// they cannot be. Those of files never are.
    pub fn poll(mut self, yes: bool) -> FileOptions {
        self.poll = Some(yes);
        self
    }

    /// How long to wait for the lock, and for a device that is in use, which blocks the thread; a second unless set. The kernel takes a moment to let go of
    /// the operations of a process that was killed, and with them of its lock.
    pub fn lock_patience(mut self, most: Duration) -> FileOptions {
        self.patience = most;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// As open(2); `ResourceBusy` if another process has it locked, or a device is in use (mounted); `InvalidInput` if it
    /// is none of these, or has no bytes; `Unsupported` if it is to be polled and cannot be; those of io_uring.
    pub fn open(self, path: impl AsRef<Path>) -> io::Result<Rc<Queue<FileDriver>>> {
        let path = path.as_ref();
        let driver = match namespace::name(path) {
            Some(name) => self.open_namespace(path, &name),
            None => self.open_blocks(path),
        };
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        driver.map(Queue::new).map_err(explain)
    }

    fn open_blocks(&self, path: &Path) -> io::Result<FileDriver> {
        let (file, direct) = self.open_file(path)?;
        lock(&file, self.read_only, self.patience)?;
        let geometry = self.geometry(&file, direct)?;
        let polled = block::polled(&file, direct)?;
        let calls = Calls { polled: polled.ok() };
        Ok(FileDriver::file(self.engine(file, geometry, calls, polled.err())?, direct))
    }

    fn open_namespace(&self, path: &Path, name: &str) -> io::Result<FileDriver> {
        let Namespace { file, mut geometry, commands, unpolled } =
            namespace::open(path, name, self.read_only, self.patience)?;
        geometry.durable_writes &= self.durable_writes.unwrap_or(true);
        Ok(FileDriver::namespace(self.engine(file, geometry, commands, unpolled)?))
    }

    /// The rings for it: polled where that is wanted and works.
    fn engine<D: Dialect>(
        &self,
        file: File,
        geometry: Geometry,
        dialect: D,
        unpolled: Option<&'static str>,
    ) -> io::Result<Engine<D>> {
        let polls = match (self.poll, unpolled) {
            (Some(true), Some(why)) => return Err(cannot_be_polled(why)),
            (poll, why) => poll.unwrap_or(why.is_none()),
        };
        let setup = Setup { depth: self.depth, polls, fixed: self.fixed_buffers };
        let mut engine = Engine::new(file, geometry, dialect, setup)?;
        if !polls {
            return Ok(engine);
        }
        match engine.probe() {
            Ok(()) => Ok(engine),
            Err(error) if self.poll.is_none() => {
                tracing::debug!(%error, "it has queues that are polled, and they do not work");
                let (file, dialect) = engine.into_parts();
                Engine::new(file, geometry, dialect, Setup { polls: false, ..setup })
            }
            Err(error) => Err(cannot_be_polled(error)),
        }
    }

    /// The file, and whether it is past the page cache.
    fn open_file(&self, path: &Path) -> io::Result<(File, bool)> {
        let is_device = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
        // What is mounted, or part of something else, is refused then.
        let exclusive = if is_device && !self.read_only { libc::O_EXCL } else { 0 };
        let open = |flags: i32| {
            let mut options = OpenOptions::new();
            options.read(true).write(!self.read_only).custom_flags(flags | exclusive);
            options.create(self.create.is_some() && !self.read_only);
            patiently(self.patience, || options.open(path))
        };
        if !self.direct {
            return Ok((open(0)?, false));
        }
        match open(libc::O_DIRECT) {
            Ok(file) => Ok((file, true)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let path = path.display();
                tracing::warn!(%path, "the file system has no O_DIRECT: what is written goes through the page cache");
                Ok((open(0)?, false))
            }
            Err(error) => Err(error),
        }
    }

    fn geometry(&self, file: &File, direct: bool) -> io::Result<Geometry> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        let mut geometry = if kind.is_block_device() {
            block::geometry(file, metadata.rdev(), direct)?
        } else if kind.is_file() {
            if let (Some(bytes), 0, false) = (self.create, metadata.len(), self.read_only) {
                allocate(file, bytes)?;
            }
            let (block, memory) = if direct { block::alignment(file) } else { (512, 1) };
            let mut geometry = Geometry::new(block, file.metadata()?.len());
            geometry.memory_alignment = memory;
            geometry
        } else {
            let text = "neither a file nor a block device nor an NVMe namespace";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        if geometry.capacity == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is empty: give it a size first"));
        }
        geometry.read_only |= self.read_only;
        geometry.durable_writes = geometry.volatile_cache && self.durable_writes.unwrap_or(direct);
        Ok(geometry)
    }
}

fn cannot_be_polled(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("it cannot be polled: {why}"))
}
