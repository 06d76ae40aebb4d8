//! `Store`: the logs of one device, and the task that drives them.
//!
//! The state machine says what is to be read, written and flushed; a task of the runtime does it, and completes what
//! programs wait for. Pushes of one round of tasks are seen together, since the driving task runs after them.

use super::create::Plan;
use super::descriptor::by_number;
use super::engine::{Action, Change, Engine, Outcome};
use super::error::LogError;
use super::format::{SLOT, Superblock};
use super::gather::Gather;
use super::handle::Log;
use super::recovery::{Range, Recovered, Recovery, Step};
use super::ways::Ways;
use crate::Volume;
use demikernel_runtime::buffer::{Buffer, BufferMut};
use demikernel_runtime::time::{Instant, Sleep, sleep_until};
use demikernel_runtime::{Completion, QToken, operation, spawn, wait_all};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How a [`Store`] is opened or made.
///
/// ```
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_spdk_storage::{Geometry, Volume, log::StoreOptions, memory::Disk};
///
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let disk = Disk::new(Geometry::new(512, 1 << 20));
/// let store = StoreOptions::new().create(true).open(Volume::attach(disk.device())).await?;
/// let log = store.log("orders").await?;
/// let appended = log.push(Buffer::from("one coffee")).await?;
/// assert_eq!(appended.number, 0);
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreOptions {
    create: bool,
    create_new: bool,
    overwrite: bool,
    read_only: bool,
    accept_loss: bool,
    segment: Option<u32>,
}

impl StoreOptions {
    /// To open a store that is there, for reading and writing.
    pub fn new() -> StoreOptions {
        StoreOptions::default()
    }

    /// Makes a store where the device is blank.
    pub fn create(mut self, yes: bool) -> StoreOptions {
        self.create = yes;
        self
    }

    /// Refuses a store that is there already.
    pub fn create_new(mut self, yes: bool) -> StoreOptions {
        self.create_new = yes;
        self
    }

    /// Makes a new store whatever the device holds, another store included: **all of that is lost**.
    pub fn overwrite(mut self, yes: bool) -> StoreOptions {
        self.overwrite = yes;
        self
    }

    /// Opens for reading alone. Nothing is written, so damage that a writer has to know of is no error.
    pub fn read_only(mut self, yes: bool) -> StoreOptions {
        self.read_only = yes;
        self
    }

    /// Opens for writing though records may be lost that were acknowledged: those in segments whose header is damaged,
    /// when nothing tells whose they are. Their numbers may be given to new records.
    pub fn accept_loss(mut self, yes: bool) -> StoreOptions {
        self.accept_loss = yes;
        self
    }

    /// How many bytes the segments of a new store have: what a record has at most, and what a truncation frees. A part of
    /// the device's size unless set, 1 to 16 MiB on large ones.
    pub fn segment_size(mut self, bytes: u32) -> StoreOptions {
        self.segment = Some(bytes);
        self
    }

    /// Opens the store on a device, or makes it.
    ///
    /// # Errors
    /// A [`LogError`] within the [`io::Error`] says what the device holds if that is no store; those of the device.
    /// Nothing has been written then.
    pub async fn open(self, volume: Volume) -> io::Result<Store> {
        if self.overwrite && !self.read_only {
            make(&volume, self.segment).await?;
        }
        let recovered = match recover(&volume).await? {
            Err(LogError::Blank) if self.create && !self.read_only => {
                make(&volume, self.segment).await?;
                recover(&volume).await?
            }
            Ok(found) if self.create_new && !self.overwrite => {
                let names: Vec<&str> =
                    found.superblock.logs.iter().map(|entry| entry.name.as_str()).collect();
                return Err(LogError::Exists { logs: names.join(", ") }.into());
            }
            recovered => recovered,
        }?;
        let notes = recovered.notes.clone();
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        if self.read_only {
            return Ok(Store::start(volume, notes, |_| Engine::read_only(recovered)));
        }
        if volume.geometry().read_only {
            return Err(LogError::ReadOnly.into());
        }
        let recovered = self.consent(recovered)?;
        let (mounted, done) = operation();
        let geometry = volume.geometry();
        let store = Store::start(volume, notes, |_| Engine::open(recovered, &geometry, Waiter::Done(done)));
        mounted.await?;
        Ok(store)
    }

