//! Tasks that do nothing but let the others run.

use super::{Plan, Samples};
use crate::runtimes::Runtime;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Wakes its own task and is pending, once. The same for all runtimes: their own `yield_now` may be a hint
/// to the scheduler, or a look at the I/O.
struct YieldOnce {
    yielded: bool,
}

impl Future for YieldOnce {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Lets the other tasks run once.
#[inline]
pub(crate) fn yield_once() -> impl Future<Output = ()> {
    YieldOnce { yielded: false }
}

/// `plan.operations` yields, divided between `tasks`.
pub(super) fn run<R: Runtime>(tasks: u64, plan: Plan) -> Samples {
    let yields = plan.operations / tasks;
    R::run(plan.sample(async move || {
        let spawn_one = |_| {
            R::spawn(async move {
                for _ in 0..yields {
                    yield_once().await;
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn_one).collect();
        for handle in handles {
            handle.await;
        }
    }))
}
