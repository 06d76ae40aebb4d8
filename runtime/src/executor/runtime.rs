//! The runtime: its builder, and the loop.

use super::context::{self, Entered};
use super::core::Core;
use super::handle::{Handle, Inbox, Outside};
use super::idle::{Idle, PollParker, Watched, may_block, parking_device};
use super::page::Page;
use super::registry;
use super::remote::EventFd;
use super::slot::{Kind, Slot};
use super::waker;
use crate::buffer::pool;
use crate::inspect::Metrics;
use crate::signal;
use crate::time::{Clock, CurrentClock, Instant, ticks};
use crate::transport::{Device, Domain, Interest, Logs, Network, Parker, Storage, Transport, Turn};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Polls of tasks after which the devices get a turn though tasks are still ready. Large enough that the
/// turn's own cost of some tens of nanoseconds does not show, small enough that a packet waits for less
/// than about ten microseconds of short polls.
const BUDGET: u32 = 256;

/// How long the end of a runtime waits for what was pushed and not yet taken by the kernel or the peer.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// How long a virtual clock stands still for devices that have something under way outside of it.
const VIRTUAL_GRACE: Duration = Duration::from_millis(1);

/// How long a runtime in virtual time waits, in real time, for threads that it does not know of when nothing
/// else can make a task ready. Long enough for what a test has its threads do on a busy machine.
const DEADLOCK: Duration = Duration::from_secs(5);

/// Where virtual time begins: at the same point in every run, so that runs repeat exactly, and far enough
/// from the epoch for programs that look back.
pub(super) const VIRTUAL_START: Instant = Instant::from_nanos(1_000_000_000_000_000);

/// Which clock a runtime goes by.
///
/// ```
/// use demikernel_runtime::{Builder, Time, time};
/// let runtime = Builder::new().time(Time::Virtual).build()?;
/// runtime.block_on(async {
///     let start = time::Instant::now();
///     time::sleep(time::Duration::from_secs(3600)).await; // takes no time
///     assert_eq!(start.elapsed(), time::Duration::from_secs(3600));
/// });
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Time {
    /// The machine's.
    #[default]
    Real,
    /// One that stands still while tasks run, and jumps to the next timer when none is ready. It begins
    /// at the same instant in every run.
    ///
    /// It waits, in real time, for threads that are at work for a task:
    /// [`spawn_blocking`](crate::spawn_blocking), and look-ups of names. While a device has something under
    /// way outside of the process, such as a socket of the kernel, it gives it a millisecond before each
    /// jump; the simulated transports need none. Several runtimes with one virtual time are a
    /// [`Lockstep`](super::Lockstep).
    ///
    /// When nothing can happen any more, since tasks wait but no timer is set and no device has anything
    /// under way, `block_on` panics after five seconds with a message that says so; not if there is a
    /// [`Handle`] by which another thread may spawn at any time, if the program listens for a
    /// [signal](crate::signal), or if it runs on several cores. A task that waits for another by yielding in a
    /// loop keeps time from passing.
    Virtual,
}

impl FromStr for Time {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Time> {
        match text {
            "real" => Ok(Time::Real),
            "virtual" => Ok(Time::Virtual),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown time {text:?}: expected \"real\" or \"virtual\""),
            )),
        }
    }
}

/// Settings of a [`Runtime`] of one core.
///
/// The facade's `demikernel::Builder` is the same with transports chosen by name.
///
/// ```
/// use demikernel_runtime::{Builder, Idle};
/// let runtime = Builder::new().idle(Idle::Block).build()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until build is called"]
pub struct Builder {
    idle: Idle,
    time: Time,
    budget: Option<u32>,
    core_index: usize,
    /// How many cores the program runs on; 0 stands for 1.
    cores: usize,
}

impl Builder {
    /// The defaults: adaptive idling, real time.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// What to do when no task is ready.
    pub fn idle(mut self, idle: Idle) -> Builder {
        self.idle = idle;
        self
    }

