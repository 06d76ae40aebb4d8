//! Counts that come back from other threads. What happens when threads end is tested in a process
//! of its own (`tests/buffer_threads.rs`).

use std::sync::mpsc;
use std::thread;

use bytes::Bytes;

use crate::buffer::{Buffer, BufferMut, pool};

#[test]
fn bytes_dropped_elsewhere_come_back() {
    let buffer = Buffer::copy_from_slice(b"shared").unwrap();
    let bytes = buffer.clone().into_bytes();
    thread::spawn(move || drop(bytes)).join().unwrap();
    assert!(buffer.is_unique());
    let bytes = buffer.into_bytes();
    thread::spawn(move || assert_eq!(bytes, "shared")).join().unwrap();
    assert_eq!(pool::stats().in_use(), 256);
    pool::collect();
    assert_eq!(pool::stats().in_use(), 0);
}

#[test]
fn foreign_memory_is_dropped_when_it_comes_back() {
    let bytes = Buffer::from(vec![5; 100]).into_bytes();
    thread::spawn(move || drop(bytes)).join().unwrap();
    assert_eq!(pool::stats().foreign, 1);
    pool::collect();
    assert_eq!(pool::stats().foreign, 0);
}

#[test]
fn bytes_that_return_to_the_thread_are_dropped_there() {
    let buffer = Buffer::copy_from_slice(b"there and back").unwrap();
    let bytes = buffer.into_bytes();
    let bytes = thread::spawn(move || bytes.slice(6..9)).join().unwrap();
    let buffer = Buffer::from(bytes);
    assert_eq!(buffer, "and");
    drop(buffer);
    assert_eq!(pool::stats().in_use(), 0, "without collecting");
}

#[test]
fn another_thread_may_view_and_return_a_view() {
    let bytes = Buffer::copy_from_slice(b"owned by the first").unwrap().into_bytes();
    let view = thread::spawn(move || {
        let buffer = Buffer::from(bytes);
        assert_eq!(buffer.region(), None, "it is not in a region of this thread");
        buffer.slice(13..).into_bytes()
    });
    assert_eq!(view.join().unwrap(), "first");
    pool::collect();
    assert_eq!(pool::stats().in_use(), 0);
}

/// Many threads drop views of the same and of different chunks while the owner allocates.
#[test]
fn many_threads_drop_at_once() {
    const THREADS: usize = 4;
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    let mut senders = Vec::new();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (sender, receiver) = mpsc::sync_channel::<(Bytes, u8)>(16);
            senders.push(sender);
            thread::spawn(move || {
                for (bytes, value) in receiver {
                    assert!(bytes.iter().all(|&byte| byte == value));
                }
            })
        })
        .collect();
    for round in 0..rounds {
        let mut buffer = BufferMut::with_capacity(300).unwrap();
        buffer.resize(300, round as u8);
        let buffer = buffer.freeze();
        for (number, sender) in senders.iter().enumerate() {
            sender.send((buffer.slice(number..).into_bytes(), round as u8)).unwrap();
        }
    }
    drop(senders);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    pool::collect();
    let stats = pool::stats();
    assert_eq!(stats.in_use(), 0);
    assert!(stats.classes[1].total <= 32 * 8, "{}", stats.classes[1].total);
}
