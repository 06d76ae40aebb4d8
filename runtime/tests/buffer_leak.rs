//! A buffer that its thread leaked. In a process of its own, as its pool stays behind for good.
#![cfg(not(demikernel_loom))]

use std::thread;

use demikernel_runtime::buffer::{Buffer, pool};

#[test]
fn the_memory_of_a_leaked_buffer_is_not_used_again() {
    let make = || Buffer::copy_from_slice(b"leaked").unwrap();
    let leaks = move || {
        let leaked = make();
        let at = leaked.as_ptr().addr();
        std::mem::forget(leaked);
        at
    };
    let address = thread::spawn(leaks).join().unwrap();
    assert!(pool::stats().stranded <= 1);
    for _ in 0..50 {
        let others = move || {
            let all: Vec<_> = (0..10).map(|_| make()).collect();
            all.iter().all(|buffer| buffer.as_ptr().addr() != address && buffer == b"leaked")
        };
        assert!(thread::spawn(others).join().unwrap());
    }
}
