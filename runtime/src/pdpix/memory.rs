//! Memory, and queues in memory.

use super::table::{Queue, table};
use super::types::Qd;
use crate::buffer::{Buffer, BufferMut, Sga};
use std::io;

/// Allocates `size` bytes, all zero, to write to and then push.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::pdpix;
///
/// let mut sga = pdpix::sgaalloc(4)?;
/// sga.copy_from_slice(b"ping");
/// pdpix::sgafree(sga);
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `OutOfMemory` when the thread's pool has reached its limit.
pub fn sgaalloc(size: usize) -> io::Result<BufferMut> {
    let mut buffer = BufferMut::with_capacity(size)?;
    buffer.resize(size, 0);
    Ok(buffer)
}

/// Frees memory that was allocated or popped, as dropping it does. If an operation or somebody else uses it,
/// it is freed when nobody does any more.
pub fn sgafree(sga: impl Into<Sga>) {
    drop(sga.into());
}

/// Makes a queue in memory: what is pushed is popped in the same order, list by list.
///
/// When it is closed, its elements are dropped, and pops that wait fail with `ECANCELED`.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::pdpix;
///
/// let queue = pdpix::queue()?;
/// pdpix::push(queue, pdpix::sgaalloc(3)?)?;
/// let popped = pdpix::wait(pdpix::pop(queue, None)?, None).await?;
/// assert_eq!(popped.value.sga().unwrap().to_vec(), [0, 0, 0]);
/// pdpix::close(queue)?;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `EMFILE` if there are too many descriptors.
pub fn queue() -> io::Result<Qd> {
    table().add(Queue::Memory(crate::queue::queue()))
}

/// What a queue in memory holds. Nearly all lists have one buffer, which fits into an operation's slot.
pub(super) enum Item {
    One(Buffer),
    Many(Box<Sga>),
}

impl From<Sga> for Item {
    fn from(mut sga: Sga) -> Item {
        match sga.segments() {
            0 | 1 => Item::One(sga.pop_front().unwrap_or_default()),
            _ => Item::Many(Box::new(sga)),
        }
    }
}

impl From<Item> for Sga {
    fn from(item: Item) -> Sga {
        match item {
            Item::One(buffer) => buffer.into(),
            Item::Many(sga) => *sga,
        }
    }
}
