//! Timers that are set and dropped again, and timers that expire.

use demikernel::spawn;
use demikernel::time::sleep;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Durations that follow no order.
struct Durations(u64);

impl Durations {
    /// One below `limit`.
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_nanos((self.0 >> 16) % limit.as_nanos() as u64)
    }
}

/// Sets 1,024 timers up to ten minutes away, polls each once, and drops them.
pub(super) async fn insert_cancel(count: u64) {
    let mut durations = Durations(1);
    let mut timers = Vec::with_capacity(1024);
    for _ in 0..count / 1024 {
        timers.extend((0..1024).map(|_| sleep(durations.below(Duration::from_secs(600)))));
        poll_fn(|cx| {
            assert!(timers.iter_mut().all(|timer| Pin::new(timer).poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        timers.clear();
    }
}

/// 1,024 tasks sleep until moments within 100 ms; the clock jumps from each to the next.
pub(super) async fn expire(count: u64) {
    let mut durations = Durations(1);
    let mut tasks = Vec::with_capacity(1024);
    for _ in 0..count / 1024 {
        let duration = |_| durations.below(Duration::from_millis(100));
        tasks.extend((0..1024).map(duration).map(|duration| spawn(sleep(duration))));
        for task in tasks.drain(..) {
            task.await.expect("neither panics nor aborted");
        }
    }
}
