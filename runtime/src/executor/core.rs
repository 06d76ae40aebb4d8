//! The state of one core: its pages, ready queue, task memory, timers and devices.
//!
//! Ready tasks are bits in their page's word; pages with a bit set form a first-in-first-out queue. A page's
//! turn takes its whole word and runs each slot of it once; slots that become ready meanwhile wait for the
//! page's next turn, at the end of the queue. So between becoming ready and running, a task sees every
//! other task run at most twice (at most once, if it is in another page), and finding the next task costs
//! the same with 10 tasks and with 100,000.
//!
//! Cores are never freed, because wakers may point at their pages for ever. A thread keeps the cores of its
//! former runtimes for its next ones, and when it ends, leaves those with no operation in anybody's hands
//! to other threads.

use super::account::Account;
use super::completion::{DeviceId, timer_expired};
use super::handle::Inbox;
use super::memory::{allocate_chunk, next_layout};
use super::page::{PAGE_SIZE, Page};
use super::remote::Remote;
use super::slot::{Kind, NO_DEVICE, OWNED, Slot, State};
use super::span::Spans;
use super::store::TaskStore;
use super::survey::Names;
use super::untaken::Untaken;
use super::vacant;
use crate::time::clock::Clock;
use crate::time::wheel::{TimerNode, Wheel};
use crate::transport::{Device, Logs, Network, Storage, Transport, Turn};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct Core {
    /// For every thread; the rest is for the one that runs the core.
    pub(super) remote: Remote,
    ready_head: Cell<*const Page>,
    ready_tail: Cell<*const Page>,
    free_pages: Cell<*const Page>,
    pub(super) pages: RefCell<Vec<NonNull<Page>>>,
    /// Memory for more pages.
    unused: RefCell<Vec<NonNull<u8>>>,
    /// Chunks of memory that pages were made of.
    chunks: Cell<usize>,
    pub(super) store: TaskStore,
    /// Only touched inside of methods that call nothing but the wheel's own.
    wheel: UnsafeCell<Wheel>,
    clock: UnsafeCell<Clock>,
    devices: RefCell<Vec<Rc<dyn Device>>>,
    /// What has the places of devices that were detached.
    vacant: Rc<dyn Device>,
    /// Which of them is polled next.
    next_device: Cell<usize>,
    pub(super) default_network: RefCell<Option<Rc<dyn Network>>>,
    pub(super) default_unix: RefCell<Option<Rc<dyn Network>>>,
    pub(super) default_storage: RefCell<Option<Rc<dyn Storage>>>,
    pub(super) default_logs: RefCell<Option<Rc<dyn Logs>>>,
    /// What others want to last as long as the runtime.
    pub(super) kept: RefCell<Vec<Box<dyn Any>>>,
    pub(super) inbox: RefCell<Option<Arc<Inbox>>>,
    /// What a layer above keeps for the runtime (see [`layer`](super::runtime::layer)).
    pub(super) layer: RefCell<Option<Rc<dyn Any>>>,
    /// Which of all runtimes of the program uses it; 0 is none's.
    pub(super) number: Cell<u32>,
    /// Which of the program's cores this is.
    pub(super) index: Cell<usize>,
    /// How many of them there are.
    pub(super) cores: Cell<usize>,
    root_ready: Cell<bool>,
    closing: Cell<bool>,
    /// Operations that were started.
    pub(super) started: Cell<u32>,
    pub(super) polls: Cell<u64>,
    pub(super) turns: Cell<u64>,
    pub(super) parks: Cell<u64>,
    /// Tasks that were spawned.
    pub(super) spawned: Cell<u64>,
    /// Tasks that other threads made ready.
    pub(super) remote_wakes: Cell<u64>,
    /// See [`Core::metrics`].
    pub(super) wakes_told: Cell<u64>,
    pub(super) account: Account,
    pub(super) untaken: Untaken,
    pub(super) names: RefCell<Names>,
    pub(super) spans: Spans,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Lets a core move to another thread while nobody runs it and no handle on it exists.
struct Idle(&'static Core);

// SAFETY: `Recycled::drop` only makes these of cores with no slot in use, so no token, completion or handle
// of the old thread leads to them; wakers touch only what is for every thread.
unsafe impl Send for Idle {}

static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

/// The cores that this thread's former runtimes left.
struct Recycled(RefCell<Vec<&'static Core>>);

thread_local! {
    static RECYCLED: Recycled = const { Recycled(RefCell::new(Vec::new())) };
}

impl Drop for Recycled {
    fn drop(&mut self) {
        let unused = self.0.get_mut().drain(..).filter(|core| core.live() == 0).map(Idle);
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(unused);
    }
}

impl Core {
    /// A core for a new runtime of this thread.
    pub(super) fn acquire(clock: Clock) -> &'static Core {
        let former = RECYCLED.try_with(|recycled| recycled.0.borrow_mut().pop()).ok().flatten();
        let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop().map(|idle| idle.0);
        let core = former.or_else(idle).unwrap_or_else(|| Box::leak(Box::new(Core::new())));
        static RUNTIMES: AtomicU32 = AtomicU32::new(1);
        core.account.reset();
        core.number.set(RUNTIMES.fetch_add(1, Ordering::Relaxed));
        // SAFETY: nobody runs the core, so no reference to its clock or wheel lives. The wheel is empty: the
        // last runtime emptied it.
        unsafe {
            *core.wheel.get() = Wheel::new(clock.now().as_nanos());
            *core.clock.get() = clock;
        }
        core
    }

    /// Gives back a core that no runtime uses any more.
    pub(super) fn recycle(&'static self) {
        self.store.trim();
        self.closing.set(false);
        for count in
            [&self.polls, &self.turns, &self.parks, &self.spawned, &self.remote_wakes, &self.wakes_told]
        {
            count.set(0);
        }
        self.names.take();
        self.untaken.clear();
        self.spans.clear();
        // A thread that is ending leaves it unused: tokens in other thread-locals may still lead to it.
        let _ = RECYCLED.try_with(|recycled| recycled.0.borrow_mut().push(self));
    }

    fn new() -> Core {
        Core {
            remote: Remote::new(),
            ready_head: Cell::new(ptr::null()),
            ready_tail: Cell::new(ptr::null()),
            free_pages: Cell::new(ptr::null()),
            pages: RefCell::new(Vec::new()),
            unused: RefCell::new(Vec::new()),
            chunks: Cell::new(0),
            store: TaskStore::new(),
            wheel: UnsafeCell::new(Wheel::new(0)),
            clock: UnsafeCell::new(Clock::real()),
            devices: RefCell::new(Vec::new()),
            vacant: vacant::new(),
            next_device: Cell::new(0),
            default_network: RefCell::new(None),
            default_unix: RefCell::new(None),
            default_storage: RefCell::new(None),
            default_logs: RefCell::new(None),
            kept: RefCell::default(),
            inbox: RefCell::new(None),
            layer: RefCell::new(None),
            number: Cell::new(0),
            index: Cell::new(0),
            cores: Cell::new(1),
            root_ready: Cell::new(false),
            closing: Cell::new(false),
            started: Cell::new(0),
            polls: Cell::new(0),
            turns: Cell::new(0),
            parks: Cell::new(0),
            spawned: Cell::new(0),
            remote_wakes: Cell::new(0),
            wakes_told: Cell::new(0),
            account: Account::new(),
            untaken: Untaken::default(),
            names: RefCell::default(),
            spans: Spans::default(),
        }
    }
}

/// Slots.
impl Core {
    /// A slot of the given kind, pending, whose body the caller must now write.
    #[inline]
    pub(super) fn allocate_slot(&self, kind: Kind) -> NonNull<Slot> {
        let page = match NonNull::new(self.free_pages.get().cast_mut()) {
            Some(page) => page,
            None => self.grow(),
        };
        // SAFETY: pages are never freed; a page of this list has a free slot, and the header's bit is not one.
        unsafe {
            let header = page.as_ref();
            let free = header.free.get();
            let slot = Page::slot(page, free.trailing_zeros());
            header.free.set(free & (free - 1));
            if free & (free - 1) == 0 {
                self.free_pages.set(header.next_free.get());
            }
            let it = slot.as_ref();
            debug_assert_eq!(it.state.get(), State::Free);
            let number = self.started.get();
            self.started.set(number.wrapping_add(1));
            it.number.set(number);
            it.state.set(State::Pending);
            it.kind.set(kind);
            it.device.set(NO_DEVICE);
            it.flags.set(0);
            slot
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&self) -> NonNull<Page> {
        let mut unused = self.unused.borrow_mut();
        let block = unused.pop().unwrap_or_else(|| {
            let layout = next_layout(self.chunks.replace(self.chunks.get() + 1), PAGE_SIZE);
            let chunk = allocate_chunk(layout);
            // SAFETY: inside of the chunk.
            unused.extend(
                (0..layout.size() / PAGE_SIZE).rev().map(|page| unsafe { chunk.add(page * PAGE_SIZE) }),
            );
            unused.pop().expect("a chunk has pages")
        });
        // SAFETY: a page's worth of a chunk that is never freed, used once.
        let page = unsafe { Page::new(block, NonNull::from(self)) };
        self.pages.borrow_mut().push(page);
        self.free_pages.set(page.as_ptr());
        page
    }

    /// Takes note that a slot is free.
    #[inline]
    pub(super) fn slot_freed(&self, page: NonNull<Page>, bit: u64) {
        // SAFETY: pages are never freed, and this thread's core owns the fields.
        let header = unsafe { page.as_ref() };
        let free = header.free.get();
        debug_assert_eq!(free & bit, 0);
        header.free.set(free | bit);
        if free == 0 {
            header.next_free.set(self.free_pages.get());
            self.free_pages.set(page.as_ptr());
        }
    }

    /// Slots in use.
    pub(super) fn live(&self) -> usize {
        // SAFETY: pages are never freed, and this thread's core owns the fields.
        self.pages.borrow().iter().map(|page| unsafe { page.as_ref() }.live() as usize).sum()
    }

    /// Tasks and other operations that are not done.
    pub(super) fn pending(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for slot in self.live_slots() {
            // SAFETY: pages are never freed.
            let it = unsafe { slot.as_ref() };
            match (it.state.get(), it.kind.get()) {
                (State::Pending, Kind::Task) => counts.0 += 1,
                (State::Pending, Kind::Operation | Kind::Timer) => counts.1 += 1,
                _ => {}
            }
        }
        counts
    }

    /// The slots in use, as they are now.
    pub(super) fn live_slots(&self) -> Vec<NonNull<Slot>> {
        let mut slots = Vec::new();
        for &page in &*self.pages.borrow() {
            // SAFETY: pages are never freed; the complement of the free bits, without the header's, are
            // slots.
            unsafe {
                let mut free = page.as_ref().free.get();
                free |= page.as_ref().header_bit();
                slots.extend(
                    (0..64).filter(|index| free & (1 << index) == 0).map(|index| Page::slot(page, index)),
                );
            }
        }
        slots
    }
}

/// The ready queue.
impl Core {
    /// Makes a slot ready, on the core's own thread.
    #[inline(always)]
    pub(super) fn wake_local(&self, page: NonNull<Page>, bit: u64) {
        // SAFETY: pages are never freed, and this thread runs the core.
        let header = unsafe { page.as_ref() };
        let ready = header.ready.get();
        if (ready | header.running.get()) & bit != 0 {
            return;
        }
        header.ready.set(ready | bit);
        if ready == 0 {
            self.push_ready(page, header);
        }
    }

    #[inline(always)]
    fn push_ready(&self, page: NonNull<Page>, header: &Page) {
        header.next_ready.set(ptr::null());
        // SAFETY: the queue's pages are never freed.
        match unsafe { self.ready_tail.get().as_ref() } {
            Some(tail) => tail.next_ready.set(page.as_ptr()),
            None => self.ready_head.set(page.as_ptr()),
        }
        self.ready_tail.set(page.as_ptr());
    }

    #[inline(always)]
    fn pop_ready(&self) -> Option<NonNull<Page>> {
        let page = NonNull::new(self.ready_head.get().cast_mut())?;
        // SAFETY: the queue's pages are never freed.
        let next = unsafe { page.as_ref() }.next_ready.get();
        self.ready_head.set(next);
        if next.is_null() {
            self.ready_tail.set(ptr::null());
        }
        Some(page)
    }

    /// Whether a task, or the future given to `block_on`, is ready.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        !self.ready_head.get().is_null() || self.root_ready.get()
    }

    /// Runs each ready slot of the next page once. Returns how many there were.
    ///
    /// # Safety
    /// The core is this thread's current one, and no task of it is being polled.
    #[inline(always)]
    pub(super) unsafe fn run_next_page(&self) -> u32 {
        let Some(page) = self.pop_ready() else { return 0 };
        // SAFETY: pages are never freed; the header's own bit is never set in `ready`.
        unsafe {
            let header = page.as_ref();
            let mut rest = header.ready.replace(0);
            let mut ran = 0;
            while rest != 0 {
                let slot = Page::slot(page, rest.trailing_zeros());
                rest &= rest - 1;
                header.running.set(rest);
                self.run_slot(slot);
                ran += 1;
            }
            self.polls.set(self.polls.get() + u64::from(ran));
            ran
        }
    }

    /// # Safety
    /// As for `run_next_page`.
    #[inline(always)]
    unsafe fn run_slot(&self, slot: NonNull<Slot>) {
        // SAFETY: pages are never freed. A waker may outlive what it was made for, so the slot may be
        // anything by now.
        unsafe {
            let it = slot.as_ref();
            if it.state.get() == State::Pending {
                match it.kind.get() {
                    Kind::Task => self.poll_task(slot),
                    Kind::Root => self.root_ready.set(true),
                    Kind::Operation | Kind::Timer => {}
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn root_ready(&self) -> bool {
        self.root_ready.get()
    }

    #[inline(always)]
    pub(super) fn take_root_ready(&self) -> bool {
        self.root_ready.replace(false)
    }

    pub(super) fn set_root_ready(&self) {
        self.root_ready.set(true);
    }

    /// Makes ready what other threads woke.
    pub(super) fn drain_remote(&self) {
        self.remote.drain(|page, mut bits| {
            self.remote_wakes.set(self.remote_wakes.get() + u64::from(bits.count_ones()));
            while bits != 0 {
                self.wake_local(page, bits & bits.wrapping_neg());
                bits &= bits - 1;
            }
        });
    }
}

/// Time.
impl Core {
    #[inline(always)]
    pub(crate) fn clock(&self) -> &Clock {
        // SAFETY: the clock is replaced only by `acquire`, when nobody runs the core.
        unsafe { &*self.clock.get() }
    }

    /// # Safety
    /// The node stays in place until it has expired or was removed.
    #[inline]
    pub(super) unsafe fn insert_timer(&self, node: NonNull<TimerNode>, deadline: u64) {
        // SAFETY: the wheel calls nothing that could reach this cell again.
        unsafe { (*self.wheel.get()).insert(node, deadline) };
    }

    /// # Safety
    /// The node was inserted into this core's wheel, and is in place.
    #[inline]
    pub(super) unsafe fn remove_timer(&self, node: NonNull<TimerNode>) {
        // SAFETY: as in `insert_timer`.
        unsafe { (*self.wheel.get()).remove(node) };
    }

    /// Completes the timers that are due; whether there were any.
    #[inline]
    pub(super) fn expire_timers(&self) -> bool {
        // SAFETY: each reference to the wheel ends before a waker is called.
        unsafe {
            if (*self.wheel.get()).is_empty() {
                return false;
            }
            let now = self.clock().now().as_nanos();
            let mut any = false;
            while let Some(node) = (*self.wheel.get()).expire(now) {
                timer_expired(node);
                any = true;
            }
            any
        }
    }

    /// When the next timer or device must be looked at.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        // SAFETY: as in `insert_timer`.
        let timer = unsafe { (*self.wheel.get()).next_deadline() };
        let devices = (0..).map_while(|index| self.device(index)).filter_map(|device| device.next_deadline());
        devices.map(|deadline| deadline.as_nanos()).chain(timer).min()
    }
}

/// Devices.
impl Core {
    /// Adds a device.
    pub(super) fn attach_transport(&self, transport: Transport) {
        let Transport { device, network, storage } = transport;
        let vacant = self.devices.borrow().iter().position(|device| self.is_vacant(device));
        let id = vacant.unwrap_or_else(|| self.devices.borrow().len());
        assert!(id < OWNED as usize, "a runtime has at most 254 devices");
        device.attached(DeviceId::new(id as u8, self.number.get()));
        let mut devices = self.devices.borrow_mut();
        match devices.get_mut(id) {
            Some(place) => *place = device,
            None => devices.push(device),
        }
        drop(devices);
        if let Some(network) = network {
            if network.has_unix() {
                self.default_unix.borrow_mut().get_or_insert_with(|| network.clone());
            }
            self.default_network.borrow_mut().get_or_insert(network);
        }
        if let Some(storage) = storage {
            self.default_storage.borrow_mut().get_or_insert(storage);
        }
    }

    /// Polls a device no more, and gives its place to the next one. Places of others stay as they are.
    pub(super) fn detach(&self, device: &Rc<dyn Device>) {
        let mut devices = self.devices.borrow_mut();
        let Some(place) = devices.iter_mut().find(|place| Rc::ptr_eq(place, device)) else { return };
        let gone = std::mem::replace(place, self.vacant.clone());
        drop(devices);
        // Its destructor is the device's code.
        drop(gone);
    }

    /// Polls devices in turn, until one of them has made a task ready if none was: who waits for a packet does not also wait
    /// for a look at the others, which are the first to be polled after that task.
    #[inline]
    pub(super) fn poll_devices(&self, turn: Turn) {
        let count = self.devices.borrow().len();
        for _ in 0..count {
            let index = self.next_device.get();
            self.next_device.set(if index + 1 < count { index + 1 } else { 0 });
            let Some(device) = self.device(index) else { continue };
            device.poll(turn);
            if turn != Turn::Busy && self.is_ready() {
                return;
            }
        }
    }

    #[inline]
    pub(super) fn device(&self, index: usize) -> Option<Rc<dyn Device>> {
        self.devices.borrow().get(index).cloned()
    }

    /// Whether nobody has this place.
    pub(super) fn is_vacant(&self, device: &Rc<dyn Device>) -> bool {
        Rc::ptr_eq(device, &self.vacant)
    }

    /// Tells a device that nobody waits for an operation any more.
    #[cold]
    pub(super) fn cancel(&self, device: u8, key: u64) {
        if let Some(device) = self.device(device as usize) {
            device.cancel(key);
        }
    }
}

/// The end.
impl Core {
    pub(super) fn closing(&self) -> bool {
        self.closing.get()
    }

    /// Drops every task's future; tasks spawned by that are dropped at once.
    ///
    /// # Safety
    /// The core is this thread's current one, and no task of it is being polled.
    pub(super) unsafe fn cancel_all_tasks(&self) {
        self.closing.set(true);
        for slot in self.live_slots() {
            // SAFETY: the slot may have been freed by an earlier drop, but then it is not a pending task:
            // `closing` has new ones cancelled in `spawn`.
            unsafe {
                let it = slot.as_ref();
                if it.state.get() == State::Pending && it.kind.get() == Kind::Task {
                    self.cancel_task(slot);
                }
            }
        }
    }

    /// Drops what layers above keep for the runtime.
    pub(super) fn drop_layer(&self) {
        // The former may have some of the latter's logs open.
        let layer = self.layer.take();
        drop(layer);
        let logs = self.default_logs.take();
        drop(logs);
    }

    /// Drops the devices, takes every timer out of the wheel, and the ready queue apart. Tokens that are
    /// still about are never done.
    pub(super) fn dismantle(&self) {
        self.drop_layer();
        self.inbox.take();
        drop((self.default_network.take(), self.default_unix.take(), self.default_storage.take()));
        let devices = self.devices.take();
        drop(devices);
        let kept = self.kept.take();
        drop(kept);
        self.next_device.set(0);
        // From here on nothing runs that could start something.
        for slot in self.live_slots() {
            // SAFETY: pages are never freed.
            let device = unsafe { &slot.as_ref().device };
            if device.get() != OWNED {
                // The next runtime's device of this number would take what the token has as its own.
                device.set(NO_DEVICE);
            }
        }
        // SAFETY: as in `insert_timer`.
        unsafe { while (*self.wheel.get()).expire(u64::MAX).is_some() {} }
        self.drain_remote();
        while let Some(page) = self.pop_ready() {
            // SAFETY: pages are never freed.
            let header = unsafe { page.as_ref() };
            header.ready.set(0);
            header.running.set(0);
        }
        self.root_ready.set(false);
    }
}
