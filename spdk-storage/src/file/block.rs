//! What the kernel says of a block device, and of the disk below a file.

use super::calls::Polled;
use crate::Geometry;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What positions and what addresses must be multiples of, past the page cache.
pub(super) fn alignment(file: &File) -> (u32, u32) {
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
const BLKPBSZGET: libc::c_ulong = 0x127b;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

pub(super) fn geometry(file: &File, number: u64, direct: bool) -> io::Result<Geometry> {
    // SAFETY: these requests write an integer of the type that is given.
    let (block, physical, capacity) = unsafe {
        let block: libc::c_int = ask(file, BLKSSZGET)?;
        let physical: libc::c_uint = ask(file, BLKPBSZGET)?;
        let capacity: u64 = ask(file, BLKGETSIZE64)?;
        (block as u32, physical, capacity)
    };
    let mut geometry = Geometry::new(block, capacity);
    if physical.is_power_of_two() {
        geometry.optimal = geometry.optimal.max(physical);
    }
    geometry.memory_alignment = if direct { alignment(file).1.max(block) } else { 1 };
    geometry.volatile_cache = !direct || has_volatile_cache(number);
    geometry.read_only = is_read_only(file);
    Ok(geometry)
}

/// Whether a block device takes no writes; if the kernel does not say so, it does.
pub(super) fn is_read_only(file: &File) -> bool {
    // SAFETY: the request writes an integer.
    unsafe { ask::<libc::c_int>(file, BLKROGET) }.is_ok_and(|answer| answer != 0)
}

/// # Safety
/// The request writes one `T`.
unsafe fn ask<T: Default>(file: &File, request: libc::c_ulong) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: the request writes one `T`, as the caller says, and here is room for it.
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
pub(super) fn has_durable_writes(number: u64) -> bool {
    attribute(number, "fua").is_some_and(|fua| fua.trim() == "1")
}

/// What reads and writes can be polled, or why none can.
///
/// Those of files never are: who knows how the file system divides them.
pub(super) fn polled(file: &File, direct: bool) -> io::Result<Result<Polled, &'static str>> {
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Ok(Err("files are not, only block devices and NVMe namespaces"));
    }
    if !direct {
        return Ok(Err("it is used through the page cache"));
    }
    let number = metadata.rdev();
    let value = |name| attribute(number, name).and_then(|text| text.trim().parse::<u64>().ok());
    let (Some(1), Some(kibibytes), Some(pieces)) =
        (value("io_poll"), value("max_sectors_kb"), value("max_segments"))
    else {
        return Ok(Err(NO_QUEUES));
    };
    // Memory may be as scattered as its pages are, and what begins within a page ends in another one.
    let most = (kibibytes << 10).min(pieces.saturating_sub(1) << 12);
    let boundary = value("chunk_sectors").filter(|sectors| *sectors > 0).map(|sectors| sectors << 9);
    let begin = begin(number) << 9;
    Ok(Ok(Polled { most, boundary, begin, durable: has_durable_writes(number) }))
}

/// Where a partition begins on its disk, in sectors.
fn begin(number: u64) -> u64 {
    let path = format!("/sys/dev/block/{}:{}/start", libc::major(number), libc::minor(number));
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Why a drive cannot be polled.
pub(super) const NO_QUEUES: &str =
    "the kernel has made no queues for that: nvme.poll_queues=N on its command line";
