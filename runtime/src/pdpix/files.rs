//! Calls on files and logs.

use super::operation::Action;
use super::table::{Access, Queue, table};
use super::types::{Qd, Qt, errno};
use crate::executor::{default_logs, default_storage, operation};
use crate::fs::Handle;
use crate::transport::OpenMode;
use std::io::{self, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the path of a log begins with; a file of such a name has `./` before it.
const LOG: &[u8] = b"log:";

/// Opens a file, with the flags of open(2), such as `libc::O_RDWR | libc::O_CREAT`, and the permissions that
/// it has if it is made.
///
/// The descriptor can be used when the token is done; if that has failed, there is no such descriptor.
/// [`pop`](super::pop) reads at the file's position, and [`push`](super::push) writes there, or at the end
/// of the file with `O_APPEND`; both take the position along when they are started.
///
/// `log:NAME` is not a file, but a log of that name on the storage that the runtime is configured with
/// (`demikernel::storage`). What differs:
///
/// - [`push`](super::push) appends a record, at the end whatever the flags, and is done when it is durable.
/// - [`pop`](super::pop) gives one record. The place that it reads at counts records, and is the first one at first;
///   [`lseek`] moves it, and goes to the first one that is still there for any number before.
/// - [`truncate`] gives up the records *before* a number. `O_TRUNC`, and so [`creat`], gives up all of them; numbers go on.
/// - Permissions are not looked at. `O_DIRECT`, `O_SYNC` and `O_DSYNC` are always so.
///
/// # Errors
/// `EINVAL` for flags that contradict each other, or that logs do not have; `Unsupported` if the runtime has no transport
/// for files, or nothing says where logs are. Those of open(2) are in the result; of a log these are `ENOENT`, `EEXIST`,
/// `ENAMETOOLONG`, `ENOSPC` if there are too many logs, and `EROFS`. What is wrong with the storage device is said in words.
pub fn open(path: impl AsRef<Path>, flags: i32, permissions: u32) -> io::Result<(Qd, Qt)> {
    let (path, mode) = (path.as_ref(), open_mode(flags, permissions)?);
    if let Some(name) = path.as_os_str().as_bytes().strip_prefix(LOG) {
        return open_log(name, mode);
    }
    let storage = default_storage()?;
    begin(|| Action::Open(Handle::open(&storage, path, mode), 0))
}

fn open_log(name: &[u8], mode: OpenMode) -> io::Result<(Qd, Qt)> {
    let access = Access { read: mode.read, write: mode.write || mode.append };
    // What these say is so of any log, or does not matter.
    const IDLE: i32 = libc::O_SYNC | libc::O_DSYNC | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    if mode.custom_flags & libc::O_DIRECTORY != 0 {
        return Err(errno(libc::ENOTDIR));
    }
    if mode.custom_flags & !IDLE != 0 || mode.truncate && !access.write {
        return Err(errno(libc::EINVAL));
    }
    let name = str::from_utf8(name).map_err(|_| errno(libc::EINVAL))?;
    let logs = default_logs()?;
    begin(|| {
        let (token, done) = operation();
        logs.open(name, mode, done);
        Action::OpenLog(token, access)
    })
}

/// A descriptor for what is being opened.
fn begin(start: impl FnOnce() -> Action) -> io::Result<(Qd, Qt)> {
    let table = table();
    let qd = table.add(Queue::Opening)?;
    let started = table.start(qd, || Ok(start()));
    if started.is_err() {
        table.remove(qd)?;
    }
    Ok((qd, started?))
}

/// Makes a file, or cuts one that exists to nothing, and opens it to write: as [`open`] with
/// `O_WRONLY | O_CREAT | O_TRUNC`.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::pdpix;
/// let path = std::env::temp_dir().join(format!("demikernel-creat-{}", std::process::id()));
/// let (file, opening) = pdpix::creat(&path, 0o600)?;
/// pdpix::wait(opening, None).await?.ok()?;
/// pdpix::wait(pdpix::push(file, Buffer::from("text"))?, None).await?.ok()?;
/// pdpix::close(file)?;
/// assert_eq!(std::fs::read(&path)?, b"text");
/// # std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// As [`open`].
pub fn creat(path: impl AsRef<Path>, permissions: u32) -> io::Result<(Qd, Qt)> {
    open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, permissions)
}

