//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The text is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where it ceases to be.
        place: Place,
        /// In which way.
        message: String,
    },
    /// A key or a value is wrong.
    #[error("{place}: {invalid}")]
    Invalid {
        /// Where it is.
        place: Place,
        /// What is wrong.
        invalid: Invalid,
    },
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, if the text came from one.
    pub file: Option<PathBuf>,
    /// The line, from 1 on.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}", file.display(), self.line),
            None => write!(f, "line {}", self.line),
        }
    }
}

/// A key that there is not, or that has a value which cannot be.
///
/// ```
/// use demikernel_config::Invalid;
///
/// let invalid = Invalid::new("network.mtu", 12, "a value from 576 to 65535");
/// assert_eq!(invalid.to_string(), "network.mtu: found 12, expected a value from 576 to 65535");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}")]
pub struct Invalid {
    /// The key with its sections, as `tcp.keepalive.idle` or `network.addresses[1]`.
    pub key: String,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

impl Invalid {
    /// That of this key, as `tcp.min-rto`.
    pub fn new(key: impl Into<String>, found: impl fmt::Display, expected: impl fmt::Display) -> Invalid {
        Invalid { key: key.into(), found: found.to_string(), expected: expected.to_string() }
    }
}
