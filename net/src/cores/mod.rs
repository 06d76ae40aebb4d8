//! Several cores on one port: a stack for each, and each connection wholly on the core that its flow hashes to.
//!
//! - [`Cores`]: what the cores of a program have in common, and how they find together.
//! - `hash`: which core a flow is of. `course`: whom a frame is for.
//! - `place`: what one core has of it all. `port`: the device of one core, which steers.
//! - `ring`: frames from one core to another. `bell`: waking one that sleeps.
//! - `sync`: the atomics of both, which loom replaces.
//! - `registry`: ports and flows that other cores need to know of. `learned`: addresses and routes.
//!
//! ```text
//!    queue 0 ─▶ core 0: course? ── its own ─▶ stack 0          queue 1 ─▶ core 1: course? ─▶ ...
//!                          └────── of core 1: ring 0▸1 ───────────────▶ stack 1
//! ```
//!
//! **One rule for all devices.** Whatever queue a frame comes from, the core that takes it in asks whose it is, and hands
//! it over if it is not its own. What a device can do (receive side scaling with our key and table, a queue for each core)
//! only makes that rare: nothing depends on it, and a port with one queue is the same as one that hashes differently.
//! A core without a queue of its own sends through one that has one, and waits where that has no room.
//!
//! **Whose a frame is.** Segments and datagrams are of the core that the hash of addresses and ports names; fragments of
//! one that the addresses name, which hands on the whole packet; ICMP errors of the core of the packet they quote. ARP,
//! neighbour discovery and what goes to many is for all. The first core alone answers for the addresses, configures them
//! and tells the others; each core asks for neighbours itself. A core that connects takes a port for which the answers
//! hash to it.
//!
//! **What does not follow the hash** is listed: a connection of a listener that is not on every core, or of a socket that
//! was bound to a port. A SYN for which its core has no listener is passed to a core that has one, a datagram likewise.
//!
//! **Nothing is lost when one core is done**: it goes on taking in frames for the others until all are.

mod bell;
mod course;
pub(crate) mod hash;
mod learned;
mod place;
mod port;
mod registry;
mod ring;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use learned::Learned;
pub(crate) use place::Place;
pub(crate) use port::SharedPort;
pub(crate) use registry::Protocol;

use crate::device::{Capabilities, FrameDevice};
use bell::Bell;
use hash::Table;
use place::Parcel;
use registry::Registry;
use ring::{Consumer, Producer, ring};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// So many cores there can be: sets of them are words.
const MOST_CORES: usize = 64;

/// Frames that can be under way from one core to another.
const RING: usize = 1024;

/// How long a core waits for the others to open the port.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the cores of a program have in common, whose threads each [open](crate::transport::open_on) the same port.
///
/// ```
/// let cores = demikernel_net::cores::Cores::new(2)?;
/// assert_eq!(cores.count(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Cores {
    count: usize,
    opening: Mutex<Opening>,
    changed: Condvar,
    /// Set by the first core before any other goes on.
    table: OnceLock<Table>,
    bells: Vec<Bell>,
    registry: Registry,
    learned: Mutex<Learned>,
    /// Of what was learned; 0 before there is anything.
    version: AtomicU64,
    /// Cores that are done, or gone, a bit each.
    done: AtomicU64,
}

/// How far the cores are with opening the port.
struct Opening {
    /// Whose turn it is.
    turn: usize,
    shared: Shared,
    seats: Vec<Option<Seat>>,
    /// What each core wants sent, for whoever does that.
    to_send: Vec<Option<Consumer<Parcel>>>,
    /// What each core's device does, of those that have one.
    capabilities: Vec<Option<Capabilities>>,
    arrived: usize,
    /// The first core has its addresses.
    is_configured: bool,
    failed: Option<(usize, io::ErrorKind, String)>,
}

/// What a core that opens a device leaves to those after it.
#[derive(Default)]
pub(crate) struct Shared {
    /// Cores that have a queue: the first ones.
    pub(crate) queues: usize,
    /// What the port is called, if that was not known before.
    pub(crate) name: Option<String>,
    pub(crate) address: Option<crate::device::MacAddress>,
    /// The group of packet sockets.
    pub(crate) fanout: Option<u16>,
    #[cfg(feature = "xdp")]
    pub(crate) program: Option<crate::device::XdpProgram>,
}

/// The ends of rings that are one core's.
struct Seat {
    toward: Vec<Option<Producer<Parcel>>>,
    from: Vec<Option<Consumer<Parcel>>>,
    /// To whoever sends for it.
    out: Producer<Parcel>,
}

