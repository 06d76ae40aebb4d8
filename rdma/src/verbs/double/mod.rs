//! A device in the process, which completes at once: for tests without a device, and for counting instructions.
//!
//! It is a driver like others as far as the rest of this room knows, with a connection manager beside it, and carries
//! out what it is given on the memory of the process: it looks at keys, bounds and access as real devices do, and fails
//! as they do. Devices that one thread opens reach each other, and those of no other thread. All have the address
//! [`ADDRESS`].
//!
//! The functions below have it fail, or wait, on purpose.

mod device; // contexts, memory, events
mod manager; // the connection manager
mod queues; // queue pairs, shared and completion queues
mod transfer; // what is carried out

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::ptr::{self, NonNull};

use super::cm::EventChannel;
use super::device::Device;
use super::error::Status;
use super::provider::{Manager, Provider};
use super::raw::*;

/// The address of every double.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// How it is called.
pub const NAME: &str = "double";

/// Bytes that go inline.
const INLINE: u32 = 188;

/// Opens it.
///
/// # Errors
/// If the process may have no more descriptors.
pub fn device() -> io::Result<Device> {
    let context = device::open()?;
    // SAFETY: just opened, and its functions are these.
    unsafe { Device::new(context, &PROVIDER, NAME.to_owned()) }
}

/// A channel of its connection manager.
///
/// # Errors
/// If the process may have no more descriptors.
pub fn event_channel() -> io::Result<EventChannel> {
    EventChannel::of(&MANAGER)
}

/// What the doubles of a thread have in common.
#[derive(Default)]
struct World {
    pairs: RefCell<HashMap<u32, NonNull<queues::Pair>>>,
    regions: RefCell<HashMap<u32, NonNull<ibv_mr>>>,
    access: RefCell<HashMap<u32, u32>>,
    ids: RefCell<Vec<NonNull<manager::Id>>>,
    next: Cell<u32>,
    /// Whatever has been made and not destroyed.
    alive: Cell<usize>,
    held: Cell<bool>,
    failure: Cell<Option<u32>>,
    refusal: Cell<Option<i32>>,
    lockable: Cell<Option<usize>>,
    numbered: Cell<Option<u32>>,
    completions: Cell<Option<u32>>,
}

thread_local! {
    static WORLD: World = World::default();
}

fn world<R>(look: impl FnOnce(&World) -> R) -> R {
    WORLD.with(look)
}

impl World {
    /// A number that nobody has. Those of queue pairs are far from each other, as some devices' are.
    fn number(&self) -> u32 {
        let number = self.next.get() + 1;
        self.next.set(number);
        number
    }
}

/// Has sends wait, or go on.
pub fn hold(is_held: bool) {
    world(|world| world.held.set(is_held));
    if !is_held {
        transfer::go_on();
    }
}

/// Has the next send fail with this status.
///
/// # Panics
/// If no device has such a status.
pub fn fail_next(status: Status) {
    let raw = (1..24).find(|raw| Status::of(*raw) == Some(status)).expect("a status of devices");
    world(|world| world.failure.set(Some(raw)));
}

/// Has the next post of whatever kind be refused with this errno.
pub fn refuse_next(errno: i32) {
    world(|world| world.refusal.set(Some(errno)));
}

/// Lets no more memory be registered than this in one piece, or as much as one likes.
pub fn lock_at_most(bytes: Option<usize>) {
    world(|world| world.lockable.set(bytes));
}

/// Has devices that are opened from now on say that their completion queues hold so many at most, or as many as one likes.
pub fn complete_at_most(completions: Option<u32>) {
    world(|world| world.completions.set(completions));
}

/// Has a queue pair, by its number, answer nothing any more, as if its machine were dead.
pub fn kill(number: u32) {
    world(|world| world.pairs.borrow_mut().remove(&number));
}

/// How many routers the packets of queue pairs would pass: of all that there are, in no order.
pub fn hop_limits() -> Vec<u8> {
    // SAFETY: those in the table are there.
    world(|world| world.pairs.borrow().values().map(|pair| unsafe { (*pair.as_ptr()).hops }).collect())
}

