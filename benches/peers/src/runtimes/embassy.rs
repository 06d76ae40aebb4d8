//! embassy-executor on the standard library. Its tasks are statics, so only yields and wakes can be compared.

use crate::operations::{Plan, Samples, Switchboard, yield_once};
use embassy_executor::{Executor, Spawner};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Measures one operation on a new executor of this thread.
pub fn run(operation: &str, plan: Plan) -> Samples {
    let operation = operation.to_string();
    let result = Rc::new(RefCell::new(None));
    // Its tasks refer to it for ever.
    let executor: &'static mut Executor = Box::leak(Box::new(Executor::new()));
    let out = result.clone();
    executor.run_until(
        |spawner| spawner.spawn(main_task(spawner, operation, plan, out).unwrap()),
        || result.borrow().is_some(),
    );
    result.take().unwrap_or_default()
}

#[embassy_executor::task]
async fn main_task(spawner: Spawner, operation: String, plan: Plan, out: Rc<RefCell<Option<Samples>>>) {
    let samples = match operation.as_str() {
        "yield_1" => yields(spawner, 1, plan).await,
        "yield_64" => yields(spawner, 64, plan).await,
        "yield_1024" => yields(spawner, 1024, plan).await,
        "wake_1" => wakes(spawner, 1, plan).await,
        "wake_1024" => wakes(spawner, 1024, plan).await,
        _ => Samples::new(),
    };
    out.replace(Some(samples));
}

/// Counts the yielding tasks down.
#[derive(Default)]
struct Yielders {
    left: Cell<u64>,
    main: RefCell<Option<Waker>>,
}

#[embassy_executor::task(pool_size = 1024)]
async fn yielder(yields: u64, all: Rc<Yielders>) {
    for _ in 0..yields {
        yield_once().await;
    }
    all.left.set(all.left.get() - 1);
    if all.left.get() == 0
        && let Some(waker) = all.main.take()
    {
        waker.wake();
    }
}

async fn yields(spawner: Spawner, tasks: u64, plan: Plan) -> Samples {
    let yields = plan.operations / tasks;
    plan.sample(async || {
        let all = Rc::new(Yielders::default());
        all.left.set(tasks);
        for _ in 0..tasks {
            spawner.spawn(yielder(yields, all.clone()).unwrap());
        }
        poll_fn(|cx| {
            if all.left.get() == 0 {
                return Poll::Ready(());
            }
            *all.main.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    })
    .await
}

/// More places than sleepers, as those of an earlier operation may not have ended.
#[embassy_executor::task(pool_size = 2048)]
async fn sleeper(index: usize, board: Rc<Switchboard>) {
    board.sleep(index).await
}

async fn wakes(spawner: Spawner, sleepers: usize, plan: Plan) -> Samples {
    let board = Switchboard::new(sleepers);
    for index in 0..sleepers {
        spawner.spawn(sleeper(index, board.clone()).unwrap());
    }
    let samples = board.measure(plan).await;
    board.dismiss();
    samples
}
