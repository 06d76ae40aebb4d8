//! Socket options, which are remembered; some have an effect.

use crate::transport::{Domain, OptionName, SocketKind, SocketOption};
use std::io;
use std::time::Duration;

/// What a socket's options are set to. They begin as Linux's do.
#[derive(Clone, Debug)]
pub(super) struct Options {
    no_delay: bool,
    keep_alive: KeepAlive,
    pub(super) linger: Option<Duration>,
    hops: u32,
    pub(super) receive_buffer: u32,
    pub(super) send_buffer: u32,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
    pub(super) v6_only: bool,
    broadcast: bool,
}

#[derive(Clone, Debug)]
struct KeepAlive {
    enabled: bool,
    idle: Duration,
    interval: Duration,
    count: u32,
}

/// Linux's limit of what datagrams wait, in bytes (net.core.rmem_default).
const DATAGRAM_BUFFER: u32 = 212_992;

impl Options {
    pub(super) fn new(kind: SocketKind, window: u32) -> Options {
        let buffer = match kind {
            SocketKind::Stream => window,
            SocketKind::Datagram => DATAGRAM_BUFFER,
        };
        Options {
            no_delay: false,
            keep_alive: KeepAlive {
                enabled: false,
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                count: 9,
            },
            linger: None,
            hops: 64,
            receive_buffer: buffer,
            send_buffer: buffer,
            reuse_address: false,
            reuse_port: false,
            v6_only: false,
            broadcast: false,
        }
    }

    /// Whether closing resets the connection.
    pub(super) fn close_resets(&self) -> bool {
        self.linger == Some(Duration::ZERO)
    }

    pub(super) fn set(&mut self, option: SocketOption) {
        match option {
            SocketOption::NoDelay(on) => self.no_delay = on,
            SocketOption::KeepAlive { enabled, idle, interval, count } => {
                let former = &self.keep_alive;
                self.keep_alive = KeepAlive {
                    enabled,
                    idle: idle.unwrap_or(former.idle),
                    interval: interval.unwrap_or(former.interval),
                    count: count.unwrap_or(former.count),
                };
            }
            SocketOption::Linger(time) => self.linger = time,
            SocketOption::TimeToLive(hops) => self.hops = hops,
            SocketOption::ReceiveBuffer(bytes) => self.receive_buffer = bytes,
            SocketOption::SendBuffer(bytes) => self.send_buffer = bytes,
            SocketOption::ReuseAddress(on) => self.reuse_address = on,
            SocketOption::ReusePort(on) => self.reuse_port = on,
            SocketOption::V6Only(on) => self.v6_only = on,
            SocketOption::Broadcast(on) => self.broadcast = on,
        }
    }

    pub(super) fn get(&self, name: OptionName) -> SocketOption {
        match name {
            OptionName::NoDelay => SocketOption::NoDelay(self.no_delay),
            OptionName::KeepAlive => SocketOption::KeepAlive {
                enabled: self.keep_alive.enabled,
                idle: Some(self.keep_alive.idle),
                interval: Some(self.keep_alive.interval),
                count: Some(self.keep_alive.count),
            },
            OptionName::Linger => SocketOption::Linger(self.linger),
            OptionName::TimeToLive => SocketOption::TimeToLive(self.hops),
            OptionName::ReceiveBuffer => SocketOption::ReceiveBuffer(self.receive_buffer),
            OptionName::SendBuffer => SocketOption::SendBuffer(self.send_buffer),
            OptionName::ReuseAddress => SocketOption::ReuseAddress(self.reuse_address),
            OptionName::ReusePort => SocketOption::ReusePort(self.reuse_port),
            OptionName::V6Only => SocketOption::V6Only(self.v6_only),
            OptionName::Broadcast => SocketOption::Broadcast(self.broadcast),
        }
    }
}

/// Whether sockets of this family and kind have the option.
pub(super) fn check(domain: Domain, kind: SocketKind, name: OptionName) -> io::Result<()> {
    let (has, of) = match name {
        OptionName::NoDelay | OptionName::KeepAlive => {
            (domain != Domain::Unix && kind == SocketKind::Stream, "TCP")
        }
        OptionName::TimeToLive => (domain != Domain::Unix, "IP"),
        OptionName::V6Only => (domain == Domain::V6, "IPv6"),
        _ => (true, ""),
    };
    if has {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name:?} is an option of {of} sockets only")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read() {
        let mut options = Options::new(SocketKind::Stream, 1000);
        assert_eq!(options.get(OptionName::ReceiveBuffer), SocketOption::ReceiveBuffer(1000));
        for option in [
            SocketOption::NoDelay(true),
            SocketOption::KeepAlive {
                enabled: true,
                idle: Some(Duration::from_secs(1)),
                interval: Some(Duration::from_secs(2)),
                count: Some(3),
            },
            SocketOption::Linger(Some(Duration::from_millis(1))),
            SocketOption::TimeToLive(5),
            SocketOption::ReceiveBuffer(6),
            SocketOption::SendBuffer(7),
            SocketOption::ReuseAddress(true),
            SocketOption::ReusePort(true),
            SocketOption::V6Only(true),
            SocketOption::Broadcast(true),
        ] {
            assert_ne!(options.get(option.name()), option);
            options.set(option);
            assert_eq!(options.get(option.name()), option);
        }
        let partly = SocketOption::KeepAlive { enabled: false, idle: None, interval: None, count: Some(8) };
        options.set(partly);
        assert_eq!(
            options.get(OptionName::KeepAlive),
            SocketOption::KeepAlive {
                enabled: false,
                idle: Some(Duration::from_secs(1)),
                interval: Some(Duration::from_secs(2)),
                count: Some(8),
            }
        );
    }

    #[test]
    fn not_every_socket_has_every_option() {
        let has = |domain, kind, name| check(domain, kind, name).is_ok();
        assert!(has(Domain::V4, SocketKind::Stream, OptionName::NoDelay));
        assert!(!has(Domain::Unix, SocketKind::Stream, OptionName::NoDelay));
        assert!(!has(Domain::V4, SocketKind::Datagram, OptionName::KeepAlive));
        assert!(!has(Domain::Unix, SocketKind::Stream, OptionName::TimeToLive));
        assert!(!has(Domain::V4, SocketKind::Stream, OptionName::V6Only));
        assert!(has(Domain::V6, SocketKind::Stream, OptionName::V6Only));
        let error = check(Domain::Unix, SocketKind::Stream, OptionName::NoDelay).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("TCP"), "{error}");
    }
}
