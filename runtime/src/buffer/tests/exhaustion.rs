//! Limits, errors, waiting, and memory that changes class.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::buffer::{BufferMut, pool};

const REGION: usize = 2 << 20;

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), count.into())
}

/// Allocates buffers of this size until the pool is exhausted.
fn fill(size: usize) -> Vec<BufferMut> {
    let all: Vec<_> = std::iter::from_fn(|| BufferMut::with_capacity(size).ok()).collect();
    assert!(all.len() < 200_000);
    all
}

/// How many requests fail until one succeeds: blocks that are free are not looked for each time.
fn eventually(size: usize) -> Option<usize> {
    (0..10_000).find(|_| BufferMut::with_capacity(size).is_ok())
}

/// Of chunks of 256 bytes, keeps the last of each block of 64 KiB.
fn keep_one_of_each_block(all: &mut Vec<BufferMut>) {
    let mut number = 0;
    all.retain(|_| {
        number += 1;
        number % 256 == 0
    });
}

#[test]
fn an_exhausted_pool_says_so_with_figures_and_recovers() {
    pool::set_limit(REGION);
    let mut all = fill(4000);
    assert_eq!(all.len(), REGION / 4096);
    let error = BufferMut::with_capacity(4000).unwrap_err();
    assert_eq!((error.wanted(), error.needed(), error.in_use()), (4000, 4096, REGION));
    assert_eq!((error.mapped(), error.limit(), error.errno()), (REGION, REGION, None));
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("4096 bytes for 4000"), "{error}");
    assert!(pool::stats().classes[2].exhausted >= 2);

    all.pop();
    let again = BufferMut::with_capacity(4096).unwrap();
    BufferMut::with_capacity(4096).unwrap_err();
    drop(again);
    pool::set_limit(2 * REGION);
    all.push(BufferMut::with_capacity(1).unwrap());
}

#[test]
fn what_one_class_no_longer_uses_serves_the_others() {
    pool::set_limit(REGION);
    for size in [256, 64 << 10, 2048, 1 << 20, 4096, 16 << 10, 256, 1 << 20] {
        assert_eq!(fill(size).len(), REGION / size, "{size}");
    }
    drop(fill(256));
    assert!(BufferMut::with_capacity(REGION).is_ok(), "also a large one");
    assert_eq!(fill(256).len(), REGION / 256);
    assert_eq!(pool::stats().mapped, REGION);
}

#[test]
fn a_block_with_a_chunk_in_use_stays_as_it_is() {
    pool::set_limit(REGION);
    let mut all = fill(256);
    all.iter_mut().for_each(|buffer| buffer.resize(256, 9));
    keep_one_of_each_block(&mut all);
    assert_eq!(all.len(), 32);
    assert!(BufferMut::with_capacity(257).is_err());
    all.pop();
    assert!(eventually(257).is_some());
    let others = fill(2048);
    assert_eq!(others.len(), 32, "the one block that is free");
    assert!(all.iter().all(|buffer| **buffer == [9; 256]));
}

#[test]
fn a_larger_chunk_serves_when_nothing_else_is_left() {
    pool::set_limit(REGION);
    let mut all = fill(64 << 10);
    all.pop();
    let small = BufferMut::with_capacity(100).unwrap();
    drop(all.pop());
    let other = BufferMut::with_capacity(100).unwrap();
    drop(all);
    assert!(small.capacity() >= 100 && other.capacity() >= 100);
}

#[test]
fn unused_large_chunks_make_room() {
    pool::set_limit(16 * REGION);
    let large = BufferMut::with_capacity(2 * REGION).unwrap();
    drop(large);
    assert_eq!(pool::stats().mapped, 2 * REGION, "kept");
    assert_eq!(fill(1 << 20).len(), 32, "but not when others need it");
    assert_eq!(pool::stats().classes[6].total, 0);

    let large = BufferMut::with_capacity(3 * REGION).unwrap();
    assert_eq!(pool::stats().mapped, 16 * REGION);
    drop(large);
    assert_eq!(pool::stats().mapped, 13 * REGION, "more than an eighth of the limit is not kept");
    let error = BufferMut::with_capacity(17 * REGION).unwrap_err();
    assert_eq!(error.needed(), 17 * REGION);
    BufferMut::with_capacity(usize::MAX).unwrap_err();
}

#[test]
fn waiters_are_served_in_order() {
    pool::set_limit(REGION);
    let mut all = fill(64 << 10);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let (count, waker) = counter();
            (pool::on_available(64 << 10, &waker), count)
        })
        .collect();
    assert_eq!(pool::stats().waiting, 3);
    let woken = || waiters.iter().map(|(_, count)| count.get()).collect::<Vec<_>>();
    assert_eq!(woken(), [0, 0, 0]);
    all.pop();
    assert_eq!(woken(), [1, 0, 0]);
    all.pop();
    assert_eq!(woken(), [1, 1, 0]);
    all.pop();
    all.pop();
    assert_eq!(woken(), [1, 1, 1]);
    assert_eq!(pool::stats().waiting, 0);
}

