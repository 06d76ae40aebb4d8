//! Sockets and files in memory, for tests: everything that varies follows from a seed.
//!
//! [`Memory`] is a device for sockets and files of one runtime. Its sockets reach each other and nothing else.
//! Bytes take their time, streams arrive in pieces that have nothing to do with how they were pushed, a
//! window limits what is under way, and on demand datagrams are lost and connections break, so that what
//! happens seldom outside happens in every run of a test. With virtual time
//! ([`Time::Virtual`](crate::Time::Virtual)) a run takes no time for waiting, and two runs of one seed are
//! the same to the last event.
//!
//! ```
//! use demikernel_runtime::transport::memory::Memory;
//! use demikernel_runtime::transport::{Domain, SocketKind, Transport};
//! use demikernel_runtime::{Builder, Time, default_network, operation};
//!
//! let runtime = Builder::new().time(Time::Virtual).build().unwrap();
//! runtime.attach(Transport::both(Memory::new(7)));
//! runtime.block_on(async {
//!     let network = default_network().unwrap();
//!     let socket = network.socket(Domain::V4, SocketKind::Stream).unwrap();
//!     let (connected, done) = operation();
//!     let nobody: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
//!     network.connect(socket, &nobody.into(), done);
//!     let error = connected.await.unwrap_err();
//!     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
//! });
//! ```
//!
//! There is no protocol below these sockets, and no packets. Machines with a whole TCP/IP stack, and links between them
//! that lose packets, are in the network crate's `sim`, whose machines have their files and their Unix sockets from here.
//!
//! # What is simulated
//!
//! - Every IP address is one of this machine's, so tests may give each side its own, such as 10.0.0.1 and
//!   10.0.0.2, and cut them off from each other ([`Memory::partition`]). Ports, wildcard addresses, IPv6 sockets
//!   that also serve IPv4, SO_REUSEADDR and SO_REUSEPORT are as on Linux, but a connection that was closed
//!   keeps no address (there is no TIME_WAIT).
//! - A push is done when the peer's window has taken all of it. Data that arrives for a socket that was
//!   closed, and data that nobody had popped when it was, resets the connection, as in TCP.
//! - Names of Unix sockets are not in any file system. A name is free again when its socket is closed.
//! - Options are remembered. Those that do something: linger of zero, the buffer sizes, the two kinds of
//!   reuse, and IPV6_V6ONLY.
//! - Files are a flat table of paths; there are no directories. Operations that are under way at the same
//!   time take effect in an order that the seed chooses, and syncing only takes time.
//!
//! # The modules
//!
//! - `config`: the settings. `schedule`: what is going to happen, by time.
//! - `state`: everything of a device; it is told the time, and says what to complete (`effect`).
//! - `socket`, `options`, `address`: one socket, and who has which address. `waiting`: who waits at one,
//!   and `untaken` what they did not wait for long enough.
//! - `connect`, `stream`, `datagram`: how connections are made, and how data moves. `pushes`: what has
//!   not left.
//! - `files`, `content`: operations on files, and what is in them.
//! - `faults`: what breaks on demand. `trace`: what has happened.
//! - `device`, `network`: what the runtime calls.

mod address;
mod config;
mod connect;
mod content;
mod datagram;
mod device;
mod effect;
mod errors;
mod faults;
mod files;
mod network;
mod options;
mod pushes;
mod schedule;
mod socket;
mod state;
mod stream;
mod trace;
mod untaken;
mod waiting;

#[cfg(test)]
mod tests;

pub use config::MemoryConfig;

use self::effect::Effect;
use self::state::State;
use crate::executor::is_inside;
use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// The simulated device. See the [module](self).
pub struct Memory {
    state: RefCell<State>,
    /// A list of effects that nobody uses, kept for its memory.
    spare: Cell<Vec<Effect>>,
}

impl Memory {
    /// A device for one runtime with the default settings.
    pub fn new(seed: u64) -> Rc<Memory> {
        Memory::with_config(MemoryConfig { seed, ..MemoryConfig::default() })
    }

    /// A device for one runtime.
    pub fn with_config(config: MemoryConfig) -> Rc<Memory> {
        tracing::debug!(seed = config.seed, ?config, "simulated transport");
        Rc::new(Memory { state: RefCell::new(State::new(config)), spare: Cell::default() })
    }

    /// The seed that everything follows from.
    pub fn seed(&self) -> u64 {
        self.state.borrow().config.seed
    }

    /// The settings.
    pub fn config(&self) -> MemoryConfig {
        self.state.borrow().config.clone()
    }

    /// Changes settings from now on: a test may switch a fault on in the middle. What is under way already,
    /// and the draws from the seed, stay as they were.
    ///
    /// ```
    /// let memory = demikernel_runtime::transport::memory::Memory::new(7);
    /// memory.configure(|config| config.loss = 1.0);
    /// ```
    pub fn configure(&self, change: impl FnOnce(&mut MemoryConfig)) {
        let mut config = self.config();
        change(&mut config);
        self.state.borrow_mut().config = config;
    }

    /// Every event so far, one line each with the time since the first, if
    /// [`MemoryConfig::trace`] is set. Two runs that do the same have the same trace.
    pub fn trace(&self) -> Vec<String> {
        self.state.borrow().trace.lines().to_vec()
    }

    /// Has the state do something now, then completes what that has brought about. Nothing is borrowed while
    /// that runs, since it may be foreign code (wakers, destructors), which may come back here.
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut effects = self.spare.take();
        let result = {
            let mut state = self.state.borrow_mut();
            // Outside of the runtime it is another clock that would tell the time.
            if is_inside() {
                state.now = Instant::now();
            }
            let result = act(&mut state);
            std::mem::swap(&mut state.effects, &mut effects);
            result
        };
        for effect in effects.drain(..) {
            effect.run(self);
        }
        self.spare.set(effects);
        result
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("config", &self.state.borrow().config).finish_non_exhaustive()
    }
}
