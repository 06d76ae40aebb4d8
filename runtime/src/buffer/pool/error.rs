//! The error of an allocation.

use std::fmt::{self, Display, Formatter};
use std::io;

/// There is no memory for a buffer: the pool's limit is reached, or the system gave none.
///
/// It says with figures what was asked for and what there is. Converts to an [`io::Error`] of kind
/// [`OutOfMemory`](io::ErrorKind::OutOfMemory). Who would rather wait than fail uses
/// [`BufferMut::allocate`](crate::buffer::BufferMut::allocate).
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
///
/// pool::set_limit(0);
/// let error = BufferMut::with_capacity(100).unwrap_err();
/// assert_eq!((error.wanted(), error.limit()), (100, 0));
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::OutOfMemory);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolExhausted {
    /// In a box, so that the result of an allocation fits two registers.
    figures: Box<Figures>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) wanted: usize,
    pub(super) needed: usize,
    pub(super) in_use: usize,
    pub(super) mapped: usize,
    pub(super) limit: usize,
    pub(super) errno: Option<i32>,
}

impl PoolExhausted {
    pub(super) fn new(figures: Figures) -> PoolExhausted {
        PoolExhausted { figures: Box::new(figures) }
    }

    /// Bytes that were asked for.
    pub fn wanted(&self) -> usize {
        self.figures.wanted
    }

    /// Bytes of the chunk, or of the region, that they need.
    pub fn needed(&self) -> usize {
        self.figures.needed
    }

    /// Bytes of the pool's chunks that are in use.
    pub fn in_use(&self) -> usize {
        self.figures.in_use
    }

    /// Bytes that the pool has mapped.
    pub fn mapped(&self) -> usize {
        self.figures.mapped
    }

    /// Bytes that the pool may map.
    pub fn limit(&self) -> usize {
        self.figures.limit
    }

    /// What the system said, if it was the one who refused.
    pub fn errno(&self) -> Option<i32> {
        self.figures.errno
    }
}

impl Display for PoolExhausted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Figures { wanted, needed, in_use, mapped, limit, errno } = &*self.figures;
        write!(
            f,
            "buffer pool exhausted: no chunk of {needed} bytes for {wanted}, {in_use} of {mapped} mapped \
             bytes are in use, the limit is {limit}"
        )?;
        match errno {
            Some(errno) => write!(f, "; the system refused: {}", io::Error::from_raw_os_error(*errno)),
            None => write!(f, " (buffer::pool::set_limit raises it)"),
        }
    }
}

impl std::error::Error for PoolExhausted {}

impl From<PoolExhausted> for io::Error {
    fn from(error: PoolExhausted) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, error)
    }
}
