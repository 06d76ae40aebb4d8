//! The bare executor's timers: four levels of 256 slots, ticks of 1 ms, entries in a slab linked by index, so
//! that inserting and cancelling take constant time.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const NONE: u32 = u32::MAX;
/// In place of an entry's list: it has expired.
const EXPIRED: u32 = u32::MAX - 1;

struct Entry {
    previous: u32,
    next: u32,
    /// `level * 256 + slot`, or EXPIRED.
    list: u32,
    when: u64,
    waker: Option<Waker>,
}

struct Wheel {
    start: Instant,
    now: u64,
    entries: slab::Slab<Entry>,
    lists: [u32; 1024],
    pending: usize,
}

thread_local!(static WHEEL: RefCell<Option<Wheel>> = const { RefCell::new(None) });

#[inline(always)]
fn with<R>(f: impl FnOnce(&mut Wheel) -> R) -> R {
    WHEEL.with_borrow_mut(|wheel| f(wheel.get_or_insert_with(Wheel::new)))
}

impl Wheel {
    fn new() -> Self {
        Self { start: Instant::now(), now: 0, entries: slab::Slab::new(), lists: [NONE; 1024], pending: 0 }
    }

    /// Puts an entry into the list that its deadline, or `least` if that is later, belongs to.
    #[inline]
    fn link(&mut self, key: u32, least: u64) {
        let when = self.entries[key as usize].when.max(least);
        let level = match when ^ self.now {
            0..0x100 => 0,
            0x100..0x1_0000 => 1,
            0x1_0000..0x100_0000 => 2,
            _ => 3,
        };
        let list = level * 256 + ((when >> (8 * level)) & 255) as u32;
        let next = std::mem::replace(&mut self.lists[list as usize], key);
        let entry = &mut self.entries[key as usize];
        (entry.list, entry.previous, entry.next) = (list, NONE, next);
        if next != NONE {
            self.entries[next as usize].previous = key;
        }
        self.pending += 1;
    }

    #[inline]
    fn unlink(&mut self, key: u32) {
        let Entry { previous, next, list, .. } = self.entries[key as usize];
        if list == EXPIRED {
            return;
        }
        if previous == NONE {
            self.lists[list as usize] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        self.pending -= 1;
    }

    /// Advances by one tick: moves the lists of higher levels that begin now, then expires what is due.
    fn tick(&mut self) {
        self.now += 1;
        for level in (1..4).rev() {
            if self.now & ((1 << (8 * level)) - 1) == 0 {
                self.cascade(level * 256 + ((self.now >> (8 * level)) & 255) as usize);
            }
        }
        let mut key = std::mem::replace(&mut self.lists[(self.now & 255) as usize], NONE);
        while key != NONE {
            let entry = &mut self.entries[key as usize];
            entry.list = EXPIRED;
            key = entry.next;
            self.pending -= 1;
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    fn cascade(&mut self, list: usize) {
        let mut key = std::mem::replace(&mut self.lists[list], NONE);
        while key != NONE {
            let next = self.entries[key as usize].next;
            self.pending -= 1;
            self.link(key, self.now);
            key = next;
        }
    }
}

/// Expires what is due; when there is nothing else to do and nothing was due, sleeps for a moment.
pub(super) fn turn(idle: bool) {
    let sleep = with(|wheel| {
        let now = wheel.start.elapsed().as_millis() as u64;
        if wheel.pending == 0 {
            assert!(!idle, "nothing can ever wake this executor again");
            wheel.now = now;
            return false;
        }
        let due = wheel.now < now;
        while wheel.now < now {
            wheel.tick();
        }
        idle && !due
    });
    if sleep {
        std::thread::sleep(Duration::from_micros(500));
    }
}

struct Sleep {
    deadline: Instant,
    key: u32,
}

/// Completes after `duration`, at the next tick.
pub(super) fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
    Sleep { deadline: Instant::now() + duration, key: NONE }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with(|wheel| {
            if self.key == NONE {
                let nanos = self.deadline.saturating_duration_since(wheel.start).as_nanos() as u64;
                let when = nanos.div_ceil(1_000_000);
                let waker = Some(cx.waker().clone());
                let entry = Entry { previous: NONE, next: NONE, list: 0, when, waker };
                self.key = wheel.entries.insert(entry) as u32;
                wheel.link(self.key, wheel.now + 1);
                return Poll::Pending;
            }
            let entry = &mut wheel.entries[self.key as usize];
            if entry.list == EXPIRED {
                return Poll::Ready(());
            }
            match &entry.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => entry.waker = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.key != NONE {
            with(|wheel| {
                wheel.unlink(self.key);
                wheel.entries.remove(self.key as usize);
            })
        }
    }
}
