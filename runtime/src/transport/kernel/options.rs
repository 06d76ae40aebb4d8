//! Socket options.

use crate::transport::{OptionName, SocketOption};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use std::io;
use std::time::Duration;

/// Sets an option.
///
/// # Errors
/// As setsockopt(2); `Unsupported` for one that the socket's family or kind does not have.
pub(crate) fn set_option(socket: &Socket, option: SocketOption) -> io::Result<()> {
    check(socket, option.name())?;
    match option {
        SocketOption::NoDelay(on) => socket.set_tcp_nodelay(on),
        SocketOption::KeepAlive { enabled, idle, interval, count } => {
            let mut probes = TcpKeepalive::new();
            if let Some(idle) = idle {
                probes = probes.with_time(whole_seconds(idle));
            }
            if let Some(interval) = interval {
                probes = probes.with_interval(whole_seconds(interval));
            }
            if let Some(count) = count {
                probes = probes.with_retries(count);
            }
            socket.set_tcp_keepalive(&probes)?;
            socket.set_keepalive(enabled)
        }
        SocketOption::Linger(time) => socket.set_linger(time.map(whole_seconds)),
        SocketOption::TimeToLive(hops) if is_v6(socket)? => socket.set_unicast_hops_v6(hops),
        SocketOption::TimeToLive(hops) => socket.set_ttl_v4(hops),
        SocketOption::ReceiveBuffer(size) => socket.set_recv_buffer_size(size as usize),
        SocketOption::SendBuffer(size) => socket.set_send_buffer_size(size as usize),
        SocketOption::ReuseAddress(on) => socket.set_reuse_address(on),
        SocketOption::ReusePort(on) => socket.set_reuse_port(on),
        SocketOption::V6Only(on) => socket.set_only_v6(on),
        SocketOption::Broadcast(on) => socket.set_broadcast(on),
    }
}

/// Reads an option.
///
/// # Errors
/// As getsockopt(2); `Unsupported` for one that the socket's family or kind does not have.
pub(crate) fn option(socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
    check(socket, name)?;
    Ok(match name {
        OptionName::NoDelay => SocketOption::NoDelay(socket.tcp_nodelay()?),
        OptionName::KeepAlive => SocketOption::KeepAlive {
            enabled: socket.keepalive()?,
            idle: Some(socket.tcp_keepalive_time()?),
            interval: Some(socket.tcp_keepalive_interval()?),
            count: Some(socket.tcp_keepalive_retries()?),
        },
        OptionName::Linger => SocketOption::Linger(socket.linger()?),
        OptionName::TimeToLive if is_v6(socket)? => SocketOption::TimeToLive(socket.unicast_hops_v6()?),
        OptionName::TimeToLive => SocketOption::TimeToLive(socket.ttl_v4()?),
        OptionName::ReceiveBuffer => SocketOption::ReceiveBuffer(size(socket.recv_buffer_size()?)),
        OptionName::SendBuffer => SocketOption::SendBuffer(size(socket.send_buffer_size()?)),
        OptionName::ReuseAddress => SocketOption::ReuseAddress(socket.reuse_address()?),
        OptionName::ReusePort => SocketOption::ReusePort(socket.reuse_port()?),
        OptionName::V6Only => SocketOption::V6Only(socket.only_v6()?),
        OptionName::Broadcast => SocketOption::Broadcast(socket.broadcast()?),
    })
}

/// The kernel takes some options for any socket and ignores them, and refuses others with various codes.
fn check(socket: &Socket, name: OptionName) -> io::Result<()> {
    let domain = socket.domain()?;
    let (has, of) = match name {
        OptionName::NoDelay | OptionName::KeepAlive => {
            (domain != Domain::UNIX && socket.r#type()? == Type::STREAM, "TCP")
        }
        OptionName::TimeToLive => (domain != Domain::UNIX, "IP"),
        OptionName::V6Only => (domain == Domain::IPV6, "IPv6"),
        _ => (true, ""),
    };
    if has {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name:?} is an option of {of} sockets only")))
}

fn is_v6(socket: &Socket) -> io::Result<bool> {
    Ok(socket.domain()? == Domain::IPV6)
}

fn size(bytes: usize) -> u32 {
    bytes.min(u32::MAX as usize) as u32
}

/// The kernel counts these times in seconds. Rounded up, because 0 means something else: for a linger, to
/// reset the connection.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}
