//! Errors of kernel calls, with what they are about and what to do.
//!
//! Where a hint helps, which is when sockets and files are made, the error is a wrapper: its
//! [`kind`](io::Error::kind) is that of the kernel's error, `source` is the kernel's error itself, and
//! `raw_os_error` is `None`. Everything else, above all what pushes and pops give, is the kernel's error as
//! it came: it keeps `raw_os_error` and costs no allocation.

use crate::transport::Endpoint;
use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}{hint}")]
struct Explained {
    what: String,
    source: io::Error,
    hint: String,
}

fn explained(source: io::Error, what: String, hint: impl Into<String>) -> io::Error {
    let mut hint = hint.into();
    if !hint.is_empty() {
        hint.insert_str(0, "; ");
    }
    io::Error::new(source.kind(), Explained { what, source, hint })
}

/// What helps against a lack of descriptors or memory, if the error is one.
fn shortage(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EMFILE => Some(
            "the process has as many descriptors open as it may: raise the limit with `ulimit -n` \
             (LimitNOFILE= in a systemd unit), or close some",
        ),
        libc::ENFILE => Some("the whole system has as many files open as it may: see fs.file-max in sysctl"),
        libc::ENOBUFS | libc::ENOMEM => Some("the kernel has no memory left for it"),
        _ => None,
    }
}

/// Of socket(2).
pub(super) fn socket_error(error: io::Error) -> io::Error {
    match (shortage(&error), error.raw_os_error()) {
        (Some(hint), _) => explained(error, "cannot make a socket".into(), hint),
        (None, Some(libc::EAFNOSUPPORT)) => explained(
            error,
            "cannot make a socket".into(),
            "this kernel has the address family (IPv6, perhaps) switched off",
        ),
        _ => error,
    }
}

/// Of accept(2).
pub(crate) fn accept_error(error: io::Error) -> io::Error {
    match shortage(&error) {
        Some(hint) => explained(error, "cannot accept a connection".into(), hint),
        None => error,
    }
}

/// Of bind(2) and listen(2).
pub(crate) fn bind_error(error: io::Error, local: &Endpoint) -> io::Error {
    let Some(code) = error.raw_os_error() else { return error };
    let hint = match (code, local) {
        (libc::EADDRINUSE, Endpoint::Unix(_)) => {
            "the file exists: another program listens there, or one that has ended left it, in which case \
             remove it"
                .into()
        }
        (libc::EADDRINUSE, Endpoint::Inet(address)) => format!(
            "another socket has it (`ss -lnp 'sport = {}'` says whose): stop that program, choose another \
             port, or set reuse_port on both sockets to share it",
            address.port()
        ),
        (libc::EACCES | libc::EPERM, Endpoint::Inet(address)) if address.port() < 1024 => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service+ep PROGRAM`) or a \
             lower net.ipv4.ip_unprivileged_port_start"
                .into()
        }
        (libc::EACCES, Endpoint::Unix(_)) => "the directory must be writable and searchable".into(),
        (libc::ENOENT | libc::ENOTDIR, Endpoint::Unix(_)) => "the directory does not exist".into(),
        (libc::EADDRNOTAVAIL, Endpoint::Inet(_)) => "no interface of this machine has the address".into(),
        (libc::EINVAL, _) => "the socket may be bound already".into(),
        _ => String::new(),
    };
    explained(error, format!("cannot bind to {local}"), hint)
}

/// Of connect(2). A refusal, the common case, stays the kernel's own error.
pub(crate) fn connect_error(error: io::Error, peer: &Endpoint) -> io::Error {
    let hint = match (error.raw_os_error(), peer) {
        (Some(libc::EADDRNOTAVAIL), _) => {
            "no local port is left (net.ipv4.ip_local_port_range; closed connections keep theirs for a \
             minute), or the socket is bound to an address that cannot reach the peer"
        }
        (Some(libc::ENOENT), Endpoint::Unix(_)) => "there is no such socket: is the server running?",
        (Some(libc::EACCES | libc::EPERM), Endpoint::Unix(_)) => "the socket's file must be writable",
        (Some(libc::EACCES | libc::EPERM), _) => {
            "a firewall forbids it, or it is a broadcast address and the socket has no SO_BROADCAST"
        }
        (Some(libc::ENETUNREACH), _) => "this machine has no route to that network",
        _ => return error,
    };
    explained(error, format!("cannot connect to {peer}"), hint)
}

/// Of open(2).
pub(crate) fn open_error(error: io::Error, path: &Path, direct: bool) -> io::Error {
    let hint = match (shortage(&error), error.raw_os_error()) {
        (Some(hint), _) => hint,
        (None, Some(libc::EINVAL)) if direct => "its file system may not have O_DIRECT",
        _ => "",
    };
    explained(error, format!("cannot open {}", path.display()), hint)
}

/// What operations end with that still waited when their socket was closed.
pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the socket was closed while the operation waited")
}

/// What the EINVAL of a read or a write past the page cache means.
pub(crate) fn unaligned() -> io::Error {
    let message = "a file opened with `direct` is read and written in whole blocks: the offset, the length and the \
                   address of the memory must be multiples of its block size (4096 always serves; buffers of 4 KiB \
                   and more are aligned)";
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
