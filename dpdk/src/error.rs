//! What goes wrong, and what to do.

use std::io;

/// Why EAL or a port is not there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EAL has not started. It is tried once in a process, as DPDK cannot be started again.
    #[error("DPDK's EAL does not start: {reason}; {remedy}")]
    Eal {
        /// What DPDK says.
        reason: String,
        /// What to do.
        remedy: &'static str,
        /// The `rte_errno`.
        errno: i32,
    },
    /// EAL runs since a port was opened that wanted it otherwise.
    #[error("DPDK's EAL runs with {running:?} in this process, and cannot be started again with {wanted:?}")]
    Other {
        /// The arguments it was started with.
        running: Vec<String>,
        /// Those that are wanted now.
        wanted: Vec<String>,
    },
    /// An argument at which EAL would end the process, or that this crate gives itself.
    #[error("{argument:?} is no argument of EAL here: {reason}")]
    Argument {
        /// The argument.
        argument: String,
        /// Why not.
        reason: &'static str,
    },
    /// A port.
    #[error("port {port:?}: cannot {what}: {reason}")]
    Port {
        /// Its name.
        port: String,
        /// What was tried.
        what: &'static str,
        /// What DPDK says, and what to do.
        reason: String,
        /// The errno, positive.
        errno: i32,
    },
}

impl Error {
    /// The errno that DPDK gave.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Eal { errno, .. } | Error::Port { errno, .. } => *errno,
            Error::Other { .. } => libc::EBUSY,
            Error::Argument { .. } => libc::EINVAL,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = io::Error::from_raw_os_error(error.errno()).kind();
        io::Error::new(kind, error)
    }
}
