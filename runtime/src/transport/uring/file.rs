//! Files. Any number of operations may be under way on one.

use super::Uring;
use super::device::Inner;
use super::key::{Key, Kind};
use super::message::{Message, PIECES};
use super::ring::Completed;
use super::socket::Target;
use crate::buffer::{BufferMut, Sga};
use crate::executor::Completion;
use crate::transport::{OpenMode, Qd, Storage, kernel};
use io_uring::{opcode, squeue, types};
use slab::Slab;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::{Path, PathBuf};

/// The most that one operation moves. The kernel cuts longer ones.
const MOST: usize = 0x7fff_f000;

/// An open file.
struct FileEntry {
    file: fs::File,
    /// How operations name it.
    target: Target,
    /// Its operations.
    in_kernel: u32,
    closing: bool,
    direct: bool,
}

/// An operation in the kernel, with the memory that it uses.
enum Work {
    Open { path: CString, shown: PathBuf, direct: bool, done: Completion<io::Result<Qd>> },
    Read { buffer: BufferMut, done: Completion<io::Result<BufferMut>> },
    Write { data: Sga, offset: u64, message: Option<Box<Message>>, done: Completion<io::Result<()>> },
    Plain { done: Completion<io::Result<()>> },
}

struct Operation {
    work: Work,
    /// None for an open.
    file: Option<u32>,
    stamp: u32,
    /// The token was dropped.
    unwanted: bool,
}

/// All files and their operations, by number.
#[derive(Default)]
pub(super) struct Files {
    entries: Slab<FileEntry>,
    operations: Slab<Operation>,
    stamp: u32,
}

impl Files {
    fn open(&mut self, qd: Qd) -> io::Result<&mut FileEntry> {
        match self.entries.get_mut(qd.0 as usize) {
            Some(entry) if !entry.closing => Ok(entry),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Whether any operation is under way.
    pub(super) fn are_busy(&self) -> bool {
        !self.operations.is_empty()
    }

    /// The operations under way.
    pub(super) fn keys(&self) -> Vec<Key> {
        let key =
            |(index, operation): (usize, &Operation)| Key::new(Kind::File, operation.stamp, index as u32);
        self.operations.iter().map(key).collect()
    }

    /// Gives up the memory of operations that the kernel has not given back, without freeing it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.operations));
    }
}

impl Inner {
    /// Enters an operation in the table; the promise is told by the returned key if its token is dropped.
    fn add_operation(&mut self, file: Option<u32>, work: Work) -> Key {
        self.files.stamp = (self.files.stamp + 1) & Key::STAMPS;
        let stamp = self.files.stamp;
        if let Some(file) = file {
            self.files.entries[file as usize].in_kernel += 1;
        }
        let index = self.files.operations.insert(Operation { work, file, stamp, unwanted: false });
        let key = Key::new(Kind::File, stamp, index as u32);
        match &self.files.operations[index].work {
            Work::Open { done, .. } => done.on_cancel(self.io.id, key.bits()),
            Work::Read { done, .. } => done.on_cancel(self.io.id, key.bits()),
            Work::Write { done, .. } | Work::Plain { done } => done.on_cancel(self.io.id, key.bits()),
        }
        key
    }

    /// # Safety
    /// As [`Ring::submit`](super::ring::Ring::submit).
    unsafe fn submit_file(&mut self, target: Target, entry: squeue::Entry, key: Key) {
        // SAFETY: the caller keeps the memory that the operation names until its last completion.
        unsafe { self.io.ring.submit(&target.apply(entry).user_data(key.bits())) };
    }

    fn start_read(
        &mut self,
        qd: Qd,
        offset: u64,
        mut buffer: BufferMut,
        done: Completion<io::Result<BufferMut>>,
    ) {
        let target = self.files.entries[qd.0 as usize].target;
        let spare = buffer.spare_capacity_mut();
        let (address, length) = (spare.as_mut_ptr().cast(), spare.len().min(MOST) as u32);
        let operation = match self.regions.number(self.io.ring.submitter(), buffer.region()) {
            Some(number) => {
                opcode::ReadFixed::new(target.fd(), address, length, number).offset(offset).build()
            }
            None => opcode::Read::new(target.fd(), address, length).offset(offset).build(),
        };
        let key = self.add_operation(Some(qd.0), Work::Read { buffer, done });
        // SAFETY: the buffer stays in the table until the completion.
        unsafe { self.submit_file(target, operation, key) };
    }

