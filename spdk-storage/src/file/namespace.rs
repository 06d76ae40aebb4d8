//! Opening an NVMe namespace by its character device, `/dev/ng0n1`.

use super::block;
use super::commands::{Commands, ONLY_ROOT, UserCommand};
use super::lock::{lock, patiently};
use crate::Geometry;
use crate::specification::command::Submission;
use crate::specification::identify::{self, Answer, ControllerData, NamespaceData};
use crate::specification::status::Status;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

// Of linux/nvme_ioctl.h: NVME_IOCTL_ID and NVME_IOCTL_ADMIN_CMD.
const NUMBER: libc::c_ulong = 0x4e40;
const ADMIN: libc::c_ulong = 0xc048_4e41;

/// What memory is divided into for a device, at the least. Limits are in the smallest that a controller has.
const PAGE: u32 = 4096;

/// What a command moves where the kernel does not say how much it may: what every controller can.
const CAUTIOUS: u64 = 128 << 10;

/// A namespace that is open.
pub(super) struct Namespace {
    pub(super) file: File,
    pub(super) geometry: Geometry,
    pub(super) commands: Commands,
    /// Why it cannot be polled, if it cannot.
    pub(super) unpolled: Option<&'static str>,
}

/// The name of the namespace's block device, if a path is that of its character device.
pub(super) fn name(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(|metadata| metadata.file_type().is_char_device())?;
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    let directory = fs::canonicalize(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let class = fs::canonicalize(directory.join("subsystem")).ok()?;
    let numbers = directory.file_name()?.to_str()?.strip_prefix("ng")?;
    class.ends_with("nvme-generic").then(|| format!("nvme{numbers}"))
}

/// Opens it.
pub(super) fn open(path: &Path, name: &str, read_only: bool, patience: Duration) -> io::Result<Namespace> {
    let file = OpenOptions::new().read(true).write(!read_only).open(path)?;
    let claim = claim(name, read_only, patience)?;
    lock(claim.as_ref().unwrap_or(&file), read_only, patience)?;
    // SAFETY: the request takes no argument, and the number of a namespace is its result.
    let number = match unsafe { libc::ioctl(file.as_raw_fd(), NUMBER as _) } {
        number @ 1.. => number as u32,
        _ => return Err(io::Error::last_os_error()),
    };
    let controller = ControllerData::parse(&*ask(&file, identify::CONTROLLER, 0)?, PAGE);
    let answer = ask(&file, identify::NAMESPACE, number)?;
    let namespace = NamespaceData::parse(&answer, number, &controller)?;
    let largest = largest(name, &controller, namespace.block);
    // What is atomic is a power of two.
    let mut geometry = namespace.geometry(&controller, 1 << largest.ilog2());
    geometry.read_only |= read_only || claim.as_ref().is_some_and(block::is_read_only);
    let commands = Commands::new(&controller, &namespace, largest, claim);
    let unpolled = if attribute(name, "io_poll") == Some(1) { None } else { Some(block::NO_QUEUES) };
    Ok(Namespace { file, geometry, commands, unpolled })
}

/// Has the block device of the same namespace, so that nothing of it can be mounted: the character device does not know.
fn claim(name: &str, read_only: bool, patience: Duration) -> io::Result<Option<File>> {
    let path = PathBuf::from("/dev").join(name);
    let exclusive = if read_only { 0 } else { libc::O_EXCL };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(exclusive);
    match patiently(patience, || options.open(&path)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "it is not there, so nobody can say whether the namespace is in use");
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let text = format!("{} is in use: mounted, or part of something else", path.display());
            Err(io::Error::new(error.kind(), text))
        }
        Err(error) => {
            let text = format!("{}, by which others are kept from the namespace: {error}", path.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// How many bytes a command moves at most: of the limits of the drive and the kernel the smallest, in whole blocks. Memory
/// may be as scattered as its pages are.
fn largest(name: &str, controller: &ControllerData, block: u32) -> u64 {
    let of_kernel = attribute(name, "max_hw_sectors_kb").map(|limit| limit << 10);
    let pieces = attribute(name, "max_segments").map(|limit| limit.saturating_sub(1) * u64::from(PAGE));
    let limit = of_kernel.unwrap_or(CAUTIOUS).min(pieces.unwrap_or(CAUTIOUS));
    let limit = limit.min(controller.largest_transfer.unwrap_or(u64::MAX)).min(u64::from(block) << 16);
    // What begins within a page ends in another one.
    let unit = u64::from(block.max(PAGE));
    (limit - limit % unit).max(u64::from(block))
}

/// A number that the kernel says of the queue.
fn attribute(name: &str, attribute: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/block/{name}/queue/{attribute}")).ok()?;
    text.trim().parse().ok()
}

/// Has the controller say what it or a namespace is.
fn ask(file: &File, what: u8, number: u32) -> io::Result<Box<Answer>> {
    let mut answer = Box::new([0; identify::LENGTH]);
    let mut command = UserCommand::from(Submission::identify(what, number, 0));
    command.address = answer.as_mut_ptr() as u64;
    command.length = identify::LENGTH as u32;
    // SAFETY: the structure is what the request reads and writes, and the controller writes as much as the answer has.
    match unsafe { libc::ioctl(file.as_raw_fd(), ADMIN as _, &mut command) } {
        0 => Ok(answer),
        status @ 1.. => Err(Status::from_kernel(status as u16).error("to identify it")),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(io::Error::new(error.kind(), ONLY_ROOT))
            }
            error => Err(error),
        },
    }
}
