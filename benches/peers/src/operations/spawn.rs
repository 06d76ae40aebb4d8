//! Spawn a task that is ready at once, and wait for it.

use super::{Plan, Samples};
use crate::runtimes::Runtime;
use std::hint::black_box;

/// One at a time.
pub(super) fn one<R: Runtime>(plan: Plan) -> Samples {
    R::run(plan.sample(async move || {
        for i in 0..plan.operations {
            black_box(R::spawn(async move { black_box(i) }).await);
        }
    }))
}

/// 1,024 at a time, joined in the order of their spawning.
pub(super) fn many<R: Runtime>(plan: Plan) -> Samples {
    R::run(async move {
        let mut tasks = Vec::with_capacity(1024);
        plan.sample(async || {
            for _ in 0..plan.operations / 1024 {
                tasks.extend((0..1024).map(|i| R::spawn(async move { black_box(i) })));
                for task in tasks.drain(..) {
                    black_box(task.await);
                }
            }
        })
        .await
    })
}
