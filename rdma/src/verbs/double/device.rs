//! Contexts, memory, addresses and events of the double.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::{self, NonNull};

use super::super::raw::*;
use super::{ADDRESS, Bell, NAME, make, queues, set_errno, transfer, unmake, world};

/// The context of an open double. Others have a pointer to its first field.
#[repr(C)]
struct Context {
    raw: ibv_context,
    device: Box<ibv_device>,
    bell: Bell,
    events: VecDeque<ibv_async_event>,
}

pub(super) fn open() -> io::Result<NonNull<ibv_context>> {
    let mut device = Box::new(ibv_device::default());
    for (to, from) in device.name.iter_mut().zip(NAME.bytes()) {
        *to = from as _;
    }
    let bell = Bell::new()?;
    let mut raw = ibv_context { device: &raw mut *device, async_fd: bell.0, ..Default::default() };
    raw.ops.post_send = Some(transfer::post_send);
    raw.ops.post_recv = Some(queues::post_receive);
    raw.ops.post_srq_recv = Some(queues::post_shared);
    raw.ops.poll_cq = Some(queues::poll);
    raw.ops.req_notify_cq = Some(queues::arm);
    let context = make(Context { raw, device, bell, events: VecDeque::new() });
    Ok(NonNull::new(context.cast()).expect("a box is somewhere"))
}

/// Tells of something.
///
/// # Safety
/// The context is a double's, and open.
pub(super) unsafe fn report(context: *mut ibv_context, event: ibv_async_event) {
    // SAFETY: as the caller promises.
    let context = unsafe { &mut *context.cast::<Context>() };
    context.events.push_back(event);
    context.bell.ring();
}

pub(super) unsafe extern "C" fn close(context: *mut ibv_context) -> c_int {
    // SAFETY: made by `open`, and given back.
    unsafe { unmake(context.cast::<Context>()) };
    0
}

pub(super) unsafe extern "C" fn query(_: *mut ibv_context, attributes: *mut ibv_device_attr) -> c_int {
    let limits = ibv_device_attr {
        max_mr_size: 1 << 40,
        max_qp: 1 << 16,
        max_qp_wr: 1 << 14,
        max_sge: 30,
        max_cqe: world(|world| world.completions.get()).unwrap_or(1 << 20) as i32,
        max_qp_rd_atom: 16,
        max_qp_init_rd_atom: 16,
        atomic_cap: IBV_ATOMIC_HCA,
        max_srq: 1 << 10,
        max_srq_wr: 1 << 15,
        max_srq_sge: 1,
        phys_port_cnt: 1,
        ..Default::default()
    };
    // SAFETY: the caller has room for them.
    unsafe { attributes.write(limits) };
    0
}

pub(super) unsafe extern "C" fn query_port(
    _: *mut ibv_context,
    number: u8,
    attributes: *mut _compat_ibv_port_attr,
) -> c_int {
    if number != 1 {
        return libc::EINVAL;
    }
    let port = ibv_port_attr {
        state: ibv_port_state::IBV_PORT_ACTIVE,
        max_mtu: IBV_MTU_4096,
        active_mtu: IBV_MTU_4096,
        gid_tbl_len: 1,
        max_msg_sz: 1 << 30,
        link_layer: IBV_LINK_LAYER_ETHERNET as u8,
        ..Default::default()
    };
    // SAFETY: the caller has room for one of this length.
    unsafe { attributes.cast::<ibv_port_attr>().write(port) };
    0
}

pub(super) unsafe extern "C" fn query_gids(
    _: *mut ibv_context,
    entries: *mut ibv_gid_entry,
    count: usize,
    _: u32,
    _: usize,
) -> isize {
    if count == 0 {
        return 0;
    }
    let raw = ADDRESS.to_ipv6_mapped().octets();
    let entry = ibv_gid_entry {
        gid: ibv_gid { raw },
        port_num: 1,
        gid_type: IBV_GID_TYPE_ROCE_V2,
        ..Default::default()
    };
    // SAFETY: there is room for one.
    unsafe { entries.write(entry) };
    1
}