    /// Which clock to go by.
    pub fn time(mut self, time: Time) -> Builder {
        self.time = time;
        self
    }

    /// Polls of tasks after which the devices get a turn though tasks are ready; 256 unless set.
    ///
    /// # Panics
    /// If it is 0.
    pub fn budget(mut self, polls: u32) -> Builder {
        assert_ne!(polls, 0, "a budget of no polls would run nothing");
        self.budget = Some(polls);
        self
    }

    /// What [`core_index`](super::core_index) says inside.
    pub fn core_index(mut self, index: usize) -> Builder {
        self.core_index = index;
        self
    }

    /// Which core the runtime is for, and of how many.
    pub fn place(&self) -> (usize, usize) {
        (self.core_index, self.cores.max(1))
    }

    /// What [`core_count`](super::cores::core_count) says inside.
    pub(super) fn cores(mut self, cores: usize) -> Builder {
        self.cores = cores;
        self
    }

    /// Makes the runtime, without any device: see [`Runtime::attach`].
    ///
    /// # Errors
    /// If the kernel gives no descriptor for wake-ups.
    pub fn build(self) -> io::Result<Runtime> {
        let clock = match self.time {
            Time::Real => Clock::real(),
            Time::Virtual => Clock::virtual_at(VIRTUAL_START),
        };
        Ok(self.build_with(clock, Arc::new(EventFd::new()?), Arc::default()))
    }

    /// The same with what may be shared with other runtimes of the thread.
    pub(super) fn build_with(self, clock: Clock, eventfd: Arc<EventFd>, outside: Arc<Outside>) -> Runtime {
        let core = Core::acquire(clock);
        core.index.set(self.core_index);
        core.cores.set(self.cores.max(1));
        core.remote.set_eventfd(Some(eventfd.clone()));
        let inbox = Arc::new(Inbox::new(core, outside));
        *core.inbox.borrow_mut() = Some(inbox.clone());
        registry::enter(core.number.get(), &inbox);
        Runtime {
            core,
            idle: self.idle,
            time: self.time,
            budget: self.budget.unwrap_or(BUDGET),
            eventfd,
            inbox,
            parker: RefCell::new(None),
            watched: RefCell::new(Vec::new()),
            signal_due: Cell::new(false),
            idle_since: Cell::new(None),
            threads: Cell::new(false),
            _not_send: PhantomData,
        }
    }
}

/// An executor for one thread, with its timers and devices.
///
/// Dropping it drops every task's future, lets what was pushed drain for at most a second, and cancels the
/// rest. Tokens that outlive it are never done.
///
/// ```
/// use demikernel_runtime::{Runtime, spawn, yield_now};
/// let runtime = Runtime::new()?;
/// let sum = runtime.block_on(async {
///     let task = spawn(async { 2 });
///     yield_now().await;
///     task.await.unwrap() + 3
/// });
/// assert_eq!(sum, 5);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    pub(super) core: &'static Core,
    idle: Idle,
    time: Time,
    pub(super) budget: u32,
    eventfd: Arc<EventFd>,
    inbox: Arc<Inbox>,
    /// Who blocks the thread, chosen when that is first wanted.
    parker: RefCell<Option<Rc<ParkBy>>>,
    watched: RefCell<Vec<Watched>>,
    /// Another thread has signalled the eventfd, or is about to.
    signal_due: Cell<bool>,
    /// Since when, in the clock's nanoseconds (the real one's in virtual time), nothing has been ready.
    idle_since: Cell<Option<u64>>,
    /// Another thread has woken something, so one may again.
    threads: Cell<bool>,
    _not_send: PhantomData<*const ()>,
}

enum ParkBy {
    Device(Rc<dyn Device>),
    Poll(PollParker),
}

