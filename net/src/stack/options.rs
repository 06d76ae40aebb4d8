//! Options of sockets: what Linux calls them by, and how they begin.

use crate::tcp::{CongestionControl, Connection};
use demikernel_runtime::time::{Duration, Instant};
use std::io;

use super::errno;

/// An option and its value.
///
/// ```
/// # use demikernel_net::device::{Capabilities, Medium};
/// use demikernel_net::stack::{OptionName, SocketOption, Stack, StackConfig};
/// # use demikernel_runtime::{time::Instant, transport::{Domain, SocketKind}};
/// # let mut config = StackConfig::new(Capabilities::new(Medium::Ip, 1500), [7; 32]);
/// # let now = Instant::from_nanos(1);
///
/// // Of all sockets at first, and of one.
/// config.set_stream_option(&SocketOption::NoDelay(true))?;
/// let mut stack = Stack::new(now, config);
/// let socket = stack.socket(Domain::V4, SocketKind::Stream)?;
/// assert_eq!(stack.option(socket, OptionName::NoDelay)?, SocketOption::NoDelay(true));
/// stack.set_option(now, socket, &SocketOption::Congestion("bbr".to_owned()))?;
/// assert_eq!(stack.option(socket, OptionName::Congestion)?, SocketOption::Congestion("bbr".to_owned()));
/// assert!(stack.set_option(now, socket, &SocketOption::TimeToLive(0)).is_err(), "nothing would get anywhere");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// TCP_NODELAY: small segments are not held back.
    NoDelay(bool),
    /// TCP_CORK: small segments are held back.
    Cork(bool),
    /// TCP_QUICKACK: what comes is acknowledged at once. It does not last.
    QuickAck(bool),
    /// SO_KEEPALIVE: whether an idle peer is probed.
    KeepAlive(bool),
    /// TCP_KEEPIDLE: after how long, in seconds.
    KeepIdle(u32),
    /// TCP_KEEPINTVL: how long between probes, in seconds.
    KeepInterval(u32),
    /// TCP_KEEPCNT: how many probes go unanswered.
    KeepCount(u32),
    /// TCP_USER_TIMEOUT: how long data may be unacknowledged, in milliseconds; 0 as the system says.
    UserTimeout(u32),
    /// SO_LINGER: how long closing waits; zero resets the connection.
    Linger(Option<Duration>),
    /// SO_SNDBUF: octets of payload that may be sent and not acknowledged. What is set is what is given back: Linux
    /// gives back twice as much, since there it also counts what buffers cost beside their payload.
    SendBuffer(u32),
    /// SO_RCVBUF: octets of payload that may wait to be received; set and given back likewise.
    ReceiveBuffer(u32),
    /// TCP_MAXSEG; 0 as the path says.
    MaximumSegment(u16),
    /// TCP_CONGESTION: the algorithm, by its name.
    Congestion(String),
    /// SO_REUSEADDR.
    ReuseAddress(bool),
    /// SO_REUSEPORT.
    ReusePort(bool),
    /// IPV6_V6ONLY.
    V6Only(bool),
    /// IP_TTL or IPV6_UNICAST_HOPS. [rfc9293 MUST-49]
    TimeToLive(u32),
    /// IP_TOS or IPV6_TCLASS, also while a connection lasts. [rfc9293 MUST-48] [rfc9293 SHLD-21] [rfc9293 SHLD-22]
    TypeOfService(u8),
    /// SO_BROADCAST.
    Broadcast(bool),
}

/// The name of an option.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each names the SocketOption of the same name")]
pub enum OptionName {
    NoDelay,
    Cork,
    QuickAck,
    KeepAlive,
    KeepIdle,
    KeepInterval,
    KeepCount,
    UserTimeout,
    Linger,
    SendBuffer,
    ReceiveBuffer,
    MaximumSegment,
    Congestion,
    ReuseAddress,
    ReusePort,
    V6Only,
    TimeToLive,
    TypeOfService,
    Broadcast,
}