/// Has the next queue pair get this number, as devices give out numbers again.
///
/// # Panics
/// If a queue pair has it.
pub fn number_next(number: u32) {
    world(|world| {
        assert!(!world.pairs.borrow().contains_key(&number), "queue pair {number} is there");
        world.numbered.set(Some(number));
    });
}

/// How many things there are of it: contexts, domains, registrations, queues, channels, ids.
pub fn alive() -> usize {
    world(|world| world.alive.get())
}

/// What tells the doubles of this thread from those of others.
pub(crate) fn realm() -> usize {
    world(|world| ptr::from_ref(world) as usize)
}

fn born() {
    world(|world| world.alive.set(world.alive.get() + 1));
}

fn died() {
    // Not when the thread ends and this is gone already.
    let _ = WORLD.try_with(|world| world.alive.set(world.alive.get() - 1));
}

/// Gives away a new thing.
fn make<T>(thing: T) -> *mut T {
    born();
    Box::into_raw(Box::new(thing))
}

/// Takes it back.
///
/// # Safety
/// It was given away by [`make`], as this type, and nobody has it any more.
unsafe fn unmake<T>(thing: *mut T) {
    died();
    // SAFETY: as the caller promises.
    drop(unsafe { Box::from_raw(thing) });
}

/// A descriptor that others wait for.
struct Bell(i32);

impl Bell {
    fn new() -> io::Result<Bell> {
        // SAFETY: it makes a descriptor.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(Bell(descriptor)) }
    }

    fn ring(&self) {
        let one = 1_u64;
        // SAFETY: 8 bytes are written, as a descriptor of this kind takes.
        unsafe { libc::write(self.0, (&raw const one).cast(), 8) };
    }

    fn quiet(&self) {
        let mut count = 0_u64;
        // SAFETY: 8 bytes are read, as a descriptor of this kind gives.
        unsafe { libc::read(self.0, (&raw mut count).cast(), 8) };
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: it is this one's.
        unsafe { libc::close(self.0) };
    }
}

fn set_errno(errno: i32) {
    // SAFETY: the thread's own.
    unsafe { *libc::__errno_location() = errno };
}

static PROVIDER: Provider = Provider {
    close_device: device::close,
    query_device: device::query,
    query_port: device::query_port,
    query_gid_table: device::query_gids,
    get_async_event: device::get_event,
    ack_async_event: device::acknowledge_event,
    alloc_pd: device::allocate_domain,
    dealloc_pd: device::deallocate_domain,
    reg_mr: device::register,
    dereg_mr: device::deregister,
    create_comp_channel: queues::create_channel,
    destroy_comp_channel: queues::destroy_channel,
    get_cq_event: queues::get_notification,
    ack_cq_events: queues::acknowledge_notifications,
    create_cq: queues::create_completions,
    resize_cq: queues::resize_completions,
    destroy_cq: queues::destroy_completions,
    create_srq: queues::create_shared,
    modify_srq: queues::modify_shared,
    destroy_srq: queues::destroy_shared,
    create_qp: queues::create_pair,
    modify_qp: queues::modify_pair,
    destroy_qp: queues::destroy_pair,
    create_ah: device::create_address,
    destroy_ah: device::destroy_address,
};

static MANAGER: Manager = Manager {
    create_event_channel: manager::create_channel,
    destroy_event_channel: manager::destroy_channel,
    get_cm_event: manager::get_event,
    ack_cm_event: manager::acknowledge,
    create_id: manager::create,
    destroy_id: manager::destroy,
    migrate: manager::migrate,
    bind_addr: manager::bind,
    resolve_addr: manager::resolve_address,
    resolve_route: manager::resolve_route,
    listen: manager::listen,
    connect: manager::connect,
    accept: manager::accept,
    establish: manager::establish,
    reject: manager::reject,
    disconnect: manager::disconnect,
    notify: manager::notify,
    init_qp_attr: manager::attributes,
};