    fn consent(self, mut recovered: Recovered) -> Result<Recovered, LogError> {
        match recovered.damaged.first() {
            Some(_) if self.accept_loss => recovered.damaged.clear(),
            Some(&number) if recovered.may_be_lost => {
                return Err(LogError::LostSegment { place: recovered.superblock.place(number) });
            }
            _ => {}
        }
        Ok(recovered)
    }
}

/// The logs of one device, as long as any handle of them is there.
///
/// When the last one is dropped, what was pushed is written still. [`close`](Self::close) also leaves word that nothing
/// is missing, by which more of what may happen to the device later is found.
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Rc<Handle>,
}

/// What handles share; the task ends some time after it is dropped.
pub(super) struct Handle {
    pub(super) core: Rc<Core>,
}

pub(super) struct Core {
    pub(super) engine: RefCell<Engine<Waiter>>,
    pub(super) volume: Volume,
    notes: Vec<String>,
    driver: RefCell<Option<Waker>>,
    readers: RefCell<Vec<Waker>>,
    abandoned: Cell<bool>,
    /// Names of logs that are being made by somebody who wants to be the one.
    making: RefCell<Vec<String>>,
}

/// Who waits for something.
pub(crate) enum Waiter {
    Push(Completion<io::Result<super::Appended>>),
    Open(Completion<io::Result<usize>>),
    Done(Completion<io::Result<()>>),
    /// As the former, of who wants errors by their number.
    Descriptor(Completion<io::Result<()>>),
}

impl Store {
    fn start(volume: Volume, notes: Vec<String>, engine: impl FnOnce(&Volume) -> Engine<Waiter>) -> Store {
        let engine = RefCell::new(engine(&volume));
        let core = Rc::new(Core {
            engine,
            volume,
            notes,
            driver: RefCell::new(None),
            readers: RefCell::new(Vec::new()),
            abandoned: Cell::new(false),
            making: RefCell::new(Vec::new()),
        });
        let (gather, ways) = (Gather::new(Instant::of_turn()), Ways::new());
        spawn(Driver { core: core.clone(), under_way: Vec::new(), gather, ways, pause: None }).detach();
        Store { shared: Rc::new(Handle { core }) }
    }

    /// The log of this name, which is made if it is not there.
    ///
    /// # Errors
    /// A [`LogError`]: the name is empty or too long, there are too many logs, or the store is read-only and has none of
    /// that name.
    pub async fn log(&self, name: &str) -> io::Result<Log> {
        let (token, done) = operation();
        self.core().change(Change::Create(name.to_owned()), Waiter::Open(done));
        Ok(Log::new(self.clone(), token.await?))
    }

    /// The log of this name, if it is there.
    pub fn find(&self, name: &str) -> Option<Log> {
        let place = self.core().engine.borrow().find(name);
        place.map(|place| Log::new(self.clone(), place))
    }

    /// The names of all logs.
    pub fn names(&self) -> Vec<String> {
        let engine = self.core().engine.borrow();
        engine.logs.iter().filter(|log| !log.is_removed()).map(|log| log.name.clone()).collect()
    }

    /// Removes a log with all its records.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name; those of the device.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        let place = self.core().engine.borrow().find(name);
        let place = place.ok_or_else(|| LogError::NoLog { name: name.to_owned() })?;
        let (token, done) = operation();
        self.core().change(Change::Remove(place), Waiter::Done(done));
        token.await
    }

    /// Writes what was pushed and leaves word that nothing is missing. Nothing can be pushed any more.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn close(&self) -> io::Result<()> {
        let (token, done) = operation();
        self.core().change(Change::Close, Waiter::Done(done));
        token.await
    }

    /// What was found to be wrong when the store was opened, and can be lived with.
    pub fn notes(&self) -> &[String] {
        &self.core().notes
    }

    /// What the device is: its segments, and how many are free.
    pub fn info(&self) -> StoreInfo {
        let engine = self.core().engine.borrow();
        let (free, segments) = engine.free_segments();
        let Superblock { block, segment_size, uuid, generation, epoch, clean, .. } = engine.superblock;
        let counters = engine.count;
        StoreInfo {
            block,
            segment_size,
            segments,
            free_segments: free,
            longest_record: engine.longest_record(),
            uuid,
            generation,
            epoch,
            clean,
            records: counters.records,
            bytes: counters.bytes,
            flushes: counters.flushes,
        }
    }

    /// Whether nothing is ever written.
    pub(super) fn is_read_only(&self) -> bool {
        self.core().engine.borrow().is_read_only()
    }

    /// Says that a log of this name is being made, unless somebody has said so.
    pub(super) fn making(&self, name: &str) -> Option<Making> {
        let mut making = self.core().making.borrow_mut();
        if making.iter().any(|other| other == name) {
            return None;
        }
        making.push(name.to_owned());
        Some(Making { core: self.core().clone(), name: name.to_owned() })
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.shared.core
    }
}

