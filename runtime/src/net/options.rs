//! Socket options as methods, each written once for all kinds of sockets that have it.

use crate::transport::SocketOption;
use std::io;
use std::time::Duration;

/// How a connection without traffic is probed; for `set_keepalive`.
///
/// What is not set here stays as the system or an earlier call has it.
///
/// ```
/// use demikernel_runtime::net::Keepalive;
/// use std::time::Duration;
///
/// // After a minute without traffic five probes, ten seconds apart; then the connection is given up.
/// let probes = Keepalive::new().idle(Duration::from_secs(60)).interval(Duration::from_secs(10)).count(5);
/// # let _ = probes;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[must_use = "settings do nothing until they are given to a socket"]
pub struct Keepalive {
    idle: Option<Duration>,
    interval: Option<Duration>,
    count: Option<u32>,
}

impl Keepalive {
    /// The system's defaults.
    pub fn new() -> Keepalive {
        Keepalive::default()
    }

    /// After how long without traffic probes begin (TCP_KEEPIDLE).
    pub fn idle(self, time: Duration) -> Keepalive {
        Keepalive { idle: Some(time), ..self }
    }

    /// How long after one probe the next is sent (TCP_KEEPINTVL).
    pub fn interval(self, time: Duration) -> Keepalive {
        Keepalive { interval: Some(time), ..self }
    }

    /// After how many probes without an answer the connection is given up (TCP_KEEPCNT).
    pub fn count(self, probes: u32) -> Keepalive {
        Keepalive { count: Some(probes), ..self }
    }

    /// As the transports know it; `None` switches probes off.
    pub(super) fn option(this: Option<Keepalive>) -> SocketOption {
        let Keepalive { idle, interval, count } = this.unwrap_or_default();
        SocketOption::KeepAlive { enabled: this.is_some(), idle, interval, count }
    }
}

/// A transport gave another option than it was asked for.
#[cold]
pub(super) fn wrong(option: SocketOption) -> io::Error {
    io::Error::other(format!("the transport gave {option:?} for another option"))
}

/// The setter and the getter of each option named, for a type with a method `socket`.
macro_rules! option_methods {
    ($($name:ident),+ $(,)?) => {
        $( $crate::net::options::option_methods!(@$name); )+
    };
    (@nodelay) => {
        $crate::net::options::option_methods!(@pair
            /// Sends small segments at once instead of collecting them while others are under way (TCP_NODELAY).
            set_nodelay,
            /// Whether small segments are sent at once (TCP_NODELAY).
            nodelay, NoDelay, bool);
    };
    (@ttl) => {
        $crate::net::options::option_methods!(@pair
            /// Sets the time to live of packets: how many routers they may pass (IP_TTL, IPV6_UNICAST_HOPS).
            set_ttl,
            /// The time to live of packets (IP_TTL, IPV6_UNICAST_HOPS).
            ttl, TimeToLive, u32);
    };
    (@linger) => {
        $crate::net::options::option_methods!(@pair
            /// Sets for how long closing waits for data to be sent (SO_LINGER). Zero resets the connection
            /// and drops what was not sent; `None`, the default, sends it in the background.
            set_linger,
            /// For how long closing waits for data to be sent (SO_LINGER).
            linger, Linger, Option<std::time::Duration>);
    };
    (@buffer_sizes) => {
        $crate::net::options::option_methods!(@pair
            /// Sets the size of the system's receive buffer in bytes (SO_RCVBUF). Linux doubles it.
            set_recv_buffer_size,
            /// The size of the system's receive buffer in bytes (SO_RCVBUF).
            recv_buffer_size, ReceiveBuffer, u32);
        $crate::net::options::option_methods!(@pair
            /// Sets the size of the system's send buffer in bytes (SO_SNDBUF). Linux doubles it.
            set_send_buffer_size,
            /// The size of the system's send buffer in bytes (SO_SNDBUF).
            send_buffer_size, SendBuffer, u32);
    };
    (@reuse_address) => {
        $crate::net::options::option_methods!(@pair
            /// Lets the socket bind to an address that connections of an earlier one still linger on
            /// (SO_REUSEADDR). Before binding.
            set_reuse_address,
            /// Whether lingering connections do not keep the socket from binding (SO_REUSEADDR).
            reuse_address, ReuseAddress, bool);
    };
    (@reuse_port) => {
        $crate::net::options::option_methods!(@pair
            /// Shares the address with other sockets that say the same, each of which gets a part of what
            /// arrives (SO_REUSEPORT). Before binding.
            set_reuse_port,
            /// Whether the address is shared with other sockets (SO_REUSEPORT).
            reuse_port, ReusePort, bool);
    };
    (@only_v6) => {
        $crate::net::options::option_methods!(@pair
            /// Keeps an IPv6 socket from serving IPv4, too (IPV6_V6ONLY). Before binding.
            set_only_v6,
            /// Whether an IPv6 socket does not serve IPv4 (IPV6_V6ONLY).
            only_v6, V6Only, bool);
    };
    (@broadcast) => {
        $crate::net::options::option_methods!(@pair
            /// Allows sending to broadcast addresses (SO_BROADCAST).
            set_broadcast,
            /// Whether sending to broadcast addresses is allowed (SO_BROADCAST).
            broadcast, Broadcast, bool);
    };
    (@keepalive) => {
        /// Has the connection probed while there is no traffic, so that a peer which has vanished is
        /// noticed (SO_KEEPALIVE); `None` switches it off, the default.
        ///
        /// # Errors
        /// As setsockopt(2), and `Unsupported` if the transport does not have it.
        pub fn set_keepalive(&self, probes: impl Into<Option<$crate::net::Keepalive>>) -> std::io::Result<()> {
            self.socket().set_option($crate::net::Keepalive::option(probes.into()))
        }

        /// Whether the connection is probed while there is no traffic (SO_KEEPALIVE).
        ///
        /// # Errors
        /// As getsockopt(2), and `Unsupported` if the transport does not have it.
        pub fn keepalive(&self) -> std::io::Result<bool> {
            use $crate::transport::{OptionName, SocketOption};
            match self.socket().option(OptionName::KeepAlive)? {
                SocketOption::KeepAlive { enabled, .. } => Ok(enabled),
                other => Err($crate::net::options::wrong(other)),
            }
        }
    };
    (@pair $(#[$set_doc:meta])+ $set:ident, $(#[$get_doc:meta])+ $get:ident, $option:ident, $type:ty) => {
        $(#[$set_doc])+
        ///
        /// # Errors
        /// As setsockopt(2), and `Unsupported` if the transport does not have it.
        pub fn $set(&self, value: $type) -> std::io::Result<()> {
            self.socket().set_option($crate::transport::SocketOption::$option(value))
        }

        $(#[$get_doc])+
        ///
        /// # Errors
        /// As getsockopt(2), and `Unsupported` if the transport does not have it.
        pub fn $get(&self) -> std::io::Result<$type> {
            use $crate::transport::{OptionName, SocketOption};
            match self.socket().option(OptionName::$option)? {
                SocketOption::$option(value) => Ok(value),
                other => Err($crate::net::options::wrong(other)),
            }
        }
    };
}

pub(super) use option_methods;
