//! Without the kernel: clocks, atomic operations, the heap, reference counts of wakers.

use super::row;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, compiler_fence};
use std::task::{Wake, Waker};
use std::time::Instant;

const MANY: u64 = 10_000_000;

pub(super) fn run() {
    clocks();
    counters();
    heap();
    wakers();
}

fn clocks() {
    #[cfg(target_arch = "x86_64")]
    row("rdtsc", MANY, || {
        for _ in 0..MANY {
            // SAFETY: every x86-64 processor has this instruction.
            black_box(unsafe { core::arch::x86_64::_rdtsc() });
        }
    });
    row("Instant::now", MANY / 10, || {
        for _ in 0..MANY / 10 {
            black_box(Instant::now());
        }
    });
}

fn counters() {
    thread_local!(static LOCAL: Cell<u64> = const { Cell::new(0) });
    row("increment of a thread-local Cell", MANY, || {
        for _ in 0..MANY {
            LOCAL.set(black_box(LOCAL.get()) + 1);
        }
    });
    let shared = AtomicU64::new(0);
    row("locked add, uncontended", MANY, || {
        for _ in 0..MANY {
            shared.fetch_add(1, Relaxed);
        }
    });
    row("load, add, store", MANY, || {
        for _ in 0..MANY {
            shared.store(shared.load(Relaxed) + 1, Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
        }
    });
}

fn heap() {
    row("malloc + free, 64 B", MANY / 10, || {
        for i in 0..MANY / 10 {
            black_box(Box::new([i; 8]));
        }
    });
    let mut live: Vec<Box<[u64; 16]>> = Vec::with_capacity(1024);
    row("malloc + free, 128 B, 1,024 alive", 1024 * 100, || {
        for _ in 0..100 {
            live.extend((0..1024).map(|i| black_box(Box::new([i; 16]))));
            live.clear();
        }
    });
}

fn wakers() {
    struct Counted;
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    for (name, waker) in [
        ("clone + drop of a waker that counts nothing", Waker::noop().clone()),
        ("clone + drop of a waker that is an Arc", Waker::from(Arc::new(Counted))),
    ] {
        row(name, MANY, || {
            for _ in 0..MANY {
                black_box(black_box(&waker).clone());
            }
        });
    }
}
