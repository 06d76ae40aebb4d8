//! Socket options, as the runtime names them.

use crate::stack::{self, SocketId, Stack};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{OptionName, SocketOption};
use std::io;
use std::time::Duration;

/// Sets an option.
///
/// # Errors
/// As setsockopt(2); `Unsupported` for one that the socket's family or kind does not have.
pub(super) fn set(stack: &mut Stack, now: Instant, id: SocketId, option: SocketOption) -> io::Result<()> {
    use stack::SocketOption as Set;
    if option.name() == OptionName::KeepAlive {
        // SO_KEEPALIVE alone would be taken for any socket, and ignored.
        stack.option(id, stack::OptionName::KeepIdle).map_err(|error| explain(error, option.name()))?;
    }
    let mut set = |one: Set| {
        let name = option.name();
        stack.set_option(now, id, &one).map_err(|error| explain(error, name))
    };
    match option {
        SocketOption::NoDelay(on) => set(Set::NoDelay(on)),
        SocketOption::KeepAlive { enabled, idle, interval, count } => {
            if let Some(idle) = idle {
                set(Set::KeepIdle(seconds(idle)))?;
            }
            if let Some(interval) = interval {
                set(Set::KeepInterval(seconds(interval)))?;
            }
            if let Some(count) = count {
                set(Set::KeepCount(count))?;
            }
            set(Set::KeepAlive(enabled))
        }
        SocketOption::Linger(time) => set(Set::Linger(time)),
        SocketOption::TimeToLive(hops) => set(Set::TimeToLive(hops)),
        SocketOption::ReceiveBuffer(size) => set(Set::ReceiveBuffer(size)),
        SocketOption::SendBuffer(size) => set(Set::SendBuffer(size)),
        SocketOption::ReuseAddress(on) => set(Set::ReuseAddress(on)),
        SocketOption::ReusePort(on) => set(Set::ReusePort(on)),
        SocketOption::V6Only(on) => set(Set::V6Only(on)),
        SocketOption::Broadcast(on) => set(Set::Broadcast(on)),
        other => Err(unsupported(&format!("{:?} is not an option of this stack", other.name()))),
    }
}

/// Reads an option.
///
/// # Errors
/// As getsockopt(2); `Unsupported` for one that the socket's family or kind does not have.
pub(super) fn get(stack: &mut Stack, id: SocketId, name: OptionName) -> io::Result<SocketOption> {
    use stack::{OptionName as Get, SocketOption as Is};
    let mut get = |one: Get| stack.option(id, one).map_err(|error| explain(error, name));
    let what = match name {
        OptionName::NoDelay => Get::NoDelay,
        OptionName::KeepAlive => Get::KeepIdle,
        OptionName::Linger => Get::Linger,
        OptionName::TimeToLive => Get::TimeToLive,
        OptionName::ReceiveBuffer => Get::ReceiveBuffer,
        OptionName::SendBuffer => Get::SendBuffer,
        OptionName::ReuseAddress => Get::ReuseAddress,
        OptionName::ReusePort => Get::ReusePort,
        OptionName::V6Only => Get::V6Only,
        OptionName::Broadcast => Get::Broadcast,
        other => return Err(unsupported(&format!("{other:?} is not an option of this stack"))),
    };
    Ok(match get(what)? {
        Is::NoDelay(on) => SocketOption::NoDelay(on),
        Is::KeepIdle(idle) => {
            let (interval, count) = (get(Get::KeepInterval)?, get(Get::KeepCount)?);
            SocketOption::KeepAlive {
                enabled: get(Get::KeepAlive)? == Is::KeepAlive(true),
                idle: Some(Duration::from_secs(idle.into())),
                interval: match interval {
                    Is::KeepInterval(seconds) => Some(Duration::from_secs(seconds.into())),
                    _ => None,
                },
                count: match count {
                    Is::KeepCount(count) => Some(count),
                    _ => None,
                },
            }
        }
        Is::Linger(time) => SocketOption::Linger(time),
        Is::TimeToLive(hops) => SocketOption::TimeToLive(hops),
        Is::ReceiveBuffer(size) => SocketOption::ReceiveBuffer(size),
        Is::SendBuffer(size) => SocketOption::SendBuffer(size),
        Is::ReuseAddress(on) => SocketOption::ReuseAddress(on),
        Is::ReusePort(on) => SocketOption::ReusePort(on),
        Is::V6Only(on) => SocketOption::V6Only(on),
        Is::Broadcast(on) => SocketOption::Broadcast(on),
        other => return Err(unsupported(&format!("{other:?} has no name here"))),
    })
}

fn explain(error: io::Error, name: OptionName) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOPROTOOPT) {
        return error;
    }
    let of = if name == OptionName::V6Only { "IPv6" } else { "TCP" };
    unsupported(&format!("{name:?} is an option of {of} sockets only"))
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// As Linux counts these times. Rounded up, because 0 is not a time.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(whole).unwrap_or(u32::MAX)
}
