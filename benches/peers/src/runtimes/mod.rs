//! One file per runtime: how it runs and spawns, and its TCP echo server, both written the way its own
//! documentation does it.

pub mod compio;
pub mod demikernel;
pub mod embassy;
pub mod futures;
pub mod glommio;
pub mod mini;
pub mod monoio;
pub mod smol;
pub mod tokio;
pub mod tokio_uring;

use std::future::Future;
use std::time::Duration;

/// What the executor operations need of a runtime; each operation has one generic body over this.
pub trait Runtime: 'static {
    /// Whether `sleep` works.
    const TIMERS: bool = true;
    /// The runtime's own single-threaded channel, or the one that its documentation recommends.
    type Channel: Channel;

    /// Runs a future as a task on a new runtime of this thread.
    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T;

    /// Spawns on the current runtime; what comes back waits for the task.
    fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> impl Future<Output = T> + 'static;

    /// Completes after `duration`.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static;
}

/// A channel between two tasks of one thread.
pub trait Channel: 'static {
    /// False for runtimes that have none.
    const EXISTS: bool = true;
    /// The sending end.
    type Sender: 'static;
    /// The receiving end.
    type Receiver: 'static;

    /// A channel that holds at least one message.
    fn pair() -> (Self::Sender, Self::Receiver);

    /// Sends without waiting.
    fn send(sender: &mut Self::Sender, value: u64);

    /// Waits for a message.
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = u64>;
}

/// For runtimes that bring no channel.
pub struct NoChannel;

impl Channel for NoChannel {
    const EXISTS: bool = false;
    type Sender = ();
    type Receiver = ();

    fn pair() -> ((), ()) {
        unreachable!("asked only of channels that exist")
    }

    fn send((): &mut (), _: u64) {}

    async fn receive((): &mut ()) -> u64 {
        0
    }
}