    /// Starts a write, or goes on with one of which some was written.
    fn start_write(&mut self, key: Key) {
        let operation = &mut self.files.operations[key.index()];
        let Some(file) = operation.file else { return };
        let target = self.files.entries[file as usize].target;
        let Work::Write { data, offset, message, .. } = &mut operation.work else { return };
        let entry = if data.segments() == 1
            && let Some(piece) = data.first()
        {
            let (address, length) = (piece.as_ptr(), piece.len().min(MOST) as u32);
            match self.regions.number(self.io.ring.submitter(), piece.region()) {
                Some(number) => {
                    opcode::WriteFixed::new(target.fd(), address, length, number).offset(*offset).build()
                }
                None => opcode::Write::new(target.fd(), address, length).offset(*offset).build(),
            }
        } else {
            let message = message.get_or_insert_with(|| self.io.messages.take());
            let mut pieces = 0;
            for (piece, segment) in message.pieces[..PIECES].iter_mut().zip(data.iter()) {
                *piece = libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: segment.len() };
                pieces += 1;
            }
            opcode::Writev::new(target.fd(), message.pieces.as_ptr(), pieces).offset(*offset).build()
        };
        // SAFETY: the data and the list of its pieces stay in the table until the completion.
        unsafe { self.submit_file(target, entry, key) };
    }

    /// Ends an operation, or goes on with it.
    fn file_done(&mut self, completed: Completed) -> Option<Finished> {
        let operation = self.files.operations.get_mut(completed.key.index())?;
        if operation.stamp != completed.key.stamp() {
            return None;
        }
        let again = matches!(-completed.result, libc::EINTR | libc::EAGAIN) && !operation.unwanted;
        if let Work::Write { data, offset, .. } = &mut operation.work {
            let written = completed.result.max(0) as usize;
            data.advance(written);
            *offset += written as u64;
            let rest = !data.is_empty() && written > 0 && !operation.unwanted;
            if rest || again {
                self.start_write(completed.key);
                return None;
            }
        }
        let Operation { work, file, .. } = self.files.operations.remove(completed.key.index());
        let mut direct = false;
        if let Some(file) = file {
            let entry = &mut self.files.entries[file as usize];
            entry.in_kernel -= 1;
            direct = entry.direct;
            if entry.closing && entry.in_kernel == 0 {
                self.finish_close_file(file);
            }
        }
        Some(self.finish(work, completed.result, direct))
    }

    fn finish(&mut self, work: Work, result: i32, direct: bool) -> Finished {
        let error = || match -result {
            libc::EINVAL if direct => kernel::unaligned(),
            error => io::Error::from_raw_os_error(error),
        };
        match work {
            Work::Open { shown, direct, done, .. } if result >= 0 => {
                // SAFETY: the kernel has just given us this descriptor.
                let file = unsafe { fs::File::from_raw_fd(result) };
                if done.is_cancelled() {
                    drop(file);
                    let error = io::Error::other(format!("{} is not wanted any more", shown.display()));
                    return Finished::Opened(done, Err(error));
                }
                let target = self.io.target(result);
                let entry = FileEntry { file, target, in_kernel: 0, closing: false, direct };
                Finished::Opened(done, Ok(Qd(self.files.entries.insert(entry) as u32)))
            }
            Work::Open { shown, direct, done, path } => {
                drop(path);
                let error = kernel::open_error(io::Error::from_raw_os_error(-result), &shown, direct);
                Finished::Opened(done, Err(error))
            }
            Work::Read { mut buffer, done } => {
                if result < 0 {
                    return Finished::Read(done, Err(error()));
                }
                // SAFETY: the kernel has written so many bytes behind those that were there, and is done
                // with the buffer.
                unsafe { buffer.set_len(buffer.len() + result as usize) };
                Finished::Read(done, Ok(buffer))
            }
            Work::Write { data, message, done, .. } => {
                if let Some(message) = message {
                    self.io.messages.put(message);
                }
                let result = match result {
                    ..0 => Err(error()),
                    0 if !data.is_empty() => Err(io::ErrorKind::WriteZero.into()),
                    _ => Ok(()),
                };
                Finished::Plain(done, result)
            }
            Work::Plain { done } => Finished::Plain(done, if result < 0 { Err(error()) } else { Ok(()) }),
        }
    }

    fn finish_close_file(&mut self, index: u32) {
        let entry = self.files.entries.remove(index as usize);
        self.io.release(entry.target);
        self.io.close(entry.file.into_raw_fd(), false);
    }

    /// Closes every file, at once or with its last operation.
    pub(super) fn close_files(&mut self) {
        let open: Vec<u32> = self.files.entries.iter().map(|(index, _)| index as u32).collect();
        for index in open {
            let entry = &mut self.files.entries[index as usize];
            if !std::mem::replace(&mut entry.closing, true) && entry.in_kernel == 0 {
                self.finish_close_file(index);
            }
        }
    }
}