impl SocketOption {
    /// Whether only TCP has it.
    pub(crate) fn is_of_tcp(name: OptionName) -> bool {
        use OptionName::{
            Congestion, Cork, KeepCount, KeepIdle, KeepInterval, MaximumSegment, NoDelay, QuickAck,
            UserTimeout,
        };
        matches!(
            name,
            NoDelay
                | Cork
                | QuickAck
                | KeepIdle
                | KeepInterval
                | KeepCount
                | UserTimeout
                | MaximumSegment
                | Congestion
        )
    }

    /// Its name.
    pub fn name(&self) -> OptionName {
        match self {
            SocketOption::NoDelay(_) => OptionName::NoDelay,
            SocketOption::Cork(_) => OptionName::Cork,
            SocketOption::QuickAck(_) => OptionName::QuickAck,
            SocketOption::KeepAlive(_) => OptionName::KeepAlive,
            SocketOption::KeepIdle(_) => OptionName::KeepIdle,
            SocketOption::KeepInterval(_) => OptionName::KeepInterval,
            SocketOption::KeepCount(_) => OptionName::KeepCount,
            SocketOption::UserTimeout(_) => OptionName::UserTimeout,
            SocketOption::Linger(_) => OptionName::Linger,
            SocketOption::SendBuffer(_) => OptionName::SendBuffer,
            SocketOption::ReceiveBuffer(_) => OptionName::ReceiveBuffer,
            SocketOption::MaximumSegment(_) => OptionName::MaximumSegment,
            SocketOption::Congestion(_) => OptionName::Congestion,
            SocketOption::ReuseAddress(_) => OptionName::ReuseAddress,
            SocketOption::ReusePort(_) => OptionName::ReusePort,
            SocketOption::V6Only(_) => OptionName::V6Only,
            SocketOption::TimeToLive(_) => OptionName::TimeToLive,
            SocketOption::TypeOfService(_) => OptionName::TypeOfService,
            SocketOption::Broadcast(_) => OptionName::Broadcast,
        }
    }
}

/// Limits of Linux.
const LONGEST_KEEPALIVE: u32 = 32_767;
const MOST_KEEPALIVES: u32 = 127;
const SEGMENT: std::ops::RangeInclusive<u16> = 88..=32_767;

/// What a socket's options are set to. They begin as Linux's do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) no_delay: bool,
    pub(crate) cork: bool,
    pub(crate) quick_ack: bool,
    pub(crate) keepalive: bool,
    pub(crate) keep_idle: u32,
    pub(crate) keep_interval: u32,
    pub(crate) keep_count: u32,
    pub(crate) user_timeout: u32,
    pub(crate) linger: Option<Duration>,
    /// If it is not the configured one.
    pub(crate) send_buffer: Option<u32>,
    pub(crate) receive_buffer: Option<u32>,
    pub(crate) maximum_segment: u16,
    /// If it is not the configured one.
    pub(crate) congestion: Option<CongestionControl>,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) v6_only: bool,
    /// 0 as the system says.
    pub(crate) hops: u8,
    pub(crate) class: u8,
    pub(crate) broadcast: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            no_delay: false,
            cork: false,
            quick_ack: true,
            keepalive: false,
            keep_idle: 7200,
            keep_interval: 75,
            keep_count: 9,
            user_timeout: 0,
            linger: None,
            send_buffer: None,
            receive_buffer: None,
            maximum_segment: 0,
            congestion: None,
            reuse_address: false,
            reuse_port: false,
            v6_only: false,
            hops: 0,
            class: 0,
            broadcast: false,
        }
    }
}