/// Moves a file's position, and gives the new one. It may be beyond the end. Of a log, it is the number of a record.
///
/// ```
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// use demikernel_runtime::pdpix;
/// use std::io::SeekFrom;
/// let path = std::env::temp_dir().join(format!("demikernel-lseek-{}", std::process::id()));
/// std::fs::write(&path, "hello world")?;
/// let (file, opening) = pdpix::open(&path, libc::O_RDONLY, 0)?;
/// pdpix::wait(opening, None).await?.ok()?;
/// pdpix::lseek(file, SeekFrom::Start(6))?;
/// let popped = pdpix::wait(pdpix::pop(file, None)?, None).await?.ok()?;
/// assert_eq!(popped.sga().unwrap().to_vec(), b"world");
/// # std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// `EBADF`; `ESPIPE` if it is not a file; `EINVAL` for a position before the file; `EBUSY` while the file is
/// being opened.
pub fn lseek(qd: Qd, to: SeekFrom) -> io::Result<u64> {
    let queue = table().queue(qd)?;
    if let Queue::Log(log, _) = &*queue {
        return log.seek(to);
    }
    let Queue::File(file, position) = &*queue else { return Err(no_file(&queue, libc::ESPIPE)) };
    let target = match to {
        SeekFrom::Start(offset) => i64::try_from(offset).ok(),
        SeekFrom::Current(offset) => position.get().checked_add_signed(offset).and_then(as_offset),
        SeekFrom::End(offset) => file.length()?.checked_add_signed(offset).and_then(as_offset),
    };
    let target = target.ok_or_else(|| errno(libc::EINVAL))? as u64;
    position.set(target);
    Ok(target)
}

/// Cuts a file to a length, or makes it longer with zeros. Its position stays. Of a log, gives up the records before the
/// one of this number: what is freed are whole segments. When the token is done, that is durable.
///
/// # Errors
/// `EBADF`, also for a log that was not opened to write; `EINVAL` if it is neither, or for a length that no file can have;
/// `EBUSY` while the file is being opened. In the result, of a log: `EINVAL` for a number behind the end.
pub fn truncate(qd: Qd, length: u64) -> io::Result<Qt> {
    let table = table();
    let queue = table.queue(qd)?;
    as_offset(length).ok_or_else(|| errno(libc::EINVAL))?;
    match &*queue {
        Queue::File(file, _) => table.start(qd, || Ok(Action::Truncate(file.truncate(length)))),
        Queue::Log(_, access) if !access.write => Err(errno(libc::EBADF)),
        Queue::Log(log, _) => table.start(qd, || {
            let (token, done) = operation();
            log.truncate(length, done);
            Ok(Action::Truncate(token))
        }),
        _ => Err(no_file(&queue, libc::EINVAL)),
    }
}

/// Offsets are signed in the kernel.
fn as_offset(offset: u64) -> Option<i64> {
    i64::try_from(offset).ok()
}

fn no_file(queue: &Queue, number: i32) -> io::Error {
    errno(if matches!(queue, Queue::Opening) { libc::EBUSY } else { number })
}

fn open_mode(flags: i32, permissions: u32) -> io::Result<OpenMode> {
    const KNOWN: i32 =
        libc::O_ACCMODE | libc::O_APPEND | libc::O_TRUNC | libc::O_CREAT | libc::O_EXCL | libc::O_DIRECT;
    let has = |flag| flags & flag != 0;
    let (read, write) = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => (true, false),
        libc::O_WRONLY => (false, true),
        libc::O_RDWR => (true, true),
        _ => return Err(errno(libc::EINVAL)),
    };
    let exclusive = has(libc::O_CREAT) && has(libc::O_EXCL);
    Ok(OpenMode {
        read,
        write: write && !has(libc::O_APPEND),
        append: write && has(libc::O_APPEND),
        truncate: has(libc::O_TRUNC),
        create: has(libc::O_CREAT) && !exclusive,
        create_new: exclusive,
        direct: has(libc::O_DIRECT),
        mode: permissions,
        custom_flags: flags & !KNOWN,
    })
}
