//! A TCP/UDP/IP stack in user space for one core, its devices, and a simulated network.
//!
//! The protocols are state machines that take bytes and a time and give bytes, events and the next deadline. They
//! read no clock, own no socket, and draw randomness from a key they are given. So two hosts and a link that loses a tenth of
//! their packets need neither a network nor time:
//!
//! ```
//! use demikernel_net::sim::{HostConfig, LinkConfig, Network};
//! use demikernel_runtime::transport::{Domain, SocketKind};
//! use std::time::Duration;
//!
//! let link = LinkConfig { delay: Duration::from_millis(5), loss: 0.1, ..LinkConfig::default() };
//! let mut network = Network::new(7, link);
//! let server = network.add(HostConfig::new(["10.0.0.1".parse().unwrap()]));
//! let client = network.add(HostConfig::new(["10.0.0.2".parse().unwrap()]));
//! let address = "10.0.0.1:80".parse().unwrap();
//!
//! let listener = network.host(server).socket(Domain::V4, SocketKind::Stream)?;
//! network.host(server).bind(listener, address)?;
//! network.host(server).listen(listener, 8)?;
//! let socket = network.host(client).socket(Domain::V4, SocketKind::Stream)?;
//! // EINPROGRESS, as of any socket that does not block.
//! assert!(network.host(client).connect(socket, address).is_err());
//!
//! let minute = Duration::from_secs(60);
//! assert!(network.run_while(minute, |network| network.host(client).readiness(socket).unwrap().writable));
//! network.host(client).send(socket, b"hello")?;
//! assert!(network.run_while(minute, |network| network.host(server).readiness(listener).unwrap().readable));
//! let (accepted, _) = network.host(server).accept(listener)?;
//! assert!(network.run_while(minute, |network| network.host(server).readiness(accepted).unwrap().readable));
//! assert_eq!(network.host(server).recv(accepted, 100)?, b"hello");
//! # std::io::Result::Ok(())
//! ```
//!
//! # What is where
//!
//! - [`config`]: the file `demikernel.toml`.
//!
//! In the order in which a packet that arrives passes through them:
//!
//! - [`device`]: bursts of [`Frame`](device::Frame)s in and out.
//! - [`cores`]: several cores on one port, if there are.
//! - [`wire`]: checked views of bytes, and small valid values, one module per protocol.
//! - [`sim`]: links in virtual time that delay, lose and alter what they carry, and hosts and whole machines between them.
//! - [`ip`]: addresses, routes, neighbours, fragments, ICMP, and what configures them.
//! - `table`: whose packet it is. `slots`: what sockets are kept in; `pooled`: in huge pages, if they are many.
//! - `key`: numbers that nobody can foresee.
//! - [`tcp`](mod@tcp), [`udp`]: the transports.
//! - [`stack`]: sockets, from frames and back to frames.
//! - [`transport`]: the stack as a device of the runtime.
//!
//! # Features
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `xdp` | `device::xdp`: queues of an interface through AF_XDP | Linux 5.10, root or capabilities |
//! | `dpdk` | `device::dpdk`: ports of DPDK | libdpdk 22.11, pkg-config |
//!
//! TAP interfaces, packet sockets and captures are always there.
//!
//! # Where to go next
//!
//! Programs have the stack by the facade `demikernel` (`transport = "tap"`, `"xdp"`, `"dpdk"`), and test on it with
//! `demikernel::sim`. `cargo xtask rfc` says which requirements of which RFC are obeyed, and where.

pub mod config;
pub mod cores;
mod counters;
pub mod device;
pub mod ip;
mod key;
mod pooled;
mod prefetch;
pub mod sim;
mod slots;
pub mod stack;
mod table;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod wire;
