//! Why SPDK cannot be used.

use std::io;
use std::path::PathBuf;

/// Why SPDK, or a controller by it, cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpdkError {
    /// A library is missing, or cannot be loaded.
    #[error(
        "{library} cannot be loaded: {reason}. SPDK is in no distribution: build it with --with-shared, and name the \
         directory of its libraries and of its DPDK's by `libraries` or LD_LIBRARY_PATH{}", in_directory(directory.as_ref())
    )]
    Library {
        /// Its file.
        library: &'static str,
        /// Where it was looked for first.
        directory: Option<PathBuf>,
        /// What the dynamic linker says.
        reason: String,
    },
    /// A function is in none of the libraries.
    #[error("{symbol} is in none of SPDK's libraries: they are older than SPDK 21.01, or built without NVMe")]
    Symbol {
        /// Its name.
        symbol: &'static str,
    },
    /// The environment of DPDK does not start.
    #[error("EAL does not start with {arguments:?}: {reason}")]
    Eal {
        /// The arguments that it was given.
        arguments: Vec<String>,
        /// What is known of it.
        reason: String,
    },
    /// SPDK does not take the environment.
    #[error(
        "SPDK does not start on {dpdk} (error {code}; its reason is on the standard error). It takes only the releases of \
         DPDK that it was made for, of which a distribution's is seldom one: load the DPDK that it was built with, by \
         `libraries` or LD_LIBRARY_PATH, or for the feature `dpdk` link it, by PKG_CONFIG_PATH"
    )]
    Version {
        /// The version of DPDK.
        dpdk: String,
        /// What SPDK returned.
        code: i32,
    },
    /// An address means nothing to SPDK.
    #[error(
        "{address:?} is no address of a controller: expected that of a PCI device, such as 0000:01:00.0, or a transport \
         of SPDK's, such as trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:disk"
    )]
    Address {
        /// What was found.
        address: String,
    },
    /// There is no controller at an address, or it does not answer.
    #[error(
        "no controller answers at {address}: a PCI device must be bound to vfio-pci and allowed to EAL, and for another \
         transport the target must listen; SPDK's reason is on the standard error"
    )]
    Connect {
        /// Its address.
        address: String,
    },
    /// A controller has no such namespace.
    #[error("the controller at {address} has no active namespace {namespace}: it has {active:?}")]
    Namespace {
        /// The controller's address.
        address: String,
        /// What was asked for.
        namespace: u32,
        /// What there is.
        active: Vec<u32>,
    },
    /// The format of a namespace is not supported.
    #[error(
        "namespace {namespace} of {address} has {found}, which is not supported: format it with plain blocks"
    )]
    Format {
        /// The controller's address.
        address: String,
        /// Which namespace.
        namespace: u32,
        /// What it has.
        found: String,
    },
    /// A controller has no queue pair left, or is lost.
    #[error("the controller at {address} gives no queue pair: it has none left, or is lost")]
    QueuePair {
        /// Its address.
        address: String,
    },
}

fn in_directory(directory: Option<&PathBuf>) -> String {
    directory.map_or_else(String::new, |directory| format!(" (looked in {} first)", directory.display()))
}

impl From<SpdkError> for io::Error {
    fn from(error: SpdkError) -> io::Error {
        let kind = match error {
            SpdkError::Library { .. } | SpdkError::Symbol { .. } | SpdkError::Version { .. } => {
                io::ErrorKind::Unsupported
            }
            SpdkError::Address { .. } | SpdkError::Format { .. } => io::ErrorKind::InvalidInput,
            SpdkError::Connect { .. } | SpdkError::Namespace { .. } => io::ErrorKind::NotFound,
            SpdkError::Eal { .. } | SpdkError::QueuePair { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