impl ParkBy {
    fn parker(&self) -> &dyn Parker {
        match self {
            ParkBy::Device(device) => device.parker().expect("chosen because it has one"),
            ParkBy::Poll(parker) => parker,
        }
    }
}

impl std::fmt::Debug for ParkBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParkBy::Device(device) => f.write_str(device.name()),
            ParkBy::Poll(_) => f.write_str("ppoll"),
        }
    }
}

impl Runtime {
    /// A runtime with the default settings and no device.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// Adds a device. The first with sockets becomes the default of `net`, the first with files that of
    /// `fs`.
    ///
    /// ```
    /// use demikernel_runtime::transport::epoll::Epoll;
    /// let runtime = demikernel_runtime::Runtime::new()?;
    /// runtime.attach(Epoll::transport()?);
    /// assert_eq!(runtime.devices(), ["epoll"]);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn attach(&self, transport: Transport) {
        self.core.attach_transport(transport);
        // The new device may be the better one to block in.
        if matches!(self.parker.borrow().as_deref(), Some(ParkBy::Poll(_))) {
            self.parker.replace(None);
            self.watched.borrow_mut().clear();
        }
    }

    /// As [`set_default_logs`], before it runs.
    pub fn set_default_logs(&self, logs: Rc<dyn Logs>) {
        let former = self.core.default_logs.replace(Some(logs));
        drop(former);
    }

    /// Keeps something until the runtime ends: it is dropped after the devices.
    ///
    /// ```
    /// use std::rc::Rc;
    /// let (runtime, kept) = (demikernel_runtime::Runtime::new()?, Rc::new(()));
    /// runtime.keep(kept.clone());
    /// assert_eq!(Rc::strong_count(&kept), 2);
    /// drop(runtime);
    /// assert_eq!(Rc::strong_count(&kept), 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn keep(&self, what: impl Any) {
        self.core.kept.borrow_mut().push(Box::new(what));
    }

    /// Runs a future to its end, and every task meanwhile. Tasks that are left go on with the next call.
    ///
    /// # Panics
    /// On a thread that is running a runtime already, and when the future does. In
    /// [virtual time](Time::Virtual), when nothing can happen any more.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = Entered::new(self.core);
        // SAFETY: dropped when this function ends, which borrows the runtime and so keeps its core's clock.
        let _clock = unsafe { CurrentClock::enter(self.core.clock()) };
        let root = Root::new(self.core);
        let waker = root.waker();
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        self.core.set_root_ready();
        let _account = Counted::enter(self.core);
        loop {
            let mut polls = 0;
            while polls < self.budget {
                if self.core.take_root_ready() {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        return output;
                    }
                    polls += 1;
                }
                // SAFETY: the core is current, and this loop is the only one that polls its tasks.
                match unsafe { self.core.run_next_page() } {
                    0 if !self.core.root_ready() => break,
                    ran => polls += ran,
                }
            }
            self.turn();
        }
    }

    /// What happens between two rounds of tasks.
    #[inline]
    fn turn(&self) {
        let core = self.core;
        core.turns.set(core.turns.get() + 1);
        core.account.turn();
        core.spans.look();
        if core.remote.pending() {
            self.take_remote();
        }
        core.hand_back();
        let turn = match (core.is_ready(), self.idle) {
            (true, _) => Turn::Busy,
            (false, Idle::Block) => Turn::BeforeParking,
            (false, _) => Turn::Idle,
        };
        core.poll_devices(turn);
        core.expire_timers();
        let ready = core.is_ready() || core.hand_back();
        core.account.found_nothing(!ready);
        if ready {
            self.idle_since.set(None);
        } else {
            self.idle();
        }
    }

    #[cold]
    pub(super) fn take_remote(&self) {
        self.threads.set(true);
        self.core.drain_remote();
        if self.core.remote.take_knock() {
            self.inbox.run();
        }
    }

    /// Nothing is ready: spin, or block until something may be.
    fn idle(&self) {
        if self.time == Time::Virtual {
            return self.idle_virtual();
        }
        let spin = match self.idle {
            Idle::Spin => true,
            Idle::Block => false,
            Idle::Adaptive(time) => {
                let (now, time) = (self.core.clock().now().as_nanos(), time.as_nanos() as u64);
                let since = self.idle_since.get().unwrap_or_else(|| {
                    let since = if self.expects_outside() { now } else { now.saturating_sub(time) };
                    self.idle_since.set(Some(since));
                    since
                });
                now.saturating_sub(since) < time
            }
        };
        if spin {
            std::hint::spin_loop();
        } else {
            let timeout = self.core.next_deadline().map(|deadline| {
                Duration::from_nanos(deadline.saturating_sub(self.core.clock().now().as_nanos()))
            });
            self.block(timeout);
        }
    }

    /// Whether something may happen at a moment that nobody knows. When the next timer is due is known, so with
    /// timers alone a spin would buy nothing but their precision.
    fn expects_outside(&self) -> bool {
        let busy = |device: Rc<dyn Device>| device.interest() != Interest::None;
        self.threads.get() || (0..).map_while(|index| self.core.device(index)).any(busy)
    }

    /// Nothing is ready, and time is ours: go to the next deadline, unless something outside may come first.
    #[cold]
    fn idle_virtual(&self) {
        let core = self.core;
        let deadline = core.next_deadline();
        if deadline.is_some_and(|deadline| deadline <= core.clock().now().as_nanos()) {
            return;
        }
        if self.inbox.has_outside_work() {
            self.block(None);
            return core.poll_devices(Turn::Idle);
        }
        let outside =
            (0..).map_while(|index| core.device(index)).any(|device| device.interest() != Interest::None);
        let Some(deadline) = deadline else {
            return if outside { self.block(None) } else { self.wait_for_threads() };
        };
        if outside {
            self.block(Some(VIRTUAL_GRACE));
            core.poll_devices(Turn::Idle);
        }
        if !core.is_ready() && !core.remote.pending() {
            core.clock().advance_to(Instant::from_nanos(deadline));
        }
    }

    /// Nothing but another thread can make a task ready.
    ///
    /// # Panics
    /// When none has for a while, and none is known of that could.
    fn wait_for_threads(&self) {
        if self.has_handles() || self.core.cores.get() > 1 || signal::is_awaited() {
            return self.block(None);
        }
        let now = Clock::real().now().as_nanos();
        let since = self.idle_since.get().unwrap_or(now);
        let waited = Duration::from_nanos(now.saturating_sub(since));
        if waited >= DEADLOCK {
            self.idle_since.set(None);
            self.deadlocked();
        }
        self.idle_since.set(Some(since));
        self.block(Some(DEADLOCK - waited));
    }

    /// Whether somebody may spawn at any time.
    pub(super) fn has_handles(&self) -> bool {
        // The runtime's own, and its core's.
        const OWN: usize = 2;
        Arc::strong_count(&self.inbox) > OWN
    }

    #[cold]
    fn deadlocked(&self) -> ! {
        for device in (0..).map_while(|index| self.core.device(index)) {
            let (device, counters) = (device.name(), device.counters());
            tracing::error!(device, ?counters, "deadlock in virtual time");
        }
        let (tasks, operations) = self.core.pending();
        panic!(
            "deadlock in virtual time: the future given to block_on, {tasks} tasks and {operations} other \
             operations wait, but no timer is set, no device has anything under way, and no other thread has \
             woken anything for {DEADLOCK:?}. Somebody waits for data, a message or a task that never comes; a \
             timeout around it tells who"
        )
    }

    fn block(&self, timeout: Option<Duration>) {
        if timeout == Some(Duration::ZERO) {
            return;
        }
        // What other threads gave back would otherwise stay away until the next allocation.
        pool::collect();
        if self.core.is_ready() {
            return;
        }
        let by = self.park_by();
        if let Err(error) = self.try_block(by.parker(), timeout) {
            // Nothing can be waited for, so go on by polling; at worst that costs the processor.
            tracing::error!(%error, by = ?by, "blocking failed, polling instead");
            std::thread::yield_now();
        }
    }

    fn try_block(&self, parker: &dyn Parker, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = may_block(self.core, parker, &self.watched, timeout)?;
        if timeout == Some(Duration::ZERO) {
            return Ok(());
        }
        let result = if self.core.remote.prepare_to_block() {
            self.core.parks.set(self.core.parks.get() + 1);
            let before = ticks::now();
            let result = parker.park(timeout);
            self.core.account.parked_since(before);
            result
        } else {
            Ok(())
        };
        if self.core.remote.unblocked() {
            self.signal_due.set(true);
        }
        // The signal may come a moment after its announcement, and then ends the next park.
        if self.signal_due.get() && self.eventfd.clear() {
            self.signal_due.set(false);
        }
        result
    }

    #[inline]
    fn park_by(&self) -> Rc<ParkBy> {
        if let Some(by) = &*self.parker.borrow() {
            return by.clone();
        }
        self.choose_parker()
    }

    #[cold]
    fn choose_parker(&self) -> Rc<ParkBy> {
        let watch = |by: ParkBy| by.parker().watch(self.eventfd.as_raw_fd()).map(|()| by);
        let device = parking_device(self.core).map(|device| watch(ParkBy::Device(device)));
        let by = match device {
            Some(Ok(by)) => by,
            Some(Err(error)) => {
                tracing::error!(%error, "the device cannot wait for wake-ups from other threads: using ppoll");
                watch(ParkBy::Poll(PollParker::default())).expect("only remembers the descriptor")
            }
            None => watch(ParkBy::Poll(PollParker::default())).expect("only remembers the descriptor"),
        };
        let by = Rc::new(by);
        self.parker.replace(Some(by.clone()));
        by
    }

    /// For spawning from other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.inbox.clone())
    }

    /// What it has counted since it was made.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// The names of the devices, in the order in which they were attached.
    pub fn devices(&self) -> Vec<&'static str> {
        let devices = (0..).map_while(|index| self.core.device(index));
        devices.filter(|device| !self.core.is_vacant(device)).map(|device| device.name()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let entered = Entered::nested(self.core);
        // SAFETY: dropped below, before the core gets another clock. Should a device panic, the core is
        // never used again.
        let clock = unsafe { CurrentClock::enter(self.core.clock()) };
        registry::leave(self.core.number.get());
        self.inbox.close();
        // SAFETY: the core is current, and no loop is running it: `block_on` borrows the runtime.
        unsafe { self.core.cancel_all_tasks() };
        self.core.drop_layer();
        self.core.hand_back();
        for device in (0..).map_while(|index| self.core.device(index)) {
            device.shutdown(SHUTDOWN_GRACE);
        }
        // It may hold a device, whose end belongs here.
        self.parker.replace(None);
        self.core.dismantle();
        self.core.remote.set_eventfd(None);
        drop((clock, entered));
        self.core.recycle();
    }
}

