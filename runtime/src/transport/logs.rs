//! Logs, as the PDPIX calls use them: named, append-only, durable.

use super::OpenMode;
use crate::buffer::{Buffer, Sga};
use crate::executor::Completion;
use std::any::Any;
use std::io::{self, SeekFrom};
use std::rc::Rc;

/// Where a runtime keeps its logs: what `pdpix::open` asks for `log:NAME`.
///
/// Errors that end up at callers of PDPIX have a number ([`io::Error::raw_os_error`]).
pub trait Logs: Any {
    /// Opens the log of a name.
    fn open(&self, name: &str, mode: OpenMode, done: Completion<io::Result<Rc<dyn LogQueue>>>);
}

/// An open log with a place in it. All operations take effect in the order in which they were started.
pub trait LogQueue {
    /// Appends a record. It is durable when this is done.
    fn push(&self, data: Sga, done: Completion<io::Result<()>>);

    /// The next record, with which the place moves on; none, which is an empty buffer, at the end of the log.
    fn pop(&self, done: Completion<io::Result<Buffer>>);

    /// Moves the place, and gives the new one: the number of a record.
    ///
    /// # Errors
    /// `EINVAL` for a place before the number 0.
    fn seek(&self, to: SeekFrom) -> io::Result<u64>;

    /// Gives up the records before a number.
    ///
    /// # Errors
    /// `EINVAL` for a number behind the end.
    fn truncate(&self, number: u64, done: Completion<io::Result<()>>);
}