impl Options {
    /// Notes a value.
    ///
    /// # Errors
    /// If it is none that the option can have.
    pub(crate) fn set(&mut self, option: &SocketOption) -> io::Result<()> {
        let within = |value: u32, most: u32| {
            if (1..=most).contains(&value) { Ok(value) } else { Err(errno(libc::EINVAL)) }
        };
        match *option {
            SocketOption::NoDelay(on) => self.no_delay = on,
            SocketOption::Cork(on) => self.cork = on,
            SocketOption::QuickAck(on) => self.quick_ack = on,
            SocketOption::Congestion(ref name) => {
                self.congestion = Some(name.parse().map_err(|_| errno(libc::ENOENT))?);
            }
            SocketOption::KeepAlive(on) => self.keepalive = on,
            SocketOption::KeepIdle(seconds) => self.keep_idle = within(seconds, LONGEST_KEEPALIVE)?,
            SocketOption::KeepInterval(seconds) => self.keep_interval = within(seconds, LONGEST_KEEPALIVE)?,
            SocketOption::KeepCount(count) => self.keep_count = within(count, MOST_KEEPALIVES)?,
            SocketOption::UserTimeout(milliseconds) => self.user_timeout = milliseconds,
            SocketOption::Linger(time) => self.linger = time,
            SocketOption::SendBuffer(octets) => self.send_buffer = Some(octets.clamp(2304, 1 << 30)),
            SocketOption::ReceiveBuffer(octets) => self.receive_buffer = Some(octets.clamp(1152, 1 << 30)),
            SocketOption::MaximumSegment(size) if size == 0 || SEGMENT.contains(&size) => {
                self.maximum_segment = size
            }
            SocketOption::MaximumSegment(_) => return Err(errno(libc::EINVAL)),
            SocketOption::ReuseAddress(on) => self.reuse_address = on,
            SocketOption::ReusePort(on) => self.reuse_port = on,
            SocketOption::V6Only(on) => self.v6_only = on,
            SocketOption::TimeToLive(hops) => self.hops = within(hops, 255)? as u8,
            SocketOption::TypeOfService(class) => self.class = class,
            SocketOption::Broadcast(on) => self.broadcast = on,
        }
        Ok(())
    }

    /// Makes a connection as they say: all of them, at its beginning.
    pub(crate) fn apply(&self, now: Instant, connection: &mut Connection) {
        connection.set_no_delay(self.no_delay);
        connection.set_cork(self.cork);
        if self.maximum_segment != 0 {
            connection.set_maximum_segment(self.maximum_segment);
        }
        if let Some(octets) = self.send_buffer {
            connection.set_send_buffer(octets);
        }
        if let Some(octets) = self.receive_buffer {
            connection.set_receive_buffer(octets);
        }
        if self.user_timeout != 0 {
            self.apply_user_timeout(now, connection);
        }
        if let Some(control) = self.congestion {
            connection.set_congestion_control(now, control);
        }
        if self.keepalive {
            self.apply_keepalive(now, connection);
        }
    }

    /// Makes a connection as the one option says that has changed.
    pub(crate) fn apply_one(&self, now: Instant, option: &SocketOption, connection: &mut Connection) {
        match *option {
            SocketOption::NoDelay(on) => connection.set_no_delay(on),
            SocketOption::Cork(on) => connection.set_cork(on),
            SocketOption::QuickAck(on) => connection.set_quick_acknowledgment(on),
            SocketOption::KeepAlive(_)
            | SocketOption::KeepIdle(_)
            | SocketOption::KeepInterval(_)
            | SocketOption::KeepCount(_) => self.apply_keepalive(now, connection),
            SocketOption::UserTimeout(_) => self.apply_user_timeout(now, connection),
            SocketOption::SendBuffer(_) => connection.set_send_buffer(self.send_buffer.unwrap_or(1)),
            SocketOption::ReceiveBuffer(_) => connection.set_receive_buffer(self.receive_buffer.unwrap_or(1)),
            SocketOption::MaximumSegment(size) if size != 0 => connection.set_maximum_segment(size),
            SocketOption::Congestion(_) => {
                if let Some(control) = self.congestion {
                    connection.set_congestion_control(now, control);
                }
            }
            _ => {}
        }
    }

    fn apply_user_timeout(&self, now: Instant, connection: &mut Connection) {
        let timeout = Duration::from_millis(self.user_timeout.into());
        connection.set_user_timeout(now, (!timeout.is_zero()).then_some(timeout));
    }

    fn apply_keepalive(&self, now: Instant, connection: &mut Connection) {
        let (idle, interval) = (self.keep_idle, self.keep_interval);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        connection.set_keepalive_times(now, seconds(idle), seconds(interval), self.keep_count);
        connection.set_keepalive(now, self.keepalive);
    }
}
