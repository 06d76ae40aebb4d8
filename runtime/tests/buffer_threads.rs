//! What happens to buffers and their memory when threads end. In a process of its own, and one test
//! at a time, because the tests look at memory that ended threads left behind.
#![cfg(not(demikernel_loom))]

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use demikernel_runtime::buffer::pool::{self, RegionEvent};
use demikernel_runtime::buffer::{Buffer, BufferMut};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn buffer(bytes: &[u8]) -> Buffer {
    Buffer::copy_from_slice(bytes).unwrap()
}

/// Runs on a thread of its own, which has ended when this returns.
fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(run).join().unwrap()
}

/// Waits until the kernel has forgotten ended threads, which can be a moment after they were joined,
/// and later threads have taken over or unmapped the memory that these left.
fn nothing_is_stranded() -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let stranded = on_a_thread(|| {
            drop(BufferMut::with_capacity(1));
            pool::stats().stranded
        });
        // The thread above may have inherited the last of them: it looked before it ended.
        if stranded == 0 {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn bytes_outlive_their_thread() {
    let _one = one_at_a_time();
    let all: Vec<Bytes> = on_a_thread(|| {
        let large = BufferMut::with_capacity(3 << 20).map(|mut large| {
            large.resize(3 << 20, 1);
            large.freeze()
        });
        let other = buffer(b"dropped with the thread's pool in use");
        let all = [buffer(b"small"), large.unwrap(), Buffer::from(vec![2; 1000])];
        drop(other);
        all.into_iter().flat_map(|buffer| [buffer.slice(1..).into_bytes(), buffer.into_bytes()]).collect()
    });
    let copies = all.clone();
    assert!(copies[0] == "mall" && copies[1] == "small");
    assert!(copies[2].len() == (3 << 20) - 1 && copies[3].iter().all(|&byte| byte == 1));
    assert!(copies[5] == vec![2; 1000]);
    drop(copies);
    for bytes in all {
        on_a_thread(move || drop(bytes));
    }
    assert!(nothing_is_stranded());
}

#[test]
fn a_thread_inherits_a_pool_with_what_is_in_use() {
    let _one = one_at_a_time();
    let bytes = on_a_thread(|| buffer(b"still in use").into_bytes());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut bytes = Some(bytes);
    while let Some(mine) = bytes.take() {
        assert!(Instant::now() < deadline);
        bytes = on_a_thread(move || {
            if pool::stats().in_use() == 0 {
                return Some(mine); // the kernel had not forgotten the thread: not inherited
            }
            assert_eq!(mine, "still in use");
            let overwrites = buffer(&[0; 256]);
            assert_eq!(mine, "still in use");
            assert_eq!(pool::stats().in_use(), 512);
            drop((mine, overwrites)); // on the pool's thread, which is now this one
            assert_eq!(pool::stats().in_use(), 0);
            None
        });
    }
    assert!(nothing_is_stranded());
}

/// Keeps buffers until its destructor, which uses them, and makes others.
struct Keeper(RefCell<Vec<Buffer>>);

impl Drop for Keeper {
    fn drop(&mut self) {
        let kept = self.0.take();
        for buffer in &kept {
            assert!(buffer.slice(1..).starts_with(b"ept"));
            let copy = buffer.clone();
            let bytes = copy.into_bytes();
            thread::spawn(move || drop(bytes)).join().unwrap();
        }
        for size in [1, 5000, 2 << 20] {
            let mut new = BufferMut::with_capacity(size).unwrap();
            new.extend_from_slice(b"n");
            assert_eq!(new.freeze().slice(..).into_bytes(), "n");
        }
        let _hook = pool::on_region(|event| assert!(matches!(event, RegionEvent::Mapped(_))));
        assert!(Buffer::new().is_empty());
        drop(kept);
        let leaves = Buffer::from(vec![3; 10]).into_bytes();
        thread::spawn(move || assert_eq!(leaves, vec![3; 10])).join().unwrap();
        pool::collect();
    }
}

thread_local! {
    static KEEPER: Keeper = const { Keeper(RefCell::new(Vec::new())) };
}

/// The order in which destructors of thread-locals run depends on who is used first.
#[test]
fn buffers_in_thread_locals_outlive_the_pools_clean_up() {
    let _one = one_at_a_time();
    let keep = |bytes: &[u8]| KEEPER.with(|keeper| keeper.0.borrow_mut().push(buffer(bytes)));
    for _ in 0..3 {
        on_a_thread(move || keep(b"kept, keeper first"));
        on_a_thread(move || {
            drop(buffer(b"pool first"));
            keep(b"kept, pool first");
        });
        on_a_thread(move || {
            KEEPER.with(|_| ());
            drop(buffer(b"nothing is kept: the pool is idle when it is cleaned up"));
        });
        on_a_thread(|| KEEPER.with(|_| ())); // the pool begins in the destructor
        on_a_thread(move || {
            let bytes = buffer(b"kept").into_bytes();
            KEEPER.with(|keeper| keeper.0.borrow_mut().push(bytes.into()));
        });
    }
    assert!(nothing_is_stranded());
}

#[test]
fn hooks_hear_of_it_when_an_idle_pool_is_unmapped() {
    let _one = one_at_a_time();
    let (sender, receiver) = std::sync::mpsc::channel();
    on_a_thread(move || {
        let hook = pool::on_region(move |event| {
            let (mapped, region) = match event {
                RegionEvent::Mapped(region) => (true, region),
                RegionEvent::Unmapping(region) => (false, region),
            };
            sender.send((mapped, region.id)).unwrap();
        });
        drop(BufferMut::with_capacity(1));
        std::mem::forget(hook);
    });
    let events: Vec<_> = receiver.into_iter().collect();
    assert_eq!(events, [(true, 0), (false, 0)], "and the hook is dropped, or this would wait forever");
}

/// Threads come and go while others drop what they made.
#[test]
fn threads_come_and_go() {
    let _one = one_at_a_time();
    let mut made: Vec<Bytes> = Vec::new();
    for round in 0..200_u32 {
        let dropped = if round % 3 == 0 { made.drain(..made.len() / 2).collect() } else { Vec::new() };
        let maker = thread::spawn(move || {
            let number = round.to_be_bytes();
            (0..20).map(|_| buffer(&number).into_bytes()).collect::<Vec<_>>()
        });
        let dropper = thread::spawn(move || drop::<Vec<Bytes>>(dropped));
        let new = maker.join().unwrap();
        assert!(new.iter().all(|bytes| bytes[..] == round.to_be_bytes()));
        made.extend(new);
        dropper.join().unwrap();
    }
    on_a_thread(move || drop(made));
    assert!(nothing_is_stranded());
}
