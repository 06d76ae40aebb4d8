//! Who has a say in when an operation is posted, besides the queue pair.

use std::io;

/// Who else uses a queue pair.
pub(crate) trait Gate {
    /// Whether an operation may be posted now, when `posted` are under way: one that `notifies` takes a receive of the
    /// peer. What it needs for that is taken.
    fn admit(&mut self, posted: u32, notifies: bool) -> io::Result<bool>;

    /// It was not posted after all.
    fn take_back(&mut self, notifies: bool);
}

/// Nobody else: there is room as long as the queue pair has some.
pub(crate) struct Open;

impl Gate for Open {
    fn admit(&mut self, _posted: u32, _notifies: bool) -> io::Result<bool> {
        Ok(true)
    }

    fn take_back(&mut self, _notifies: bool) {}
}
