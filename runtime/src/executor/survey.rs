//! What people can see of a core: its counts, and what waits for what.
//!
//! Nothing is kept for it. Who waits for a token is its waker, which is a slot's address; what a token is for, its
//! slot says: the device and its key, the turn in which it was started, a timer's deadline.

use super::context;
use super::core::Core;
use super::page::Page;
use super::slot::{Kind, NO_DEVICE, OWNED, Pending, Slot, State};
use super::task::TaskBody;
use super::waker;
use crate::buffer::pool;
use crate::inspect::{Connection, DeviceMetrics, Dump, Metrics, Progress, Task, Token, TokenKind};
use crate::transport::Device;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// Names of tasks, by slot, with the number that says whether it is the same task still.
pub(super) type Names = HashMap<NonNull<Slot>, (u32, Cow<'static, str>)>;

/// See [`crate::inspect::metrics`].
#[track_caller]
pub(crate) fn current_metrics() -> Metrics {
    context::current().metrics()
}

/// See [`crate::inspect::dump`]; of no more than so many tasks and tokens.
#[track_caller]
pub(crate) fn current_dump(most: usize) -> Dump {
    context::current().dump(most)
}

/// See [`crate::inspect::connections`]; no more than so many.
#[track_caller]
pub(crate) fn current_connections(most: usize) -> Vec<Connection> {
    let mut all = Vec::new();
    for device in context::current().present_devices() {
        all.extend(device.connections(most.saturating_sub(all.len())));
    }
    all
}

/// Has the first device that can do so write what goes through it to `output`, or no more.
///
/// # Errors
/// `Unsupported` if none can; those of the output.
#[track_caller]
pub(crate) fn current_capture(output: Option<Box<dyn io::Write>>) -> io::Result<&'static str> {
    let Some(device) = context::current().present_devices().find(|device| device.can_capture()) else {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no device of this runtime can capture what goes through it",
        ));
    };
    device.capture(output)?;
    Ok(device.name())
}

impl Core {
    fn present_devices(&self) -> impl Iterator<Item = Rc<dyn Device>> {
        (0..).map_while(|index| self.device(index)).filter(|device| !self.is_vacant(device))
    }

    pub(super) fn metrics(&self) -> Metrics {
        let [busy, idle, parked] = self.account.times();
        let mut metrics = Metrics {
            core: self.index.get(),
            runtime: self.number.get(),
            polls: self.polls.get(),
            remote_wakes: self.remote_wakes.get(),
            turns: self.turns.get(),
            parks: self.parks.get(),
            spawned: self.spawned.get(),
            operations: self.started.get(),
            live_operations: self.live(),
            pages: self.pages.borrow().len(),
            busy,
            idle,
            parked,
            turn_times: self.account.turn_times(),
            buffers: pool::stats(),
            devices: self.present_devices().map(|device| metrics_of(&*device)).collect(),
            wakes: self.wakes(),
            ..Metrics::default()
        };
        for slot in self.live_slots() {
            // SAFETY: pages are never freed.
            let it = unsafe { slot.as_ref() };
            match (it.state.get(), it.kind.get()) {
                (State::Pending, Kind::Task) => metrics.tasks += 1,
                (State::Pending, Kind::Timer) => metrics.timers += 1,
                (State::Pending, Kind::Operation) => metrics.tokens += 1,
                _ => {}
            }
        }
        metrics
    }

    /// What became ready was polled, or will be: so nobody has to count it.
    fn wakes(&self) -> u64 {
        let ready = |page: &NonNull<Page>| {
            // SAFETY: pages are never freed, and this is the core's thread.
            let header = unsafe { page.as_ref() };
            u64::from(header.ready.get().count_ones() + header.running.get().count_ones())
        };
        let wakes = self.polls.get() + self.pages.borrow().iter().map(ready).sum::<u64>();
        // The polls of a page are counted at the end of its turn. What was told once stays so.
        let wakes = wakes.max(self.wakes_told.get());
        self.wakes_told.set(wakes);
        wakes
    }

    /// Remembers the name of a task that has a handle.
    pub(super) fn name_task(&self, slot: NonNull<Slot>, name: Cow<'static, str>) {
        let mut names = self.names.borrow_mut();
        // Twice as many as live at most, though nobody takes out the names of tasks that end.
        if names.len() == names.capacity() {
            names.retain(|slot, (number, _)| is_task(*slot, *number));
        }
        // SAFETY: pages are never freed.
        names.insert(slot, (unsafe { slot.as_ref() }.number.get(), name));
    }

    fn dump(&self, most: usize) -> Dump {
        let mut survey = Survey { core: self, dump: Dump::default(), places: HashMap::new(), most };
        survey.dump.core = self.index.get();
        survey.dump.runtime = self.number.get();
        let mut slots = self.live_slots();
        // SAFETY: pages are never freed, also below.
        slots.sort_by_key(|slot| unsafe { slot.as_ref() }.number.get());
        // Tasks first, so that tokens find theirs.
        for &slot in &slots {
            match kind_of(slot) {
                Kind::Task => survey.task(slot),
                Kind::Root => survey.dump.main = Some(Vec::new()),
                Kind::Operation | Kind::Timer => {}
            }
        }
        slots.into_iter().for_each(|slot| survey.token(slot));
        survey.dump
    }
}

fn metrics_of(device: &dyn Device) -> DeviceMetrics {
    let counters = device.counters().into_iter().map(|(name, value)| (name.into(), value));
    DeviceMetrics { name: device.name().into(), counters: counters.collect(), latencies: device.latencies() }
}