#[test]
fn a_waiter_is_woken_only_by_what_can_serve_it() {
    pool::set_limit(2 * REGION);
    let mut large = fill(1 << 20);
    large.pop();
    let mut small = fill(256);
    let (big_count, big) = counter();
    let (little_count, little) = counter();
    let _big = pool::on_available(64 << 10, &big);
    let _little = pool::on_available(200, &little);
    small.pop();
    assert_eq!((big_count.get(), little_count.get()), (0, 1));
    // The chunks of a block, one after the other; the last of them makes it free for any class.
    let mut freed = 1;
    while big_count.get() == 0 {
        small.pop().expect("a block is free long before all are");
        freed += 1;
    }
    assert_eq!(freed, 256);
    assert!(BufferMut::with_capacity(64 << 10).is_ok());
}

#[test]
fn who_gives_up_passes_the_memory_on() {
    pool::set_limit(REGION);
    let mut all = fill(1 << 20);
    let (count, waker) = counter();
    let first = pool::on_available(1, Waker::noop());
    let _second = pool::on_available(1, &waker);
    all.pop();
    assert!(!first.is_pending());
    assert_eq!(count.get(), 0);
    drop(first);
    assert_eq!(count.get(), 1);
}

#[test]
fn memory_that_is_there_wakes_at_once() {
    let (count, waker) = counter();
    let waiting = pool::on_available(100_000, &waker);
    assert_eq!((count.get(), waiting.is_pending()), (1, false));

    // Free, but in blocks of another class, which only a search finds.
    pool::set_limit(REGION);
    let all = fill(4096);
    for _ in 0..3 {
        BufferMut::with_capacity(64 << 10).unwrap_err();
    }
    drop(all);
    let _waiting = pool::on_available(64 << 10, &waker);
    assert_eq!(count.get(), 2);

    pool::set_limit(0);
    let _none = fill(1);
    let _waiting = pool::on_available(REGION, &waker);
    assert_eq!(count.get(), 2);
    pool::set_limit(4 * REGION);
    assert_eq!(count.get(), 3);
}

#[test]
fn a_task_waits_for_memory_and_gets_it() {
    pool::set_limit(REGION);
    let mut all = fill(1 << 20);
    let (count, waker) = counter();
    let cx = &mut Context::from_waker(&waker);
    let mut future = pin!(BufferMut::allocate(5000));
    assert!(future.as_mut().poll(cx).is_pending());
    assert!(future.as_mut().poll(cx).is_pending());
    assert_eq!((count.get(), pool::stats().waiting), (0, 1));
    all.pop();
    assert_eq!(count.get(), 1);

    // Somebody else is faster.
    all.push(BufferMut::with_capacity(1 << 20).unwrap());
    assert!(future.as_mut().poll(cx).is_pending());
    all.clear();
    assert_eq!(count.get(), 2);
    let Poll::Ready(Ok(buffer)) = future.as_mut().poll(cx) else { panic!("there is memory") };
    assert!(buffer.capacity() >= 5000);
    assert_eq!(pool::stats().waiting, 0);

    let mut hopeless = pin!(BufferMut::allocate(2 * REGION));
    assert!(matches!(hopeless.as_mut().poll(cx), Poll::Ready(Err(_))));
}

#[test]
fn a_dropped_future_gives_its_place_up() {
    pool::set_limit(REGION);
    let all = fill(1 << 20);
    let (count, waker) = counter();
    {
        let mut future = pin!(BufferMut::allocate(1));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(pool::stats().waiting, 1);
    }
    assert_eq!(pool::stats().waiting, 0);
    drop(all);
    assert_eq!(count.get(), 0);
}

#[test]
fn bytes_dropped_on_another_thread_wake_who_waits() {
    pool::set_limit(REGION);
    for _ in 0..100 {
        let mut all = fill(1 << 20);
        let mut last = all.pop().unwrap();
        last.resize(10, 3);
        let bytes = last.freeze().into_bytes();
        let thread = thread::spawn(move || assert_eq!(bytes[..], [3; 10]));
        // Blocks the thread until it is woken.
        let buffer = futures::executor::block_on(BufferMut::allocate(1 << 20)).unwrap();
        assert_eq!(buffer.capacity(), 1 << 20);
        thread.join().unwrap();
    }
}

#[test]
fn failing_requests_do_not_search_all_blocks_each_time() {
    pool::set_limit(16 * REGION);
    let mut all = fill(256);
    keep_one_of_each_block(&mut all);
    let pool = crate::buffer::pool::local::Pool::current();
    BufferMut::with_capacity(1000).unwrap_err();
    let debt = pool.scan_debt();
    assert!(debt > 1000, "{debt}");
    BufferMut::with_capacity(1000).unwrap_err();
    assert_eq!(pool.scan_debt(), debt - 1);
    // The search is only put off.
    drop(all);
    assert_eq!(eventually(1000), Some(debt - 1));
}