/// Figures of a [`Store`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Bytes of a block: what is written at once at least.
    pub block: u32,
    /// Bytes of a segment.
    pub segment_size: u32,
    /// How many segments there are.
    pub segments: usize,
    /// How many of them no log has.
    pub free_segments: usize,
    /// Bytes of the longest record.
    pub longest_record: usize,
    /// What tells this store from others.
    pub uuid: [u8; 16],
    /// How often its superblock was written.
    pub generation: u64,
    /// How often it was opened for writing.
    pub epoch: u32,
    /// Whether it was closed, and not opened for writing since.
    pub clean: bool,
    /// Records that were pushed since it was opened.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Flushes, and writes that are durable by themselves, that made them so.
    pub flushes: u64,
}

impl Core {
    pub(super) fn change(&self, change: Change, waiter: Waiter) {
        self.engine.borrow_mut().change(change, waiter);
        self.wake();
    }

    /// There is something for the driving task.
    pub(super) fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Wakes whoever waits for more records.
    pub(super) fn add_reader(&self, waker: &Waker) {
        let mut readers = self.readers.borrow_mut();
        if !readers.iter().any(|other| other.will_wake(waker)) {
            readers.push(waker.clone());
        }
    }
}

/// While a log of this name is being made.
pub(super) struct Making {
    core: Rc<Core>,
    name: String,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.core.making.borrow_mut().retain(|name| *name != self.name);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.abandoned.set(true);
        self.core.wake();
    }
}

/// The task: it ends when all handles are gone and nothing is left to do.
struct Driver {
    core: Rc<Core>,
    under_way: Vec<(bool, QToken<io::Result<()>>)>,
    gather: Gather,
    ways: Ways,
    /// Until more pushes have come, or no longer.
    pause: Option<Sleep>,
}

impl Driver {
    /// Whether the next cycle waits for more pushes.
    fn pauses(&mut self, cx: &mut Context<'_>) -> bool {
        let engine = self.core.engine.borrow();
        let now = Instant::of_turn();
        self.gather.seen(now, engine.traffic().0);
        if !engine.may_wait() {
            return false;
        }
        let Some(until) = self.gather.until(now) else {
            self.pause = None;
            return false;
        };
        if self.pause.as_ref().is_none_or(|pause| pause.deadline() != until) {
            self.pause = Some(sleep_until(until));
        }
        let pauses = self.pause.as_mut().is_some_and(|pause| Pin::new(pause).poll(cx).is_pending());
        // The timer may be done though the turn began before its deadline.
        self.pause = self.pause.take().filter(|_| pauses);
        pauses
    }

    /// Starts what there is to do. Returns whether there was anything.
    fn start(&mut self, cx: &mut Context<'_>) -> bool {
        if self.pauses(cx) {
            return false;
        }
        let mut engine = self.core.engine.borrow_mut();
        if engine.is_between_cycles() {
            engine.way = self.ways.next();
            self.gather.begins(Instant::of_turn());
        }
        drop(engine);
        let mut any = false;
        loop {
            let action = self.core.engine.borrow_mut().poll_action();
            let volume = &self.core.volume;
            match action {
                Some(Action::Write(at, data)) => self.under_way.push((false, volume.write(at, data))),
                Some(Action::WriteDurable(at, data)) => {
                    self.under_way.push((false, volume.write_durable(at, data)))
                }
                Some(Action::Flush) => self.under_way.push((true, volume.flush())),
                None => return any,
            }
            any = true;
        }
    }

