//! What is in use is waited for: the kernel lets go of what an ended process had some time later, and a child of this
//! process has all its descriptors for the moment before it becomes another program.

use std::io;
use std::time::{Duration, Instant};

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an opening waits, over all that it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    end: Instant,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { end: Instant::now() + PATIENCE }
    }

    /// Tries again as long as somebody else has what is asked for.
    pub(super) fn try_for<R>(self, mut attempt: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        loop {
            match attempt() {
                Err(error) if is_in_use(&error) && Instant::now() < self.end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }
}

/// Whether that is what the kernel says: of a queue it is the first, of a program the second.
pub(super) fn is_in_use(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}
