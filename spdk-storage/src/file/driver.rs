//! The driver, whichever of the two dialects the kernel is spoken with.

use super::calls::Calls;
use super::commands::Commands;
use super::dialect::Dialect;
use super::engine::Engine;
use crate::Geometry;
use crate::queue::{Command, Driver, Finished, Submitted};
use demikernel_runtime::transport::{Interest, Turn};
use std::time::Duration;

/// The driver of a file, a block device or an NVMe namespace of the kernel.
pub struct FileDriver(Way);

enum Way {
    File { engine: Engine<Calls>, direct: bool },
    Namespace(Engine<Commands>),
}

impl FileDriver {
    pub(super) fn file(engine: Engine<Calls>, direct: bool) -> FileDriver {
        FileDriver(Way::File { engine, direct })
    }

    pub(super) fn namespace(engine: Engine<Commands>) -> FileDriver {
        FileDriver(Way::Namespace(engine))
    }
}

// SAFETY: a read is finished without an error when the kernel has told of all of its bytes, and a tag when the kernel has
// completed its operation, after which it uses the memory no more.
unsafe impl Driver for FileDriver {
    fn name(&self) -> &'static str {
        match &self.0 {
            Way::File { .. } => Calls::NAME,
            Way::Namespace(_) => Commands::NAME,
        }
    }

    fn geometry(&self) -> Geometry {
        match &self.0 {
            Way::File { engine, .. } => engine.geometry,
            Way::Namespace(engine) => engine.geometry,
        }
    }

    #[inline]
    unsafe fn submit(&mut self, tag: u32, command: Command<'_>) -> Submitted {
        match &mut self.0 {
            // SAFETY: the caller keeps the command's memory until the tag is finished, which is what the engine asks
            // for, too.
            Way::File { engine, .. } => unsafe { engine.submit(tag, command) },
            // SAFETY: the same.
            Way::Namespace(engine) => unsafe { engine.submit(tag, command) },
        }
    }

    #[inline]
    fn poll(&mut self, _turn: Turn, finished: &mut Finished) {
        match &mut self.0 {
            Way::File { engine, .. } => engine.poll(finished),
            Way::Namespace(engine) => engine.poll(finished),
        }
    }

    fn interest(&mut self) -> Interest {
        match &mut self.0 {
            Way::File { engine, .. } => engine.interest(),
            Way::Namespace(engine) => engine.interest(),
        }
    }

    fn shut_down(&mut self, grace: Duration, finished: &mut Finished) {
        match &mut self.0 {
            Way::File { engine, .. } => engine.shut_down(grace, finished),
            Way::Namespace(engine) => engine.shut_down(grace, finished),
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let (counters, direct) = match &self.0 {
            Way::File { engine, direct } => (engine.counters(), *direct),
            Way::Namespace(engine) => (engine.counters(), true),
        };
        [("direct", u64::from(direct))].into_iter().chain(counters).collect()
    }
}

impl std::fmt::Debug for FileDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileDriver").field("counters", &self.counters()).finish_non_exhaustive()
    }
}