    /// Takes in what is done. Returns whether anything was.
    fn reap(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.under_way.len();
        let Driver { core, gather, ways, .. } = self;
        self.under_way.retain_mut(|(flush, token)| match Pin::new(token).poll(cx) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                let mut engine = core.engine.borrow_mut();
                if *flush {
                    engine.flush_done(result)
                } else {
                    engine.write_done(result)
                }
                if engine.is_between_cycles() {
                    let (come, served) = engine.traffic();
                    let took = gather.is_over(Instant::of_turn(), served, come);
                    if let Some(way) = engine.way_chosen() {
                        ways.took(way, took);
                    }
                }
                false
            }
        });
        self.under_way.len() < before
    }

    fn tell(&self) -> bool {
        let mut any = false;
        loop {
            let event = self.core.engine.borrow_mut().poll_event();
            let Some((waiter, result)) = event else { break };
            any = true;
            waiter.complete(result);
        }
        if any {
            let readers = std::mem::take(&mut *self.core.readers.borrow_mut());
            readers.iter().for_each(Waker::wake_by_ref);
        }
        any
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.core.driver.replace(Some(cx.waker().clone()));
        loop {
            let started = self.start(cx);
            let reaped = self.reap(cx);
            let told = self.tell();
            if !(started || reaped || told) {
                break;
            }
        }
        let over = self.core.abandoned.get()
            && self.under_way.is_empty()
            && (self.core.engine.borrow().is_idle() || self.core.engine.borrow().stopped().is_some());
        if over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Waiter {
    fn complete(self, result: Result<Outcome, LogError>) {
        let result = result.map_err(io::Error::from);
        match self {
            Waiter::Push(done) => done.complete(result.map(|outcome| match outcome {
                Outcome::Appended(appended) => appended,
                other => unreachable!("a push ended as {other:?}"),
            })),
            Waiter::Open(done) => done.complete(result.map(|outcome| match outcome {
                Outcome::Opened(place) => place,
                other => unreachable!("a log was opened as {other:?}"),
            })),
            Waiter::Done(done) => done.complete(result.map(drop)),
            Waiter::Descriptor(done) => done.complete(result.map(drop).map_err(by_number)),
        }
    }
}

/// Reads what recovery wants. The inner error is about what the device holds.
async fn recover(volume: &Volume) -> io::Result<Result<Recovered, LogError>> {
    let mut recovery = Recovery::new(volume.geometry());
    let mut read: Vec<BufferMut> = Vec::new();
    loop {
        match recovery.step(&read) {
            Ok(Step::Read(ranges)) => {
                let start = |range: &Range| volume.read(range.at, range.length);
                let mut tokens: Vec<_> = ranges.iter().map(start).collect();
                read = wait_all(&mut tokens).await.into_iter().collect::<io::Result<_>>()?;
            }
            Ok(Step::Done(recovered)) => return Ok(Ok(*recovered)),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Makes a store. The superblocks come last, so that there is none if this is interrupted.
async fn make(volume: &Volume, segment: Option<u32>) -> io::Result<()> {
    const AT_ONCE: usize = 64;
    let plan = Plan::new(&volume.geometry(), segment, new_uuid())?;
    let zeros = Buffer::from(vec![0; SLOT]);
    volume.write(0, zeros.clone()).await?;
    volume.write(SLOT as u64, zeros.clone()).await?;
    let block = zeros.slice(..plan.superblock.block as usize);
    for places in plan.headers.chunks(AT_ONCE) {
        let mut tokens: Vec<_> = places.iter().map(|at| volume.write(*at, block.clone())).collect();
        wait_all(&mut tokens).await.into_iter().collect::<io::Result<()>>()?;
    }
    volume.flush().await?;
    let superblock = Buffer::from(plan.superblock.encode());
    for second in [false, true] {
        volume.write(Superblock::slot(second), superblock.clone()).await?;
        volume.flush().await?;
    }
    Ok(())
}

/// 16 bytes that no other store has.
fn new_uuid() -> [u8; 16] {
    // The standard library's hashers have keys from the system's generator of random numbers.
    let now = std::time::SystemTime::now();
    let half = || RandomState::new().hash_one((now, std::process::id())).to_le_bytes();
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&half());
    uuid[8..].copy_from_slice(&half());
    uuid
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("volume", &self.core().volume).field("names", &self.names()).finish()
    }
}
