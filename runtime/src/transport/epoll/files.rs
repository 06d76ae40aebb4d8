//! Operations on files. The kernel has no readiness for those: what may block runs on a thread. Reads are
//! tried at once as far as the page cache has the data.

use super::jobs::{Memory, Outcome};
use super::{Entry, Epoll, add, ended};
use crate::buffer::{BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::{OpenMode, Qd, Storage, kernel};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// An open file. The threads that work on it keep the descriptor open.
pub(super) struct File {
    fd: Arc<OwnedFd>,
    /// It is read and written past the page cache.
    direct: bool,
    /// Whether it is worth asking for what is in the page cache: not past it, and not when the file system
    /// does not know how to answer.
    cached: Cell<bool>,
}

/// What to do with the result of a job, and the memory that its thread uses.
pub(super) enum Job {
    Open(Open),
    Read {
        buffer: BufferMut,
        direct: bool,
        done: Completion<io::Result<BufferMut>>,
    },
    Write {
        data: Sga,
        direct: bool,
        done: Completion<io::Result<()>>,
    },
    /// A call without memory.
    Call {
        done: Completion<io::Result<()>>,
    },
    Close,
}

pub(super) struct Open {
    path: PathBuf,
    direct: bool,
    done: Completion<io::Result<Qd>>,
}

impl Job {
    fn fail(self, error: io::Error) {
        match self {
            Job::Open(open) => open.done.complete(Err(error)),
            Job::Read { done, .. } => done.complete(Err(error)),
            Job::Write { done, .. } | Job::Call { done } => done.complete(Err(error)),
            Job::Close => {}
        }
    }
}

impl Storage for Epoll {
    fn open(&self, path: &Path, mode: OpenMode, done: Completion<io::Result<Qd>>) {
        let (flags, name) = match (self.check_running(), kernel::open_flags(mode), kernel::c_path(path)) {
            (Ok(()), Ok(flags), Ok(name)) => (flags, name),
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => return done.complete(Err(error)),
        };
        let permissions = mode.mode;
        let job = Job::Open(Open { path: path.to_path_buf(), direct: mode.direct, done });
        self.start(job, move || {
            // SAFETY: the name is a C string.
            let fd = retry(|| unsafe { libc::open(name.as_ptr(), flags, permissions) as isize });
            // SAFETY: the kernel just gave us this descriptor.
            Outcome::Opened(fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
        });
    }

    fn read_at(&self, qd: Qd, offset: u64, buffer: BufferMut, done: Completion<io::Result<BufferMut>>) {
        let (file, offset) = match (self.file_of(qd), kernel::file_offset(offset)) {
            (Ok(file), Ok(offset)) => (file, offset),
            (Err(error), _) | (_, Err(error)) => return done.complete(Err(error)),
        };
        let mut buffer = buffer;
        let room = buffer.spare_capacity_mut();
        if file.cached.get()
            && self.may_read_now()
            && let Some(result) = read_cached(&file, offset, room)
        {
            return done.complete(result.map(|count| grown(buffer, count)));
        }
        let mut room = Memory::of_room(room);
        let fd = file.fd.clone();
        self.start(Job::Read { buffer, direct: file.direct, done }, move || {
            let piece = room.pieces()[0];
            // SAFETY: the room is the buffer's, which the job keeps until this thread is done, and which
            // nobody looks at.
            let read = || unsafe { libc::pread(fd.as_raw_fd(), piece.iov_base, piece.iov_len, offset) };
            Outcome::Number(retry(read))
        });
    }

    fn write_at(&self, qd: Qd, offset: u64, data: Sga, done: Completion<io::Result<()>>) {
        let (file, offset) = match (self.file_of(qd), kernel::file_offset(offset)) {
            (Ok(file), Ok(offset)) => (file, offset),
            (Err(error), _) | (_, Err(error)) => return done.complete(Err(error)),
        };
        let mut memory = Memory::of_data(&data);
        let fd = file.fd.clone();
        self.start(Job::Write { data, direct: file.direct, done }, move || {
            // SAFETY: the memory is the data's, which the job keeps until this thread is done.
            Outcome::Number(unsafe { write_all(&fd, memory.pieces(), offset) })
        });
    }

    fn sync(&self, qd: Qd, data_only: bool, done: Completion<io::Result<()>>) {
        self.call(qd, done, move |fd| {
            // SAFETY: no pointers are passed.
            unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } }
        });
    }

    fn truncate(&self, qd: Qd, length: u64, done: Completion<io::Result<()>>) {
        let length = match kernel::file_offset(length) {
            Ok(length) => length,
            Err(error) => return done.complete(Err(error)),
        };
        // SAFETY: no pointers are passed.
        self.call(qd, done, move |fd| unsafe { libc::ftruncate(fd, length) });
    }

    fn length(&self, qd: Qd) -> io::Result<u64> {
        let file = self.file_of(qd)?;
        // SAFETY: plain data, for which zeros are a value; the kernel fills it in.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            retry(|| libc::fstat(file.fd.as_raw_fd(), &raw mut status) as isize)?;
            Ok(status.st_size as u64)
        }
    }

    fn close_file(&self, qd: Qd) {
        if let Ok(file) = self.file_of(qd) {
            let entry = self.entries.borrow_mut().remove(qd.0 as usize);
            drop(entry);
            self.start_close(file);
        }
    }
}

