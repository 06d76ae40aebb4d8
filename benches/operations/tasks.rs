//! Spawning, joining, yielding.

use demikernel::{spawn, yield_now};
use std::hint::black_box;

/// Spawns a task that is ready at once, and waits for it.
pub(super) async fn spawn_join(count: u64) {
    for i in 0..count {
        black_box(spawn(async move { black_box(i) }).await).expect("neither panics nor aborted");
    }
}

/// The same with 1,024 at a time, joined in the order of their spawning.
pub(super) async fn spawn_join_1024(count: u64) {
    let mut tasks = Vec::with_capacity(1024);
    for _ in 0..count / 1024 {
        tasks.extend((0..1024).map(|i| spawn(async move { black_box(i) })));
        for task in tasks.drain(..) {
            black_box(task.await).expect("neither panics nor aborted");
        }
    }
}

/// `count` yields, divided between `tasks`.
pub(super) async fn yields(tasks: u64, count: u64) {
    let spawn_one = |_| {
        spawn(async move {
            for _ in 0..count / tasks {
                yield_now().await;
            }
        })
    };
    let tasks: Vec<_> = (0..tasks).map(spawn_one).collect();
    for task in tasks {
        task.await.expect("neither panics nor aborted");
    }
}
