//! What can be wrong with a store or a log.

use super::format::{LONGEST_NAME, MOST_LOGS, VERSION};
use std::io;

/// What is wrong with a store or a log. It converts to [`io::Error`], which keeps it as its source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The device has something else on it.
    #[error(
        "the device holds {found}, and no log: nothing was written. Consent to lose that, if it is not needed"
    )]
    Foreign {
        /// What that seems to be.
        found: String,
    },
    /// The device has nothing on it.
    #[error("the device is blank: there is no log yet")]
    Blank,
    /// The device has logs already, and was to get new ones.
    #[error("the device holds a store of logs already ({logs}): nothing was written")]
    Exists {
        /// Their names.
        logs: String,
    },
    /// The store is of a version that is not known here.
    #[error("the store has format {version}, of a newer version: this one knows format {VERSION}")]
    Newer {
        /// That version.
        version: u32,
    },
    /// The device has larger blocks than the one that the store was made on.
    #[error("the store has blocks of {log} bytes, but the device only blocks of {device}")]
    BlockSize {
        /// Bytes of the store's blocks.
        log: u32,
        /// Bytes of the device's.
        device: u32,
    },
    /// The device is smaller than the one that the store was made on.
    #[error("the store has {store} bytes, but the device only {device}: something is cut off")]
    Cut {
        /// Bytes of the store.
        store: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// The device is too small.
    #[error(
        "a store with segments of {segment} bytes needs {needed} bytes at least, and the device has {device}"
    )]
    TooSmall {
        /// Bytes of a segment.
        segment: u64,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// Neither superblock is intact.
    #[error("both superblocks are damaged: the store cannot be opened")]
    NoSuperblock,
    /// Records are lost or altered.
    #[error("{0}")]
    Damaged(Damage),
    /// A segment's header is damaged, and it may be the last one of any log.
    #[error(
        "the header of the segment at {place} is damaged: it may hold the latest records of a log. \
         Open the store read-only, or consent to lose them"
    )]
    LostSegment {
        /// Where on the device the segment is.
        place: u64,
    },
    /// There is no free segment. Nothing was overwritten.
    #[error("the device is full: truncate a log")]
    Full,
    /// A record is longer than a segment holds.
    #[error("a record of {length} bytes is longer than this store takes ({most} bytes)")]
    TooLong {
        /// Bytes of the record.
        length: usize,
        /// Bytes of the longest one.
        most: usize,
    },
    /// There is no log of that name.
    #[error("there is no log named {name:?}")]
    NoLog {
        /// The name.
        name: String,
    },
    /// A name is empty or too long.
    #[error("a log's name has 1 to {LONGEST_NAME} bytes: {name:?} has {}", name.len())]
    BadName {
        /// The name.
        name: String,
    },
    /// The superblock has room for no more logs.
    #[error("a device has {MOST_LOGS} logs at most")]
    TooManyLogs,
    /// No record begins at the position that was sought.
    #[error("no record begins at position {position}")]
    NoRecord {
        /// The position.
        position: u64,
    },
    /// The store was opened for reading.
    #[error("the store was opened read-only")]
    ReadOnly,
    /// A write or a flush has failed: what is on the medium is known only when the store is opened anew.
    #[error("the store has stopped, since the device failed: {error}")]
    Stopped {
        /// What the device said.
        error: String,
    },
    /// There is no memory for a write.
    #[error("no memory to write from: {error}")]
    OutOfMemory {
        /// What the pool said.
        error: String,
    },
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
}

/// A hole in a log: records that were acknowledged and cannot be read. The ones before and after it can.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("records {first} to {} of log {log:?} are damaged, at {place} on the device", next - 1)]
pub struct Damage {
    /// The name of the log.
    pub log: String,
    /// The number of the first record that is lost.
    pub first: u64,
    /// The number of the first one behind it that is not: where reading goes on.
    pub next: u64,
    /// Where on the device the damage begins: that record, or the segment before the one that is missing.
    pub place: u64,
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> io::Error {
        use io::ErrorKind as Kind;
        let kind = match &error {
            LogError::Foreign { .. } | LogError::Exists { .. } => Kind::AlreadyExists,
            LogError::Blank | LogError::NoLog { .. } => Kind::NotFound,
            LogError::Newer { .. } | LogError::BlockSize { .. } => Kind::Unsupported,
            LogError::Cut { .. }
            | LogError::NoSuperblock
            | LogError::Damaged(_)
            | LogError::LostSegment { .. } => Kind::InvalidData,
            LogError::Full | LogError::TooManyLogs => Kind::StorageFull,
            LogError::TooSmall { .. }
            | LogError::TooLong { .. }
            | LogError::BadName { .. }
            | LogError::NoRecord { .. } => Kind::InvalidInput,
            LogError::ReadOnly => Kind::ReadOnlyFilesystem,
            LogError::OutOfMemory { .. } => Kind::OutOfMemory,
            LogError::Stopped { .. } => Kind::Other,
            LogError::Closed => Kind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}