impl Cores {
    /// For so many cores.
    ///
    /// # Errors
    /// `InvalidInput` if there are none or more than 64; if the system gives no descriptors.
    pub fn new(count: usize) -> io::Result<Arc<Cores>> {
        if !(1..=MOST_CORES).contains(&count) {
            let text = format!("{count} cores: the userspace stack runs on 1 to {MOST_CORES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (seats, to_send) = seats(count);
        let opening = Opening {
            turn: 0,
            shared: Shared::default(),
            seats,
            to_send,
            capabilities: vec![None; count],
            arrived: 0,
            is_configured: false,
            failed: None,
        };
        Ok(Arc::new(Cores {
            count,
            opening: Mutex::new(opening),
            changed: Condvar::new(),
            table: OnceLock::new(),
            bells: (0..count).map(|_| Bell::new()).collect::<io::Result<_>>()?,
            registry: Registry::new(),
            learned: Mutex::default(),
            version: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_so`, for as long as all cores may still come.
    fn wait_for(
        &self,
        limit: Duration,
        is_so: impl Fn(&Opening) -> bool,
    ) -> io::Result<MutexGuard<'_, Opening>> {
        let end = Instant::now() + limit;
        let mut opening = self.opening();
        loop {
            if let Some((core, kind, text)) = &opening.failed {
                return Err(io::Error::new(*kind, format!("core {core}: {text}")));
            }
            if is_so(&opening) {
                return Ok(opening);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("not all of the {} cores have opened the port", self.count);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            opening = self.changed.wait_timeout(opening, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Opens what must not be opened by two cores at once, after those before it have.
    ///
    /// # Errors
    /// That of `open`; that of a core that has failed.
    pub(crate) fn in_turn<R>(
        &self,
        core: usize,
        open: impl FnOnce(&mut Shared) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut opening = self.wait_for(PATIENCE, |opening| opening.turn == core)?;
        let opened = open(&mut opening.shared)?;
        opening.turn += 1;
        self.changed.notify_all();
        Ok(opened)
    }

    /// A core cannot go on: no other does, while they are not all there.
    pub(crate) fn fail(&self, core: usize, error: &io::Error) {
        let mut opening = self.opening();
        if opening.failed.is_none() {
            opening.failed = Some((core, error.kind(), error.to_string()));
        }
        self.changed.notify_all();
    }

    /// Takes the place of a core, with its queue if it has one, and waits for the others. The first core says which core
    /// has which hash, if its device does.
    ///
    /// # Errors
    /// If the place is taken; if another core has failed or does not come.
    pub(crate) fn join(
        self: &Arc<Cores>,
        core: usize,
        device: Option<Box<dyn FrameDevice>>,
        table: Option<Table>,
    ) -> io::Result<(SharedPort, Rc<Place>)> {
        let seat = self.arrive(core, device.as_ref().map(|device| device.capabilities()), table)?;
        drop(self.wait_for(PATIENCE, |opening| opening.arrived == self.count)?);
        self.begin(core, seat, device)
    }

    /// A core is there, with a queue or without.
    fn arrive(
        &self,
        core: usize,
        capabilities: Option<Capabilities>,
        table: Option<Table>,
    ) -> io::Result<Seat> {
        let mut opening = self.opening();
        let seat = opening.seats.get_mut(core).and_then(Option::take);
        let seat = seat.ok_or_else(|| {
            let text = format!("core {core} of {}: its place is taken, or there is none", self.count);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        opening.capabilities[core] = capabilities;
        if core == 0 {
            let _ = self.table.set(table.unwrap_or_else(|| Table::even(self.count)));
        }
        opening.arrived += 1;
        self.changed.notify_all();
        Ok(seat)
    }

    /// All are there.
    fn begin(
        self: &Arc<Cores>,
        core: usize,
        seat: Seat,
        device: Option<Box<dyn FrameDevice>>,
    ) -> io::Result<(SharedPort, Rc<Place>)> {
        let mut opening = self.opening();
        // What the devices shared while they were opened goes with them.
        opening.shared = Shared::default();
        let queues = opening.capabilities.iter().take_while(|known| known.is_some()).count();
        if queues == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the first core has no queue of the port",
            ));
        }
        // Whoever has no queue sends through one of those that have, in turn.
        let sender = core % queues;
        let clients = (queues..self.count).filter(|other| device.is_some() && other % queues == core);
        let to_send = clients.filter_map(|other| opening.to_send[other].take()).collect();
        let capabilities = opening.capabilities[sender].expect("the first ones have a queue");
        drop(opening);
        let place = Rc::new(Place::new(self.clone(), core, seat, sender, &capabilities));
        Ok((SharedPort::new(place.clone(), device, to_send, capabilities), place))
    }

    /// The first core has its addresses, and so others can begin.
    pub(crate) fn set_configured(&self) {
        self.opening().is_configured = true;
        self.changed.notify_all();
    }

    /// Whether it has.
    ///
    /// # Errors
    /// That of a core that has failed.
    pub(crate) fn is_configured(&self) -> io::Result<bool> {
        let opening = self.opening();
        match &opening.failed {
            Some((core, kind, text)) => Err(io::Error::new(*kind, format!("core {core}: {text}"))),
            None => Ok(opening.is_configured),
        }
    }

    /// A core is done with its own.
    fn finish(&self, core: usize) {
        self.done.fetch_or(1 << core, Ordering::AcqRel);
        self.bells.iter().for_each(Bell::ring);
    }

    fn are_all_done(&self) -> bool {
        self.done.load(Ordering::Acquire).count_ones() as usize >= self.count
    }

    fn core_of_hash(&self, hash: u32) -> usize {
        // The first core has set it before others went on.
        self.table.get().map_or(0, |table| table.core(hash))
    }
}

impl std::fmt::Debug for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cores").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Rings from each core to each other.
fn seats(count: usize) -> (Vec<Option<Seat>>, Vec<Option<Consumer<Parcel>>>) {
    let (mut seats, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (out, to_send) = ring(RING);
        let (toward, from) = ((0..count).map(|_| None).collect(), (0..count).map(|_| None).collect());
        seats.push(Seat { toward, from, out });
        sending.push(Some(to_send));
    }
    for one in 0..count {
        for other in (0..count).filter(|other| *other != one) {
            let (producer, consumer) = ring(RING);
            seats[one].toward[other] = Some(producer);
            seats[other].from[one] = Some(consumer);
        }
    }
    (seats.into_iter().map(Some).collect(), sending)
}
