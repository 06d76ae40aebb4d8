//! Socket options.

use super::errors::unsupported;
use super::socket::Socket;
use demikernel_runtime::transport::{Domain, OptionName, SocketOption};
use std::io;
use std::time::Duration;

/// Sets an option. Those that ask for what is so anyway are taken.
///
/// # Errors
/// `Unsupported` for what there is not.
pub(super) fn set(socket: &Socket, option: SocketOption) -> io::Result<()> {
    match option {
        // Every message is sent at once.
        SocketOption::NoDelay(true) => Ok(()),
        // The connection manager lets nobody have an address that is in use, and keeps none that is not.
        SocketOption::ReuseAddress(_) => Ok(()),
        SocketOption::ReusePort(false) | SocketOption::Broadcast(false) => Ok(()),
        SocketOption::V6Only(true) if socket.domain == Domain::V6 => Ok(()),
        SocketOption::Linger(time) if time.is_none_or(|time| time.is_zero()) => {
            socket.resets.set(time.is_some());
            Ok(())
        }
        other => Err(unsupported(&format!("sockets of the transport rdma do not have {other:?}"))),
    }
}

/// Reads an option.
///
/// # Errors
/// `Unsupported` for what there is not.
pub(super) fn get(socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
    match name {
        OptionName::NoDelay => Ok(SocketOption::NoDelay(true)),
        OptionName::ReuseAddress => Ok(SocketOption::ReuseAddress(true)),
        OptionName::V6Only if socket.domain == Domain::V6 => Ok(SocketOption::V6Only(true)),
        OptionName::Linger => {
            Ok(SocketOption::Linger(if socket.resets.get() { Some(Duration::ZERO) } else { None }))
        }
        other => Err(unsupported(&format!("sockets of the transport rdma do not have {other:?}"))),
    }
}
