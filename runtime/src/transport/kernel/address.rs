//! Addresses as the kernel has them.

use crate::transport::Endpoint;
use socket2::SockAddr;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The address for bind(2), connect(2) or sendto(2). A Unix path that starts with a NUL byte is a name in
/// the abstract namespace.
///
/// # Errors
/// `InvalidInput` for a path that is too long (over 107 bytes) or has a NUL byte inside.
pub(crate) fn to_sockaddr(endpoint: &Endpoint) -> io::Result<SockAddr> {
    match endpoint {
        Endpoint::Inet(address) => Ok(SockAddr::from(*address)),
        Endpoint::Unix(None) => SockAddr::unix(""),
        Endpoint::Unix(Some(path)) => {
            let bytes = path.as_os_str().as_bytes();
            // The kernel would take the name up to the NUL, which is another one than was asked for.
            if bytes.first() != Some(&0) && bytes.contains(&0) {
                return Err(invalid(path, "it contains a NUL byte"));
            }
            SockAddr::unix(path).map_err(|_| invalid(path, "it is longer than 107 bytes"))
        }
    }
}

fn invalid(path: &Path, why: &str) -> io::Error {
    let message = format!("{} cannot be the path of a Unix socket: {why}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// What the kernel says an address is.
///
/// # Errors
/// `Unsupported` for other families than IPv4, IPv6 and Unix.
pub(crate) fn to_endpoint(address: &SockAddr) -> io::Result<Endpoint> {
    if let Some(address) = address.as_socket() {
        return Ok(Endpoint::Inet(address));
    }
    if !address.is_unix() {
        let message = format!("an address of family {} is neither IP nor Unix", address.family());
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let path = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => Some(path.to_path_buf()),
        (None, Some(name)) => Some(abstract_path(name)),
        (None, None) => None,
    };
    Ok(Endpoint::Unix(path))
}

fn abstract_path(name: &[u8]) -> PathBuf {
    let mut path = OsString::from_vec(vec![0]);
    path.push(OsStr::from_bytes(name));
    PathBuf::from(path)
}
