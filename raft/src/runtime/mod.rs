//! The runtime that openraft asks for: tasks, timers, time and channels of one core.

mod instant; // time
mod mpsc; // bounded channels
mod mutex; // a mutex
mod oneshot; // channels for one value
mod random; // random numbers
mod waiters; // who waits
mod watch; // watched values

pub use instant::Instant;
pub use mpsc::{Channels, Receiver, Sender, WeakSender};
pub use mutex::{Guard, Mutex};
pub use oneshot::{Canceled, Oneshots, Receiver as OneshotReceiver, Sender as OneshotSender};
pub use random::Random;
pub use watch::{Receiver as WatchReceiver, Sender as WatchSender, Watches};

use demikernel::time::{self, Elapsed, Sleep, Timeout};
use demikernel::{Builder, JoinError, JoinHandle};
use openraft::AsyncRuntime;
use std::future::Future;
use std::time::Duration;

/// openraft's [`AsyncRuntime`] on demikernel: what openraft does runs on the runtime of the thread that it was called on,
/// and goes by its clock, so that a simulation's nodes have their elections in virtual time.
///
/// A program makes its runtime as any other does, and needs no value of this type: it stands in the type configuration.
/// [`AsyncRuntime::new`], which makes one, is for openraft's own tests.
#[derive(Debug)]
pub struct Runtime(demikernel::Runtime);

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R>> = Timeout<T>;
    type ThreadLocalRng = Random;
    type Mpsc = Channels;
    type Watch = Watches;
    type Oneshot = Oneshots;
    type Mutex<T: 'static> = Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + 'static,
        T::Output: 'static,
    {
        demikernel::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        time::sleep(duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        time::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R>>(duration: Duration, future: F) -> Timeout<F> {
        time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R>>(deadline: Instant, future: F) -> Timeout<F> {
        time::timeout_at(deadline.0, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Random {
        Random
    }

    /// A runtime of one core, whatever the number.
    ///
    /// # Panics
    /// If none can be made: see [`Builder::build`].
    fn new(_threads: usize) -> Runtime {
        Runtime(Builder::new().build().expect("a runtime can be made"))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::Runtime;
    use openraft::testing::runtime::Suite;

    #[test]
    fn openraft_s_own_tests_of_a_runtime_pass() {
        Suite::<Runtime>::test_all();
    }
}