pub(super) unsafe extern "C" fn get_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int {
    // SAFETY: it is open.
    let context = unsafe { &mut *context.cast::<Context>() };
    let Some(next) = context.events.pop_front() else {
        set_errno(libc::EAGAIN);
        return -1;
    };
    if context.events.is_empty() {
        context.bell.quiet();
    }
    // SAFETY: the caller has room for it.
    unsafe { event.write(next) };
    0
}

pub(super) unsafe extern "C" fn acknowledge_event(_: *mut ibv_async_event) {}

/// Forgets what was to be told of a queue pair that is going.
///
/// # Safety
/// The context is a double's, and open.
pub(super) unsafe fn forget(context: *mut ibv_context, pair: *mut ibv_qp) {
    // SAFETY: as the caller promises.
    let context = unsafe { &mut *context.cast::<Context>() };
    // SAFETY: the pointer is compared, whatever it is of.
    context.events.retain(|event| unsafe { event.element.qp } != pair);
}

pub(super) unsafe extern "C" fn allocate_domain(context: *mut ibv_context) -> *mut ibv_pd {
    make(ibv_pd { context, handle: 0 })
}

pub(super) unsafe extern "C" fn deallocate_domain(domain: *mut ibv_pd) -> c_int {
    // SAFETY: made above, and given back.
    unsafe { unmake(domain) };
    0
}

pub(super) unsafe extern "C" fn register(
    pd: *mut ibv_pd,
    addr: *mut c_void,
    length: usize,
    access: c_int,
) -> *mut ibv_mr {
    world(|world| {
        if world.lockable.get().is_some_and(|most| length > most) {
            set_errno(libc::ENOMEM);
            return ptr::null_mut();
        }
        let key = world.number() << 8 | 0x5a;
        // SAFETY: the domain is there.
        let context = unsafe { (*pd).context };
        let region = make(ibv_mr { context, pd, addr, length, handle: 0, lkey: key, rkey: key });
        world.regions.borrow_mut().insert(key, NonNull::new(region).expect("a box is somewhere"));
        world.access.borrow_mut().insert(key, access as u32);
        region
    })
}

pub(super) unsafe extern "C" fn deregister(region: *mut ibv_mr) -> c_int {
    // The thread may be ending.
    let _ = super::WORLD.try_with(|world| {
        // SAFETY: it is registered until now.
        let key = unsafe { (*region).lkey };
        world.regions.borrow_mut().remove(&key);
        world.access.borrow_mut().remove(&key);
    });
    // SAFETY: made above, and given back.
    unsafe { unmake(region) };
    0
}

/// The memory of `len` bytes at an address, if there is a registration that allows this.
pub(super) fn reach(
    key: u32,
    address: u64,
    len: u64,
    access: u32,
    domain: Option<*mut ibv_pd>,
) -> Option<*mut u8> {
    world(|world| {
        let regions = world.regions.borrow();
        // SAFETY: registered, as it is in the table.
        let region = unsafe { regions.get(&key)?.as_ref() };
        let is_allowed = world.access.borrow().get(&key)? & access == access;
        let offset = address.checked_sub(region.addr as u64)?;
        let is_inside = offset.checked_add(len)? <= region.length as u64;
        let is_mine = domain.is_none_or(|domain| domain == region.pd);
        (is_allowed && is_inside && is_mine).then(|| region.addr.cast::<u8>().wrapping_add(offset as usize))
    })
}

pub(super) unsafe extern "C" fn create_address(pd: *mut ibv_pd, attributes: *mut ibv_ah_attr) -> *mut ibv_ah {
    // SAFETY: both are there, and any bytes are an address.
    let (context, gid, is_global) =
        unsafe { ((*pd).context, (*attributes).grh.dgid.raw, (*attributes).is_global) };
    if is_global == 0 || gid != ADDRESS.to_ipv6_mapped().octets() {
        set_errno(libc::EINVAL);
        return ptr::null_mut();
    }
    make(ibv_ah { context, pd, handle: 0 })
}

pub(super) unsafe extern "C" fn destroy_address(address: *mut ibv_ah) -> c_int {
    // SAFETY: made above, and given back.
    unsafe { unmake(address) };
    0
}
