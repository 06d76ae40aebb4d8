//! In place of the control socket, in programs without the feature `inspect`.

use std::io;

/// Nothing that has to be kept.
pub(crate) struct Absent;

/// There is none.
///
/// # Errors
/// None: `[inspect]` is a section of a crate that is not there.
pub(crate) fn open(_configuration: Option<&str>) -> io::Result<Absent> {
    Ok(Absent)
}
