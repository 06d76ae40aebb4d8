//! Socket options by their POSIX and Linux names.

use std::time::Duration;

/// An option and its value.
///
/// ```
/// use demikernel_runtime::pdpix::{getsockopt, setsockopt, socket};
/// use demikernel_runtime::transport::{Domain, OptionName, SocketKind, SocketOption};
/// # let runtime = demikernel_runtime::Runtime::new()?;
/// # runtime.attach(demikernel_runtime::transport::epoll::Epoll::transport()?);
/// # runtime.block_on(async {
/// let qd = socket(Domain::V4, SocketKind::Stream)?;
/// setsockopt(qd, SocketOption::NoDelay(true))?;
/// assert_eq!(getsockopt(qd, OptionName::NoDelay)?, SocketOption::NoDelay(true));
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// TCP_NODELAY: send small segments at once.
    NoDelay(bool),
    /// SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; those that are `None` are left.
    KeepAlive {
        /// Whether to probe an idle peer at all.
        enabled: bool,
        /// After how long without traffic.
        idle: Option<Duration>,
        /// How long between probes.
        interval: Option<Duration>,
        /// How many go unanswered before the connection is given up.
        count: Option<u32>,
    },
    /// SO_LINGER: what close does with data that was not sent yet; `Some(0)` resets the connection.
    Linger(Option<Duration>),
    /// IP_TTL or IPV6_UNICAST_HOPS.
    TimeToLive(u32),
    /// SO_RCVBUF, in bytes as given (Linux doubles it).
    ReceiveBuffer(u32),
    /// SO_SNDBUF, in bytes as given (Linux doubles it).
    SendBuffer(u32),
    /// SO_REUSEADDR.
    ReuseAddress(bool),
    /// SO_REUSEPORT: several sockets on one address share its connections.
    ReusePort(bool),
    /// IPV6_V6ONLY.
    V6Only(bool),
    /// SO_BROADCAST.
    Broadcast(bool),
}

impl SocketOption {
    /// Its name.
    pub fn name(&self) -> OptionName {
        match self {
            SocketOption::NoDelay(_) => OptionName::NoDelay,
            SocketOption::KeepAlive { .. } => OptionName::KeepAlive,
            SocketOption::Linger(_) => OptionName::Linger,
            SocketOption::TimeToLive(_) => OptionName::TimeToLive,
            SocketOption::ReceiveBuffer(_) => OptionName::ReceiveBuffer,
            SocketOption::SendBuffer(_) => OptionName::SendBuffer,
            SocketOption::ReuseAddress(_) => OptionName::ReuseAddress,
            SocketOption::ReusePort(_) => OptionName::ReusePort,
            SocketOption::V6Only(_) => OptionName::V6Only,
            SocketOption::Broadcast(_) => OptionName::Broadcast,
        }
    }
}

/// The name of an option.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each names the SocketOption of the same name")]
pub enum OptionName {
    NoDelay,
    KeepAlive,
    Linger,
    TimeToLive,
    ReceiveBuffer,
    SendBuffer,
    ReuseAddress,
    ReusePort,
    V6Only,
    Broadcast,
}