fn kind_of(slot: NonNull<Slot>) -> Kind {
    // SAFETY: pages are never freed.
    unsafe { slot.as_ref() }.kind.get()
}

/// Whether this is the task of that number still.
fn is_task(slot: NonNull<Slot>, number: u32) -> bool {
    // SAFETY: pages are never freed.
    let it = unsafe { slot.as_ref() };
    it.state.get() != State::Free && it.kind.get() == Kind::Task && it.number.get() == number
}

/// A dump in the making.
struct Survey<'a> {
    core: &'a Core,
    dump: Dump,
    /// Where in the dump a task is.
    places: HashMap<NonNull<Slot>, usize>,
    /// How many more tasks and tokens there may be.
    most: usize,
}

impl Survey<'_> {
    fn is_full(&mut self) -> bool {
        match self.most.checked_sub(1) {
            Some(rest) => self.most = rest,
            None => self.dump.omitted += 1,
        }
        self.dump.omitted > 0
    }

    fn task(&mut self, slot: NonNull<Slot>) {
        // SAFETY: pages are never freed; a task's body is a `TaskBody`, of which nothing else has a reference now.
        let (it, body) = unsafe { (slot.as_ref(), &*slot.as_ref().body::<TaskBody>()) };
        if !matches!(it.state.get(), State::Pending | State::Done) || self.is_full() {
            return;
        }
        let id = it.number.get();
        let name = self.core.names.borrow().get(&slot).cloned();
        // SAFETY: the page that the slot is in; pages are never freed.
        let header = unsafe { Page::of(slot).as_ref() };
        let is_ready = (header.ready.get() | header.running.get()) & Page::bit(slot) != 0;
        self.places.insert(slot, self.dump.tasks.len());
        self.dump.tasks.push(Task {
            id,
            name: name.filter(|(number, _)| *number == id).map(|(_, name)| name.into_owned()),
            spawned: body.location().to_string(),
            future: body.name().into(),
            progress: match it.state.get() {
                State::Done => Progress::Ended,
                _ if is_ready => Progress::Ready,
                _ => Progress::Waiting,
            },
            ..Task::default()
        });
    }

    /// What somebody can wait for: an operation, a timer, or the end of a task.
    fn token(&mut self, slot: NonNull<Slot>) {
        // SAFETY: pages are never freed.
        let it = unsafe { slot.as_ref() };
        let waker = match (it.kind.get(), it.state.get()) {
            // SAFETY: a pending task's body is a `TaskBody`; the copy is not dropped.
            (Kind::Task, State::Pending) => unsafe { (*it.body::<TaskBody>()).joiner().and_then(waiter) },
            // SAFETY: the body of a pending operation or timer begins with its waker (`Pending`, `#[repr(C)]`), which nobody
            // changes meanwhile: only this thread does.
            (Kind::Operation | Kind::Timer, State::Pending) => unsafe {
                (*it.body::<Option<Waker>>()).as_ref().and_then(waiter)
            },
            (Kind::Operation, State::Cancelled) => None,
            _ => return,
        };
        let is_task = it.kind.get() == Kind::Task;
        // That nobody waits for a task is as it should be.
        if (is_task && waker.is_none()) || self.is_full() {
            return;
        }
        let token = if is_task { join(it) } else { self.describe(slot) };
        let place = waker.and_then(|waker| self.places.get(&waker).copied());
        let is_main = waker.is_some_and(|waker| kind_of(waker) == Kind::Root);
        match (place, &mut self.dump.main) {
            (Some(place), _) => self.dump.tasks[place].waits_for.push(token),
            (None, Some(main)) if is_main => main.push(token),
            _ => self.dump.others.push(token),
        }
    }

    fn describe(&self, slot: NonNull<Slot>) -> Token {
        // SAFETY: pages are never freed.
        let it = unsafe { slot.as_ref() };
        let mut token =
            Token { id: it.number.get(), cancelled: it.state.get() == State::Cancelled, ..Token::default() };
        if it.kind.get() == Kind::Timer {
            token.kind = TokenKind::Timer;
            // SAFETY: a pending timer's node is in its place, and the wheel is not at work.
            let when = unsafe { (*Slot::timer_node(slot).as_ptr()).when() };
            token.due = Some(Duration::from_nanos(when.saturating_sub(self.core.clock().now().as_nanos())));
            return token;
        }
        // SAFETY: an operation that is not done has its origin there, and its key if it has a device.
        let (origin, key) = unsafe { (*Slot::origin(slot), &raw const (*it.body::<Pending>()).cancel_key) };
        token.result = Some((origin.result)().into());
        token.since = Some(self.core.account.since(origin.turn));
        match it.device.get() {
            NO_DEVICE => {}
            OWNED => token.device = Some("queue".into()),
            index => {
                if let Some(device) = self.core.device(index.into()) {
                    token.device = Some(device.name().into());
                    // SAFETY: this one has a device, so `on_cancel` has written its key together with that.
                    token.what = device.describe(unsafe { key.read() });
                }
            }
        }
        token
    }
}

fn join(task: &Slot) -> Token {
    let id = task.number.get();
    Token { id, kind: TokenKind::Join, task: Some(id), ..Token::default() }
}

/// Whose waker it is, if it is one of ours.
fn waiter(waker: &Waker) -> Option<NonNull<Slot>> {
    waker::slot_of(waker)
}
