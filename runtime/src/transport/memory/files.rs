//! Operations on files.
//!
//! What is wrong with a request is said at once. Everything else takes its time and takes effect when that is
//! over, so operations that are under way together take effect in any order.

use super::Memory;
use super::content::{Content, LONGEST};
use super::effect::Effect;
use super::errors::{code, open_error};
use super::state::{Entry, Event, State, note};
use super::waiting::Queue;
use crate::buffer::{BufferMut, Sga};
use crate::executor::Completion;
use crate::random::Random;
use crate::transport::{OpenMode, Qd, Storage, kernel};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// With O_DIRECT, offsets, lengths and addresses are multiples of it.
const SECTOR: usize = 512;

type Shared = Rc<RefCell<Content>>;

/// An open file.
#[derive(Clone)]
pub(super) struct File {
    content: Shared,
    reads: bool,
    writes: bool,
    appends: bool,
    direct: bool,
}

/// The file system.
pub(super) struct Files {
    by_path: BTreeMap<PathBuf, Shared>,
    random: Random,
}

impl Files {
    pub(super) fn new(random: Random) -> Files {
        Files { by_path: BTreeMap::new(), random }
    }
}

/// An operation under way.
pub(super) enum Job {
    Open { path: PathBuf, mode: OpenMode, done: Completion<io::Result<Qd>> },
    Read { file: File, offset: u64, buffer: BufferMut, done: Completion<io::Result<BufferMut>> },
    Write { file: File, offset: u64, data: Sga, done: Completion<io::Result<()>> },
    Sync { done: Completion<io::Result<()>> },
    Truncate { file: File, length: u64, done: Completion<io::Result<()>> },
}

impl Storage for Memory {
    fn open(&self, path: &Path, mode: OpenMode, done: Completion<io::Result<Qd>>) {
        let valid = kernel::open_flags(mode).and_then(|_| kernel::c_path(path));
        let job = Job::Open { path: path.to_path_buf(), mode, done };
        self.with(|state| {
            if let Job::Open { done, .. } = &job {
                // Not to be cancelled, but to be closed if nobody takes it: no socket has this number.
                state.watch(done, Qd(u32::MAX), Queue::Receives, 0);
            }
            state.start_job(job, valid.map(|_| ()));
        });
    }

    fn read_at(&self, qd: Qd, offset: u64, mut buffer: BufferMut, done: Completion<io::Result<BufferMut>>) {
        self.with(|state| {
            let room = buffer.spare_capacity_mut();
            let (start, size) = (room.as_ptr() as usize, room.len());
            let file = state.file(qd).and_then(|file| {
                check(file.reads, libc::EBADF)?;
                check_end(offset, 0)?;
                if file.direct && !is_aligned(&[offset as usize, start, size]) {
                    return Err(kernel::unaligned());
                }
                Ok(file)
            });
            match file {
                Ok(file) => state.start_job(Job::Read { file, offset, buffer, done }, Ok(())),
                Err(error) => state.effects.push(Effect::Read(done, Err(error))),
            }
        });
    }

    fn write_at(&self, qd: Qd, offset: u64, data: Sga, done: Completion<io::Result<()>>) {
        self.with(|state| {
            let aligned = |data: &Sga| {
                let pieces = || data.iter().all(|piece| is_aligned(&[piece.as_ptr() as usize, piece.len()]));
                is_aligned(&[offset as usize]) && pieces()
            };
            let file = state.file(qd).and_then(|file| {
                check(file.writes, libc::EBADF)?;
                check_end(offset, data.len())?;
                if file.direct && !aligned(&data) {
                    return Err(kernel::unaligned());
                }
                Ok(file)
            });
            match file {
                Ok(file) => state.start_job(Job::Write { file, offset, data, done }, Ok(())),
                Err(error) => state.refuse_push(data, done, error),
            }
        });
    }

    fn sync(&self, qd: Qd, _data_only: bool, done: Completion<io::Result<()>>) {
        self.with(|state| {
            let valid = state.file(qd).map(|_| ());
            state.start_job(Job::Sync { done }, valid);
        });
    }

    fn truncate(&self, qd: Qd, length: u64, done: Completion<io::Result<()>>) {
        self.with(|state| {
            let file = state.file(qd).and_then(|file| {
                check_end(length, 0)?;
                check(file.writes, libc::EINVAL)?;
                Ok(file)
            });
            match file {
                Ok(file) => state.start_job(Job::Truncate { file, length, done }, Ok(())),
                Err(error) => state.done(done, Err(error)),
            }
        });
    }

    fn length(&self, qd: Qd) -> io::Result<u64> {
        self.with(|state| state.file(qd).map(|file| file.content.borrow().length()))
    }

    fn close_file(&self, qd: Qd) {
        self.with(|state| state.close_file(qd));
    }
}

/// The file system from outside, for tests to prepare it and to look at what came out.
impl Memory {
    /// Makes a file with this content, or replaces that of the one that is there.
    pub fn write_file(&self, path: impl AsRef<Path>, content: &[u8]) {
        let mut state = self.state.borrow_mut();
        let shared = state.files.by_path.entry(path.as_ref().to_path_buf()).or_default();
        let mut file = shared.borrow_mut();
        file.truncate(0);
        file.write(0, content);
    }

