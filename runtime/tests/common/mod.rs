//! Running a test of the public interfaces on a transport.

use demikernel_runtime::buffer::pool;
use demikernel_runtime::time::{sleep, timeout};
use demikernel_runtime::transport::Transport;
use demikernel_runtime::{Builder, Idle};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

pub(crate) type Make = fn() -> io::Result<Transport>;

/// Descriptors are the process's, so one test runs at a time: while this is held.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test with a runtime that spins when idle and with one that blocks, and sees that nothing is left:
/// no operation, no buffer, no descriptor.
pub(crate) fn check<F: Future<Output = io::Result<()>>>(make: Make, test: impl Fn() -> F) {
    let _alone = alone();
    for idle in [Idle::Spin, Idle::Block] {
        let buffers = pool::stats().in_use();
        let descriptors = open_descriptors();
        let transport = match make() {
            Ok(transport) => transport,
            Err(error) => {
                assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "{error}");
                return eprintln!("skipped: {error}");
            }
        };
        let runtime = Builder::new().idle(idle).build().unwrap();
        runtime.attach(transport);
        runtime.block_on(async {
            let test = timeout(Duration::from_secs(if under_valgrind() { 300 } else { 60 }), test());
            test.await.expect("the test is done in time").expect("no operation fails");
        });
        // A device may have to hear from the kernel before it lets go of what was cancelled or closed.
        eventually(|| {
            runtime.block_on(async { sleep(Duration::from_millis(1)).await });
            runtime.metrics().live_operations == 0
        });
        assert_eq!(runtime.metrics().live_operations, 0, "operations left, idle {idle:?}");
        drop(runtime);
        assert_eq!(pool::stats().in_use(), buffers, "buffers left, idle {idle:?}");
        eventually(|| open_descriptors() == descriptors);
        assert_eq!(open_descriptors(), descriptors, "descriptors left, idle {idle:?}");
    }
}

/// Whether valgrind runs these tests, which makes them many times slower.
pub(crate) fn under_valgrind() -> bool {
    std::env::var_os("DEMIKERNEL_VALGRIND").is_some()
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits, blocking, for what threads and the kernel do in their own time.
fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut word = seed << 1 | 1;
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ seed;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Polls a future once, and drops it; its output if it was ready.
#[allow(dead_code, reason = "not every program gives up")]
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