/// A result to be delivered when no borrow is held.
enum Finished {
    Opened(Completion<io::Result<Qd>>, io::Result<Qd>),
    Read(Completion<io::Result<BufferMut>>, io::Result<BufferMut>),
    Plain(Completion<io::Result<()>>, io::Result<()>),
}

impl Uring {
    pub(super) fn on_file(&self, completed: Completed) {
        let finished = self.inner.borrow_mut().file_done(completed);
        match finished {
            Some(Finished::Opened(done, result)) => done.complete(result),
            Some(Finished::Read(done, result)) => done.complete(result),
            Some(Finished::Plain(done, result)) => done.complete(result),
            None => {}
        }
    }

    /// The token of a file's operation was dropped.
    pub(super) fn cancel_file(&self, key: Key) {
        let mut inner = self.inner.borrow_mut();
        if let Some(operation) = inner.files.operations.get_mut(key.index())
            && operation.stamp == key.stamp()
        {
            operation.unwanted = true;
            inner.io.cancel(key);
        }
    }

    /// Starts an operation that needs nothing but its file.
    fn plain(
        &self,
        qd: Qd,
        done: Completion<io::Result<()>>,
        build: impl FnOnce(types::Fd) -> squeue::Entry,
    ) {
        let mut inner = self.inner.borrow_mut();
        let target = match inner.files.open(qd) {
            Ok(entry) => entry.target,
            Err(error) => {
                drop(inner);
                return done.complete(Err(error));
            }
        };
        let key = inner.add_operation(Some(qd.0), Work::Plain { done });
        // SAFETY: such an operation names no memory.
        unsafe { inner.submit_file(target, build(target.fd()), key) };
    }
}

impl Storage for Uring {
    fn open(&self, path: &Path, mode: OpenMode, done: Completion<io::Result<Qd>>) {
        let (flags, name) = match (kernel::open_flags(mode), kernel::c_path(path)) {
            (Ok(flags), Ok(name)) => (flags, name),
            (Err(error), _) | (_, Err(error)) => return done.complete(Err(error)),
        };
        let mut inner = self.inner.borrow_mut();
        let operation = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), name.as_ptr())
            .flags(flags)
            .mode(mode.mode)
            .build();
        // The text stays where it is when the string moves.
        let work = Work::Open { path: name, shown: path.to_owned(), direct: mode.direct, done };
        let key = inner.add_operation(None, work);
        // SAFETY: the path stays in the table until the completion.
        unsafe { inner.io.ring.submit(&operation.user_data(key.bits())) };
    }

    fn read_at(&self, qd: Qd, offset: u64, buffer: BufferMut, done: Completion<io::Result<BufferMut>>) {
        let mut inner = self.inner.borrow_mut();
        if let Err(error) = inner.files.open(qd).and(kernel::file_offset(offset)) {
            drop(inner);
            return done.complete(Err(error));
        }
        inner.start_read(qd, offset, buffer, done);
    }

    fn write_at(&self, qd: Qd, offset: u64, data: Sga, done: Completion<io::Result<()>>) {
        let mut inner = self.inner.borrow_mut();
        let result = inner.files.open(qd).and(kernel::file_offset(offset)).map(drop);
        if result.is_err() || data.is_empty() {
            drop(inner);
            return done.complete(result);
        }
        let key = inner.add_operation(Some(qd.0), Work::Write { data, offset, message: None, done });
        inner.start_write(key);
    }

    fn sync(&self, qd: Qd, data_only: bool, done: Completion<io::Result<()>>) {
        let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
        self.plain(qd, done, |fd| opcode::Fsync::new(fd).flags(flags).build());
    }

    fn truncate(&self, qd: Qd, length: u64, done: Completion<io::Result<()>>) {
        if let Err(error) = kernel::file_offset(length) {
            return done.complete(Err(error));
        }
        if self.inner.borrow().io.ring.features.truncate {
            return self.plain(qd, done, |fd| opcode::Ftruncate::new(fd, length).build());
        }
        let result = self.inner.borrow_mut().files.open(qd).and_then(|entry| entry.file.set_len(length));
        done.complete(result);
    }

    fn length(&self, qd: Qd) -> io::Result<u64> {
        self.inner.borrow_mut().files.open(qd)?.file.metadata().map(|metadata| metadata.len())
    }

    fn close_file(&self, qd: Qd) {
        let mut inner = self.inner.borrow_mut();
        let Ok(entry) = inner.files.open(qd) else { return };
        entry.closing = true;
        if entry.in_kernel == 0 {
            inner.finish_close_file(qd.0);
        }
    }
}
