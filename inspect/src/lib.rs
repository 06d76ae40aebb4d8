//! The control socket of a running program: a Unix socket on which it tells its metrics, dumps its tasks, lists its
//! connections, and is told to capture.
//!
//! - [`InspectConfig`]: the section `[inspect]` of `demikernel.toml`, which says where the socket is. Without it there
//!   is none.
//! - [`Server`]: serves it, from a thread of its own: a client that stalls holds up nobody, and a core is only
//!   bothered for the moment in which it counts.
//! - [`protocol`]: what goes over it. [`Client`]: the other end, as `demikernel-top` uses it.
//!
//! Whoever may open the socket sees what the program does, and can have it write captures with the program's rights:
//! so its file is for the program's user alone (mode 0600).
//!
//! ```
//! use demikernel_inspect::{Client, Server};
//!
//! let path = std::env::temp_dir().join(format!("inspect-doc-{}", std::process::id()));
//! let server = Server::bind(&path)?;
//! let mut client = Client::connect(&path)?;
//! assert_eq!(client.greeting().pid, std::process::id());
//! // No runtime is there that could tell anything.
//! assert!(client.metrics()?.runtimes.is_empty());
//! drop(server);
//! assert!(!path.exists());
//! # std::io::Result::Ok(())
//! ```
//!
//! Programs have it by the feature `inspect` of the facade `demikernel`, which is one of its defaults, and see themselves by
//! `demikernel::metrics()` and `dump()`. `demikernel-top` shows it in a terminal; `socat - UNIX-CONNECT:PATH` is enough, too. The
//! crate has no features.

mod client;
mod config;
pub mod protocol;
mod requests; // what is done for each command
mod server;
mod socket; // the file of the socket

pub use client::Client;
pub use config::InspectConfig;
pub use server::Server;
