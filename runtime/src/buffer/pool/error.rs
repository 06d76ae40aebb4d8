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
/// assert_eq!(error.wanted, 100);
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::OutOfMemory);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolExhausted {
    /// Bytes that were asked for.
    pub wanted: usize,
    /// Bytes of the chunk, or of the region, that they need.
    pub needed: usize,
    /// Bytes of the pool's chunks that are in use.
    pub in_use: usize,
    /// Bytes that the pool has mapped.
    pub mapped: usize,
    /// Bytes that the pool may map.
    pub limit: usize,
    /// What the system said, if it was the one who refused.
    pub errno: Option<i32>,
}

impl Display for PoolExhausted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let PoolExhausted { wanted, needed, in_use, mapped, limit, .. } = self;
        write!(
            f,
            "buffer pool exhausted: no chunk of {needed} bytes for {wanted}, {in_use} of {mapped} mapped \
             bytes are in use, the limit is {limit}"
        )?;
        match self.errno {
            Some(errno) => write!(f, "; the system refused: {}", io::Error::from_raw_os_error(errno)),
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
