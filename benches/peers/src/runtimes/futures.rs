//! The `LocalPool` of the futures crate: no timers, no I/O.

use super::{NoChannel, Runtime};
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use std::cell::RefCell;
use std::future::{Future, pending};
use std::time::Duration;

thread_local!(static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) });

/// `LocalPool::run_until`.
pub struct Pool;

impl Runtime for Pool {
    const TIMERS: bool = false;
    type Channel = NoChannel;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        pool.run_until(async { Self::spawn(future).await })
    }

    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static {
        SPAWNER.with_borrow(|spawner| spawner.as_ref().unwrap().spawn_local_with_handle(future).unwrap())
    }

    fn sleep(_: Duration) -> impl Future<Output = ()> + 'static {
        pending()
    }
}
