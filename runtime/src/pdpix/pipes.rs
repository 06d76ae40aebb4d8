//! Pipes: two ends in memory that find each other by a name.

use super::memory::Item;
use super::table::{Queue, table};
use super::types::{Qd, errno};
use crate::buffer::Sga;
use crate::executor::QToken;
use crate::queue::{self, Closed, queue_with_capacity};
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::rc::Rc;

/// How many lists wait in each direction before a push waits, too.
const CAPACITY: usize = 1024;

/// The longest name, in bytes.
const NAME: usize = 255;

/// Makes a pipe, and gives one of its ends; [`open_pipe`] with the same name gives the other.
///
/// What is [pushed](super::push) into one end is [popped](super::pop) at the other, list by list and in the same order.
/// Up to 1,024 lists wait in each direction; then pushes wait. The pipe may be used before its other end is opened.
///
/// When an end is closed, the other may pop what is still there, and then gets no bytes, as at the end of a stream; its
/// pushes fail with `EPIPE`. Therefore nothing empty can be pushed.
///
/// Names are the runtime's, so both ends are: tasks of one thread talk through a pipe. Unlike that of Demikernel's catmem, it
/// is not memory that several processes share: between processes, a socket of [`Domain::Unix`] is the nearest thing, and
/// between the cores of a program, [`channel::cross`](crate::channel::cross).
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// use demikernel_runtime::buffer::Buffer;
/// use demikernel_runtime::pdpix;
///
/// let server = pdpix::create_pipe("numbers")?;
/// let client = pdpix::open_pipe("numbers")?;
/// pdpix::push(client, Buffer::from("one"))?;
/// pdpix::push(server, Buffer::from("two"))?;
/// let (question, answer) = (pdpix::pop(server, None)?, pdpix::pop(client, None)?);
/// let results = pdpix::wait_all(&[question, answer], None).await?;
/// assert_eq!(results[0].value.sga().unwrap().to_vec(), b"one");
/// assert_eq!(results[1].value.sga().unwrap().to_vec(), b"two");
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `EEXIST` if there is a pipe of this name whose other end nobody has opened; `EINVAL` for a name that is empty or of more
/// than 255 bytes; `EMFILE` if there are too many descriptors.
///
/// [`Domain::Unix`]: crate::transport::Domain::Unix
pub fn create_pipe(name: &str) -> io::Result<Qd> {
    if name.is_empty() || name.len() > NAME {
        return Err(errno(libc::EINVAL));
    }
    let table = table();
    if table.pipes.borrow().contains_key(name) {
        return Err(errno(libc::EEXIST));
    }
    let (near, far) = ends(name);
    let qd = table.add(Queue::Pipe(near))?;
    table.pipes.borrow_mut().insert(name.to_owned(), far);
    Ok(qd)
}

/// Opens the other end of a pipe that [`create_pipe`] has made. Then the name is free for another pipe.
///
/// # Errors
/// `ENOENT` if there is no pipe of this name whose other end is still to be opened; `EMFILE` if there are too many descriptors.
pub fn open_pipe(name: &str) -> io::Result<Qd> {
    let table = table();
    let far = table.pipes.borrow().get(name).cloned().ok_or_else(|| errno(libc::ENOENT))?;
    let qd = table.add(Queue::Pipe(far))?;
    table.pipes.borrow_mut().remove(name);
    Ok(qd)
}

/// The ends that were not opened yet, by name.
pub(super) type Offered = HashMap<String, Rc<End>>;

/// One end of a pipe.
pub(super) struct End {
    incoming: queue::Queue<Item>,
    outgoing: queue::Queue<Item>,
    /// It was closed itself: rather than by the other end's, its operations end by this.
    closed: Cell<bool>,
    /// What the other end is offered as.
    name: Option<String>,
}

fn ends(name: &str) -> (Rc<End>, Rc<End>) {
    let (there, back) = (queue_with_capacity(CAPACITY), queue_with_capacity(CAPACITY));
    let end = |incoming, outgoing, name| Rc::new(End { incoming, outgoing, closed: Cell::new(false), name });
    (end(back.clone(), there.clone(), Some(name.to_owned())), end(there, back, None))
}

impl End {
    pub(super) fn push(&self, sga: Sga) -> io::Result<QToken<Result<(), Closed>>> {
        if sga.is_empty() {
            return Err(errno(libc::EINVAL));
        }
        Ok(self.outgoing.push(sga.into()))
    }

    pub(super) fn pop(&self) -> QToken<Result<Item, Closed>> {
        self.incoming.pop()
    }

    /// Ends both directions, and forgets the other end if nobody has opened it.
    pub(super) fn close(&self, offered: &mut Offered) {
        self.closed.set(true);
        self.outgoing.close();
        self.incoming.close();
        while self.incoming.try_pop().is_ok() {}
        if let Some(name) = &self.name
            && let Entry::Occupied(other) = offered.entry(name.clone())
            && other.get().incoming.is_closed()
        {
            other.remove();
        }
    }

    /// What a push through this end fails with when the pipe is closed.
    pub(super) fn broken(&self) -> io::Error {
        errno(if self.closed.get() { libc::ECANCELED } else { libc::EPIPE })
    }

    /// What a pop through this end gives when the pipe is closed and empty.
    pub(super) fn end(&self) -> io::Result<Sga> {
        if self.closed.get() { Err(errno(libc::ECANCELED)) } else { Ok(Sga::new()) }
    }
}
