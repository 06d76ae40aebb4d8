//! Testing your server.
//!
//! A test with `transport = "sim"` has a network of its own: machines, each with the whole userspace TCP/IP stack, and
//! links between them that delay, lose, double, reorder and alter packets. Time is virtual, so that a minute's timeout
//! takes none, and everything follows from a seed, so that what failed once fails again.
//!
//! ```
//! use demikernel::net::{TcpListener, TcpStream};
//! use demikernel::{sim, spawn, time};
//! use std::io;
//! use std::time::Duration;
//!
//! // A server as it is: nothing in it knows of the simulation.
//! async fn serve(address: &str) -> io::Result<()> {
//!     let listener = TcpListener::bind(address).await?;
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         spawn(async move {
//!             loop {
//!                 let data = stream.pop().await?;
//!                 if data.is_empty() {
//!                     return io::Result::Ok(());
//!                 }
//!                 stream.push(data).await?;
//!             }
//!         });
//!     }
//! }
//!
//! #[demikernel::test(transport = "sim", seeds = 20)]
//! async fn answers_come_after_the_network_is_repaired() -> io::Result<()> {
//! # Ok(())
//! # }
//! # // What is not compiled outside of a test is run here.
//! # async fn test() -> io::Result<()> {
//!     let network = sim::current(); // of the machine "test", which this function runs on
//!     network.host("server", || serve("0.0.0.0:7000"));
//!     let stream = TcpStream::connect("server:7000").await?;
//!
//!     network.partition("test", "server");
//!     stream.push("hello".into()).await?;
//!     let early = time::timeout(Duration::from_secs(5), stream.pop()).await;
//!     assert!(early.is_err(), "nothing passes");
//!
//!     network.repair("test", "server");
//!     assert_eq!(stream.pop().await?, b"hello"); // TCP has sent it again
//!     Ok(())
//! }
//! # fn main() {
//! #     let config = demikernel::macros::TestConfig::new().transport("sim").seeds(20);
//! #     assert!(demikernel::macros::test(config, test) == std::process::ExitCode::SUCCESS);
//! # }
//! ```
//!
//! # Machines
//!
//! [`Control::host`] adds a machine and runs a program on it, from its start and again each time it is
//! [bounced](Control::bounce); [`Control::client`] one that runs once. Machines reach each other by name
//! (`"server:7000"`) or by [address](Control::address), and themselves as `localhost`. Each has its own tasks, timers,
//! ports, files and Unix sockets (the last two [in memory](crate::transport::memory)). [`crash`](Control::crash) is
//! what a power cut does: the program's futures are dropped, nothing more is said, and peers notice by their timeouts.
//!
//! # Links
//!
//! With seed 0, which is what a test runs with that asks for no other, [links are good](LinkConfig::from_seed). With each
//! further seed they draw delay, bandwidth and faults. A test that wants certain faults says so:
//!
//! ```
//! # use demikernel::sim;
//! # let network = sim::Simulation::new(0)?;
//! # network.host("server", async || {});
//! # network.host("test", async || {});
//! network.links(|link| link.loss = 0.02); // all of them
//! network.link("test", "server", |link| link.bandwidth = Some(1_000_000));
//! network.hold("test", "server"); // packets wait
//! network.release("test", "server");
//! network.isolate("server"); // from everybody
//! network.rejoin("server");
//! # std::io::Result::Ok(())
//! ```
//!
//! Packets from a machine to itself pass no link, so they are neither delayed nor lost. What is sent to a group or to
//! everybody reaches nobody.
//!
//! # When a test fails
//!
//! It prints its seed, and how to repeat that one run:
//!
//! ```text
//! note: the simulation had seed 17, 5.201s had passed in it, and its trace is 1f0b0f2a52cd9d5e of 23 packets
//! note: this was on transport sim; repeat it with DEMIKERNEL_TRANSPORT=sim DEMIKERNEL_SEED=17
//! ```
//!
//! `seeds = 20` runs a test with seeds 0 to 19; `DEMIKERNEL_SEEDS=10000` in the environment does with more.
//! [`Builder::capture`] writes what passed for Wireshark. Two runs are the same if their [traces](Control::trace) are. What
//! can make them differ is what the seed knows nothing of: the hash maps of the standard library and `futures::select!`
//! draw from the system's randomness (`select_biased!` does not), and threads take their time. Draw from
//! [`Control::random`] instead.
//!
//! # Without the attribute
//!
//! [`Simulation`] is the same as a value, for a plain `#[test]` or a program that explores:
//!
//! ```
//! use demikernel::sim::Simulation;
//! use demikernel::time::{Duration, sleep};
//!
//! let simulation = Simulation::new(7)?;
//! simulation.client("sleeper", async { sleep(Duration::from_secs(3600)).await });
//! simulation.run().unwrap(); // until every client has finished
//! assert_eq!(simulation.elapsed(), Duration::from_secs(3600));
//! # std::io::Result::Ok(())
//! ```
//!
//! Those who want packets instead of programs, such as a peer that misbehaves, find [`Host`] and [`Network`].
//!
//! # `sim` and `memory`
//!
//! `transport = "memory"`, which is there without the feature `sim`, has sockets within one runtime and no packets: bytes
//! take their time and come in pieces, datagrams get lost, but there is no TCP to test, and there are no machines. It
//! costs less. Without the feature, `"sim"` is another name for it.

pub use demikernel_net::sim::{
    Builder, Burst, Control, Error, Host, HostConfig, HostId, Link, LinkConfig, LinkStats, Network, Outcome,
    Simulation, Trace,
};

/// The simulation that this code runs in.
///
/// # Panics
/// Outside of one.
#[track_caller]
pub fn current() -> Control {
    Control::current()
}
