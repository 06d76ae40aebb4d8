//! Unix sockets.

mod listener;
mod stream;

pub use listener::{UnixAccept, UnixIncoming, UnixListener};
pub use stream::UnixStream;

use crate::transport::Endpoint;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

/// Connections that wait to be accepted, unless the program says otherwise; the system has a limit of its
/// own (net.core.somaxconn).
const BACKLOG: u32 = 1024;

/// The address in the form of the standard library.
fn to_std(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let Endpoint::Unix(path) = endpoint else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an IP address is not one of a Unix socket"));
    };
    let path = path.clone().unwrap_or_else(PathBuf::new);
    match path.as_os_str().as_bytes() {
        // Transports give names of the abstract namespace with a NUL byte in front.
        [0, name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_standard_library() {
        let path = to_std(&Endpoint::Unix(Some("/tmp/socket".into()))).unwrap();
        assert_eq!(path.as_pathname(), Some("/tmp/socket".as_ref()));
        let name = to_std(&Endpoint::Unix(Some("\0name".into()))).unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"name"[..]));
        assert!(to_std(&Endpoint::Unix(None)).unwrap().is_unnamed());
        let inet = Endpoint::Inet(([127, 0, 0, 1], 80).into());
        assert_eq!(to_std(&inet).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
