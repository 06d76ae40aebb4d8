//! Telling devices about regions.
//!
//! Hooks run arbitrary code, which may allocate and so map further regions. Events are therefore
//! queued, and only the outermost call delivers them: no hook is entered twice at once, no borrow
//! is held while one runs, and each hook hears of each region exactly once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::local::Pool;
use super::region::{Region, RegionEvent};

/// The hooks of a pool, and what they have not been told yet.
#[derive(Default)]
pub(super) struct Hooks {
    list: RefCell<Vec<Rc<Hook>>>,
    queue: RefCell<VecDeque<Event>>,
    delivering: Cell<bool>,
}

struct Hook {
    number: u64,
    /// Set when the guard is dropped while the hook is about to be called.
    removed: Cell<bool>,
    call: RefCell<Callback>,
}

type Callback = Box<dyn FnMut(RegionEvent<'_>)>;

/// A change of the region with this id.
pub(super) enum Event {
    Mapped(u32),
    /// After the hooks have heard of it, the region is unmapped.
    Unmapping(u32),
}

/// Keeps a hook in place; dropping it removes the hook.
#[must_use = "dropping it removes the hook"]
pub struct RegionHook {
    number: u64,
    /// It belongs to the pool of this thread.
    not_send: PhantomData<*mut ()>,
}

impl Debug for RegionHook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionHook").field(&self.number).finish()
    }
}

impl Drop for RegionHook {
    fn drop(&mut self) {
        // Numbers are unique in the process, so it does no harm if the pool is not the one in
        // which the hook was placed (which happens only while the thread ends).
        let Some(pool) = Pool::current_if_any() else { return };
        let removed = {
            let mut list = pool.hooks.list.borrow_mut();
            list.iter().position(|hook| hook.number == self.number).map(|index| list.remove(index))
        };
        if let Some(hook) = &removed {
            hook.removed.set(true);
        }
        drop(removed); // its destructor may use the pool: no borrow may be held
    }
}

impl Pool {
    /// See [`on_region`](super::on_region).
    pub(super) fn on_region(&self, mut call: Callback) -> RegionHook {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let outermost = !self.hooks.delivering.replace(true);
        let reset = Reset(&self.hooks.delivering, outermost);
        // Regions that are mapped meanwhile wait in the queue, for this hook too.
        for region in self.announced() {
            call(RegionEvent::Mapped(&region));
        }
        // A pool whose hooks have been dropped as the thread ends keeps none: another thread may
        // inherit the pool, and hooks stay on their thread.
        if !self.retired.get() {
            let hook = Hook { number, removed: Cell::new(false), call: RefCell::new(call) };
            self.hooks.list.borrow_mut().push(Rc::new(hook));
        }
        drop(reset);
        self.deliver();
        RegionHook { number, not_send: PhantomData }
    }

    /// Queues an event; [`deliver`](Pool::deliver) must follow when no borrow is held.
    pub(super) fn announce(&self, event: Event) {
        self.hooks.queue.borrow_mut().push_back(event);
    }

    /// Tells the hooks what is queued, unless they are being told already.
    pub(super) fn deliver(&self) {
        if self.hooks.delivering.replace(true) {
            return;
        }
        let _reset = Reset(&self.hooks.delivering, true);
        loop {
            let event = self.hooks.queue.borrow_mut().pop_front();
            match event {
                Some(Event::Mapped(id)) => {
                    let region = self.memory.borrow_mut().announce(id);
                    self.call_hooks(RegionEvent::Mapped(&region));
                }
                Some(Event::Unmapping(id)) => {
                    let region = self.memory.borrow_mut().withdraw(id);
                    self.call_hooks(RegionEvent::Unmapping(&region));
                    let released = self.memory.borrow_mut().unmap(id);
                    drop(released);
                }
                None => return,
            }
        }
    }

    fn call_hooks(&self, event: RegionEvent<'_>) {
        // A copy, as a hook may add or remove hooks. Without hooks it allocates nothing.
        let hooks = self.hooks.list.borrow().clone();
        for hook in hooks {
            if !hook.removed.get() {
                (hook.call.borrow_mut())(event);
            }
        }
    }

    /// The regions that hooks have been told of.
    pub(super) fn announced(&self) -> Vec<Region> {
        let memory = self.memory.borrow();
        let regions = memory.regions.iter().filter(|(_, region)| region.announced);
        regions.map(|(id, region)| region.mapping.describe(id as u32)).collect()
    }

    /// Forgets the hooks, as they may not leave their thread.
    pub(super) fn drop_hooks(&self) {
        let hooks = self.hooks.list.take();
        drop(hooks); // their destructors may use the pool: no borrow may be held
    }
}

/// Ends the delivery also when a hook panics; what is queued is then delivered by the next one.
struct Reset<'a>(&'a Cell<bool>, bool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.set(false);
        }
    }
}