/// The core's time is counted while this lives.
struct Counted(&'static Core);

impl Counted {
    fn enter(core: &'static Core) -> Counted {
        core.account.enter();
        core.spans.look();
        Counted(core)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.account.leave();
    }
}

/// The slot by which the future given to `block_on` is woken.
struct Root(NonNull<Slot>);

impl Root {
    fn new(core: &'static Core) -> Root {
        Root(core.allocate_slot(Kind::Root))
    }

    fn waker(&self) -> std::mem::ManuallyDrop<std::task::Waker> {
        // SAFETY: the slot is a page's.
        unsafe { waker::waker(self.0) }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // SAFETY: the slot is this guard's, has no body, and this is its thread.
        unsafe {
            debug_assert!(context::is_current(Page::of(self.0).as_ref().core));
            Slot::release(self.0);
        }
    }
}

/// Adds a device to the runtime of this thread while it runs.
///
/// # Panics
/// Outside of a runtime.
pub fn attach(transport: Transport) {
    context::current().attach_transport(transport);
}

/// Takes a device out of the runtime of this thread, which polls it no more. For devices that come and go with their users,
/// such as block devices: its operations must be over, and must not have said
/// [`on_cancel`](super::Completion::on_cancel), since the next device gets its place.
///
/// ```
/// use demikernel_runtime::transport::{Transport, memory::Memory};
///
/// let runtime = demikernel_runtime::Runtime::new()?;
/// runtime.block_on(async {
///     let transport = Transport::network(Memory::new(1)).without_network();
///     demikernel_runtime::attach(transport.clone());
///     demikernel_runtime::detach(&transport.device);
/// });
/// assert!(runtime.devices().is_empty());
/// # std::io::Result::Ok(())
/// ```
///
/// Nothing happens outside of a runtime, or if it has no such device.
pub fn detach(device: &Rc<dyn Device>) {
    if let Some(core) = context::try_current() {
        core.detach(device);
    }
}

/// A handle of this thread's runtime, for spawning from other threads.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// let handle = demikernel_runtime::handle();
/// let thread = std::thread::spawn(move || handle.spawn(async { "on the runtime" }));
/// assert_eq!(thread.join().unwrap().await.unwrap(), "on the runtime");
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
pub fn handle() -> Handle {
    let inbox = context::current().inbox.borrow().clone();
    Handle::new(inbox.expect("a running core has an inbox"))
}

/// What a layer above keeps for this thread's runtime, made when it is first asked for. It is dropped with
/// the runtime, after all tasks and before the devices end. There is one such layer, so its type is known.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub(crate) fn layer<T: Default + 'static>() -> Rc<T> {
    let mut layer = context::current().layer.borrow_mut();
    let layer = layer.get_or_insert_with(|| Rc::new(T::default()));
    layer.clone().downcast().expect("there is one layer")
}