impl Epoll {
    fn file_of(&self, qd: Qd) -> io::Result<Rc<File>> {
        match self.entries.borrow().get(qd.0 as usize) {
            Some(Entry::File(file)) => Ok(file.clone()),
            _ if self.ended.get() => Err(ended()),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    fn start(&self, job: Job, run: impl FnOnce() -> Outcome + Send + 'static) {
        add(&self.count.jobs, 1);
        self.waits_more(1);
        self.jobs.start(job, run);
    }

    /// Has a call made that has no result but its error.
    fn call(&self, qd: Qd, done: Completion<io::Result<()>>, run: impl Fn(RawFd) -> i32 + Send + 'static) {
        match self.file_of(qd) {
            Ok(file) => {
                let fd = file.fd.clone();
                self.start(Job::Call { done }, move || {
                    Outcome::Number(retry(|| run(fd.as_raw_fd()) as isize))
                });
            }
            Err(error) => done.complete(Err(error)),
        }
    }

    /// Closes a descriptor on a thread: some file systems write back what is left then. If other threads
    /// work on the file, the last of them closes it.
    pub(super) fn start_close(&self, file: Rc<File>) {
        let fd = file.fd.clone();
        drop(file);
        self.start(Job::Close, move || {
            drop(fd);
            Outcome::Number(Ok(0))
        });
    }

    /// Reads that complete at once are bounded as calls on sockets are.
    fn may_read_now(&self) -> bool {
        const READS_PER_TURN: u32 = 256;
        let (turn, reads) = self.reads.get();
        let reads = if turn == self.turn.get() { reads + 1 } else { 1 };
        self.reads.set((self.turn.get(), reads));
        reads <= READS_PER_TURN
    }

    /// Completes the operations whose threads are done. Returns whether there were any.
    pub(super) fn finish_jobs(&self) -> bool {
        let mut any = false;
        while let Some((job, outcome)) = self.jobs.take() {
            any = true;
            self.waits_less(1);
            self.finish(job, outcome);
        }
        any
    }

    /// Waits for all threads.
    pub(super) fn finish_all_jobs(&self) {
        while !self.jobs.is_empty() {
            self.jobs.wait();
            self.finish_jobs();
        }
    }

    fn finish(&self, job: Job, outcome: Outcome) {
        match (job, outcome) {
            (Job::Open(open), Outcome::Opened(fd)) => self.finish_open(open, fd),
            (Job::Read { buffer, direct, done }, Outcome::Number(number)) => {
                done.complete(
                    number.map(|count| grown(buffer, count)).map_err(|error| explained(error, direct)),
                );
            }
            (Job::Write { data, direct, done }, Outcome::Number(number)) => {
                done.complete(number.map(|_| ()).map_err(|error| explained(error, direct)));
                drop(data);
            }
            (Job::Call { done }, Outcome::Number(number)) => done.complete(number.map(|_| ())),
            (job, _) => job.fail(io::Error::other("the thread of a file operation has failed")),
        }
    }

    fn finish_open(&self, open: Open, fd: io::Result<OwnedFd>) {
        let Open { path, direct, done } = open;
        match fd {
            // Nobody would close it.
            Ok(fd) if done.is_cancelled() || self.ended.get() => {
                drop(fd);
                done.complete(Err(ended()));
            }
            Ok(fd) => {
                let file = File { fd: Arc::new(fd), direct, cached: Cell::new(!direct) };
                let index = self.entries.borrow_mut().insert(Entry::File(Rc::new(file)));
                done.complete(Ok(Qd(index as u32)));
            }
            Err(error) => done.complete(Err(kernel::open_error(error, &path, direct))),
        }
    }
}

/// The error of a read or a write, which for `direct` files may need explaining.
fn explained(error: io::Error, direct: bool) -> io::Error {
    if direct && error.raw_os_error() == Some(libc::EINVAL) { kernel::unaligned() } else { error }
}

/// The buffer with `count` bytes more, which the kernel has written.
fn grown(mut buffer: BufferMut, count: usize) -> BufferMut {
    let length = buffer.len() + count;
    // SAFETY: the kernel has written `count` bytes to the spare capacity.
    unsafe { buffer.set_len(length) };
    buffer
}

/// Reads if that needs no waiting for the disk.
fn read_cached(
    file: &File,
    offset: libc::off_t,
    room: &mut [std::mem::MaybeUninit<u8>],
) -> Option<io::Result<usize>> {
    let piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: the piece is writable memory.
    let read =
        || unsafe { libc::preadv2(file.fd.as_raw_fd(), &raw const piece, 1, offset, libc::RWF_NOWAIT) };
    match retry(read) {
        Ok(count) => Some(Ok(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {
            file.cached.set(false);
            None
        }
        Err(error) => Some(Err(error)),
    }
}

/// Writes all pieces, one after the other, from `offset` on.
///
/// # Safety
/// The pieces are readable memory.
unsafe fn write_all(fd: &OwnedFd, pieces: &mut [libc::iovec], offset: libc::off_t) -> io::Result<usize> {
    let mut written = 0;
    let mut rest = pieces;
    while !rest.is_empty() {
        let count = rest.len().min(libc::UIO_MAXIOV as usize) as libc::c_int;
        let at = offset + written as libc::off_t;
        // SAFETY: the caller's pieces are readable memory, so what is left of them is.
        let bytes = retry(|| unsafe { libc::pwritev(fd.as_raw_fd(), rest.as_ptr(), count, at) })?;
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written += bytes;
        rest = advanced(rest, bytes);
    }
    Ok(written)
}

/// What is left of the pieces after `bytes` of them.
fn advanced(mut pieces: &mut [libc::iovec], mut bytes: usize) -> &mut [libc::iovec] {
    while let Some(first) = pieces.first_mut() {
        if first.iov_len > bytes {
            first.iov_base = first.iov_base.wrapping_byte_add(bytes);
            first.iov_len -= bytes;
            break;
        }
        bytes -= first.iov_len;
        pieces = &mut pieces[1..];
    }
    pieces
}

/// Makes a call until no signal interrupts it.
fn retry(call: impl FnMut() -> isize) -> io::Result<usize> {
    let mut call = call;
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