    /// The content of a file, if there is one of that path.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        state.files.by_path.get(path.as_ref()).map(|content| content.borrow().to_vec())
    }

    /// Removes a file; whoever has it open keeps it. Returns whether there was one.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> bool {
        self.state.borrow_mut().files.by_path.remove(path.as_ref()).is_some()
    }

    /// The paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.borrow().files.by_path.keys().cloned().collect()
    }
}

impl State {
    fn file(&self, qd: Qd) -> io::Result<File> {
        match self.entries.get(&qd) {
            Some(Entry::File(file)) => Ok(file.clone()),
            _ => Err(self.nothing()),
        }
    }

    pub(super) fn close_file(&mut self, qd: Qd) {
        if self.file(qd).is_ok() {
            self.entries.remove(&qd);
        }
    }

    /// Starts an operation, unless it is not valid.
    fn start_job(&mut self, job: Job, valid: io::Result<()>) {
        if let Err(error) = valid {
            return self.fail_job(job, error);
        }
        self.count.file_operations += 1;
        let takes = self.config.storage_latency + self.files.random.up_to(self.config.storage_jitter);
        self.schedule.add(self.now + takes, Event::File(Box::new(job)));
    }

    pub(super) fn fail_job(&mut self, job: Job, error: io::Error) {
        match job {
            Job::Open { path, done, .. } => {
                self.effects.push(Effect::Opened(done, Err(open_error(error, &path))));
            }
            Job::Read { done, .. } => self.effects.push(Effect::Read(done, Err(error))),
            Job::Write { data, done, .. } => self.refuse_push(data, done, error),
            Job::Sync { done } | Job::Truncate { done, .. } => self.done(done, Err(error)),
        }
    }

    pub(super) fn finish_job(&mut self, job: Job) {
        if !matches!(job, Job::Open { .. }) && self.files.random.chance(self.config.storage_errors) {
            self.count.file_errors += 1;
            note!(self, "file error");
            if let Job::Write { file, offset, data, .. } = &job {
                let some = self.files.random.below(data.len() as u64 + 1) as usize;
                file.write(*offset, data, some);
            }
            return self.fail_job(job, code(libc::EIO));
        }
        match job {
            Job::Open { path, mode, done } => {
                let result = self.finish_open(&path, mode, done.is_cancelled());
                note!(self, "open {} {}", path.display(), result.is_ok());
                self.effects.push(Effect::Opened(done, result));
            }
            Job::Read { file, offset, mut buffer, done } => {
                let room = buffer.capacity() - buffer.len();
                file.content.borrow().read(offset, room, |piece| buffer.extend_from_slice(piece));
                note!(self, "read at {offset}");
                self.effects.push(Effect::Read(done, Ok(buffer)));
            }
            Job::Write { file, offset, data, done } => {
                file.write(offset, &data, data.len());
                note!(self, "write {} at {offset}", data.len());
                self.done(done, Ok(()));
                self.effects.push(Effect::Drop(data));
            }
            Job::Sync { done } => {
                note!(self, "sync");
                self.done(done, Ok(()));
            }
            Job::Truncate { file, length, done } => {
                file.content.borrow_mut().truncate(length);
                note!(self, "truncate to {length}");
                self.done(done, Ok(()));
            }
        }
    }

    fn finish_open(&mut self, path: &Path, mode: OpenMode, unwanted: bool) -> io::Result<Qd> {
        let explain = |error| open_error(error, path);
        let content = match self.files.by_path.get(path) {
            Some(_) if mode.create_new => return Err(explain(code(libc::EEXIST))),
            Some(content) => content.clone(),
            None if mode.create || mode.create_new => {
                self.files.by_path.entry(path.to_path_buf()).or_default().clone()
            }
            None => return Err(explain(code(libc::ENOENT))),
        };
        if mode.truncate {
            content.borrow_mut().truncate(0);
        }
        if unwanted {
            // Nobody would close it.
            return Err(code(libc::ECANCELED));
        }
        let (reads, writes, appends) = (mode.read, mode.write || mode.append, mode.append);
        self.insert(Entry::File(File { content, reads, writes, appends, direct: mode.direct }))
    }
}

impl File {
    /// Writes the first `count` bytes of `data`.
    fn write(&self, offset: u64, data: &Sga, count: usize) {
        let mut content = self.content.borrow_mut();
        let mut at = if self.appends { content.length() } else { offset };
        let mut left = count;
        for piece in data.iter() {
            let piece = &piece[..piece.len().min(left)];
            content.write(at, piece);
            at += piece.len() as u64;
            left -= piece.len();
        }
    }
}

fn check(condition: bool, error: i32) -> io::Result<()> {
    if condition { Ok(()) } else { Err(code(error)) }
}

/// Offsets and lengths are signed in the kernel, so here, too.
fn check_end(offset: u64, length: usize) -> io::Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= LONGEST => Ok(()),
        _ => {
            let message = format!("offset or length {offset} is beyond what files can have");
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

fn is_aligned(numbers: &[usize]) -> bool {
    numbers.iter().all(|number| number % SECTOR == 0)
}