/// The device on which `net` makes its sockets.
///
/// # Errors
/// `Unsupported` if the runtime has none.
///
/// # Panics
/// Outside of a runtime.
pub fn default_network() -> io::Result<Rc<dyn Network>> {
    context::current().default_network.borrow().clone().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "this runtime has no device for sockets: attach a transport",
        )
    })
}

/// The device on which `net` makes Unix sockets: the first that has them. Where none has, the error is the default's.
///
/// # Errors
/// As [`default_network`].
///
/// # Panics
/// Outside of a runtime.
pub(crate) fn default_network_for(domain: Domain) -> io::Result<Rc<dyn Network>> {
    match (domain, &*context::current().default_unix.borrow()) {
        (Domain::Unix, Some(network)) => Ok(network.clone()),
        _ => default_network(),
    }
}

/// Where this runtime keeps its logs: what PDPIX opens them in.
///
/// # Errors
/// `Unsupported` if nobody has said where.
///
/// # Panics
/// Outside of a runtime.
pub fn default_logs() -> io::Result<Rc<dyn Logs>> {
    context::current().default_logs.borrow().clone().ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "nothing says where this runtime keeps its logs")
    })
}

/// Says where the runtime of this thread keeps its logs. It is dropped with the runtime, after all tasks and before the
/// devices end.
///
/// # Panics
/// Outside of a runtime.
pub fn set_default_logs(logs: Rc<dyn Logs>) {
    let former = context::current().default_logs.replace(Some(logs));
    drop(former);
}

/// The device on which `fs` opens its files.
///
/// # Errors
/// `Unsupported` if the runtime has none.
///
/// # Panics
/// Outside of a runtime.
pub fn default_storage() -> io::Result<Rc<dyn Storage>> {
    context::current().default_storage.borrow().clone().ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "this runtime has no device for files: attach a transport")
    })
}
