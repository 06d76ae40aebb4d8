//! The medium.

use super::crash::{Loss, Unflushed};
use super::driver::MemoryDriver;
use crate::{Geometry, Queue};
use demikernel_runtime::random::Random;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A disk in memory. Clones are the same disk.
///
/// With a volatile cache, as the geometry says, [`crash`](Self::crash) loses writes that were not flushed.
///
/// ```
/// use demikernel_spdk_storage::{Geometry, memory::{Disk, Loss}};
///
/// let disk = Disk::new(Geometry::new(512, 8192));
/// disk.write(0, &[1; 512])?;
/// disk.flush()?;
/// disk.write(0, &[2; 512])?;
/// disk.crash(Loss::Everything);
/// assert_eq!(disk.read(0, 512)?, [1; 512]);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Disk {
    state: Rc<RefCell<State>>,
}

/// What goes wrong, with what probability. By default nothing does, and everything is done by the next poll.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// That an operation fails; a write then has been made in part.
    pub errors: f64,
    /// That a read finds a bit turned over, which it stays.
    pub rot: f64,
    /// How long an operation of a device takes.
    pub latency: Duration,
    /// How much longer at most.
    pub jitter: Duration,
}

pub(super) struct State {
    pub(super) geometry: Geometry,
    /// What reads see.
    content: Vec<u8>,
    /// What a loss of power may leave, if there is a volatile cache.
    cache: Option<Unflushed>,
    pub(super) faults: Faults,
    pub(super) random: Random,
    /// Writes that end behind it are refused.
    room: u64,
    gone: bool,
}

impl Disk {
    /// A disk full of zeros.
    ///
    /// # Panics
    /// If it is larger than memory can be.
    pub fn new(geometry: Geometry) -> Disk {
        let size = usize::try_from(geometry.capacity).expect("a disk in memory fits there");
        let cache = geometry.volatile_cache.then(|| Unflushed::new(vec![0; size]));
        let state = State {
            content: vec![0; size],
            cache,
            faults: Faults::default(),
            random: Random::new(0, 0),
            room: u64::MAX,
            gone: false,
            geometry,
        };
        Disk { state: Rc::new(RefCell::new(state)) }
    }

    /// A block device on it. There may be several.
    pub fn device(&self) -> Rc<Queue<MemoryDriver>> {
        Queue::new(MemoryDriver::on(self))
    }

    /// Another disk with the same content, cache included.
    pub fn fork(&self) -> Disk {
        let state = self.state.borrow();
        let state = State {
            content: state.content.clone(),
            cache: state.cache.clone(),
            random: state.random.clone(),
            ..*state
        };
        Disk { state: Rc::new(RefCell::new(state)) }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state.borrow_mut();
        state.faults = faults;
        state.random = Random::new(faults.seed, 0);
    }

    /// Refuses writes that end behind the first `bytes` bytes, as a file does whose file system is full.
    pub fn set_room(&self, bytes: u64) {
        self.state.borrow_mut().room = bytes;
    }

    /// Whether writes are refused from now on.
    pub fn set_read_only(&self, yes: bool) {
        self.state.borrow_mut().geometry.read_only = yes;
    }

    /// The disk is gone, as one that was pulled out: everything fails from now on.
    pub fn vanish(&self) {
        self.state.borrow_mut().gone = true;
    }

    /// The power is lost, and back: of what was written and not flushed only some is left.
    pub fn crash(&self, loss: Loss) {
        let state = &mut *self.state.borrow_mut();
        if let Some(cache) = &mut state.cache {
            cache.crash(loss, state.geometry.atomic_write as usize);
            state.content.copy_from_slice(cache.durable());
        }
    }

    /// How many writes a loss of power may lose.
    pub fn unflushed(&self) -> usize {
        self.state.borrow().cache.as_ref().map_or(0, Unflushed::len)
    }

    /// Turns a bit over, on the medium.
    ///
    /// # Panics
    /// Behind the end of the disk.
    pub fn flip(&self, at: u64, bit: u32) {
        self.state.borrow_mut().flip(at as usize, bit);
    }

    /// Reads at once.
    ///
    /// # Errors
    /// As a device would.
    pub fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.borrow_mut();
        let content = state.read(at, length as u64)?;
        Ok(content.to_vec())
    }

    /// Writes at once.
    ///
    /// # Errors
    /// As a device would.
    pub fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.may_write(at, data.len() as u64)?;
        state.put(at, data, false);
        Ok(())
    }

    /// Writes at once, past the cache.
    ///
    /// # Errors
    /// As a device would.
    pub fn write_durable(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.may_write(at, data.len() as u64)?;
        state.put(at, data, true);
        Ok(())
    }

    /// Flushes at once.
    ///
    /// # Errors
    /// As a device would.
    pub fn flush(&self) -> io::Result<()> {
        self.state.borrow_mut().flush()
    }

    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        use_it(&mut self.state.borrow_mut())
    }

    /// What the disk is like.
    pub fn geometry(&self) -> Geometry {
        self.state.borrow().geometry
    }
}

impl State {
    /// Whether something fails now.
    fn fault(&mut self) -> io::Result<()> {
        if self.gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        match self.random.chance(self.faults.errors) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    pub(super) fn read(&mut self, at: u64, length: u64) -> io::Result<&[u8]> {
        self.geometry.check(at, length)?;
        self.fault()?;
        if self.random.chance(self.faults.rot) && length > 0 {
            let place = at + self.random.below(length);
            let bit = self.random.below(8) as u32;
            self.flip(place as usize, bit);
        }
        Ok(&self.content[at as usize..][..length as usize])
    }

    /// Whether a range can be written now. If a fault says no, the caller may have written some of it.
    pub(super) fn may_write(&mut self, at: u64, length: u64) -> io::Result<()> {
        self.geometry.check(at, length)?;
        if self.geometry.read_only {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        if at + length > self.room {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.fault()
    }

    pub(super) fn put(&mut self, at: u64, data: &[u8], durable: bool) {
        self.content[at as usize..][..data.len()].copy_from_slice(data);
        if let Some(cache) = &mut self.cache {
            cache.write(at, data, durable);
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.fault()?;
        if let Some(cache) = &mut self.cache {
            cache.flush();
        }
        Ok(())
    }

    fn flip(&mut self, at: usize, bit: u32) {
        self.content[at] ^= 1 << bit;
        if let Some(cache) = &mut self.cache {
            cache.flip(at, bit);
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Disk")
            .field("geometry", &state.geometry)
            .field("unflushed", &self.unflushed())
            .finish()
    }
}
