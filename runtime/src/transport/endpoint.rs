//! Addresses of sockets of any family.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Domain {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Names in this machine's file system.
    Unix,
}

/// What a socket carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SocketKind {
    /// A connection of bytes in order: TCP, a Unix stream, an RDMA reliable connection.
    Stream,
    /// Messages on their own: UDP.
    Datagram,
}

/// The address of a socket.
///
/// ```
/// use demikernel_runtime::transport::{Domain, Endpoint};
/// let address: std::net::SocketAddr = "[::1]:80".parse().unwrap();
/// assert_eq!(Endpoint::from(address).domain(), Domain::V6);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket: its path, or none if it has no name.
    Unix(Option<PathBuf>),
}

impl Endpoint {
    /// The family.
    pub fn domain(&self) -> Domain {
        match self {
            Endpoint::Inet(SocketAddr::V4(_)) => Domain::V4,
            Endpoint::Inet(SocketAddr::V6(_)) => Domain::V6,
            Endpoint::Unix(_) => Domain::Unix,
        }
    }

    /// The address, of an IP socket.
    ///
    /// # Errors
    /// `InvalidInput` for a Unix socket.
    pub fn inet(&self) -> io::Result<SocketAddr> {
        match self {
            Endpoint::Inet(address) => Ok(*address),
            Endpoint::Unix(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket has no IP address"))
            }
        }
    }

    /// The path, of a Unix socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => path.as_deref(),
            Endpoint::Inet(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Inet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Inet(address) => address.fmt(f),
            Endpoint::Unix(Some(path)) => path.display().fmt(f),
            Endpoint::Unix(None) => f.write_str("(unnamed)"),
        }
    }
}
