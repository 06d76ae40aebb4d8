//! Logs as the PDPIX calls have them: a place to read at that counts records, and errors by number.

use super::engine::{Change, Sync};
use super::error::LogError;
use super::handle::{Log, Seek, log_error};
use super::store::{Store, Waiter};
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::transport::{LogQueue, Logs, OpenMode};
use demikernel_runtime::{Completion, spawn};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::rc::Rc;

impl Logs for Store {
    fn open(&self, name: &str, mode: OpenMode, done: Completion<io::Result<Rc<dyn LogQueue>>>) {
        let (store, name) = (self.clone(), name.to_owned());
        spawn(async move {
            let opened = open(&store, &name, mode).await.map_err(by_number);
            done.complete(opened.map(|log| Rc::new(Descriptor::new(log)) as Rc<dyn LogQueue>));
        })
        .detach();
    }
}

async fn open(store: &Store, name: &str, mode: OpenMode) -> io::Result<Log> {
    let writes = mode.write || mode.append;
    if writes && store.is_read_only() {
        return Err(LogError::ReadOnly.into());
    }
    let log = match store.find(name) {
        Some(_) if mode.create_new => return Err(errno(libc::EEXIST)),
        Some(log) => log,
        None if mode.create_new => {
            // It is there when it is durable: until then nobody else may believe to make it.
            let _making = store.making(name).ok_or_else(|| errno(libc::EEXIST))?;
            store.log(name).await?
        }
        None if mode.create => store.log(name).await?,
        None => return Err(LogError::NoLog { name: name.to_owned() }.into()),
    };
    if mode.truncate {
        log.truncate(log.end()).await?;
    }
    Ok(log)
}

/// An open log.
struct Descriptor {
    log: Log,
    reading: Rc<Reading>,
}

/// What is to be read, in order. A task does it while there is something.
struct Reading {
    requests: RefCell<VecDeque<Request>>,
    /// The handle whose place is the descriptor's; the task has it while there is one.
    log: RefCell<Option<Log>>,
    /// Where that is, as if what is under way found a record.
    at: Cell<u64>,
}

enum Request {
    Pop(Completion<io::Result<Buffer>>),
    /// To the record of this number.
    Seek(u64),
}

impl Descriptor {
    fn new(log: Log) -> Descriptor {
        let at = Cell::new(log.next_number());
        let reading =
            Reading { requests: RefCell::new(VecDeque::new()), log: RefCell::new(Some(log.clone())), at };
        Descriptor { log, reading: Rc::new(reading) }
    }
}

impl LogQueue for Descriptor {
    fn push(&self, data: Sga, done: Completion<io::Result<()>>) {
        // As write(2): so no record looks like the end.
        if data.is_empty() {
            return done.complete(Ok(()));
        }
        self.log.append(data, Sync::Durable, Waiter::Descriptor(done));
    }

    fn pop(&self, done: Completion<io::Result<Buffer>>) {
        self.reading.ask(Request::Pop(done));
    }

    fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        let number = match to {
            SeekFrom::Start(number) => Some(number),
            SeekFrom::Current(by) => self.reading.place().max(self.log.head()).checked_add_signed(by),
            SeekFrom::End(by) => self.log.end().checked_add_signed(by),
        };
        // Offsets are signed.
        let number = number.filter(|number| i64::try_from(*number).is_ok());
        let number = number.ok_or_else(|| errno(libc::EINVAL))?.max(self.log.head());
        self.reading.ask(Request::Seek(number));
        Ok(number)
    }

    fn truncate(&self, number: u64, done: Completion<io::Result<()>>) {
        if number > self.log.end() {
            return done.complete(Err(errno(libc::EINVAL)));
        }
        self.log.change(|place| Change::Truncate(place, number), Waiter::Descriptor(done));
    }
}

impl Reading {
    fn ask(self: &Rc<Reading>, request: Request) {
        self.requests.borrow_mut().push_back(request);
        let log = self.log.take();
        if let Some(log) = log {
            spawn(self.clone().run(log)).detach();
        }
    }

    /// The number of the record that a pop gives which is started now.
    fn place(&self) -> u64 {
        self.requests.borrow().iter().fold(self.at.get(), |at, request| match request {
            Request::Pop(_) => at + 1,
            Request::Seek(number) => *number,
        })
    }

    async fn run(self: Rc<Reading>, mut log: Log) {
        loop {
            let request = self.requests.borrow_mut().pop_front();
            match request {
                Some(Request::Pop(done)) => {
                    self.at.set(log.next_number() + 1);
                    let record = next(&mut log).await.map_err(by_number);
                    self.at.set(log.next_number());
                    done.complete(record);
                }
                Some(Request::Seek(number)) => {
                    // Any number is a place to be at.
                    let _ = log.seek(Seek::Number(number));
                    self.at.set(number);
                }
                None => break,
            }
        }
        self.log.replace(Some(log));
    }
}

/// The next record that has bytes; those without, of which other programs may push some, would look like the end.
async fn next(log: &mut Log) -> io::Result<Buffer> {
    loop {
        match log.next().await? {
            Some(record) if record.data.is_empty() => {}
            Some(record) => return Ok(record.data),
            None => return Ok(Buffer::new()),
        }
    }
}

/// The number of an error of a log, or of the device.
pub(super) fn by_number(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let number = match log_error(&error) {
        Some(LogError::NoLog { .. }) => libc::ENOENT,
        Some(LogError::BadName { name }) if name.is_empty() => libc::ENOENT,
        Some(LogError::BadName { .. }) => libc::ENAMETOOLONG,
        Some(LogError::Full | LogError::TooManyLogs) => libc::ENOSPC,
        Some(LogError::TooLong { .. }) => libc::EMSGSIZE,
        Some(LogError::NoRecord { .. }) => libc::EINVAL,
        Some(LogError::ReadOnly) => libc::EROFS,
        Some(LogError::Damaged(_)) => libc::EBADMSG,
        Some(LogError::OutOfMemory { .. }) => libc::ENOMEM,
        Some(LogError::Closed) => libc::ESHUTDOWN,
        _ if error.kind() == io::ErrorKind::OutOfMemory => libc::ENOMEM,
        _ => libc::EIO,
    };
    // A number says less than the words did.
    tracing::debug!(%error, number, "a log's operation has failed");
    errno(number)
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
