//! A controller, which all cores of the process share.
//!
//! What is rare goes through it, under a lock: admin commands, resets, events. Cores drive it from their polls, without
//! waiting for each other or for the device, so a reset blocks nobody. What cores must know at each poll is one number:
//! the *epoch*, which counts the times at which the controller has forgotten its queues, and whether it is live.
//!
//! - `reset`: how it comes to be live, and again after something went wrong.
//! - `events`: what it tells of by itself.

mod events;
mod reset;

use self::events::Events;
use self::reset::Phase;
use super::Options;
use super::admin::{self, Admin, Progress, Purpose, Ticket};
use super::bus::Bus;
use super::command::{Completion, Submission};
use super::dma::{Dma, Space};
use super::identify::{self, Answer, ControllerData, NamespaceData};
use super::queue::QueuePair;
use super::registers::{self, Capabilities, Status};
use demikernel_runtime::time::Instant;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Pairs of I/O queues that are asked for: one for each core that may come.
const QUEUES: u16 = 128;

/// A controller.
pub(super) struct Controller {
    name: String,
    bus: Arc<dyn Bus>,
    space: Arc<Space>,
    capabilities: Capabilities,
    options: Options,
    standing: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    admin: Admin,
    phase: Phase,
    /// Attempts to bring it up that have failed in a row.
    failures: u32,
    /// Why it was reset, or is dead.
    why: String,
    data: Option<ControllerData>,
    /// How many pairs of I/O queues it grants, and those in use, from number 1 on.
    granted: usize,
    queues: Vec<bool>,
    events: Events,
    count: Count,
}

/// What has happened, for people.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Count {
    pub(super) resets: u64,
    pub(super) aborts: u64,
    pub(super) events: u64,
}

/// How it stands with a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is being reset.
    Down,
    Live,
    /// It is gone, or does not come up any more.
    Dead,
}

/// The state, and the epoch: what has been given to the controller in an earlier one has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing(u64);

impl Standing {
    fn new(epoch: u64, state: State) -> Standing {
        Standing(epoch << 2 | state as u64)
    }

    pub(super) fn epoch(self) -> u64 {
        self.0 >> 2
    }

    pub(super) fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Down,
            1 => State::Live,
            _ => State::Dead,
        }
    }
}

