//! Opening and locking, and what the kernel says of a file or a device.

use super::driver::FileDriver;
use crate::{Geometry, Queue};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How a file or a block device is opened as a block device of the runtime.
///
/// It is opened past the page cache (O_DIRECT) where that is possible, and locked, so that no other process that asks for
/// the lock writes it.
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

    /// Whether single writes are [durable by themselves](crate::Geometry::durable_writes) (RWF_DSYNC). Unless set, they are if the
    /// disk can do so (FUA): else a thread of the kernel flushes it after each, which is later than a flush.
    pub fn durable_writes(mut self, yes: bool) -> FileOptions {
        self.durable_writes = Some(yes);
        self
    }

    /// How long to wait for the lock, which blocks the thread; a second unless set. The kernel takes a moment to let go of
    /// the operations of a process that was killed, and with them of its lock.
    pub fn lock_patience(mut self, most: Duration) -> FileOptions {
        self.patience = most;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// As open(2); `ResourceBusy` if another process has it locked, or a device is in use (mounted); `InvalidInput` if it
    /// is neither a file nor a block device, or has no bytes; those of io_uring.
    pub fn open(self, path: impl AsRef<Path>) -> io::Result<Rc<Queue<FileDriver>>> {
        let path = path.as_ref();
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let (file, direct) = self.open_file(path).map_err(explain)?;
        lock(&file, self.read_only, self.patience).map_err(explain)?;
        let geometry = self.geometry(&file, direct).map_err(explain)?;
        let driver =
            FileDriver::new(file, geometry, direct, self.depth, self.fixed_buffers).map_err(explain)?;
        Ok(Queue::new(driver))
    }

    /// The file, and whether it is past the page cache.
    fn open_file(&self, path: &Path) -> io::Result<(File, bool)> {
        let is_device = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
        // What is mounted, or part of something else, is refused then.
        let exclusive = if is_device && !self.read_only { libc::O_EXCL } else { 0 };
        let open = |flags: i32| {
            OpenOptions::new()
                .read(true)
                .write(!self.read_only)
                .create(self.create.is_some() && !self.read_only)
                .custom_flags(flags | exclusive)
                .open(path)
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
            device_geometry(file, metadata.rdev(), direct)?
        } else if kind.is_file() {
            if let (Some(bytes), 0, false) = (self.create, metadata.len(), self.read_only) {
                allocate(file, bytes)?;
            }
            let (block, memory) = if direct { alignment(file) } else { (512, 1) };
            let mut geometry = Geometry::new(block, file.metadata()?.len());
            geometry.memory_alignment = memory;
            geometry
        } else {
            let text = "neither a file nor a block device";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        if geometry.capacity == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is empty: give it a size first"));
        }
        geometry.read_only |= self.read_only;
        let number = if kind.is_block_device() { metadata.rdev() } else { metadata.dev() };
        let durable = self.durable_writes.unwrap_or_else(|| direct && has_durable_writes(number));
        geometry.durable_writes = geometry.volatile_cache && durable;
        Ok(geometry)
    }
}

/// Locks a file against other openings, in this process or another: for writing against all, for reading against writers.
fn lock(file: &File, shared: bool, patience: Duration) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    let how = if shared { libc::LOCK_SH } else { libc::LOCK_EX };
    let start = Instant::now();
    loop {
        // SAFETY: a call on a descriptor that is open.
        if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted if start.elapsed() < patience => {
                std::thread::sleep(PAUSE);
            }
            io::ErrorKind::WouldBlock => {
                let text = "it is in use: somebody else has locked it";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            _ => return Err(error),
        }
    }
}

/// Nobody is to wait for a large disk being written from end to end.
const MOST_WRITTEN: u64 = 4 << 30;

/// Gives an empty file its size, with room on the disk where the file system can promise that, and zeros there: what has
/// only been promised is noted in the file system's journal when it is first written, and each flush then waits for that.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
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
    // SAFETY: a call on a descriptor that is open.
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

/// What positions and what addresses must be multiples of, past the page cache.
fn alignment(file: &File) -> (u32, u32) {
    // Of every device so far, and what kernels before 6.1 do not tell.
    const SAFE: (u32, u32) = (4096, 4096);
    // SAFETY: zeros are valid for a structure of integers.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a string, and the answer has the type that the call writes.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &mut answer)
    };
    let told = result == 0 && answer.stx_mask & libc::STATX_DIOALIGN != 0;
    let (block, memory) = (answer.stx_dio_offset_align.max(512), answer.stx_dio_mem_align.max(1));
    match told && block.is_power_of_two() && memory.is_power_of_two() && answer.stx_dio_offset_align > 0 {
        true => (block, memory),
        false => SAFE,
    }
}

// Of linux/fs.h.
const BLKROGET: libc::c_ulong = 0x125e;
const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

fn device_geometry(file: &File, number: u64, direct: bool) -> io::Result<Geometry> {
    // SAFETY: these requests write an integer of the type that is given.
    let (block, capacity, read_only) = unsafe {
        let block: libc::c_int = ask(file, BLKSSZGET)?;
        let capacity: u64 = ask(file, BLKGETSIZE64)?;
        let read_only: libc::c_int = ask(file, BLKROGET)?;
        (block as u32, capacity, read_only != 0)
    };
    let mut geometry = Geometry::new(block, capacity);
    geometry.memory_alignment = if direct { alignment(file).1.max(block) } else { 1 };
    geometry.volatile_cache = !direct || has_volatile_cache(number);
    geometry.read_only = read_only;
    Ok(geometry)
}

/// # Safety
/// The request writes one `T`.
unsafe fn ask<T: Default>(file: &File, request: libc::c_ulong) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: the caller's.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, &mut answer) } {
        0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel says of a device's queue.
fn attribute(number: u64, name: &str) -> Option<String> {
    let (major, minor) = (libc::major(number), libc::minor(number));
    let read = |parent: &str| {
        std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{parent}queue/{name}"))
    };
    // A partition's queue is that of its disk.
    read("").or_else(|_| read("../")).ok()
}

/// Whether the kernel says that the device has one; if it does not say so, it may.
fn has_volatile_cache(number: u64) -> bool {
    attribute(number, "write_cache").is_none_or(|cache| cache.trim() != "write through")
}

/// Whether the device makes single writes durable past its cache.
fn has_durable_writes(number: u64) -> bool {
    attribute(number, "fua").is_some_and(|fua| fua.trim() == "1")
}