impl Controller {
    /// Takes over a controller, whatever its state, and waits until it is live.
    pub(super) fn new(name: String, bus: Arc<dyn Bus>, options: Options) -> io::Result<Arc<Controller>> {
        let capabilities = Capabilities::read(&*bus);
        if capabilities.is_absent() || Status::read(&*bus).is_absent() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{name}: the controller does not answer"),
            ));
        }
        if !capabilities.has_blocks() {
            let text = format!("{name}: the controller does not have the NVM command set");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let space = Space::new(bus.clone());
        let places = (capabilities.page(), capabilities.stride());
        let pair = QueuePair::new(&bus, &space, places, 0, admin::ENTRIES)?;
        let inner = Inner {
            admin: Admin::new(pair),
            phase: Phase::Dead,
            failures: 0,
            why: String::new(),
            data: None,
            granted: 0,
            queues: Vec::new(),
            events: Events::new(&space)?,
            count: Count::default(),
        };
        let standing = AtomicU64::new(Standing::new(0, State::Down).0);
        let inner = Mutex::new(inner);
        let controller = Arc::new(Controller { name, bus, space, capabilities, options, standing, inner });
        controller.bring_up()?;
        Ok(controller)
    }

    fn bring_up(&self) -> io::Result<()> {
        self.start();
        // What is wrong is found out by then.
        while self.standing().state() == State::Down {
            self.turn(Instant::now());
            std::thread::sleep(Duration::from_micros(100));
        }
        self.alive()?;
        let answer = self.identify(identify::CONTROLLER, 0)?;
        let data = ControllerData::parse(&answer, self.capabilities.page());
        let version = registers::version(&*self.bus);
        let ControllerData { model, serial, firmware, .. } = &data;
        tracing::info!(name = self.name, model, serial, firmware, ?version, "an NVMe controller is up");
        let mut inner = self.lock();
        inner.data = Some(data);
        self.listen(&mut inner, Instant::now());
        Ok(())
    }

    /// Moves along what is under way, if nobody else is doing that.
    pub(super) fn turn(&self, now: Instant) {
        match self.inner.try_lock() {
            Ok(mut inner) => self.advance(&mut inner, now),
            Err(TryLockError::Poisoned(poisoned)) => self.advance(&mut poisoned.into_inner(), now),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Gives an admin command, if it is live and there is room.
    pub(super) fn ask(&self, command: Submission, now: Instant) -> Option<Ticket> {
        let mut inner = self.lock();
        match inner.phase {
            Phase::Live => inner.admin.ask(command, now),
            _ => None,
        }
    }

    /// What has become of a command that somebody asked for.
    pub(super) fn redeem(&self, ticket: Ticket, now: Instant) -> Progress {
        let mut inner = self.lock();
        self.advance(&mut inner, now);
        inner.admin.redeem(ticket)
    }

    pub(super) fn abandon(&self, ticket: Ticket) {
        self.lock().admin.abandon(ticket);
    }

    /// Has it end a command that is overdue. Whether it could be asked.
    pub(super) fn abort(&self, queue: u16, id: u16, now: Instant) -> bool {
        let mut inner = self.lock();
        let limit = inner.data.as_ref().map_or(1, |data| data.aborts);
        if !matches!(inner.phase, Phase::Live) || inner.admin.count(Purpose::Abort) >= limit {
            return false;
        }
        let asked = inner.admin.submit(Submission::abort(queue, id), Purpose::Abort, now).is_some();
        inner.count.aborts += u64::from(asked);
        asked
    }

    /// Gives an admin command, and waits for its end: for what is done at the beginning and the end.
    pub(super) fn execute(&self, command: Submission) -> io::Result<Completion> {
        let timeout = self.admin_timeout();
        let end = Instant::now() + timeout;
        let mut ticket = None;
        loop {
            let now = Instant::now();
            self.alive()?;
            match ticket {
                None => ticket = self.ask(command, now),
                Some(given) => match self.redeem(given, now) {
                    Progress::Done(completion) => return Ok(completion),
                    Progress::Lost => return Err(self.error()),
                    Progress::UnderWay => {}
                },
            }
            if now > end {
                self.reset("an admin command was not answered");
                let text = format!("{}: an admin command was not answered within {timeout:?}", self.name);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Asks what it is like, and once more if another core resets it just then.
    fn identify(&self, what: u8, namespace: u32) -> io::Result<Box<Answer>> {
        match self.identify_once(what, namespace) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.identify_once(what, namespace)
            }
            result => result,
        }
    }

    fn identify_once(&self, what: u8, namespace: u32) -> io::Result<Box<Answer>> {
        // Of its own, so that cores that open namespaces at the same time need not agree. A command that was lost may
        // still write it: then it is unmapped first.
        let page = Dma::new(&self.space, identify::LENGTH)?;
        let completion = self.execute(Submission::identify(what, namespace, page.iova()))?;
        if !completion.status.is_success() {
            return Err(completion.status.error("identify"));
        }
        // SAFETY: it is as long, and the command that has written it is over.
        Ok(unsafe { Box::new(page.pointer().cast::<Answer>().read()) })
    }

    /// The numbers of its active namespaces.
    pub(super) fn namespaces(&self) -> io::Result<Vec<u32>> {
        Ok(identify::parse_namespaces(&*self.identify(identify::ACTIVE_NAMESPACES, 0)?))
    }

    pub(super) fn namespace(&self, number: u32) -> io::Result<NamespaceData> {
        let answer = self.identify(identify::NAMESPACE, number)?;
        NamespaceData::parse(&answer, number, &self.data())
    }

    /// A pair of I/O queues, of which the controller does not know yet.
    pub(super) fn queue_pair(&self, entries: u32) -> io::Result<QueuePair> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let index = match inner.queues.iter().position(|used| !used) {
            Some(index) => index,
            None => {
                inner.queues.push(false);
                inner.queues.len() - 1
            }
        };
        if index >= inner.granted {
            inner.queues.truncate(inner.granted);
            let text = format!(
                "{}: the controller has {} I/O queues, and all are in use: one for each namespace on each core",
                self.name, inner.granted
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let places = (self.capabilities.page(), self.capabilities.stride());
        let entries = entries.clamp(2, self.capabilities.queue_entries().max(2));
        let pair = QueuePair::new(&self.bus, &self.space, places, index as u16 + 1, entries)?;
        inner.queues[index] = true;
        Ok(pair)
    }

    /// Gives back the number of a pair of queues that the controller does not know any more.
    pub(super) fn release(&self, number: u16) {
        if let Some(used) = self.lock().queues.get_mut(usize::from(number) - 1) {
            *used = false;
        }
    }

    /// What cores look at in each poll.
    #[inline]
    pub(super) fn standing(&self) -> Standing {
        Standing(self.standing.load(Ordering::Acquire))
    }

    /// Why commands have ended or are refused.
    #[cold]
    pub(super) fn error(&self) -> io::Error {
        let why = self.lock().why.clone();
        match self.standing().state() {
            State::Dead => io::Error::new(
                io::ErrorKind::NotConnected,
                format!("{}: the NVMe controller is gone: {why}", self.name),
            ),
            _ => {
                let text = format!("{}: the NVMe controller was reset: {why}", self.name);
                io::Error::new(io::ErrorKind::ConnectionReset, text)
            }
        }
    }

    /// # Errors
    /// If it is gone for good.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.standing().state() == State::Dead { Err(self.error()) } else { Ok(()) }
    }

    /// What it said of itself.
    pub(super) fn data(&self) -> ControllerData {
        self.lock().data.clone().expect("a controller is handed out when it has said what it is")
    }

    /// How long an admin command may take. The shortest times that make sense for reads do not for these.
    pub(super) fn admin_timeout(&self) -> Duration {
        self.options.timeout.max(Duration::from_millis(500))
    }

    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(super) fn options(&self) -> Options {
        self.options
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn count(&self) -> Count {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
    }
}
