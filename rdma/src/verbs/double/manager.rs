//! The connection manager of the double.
//!
//! It works as far as a packet gets each time: events come at once, in the order in which they would come.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::ptr::{self, NonNull};
use std::slice;

use super::super::cm::socket_address::{of_raw, to_raw};
use super::super::raw::*;
use super::{ADDRESS, Bell, device, make, set_errno, unmake, world};

/// What reasons of rejections are on a wire.
const INVALID_SERVICE: c_int = 8;
const CONSUMER: c_int = 28;

#[repr(C)]
struct Channel {
    raw: rdma_event_channel,
    bell: Bell,
    events: VecDeque<Box<Event>>,
}

/// An event with what it points to.
#[repr(C)]
struct Event {
    raw: rdma_cm_event,
    data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Idle,
    Listening(usize),
    Resolved,
    Routed,
    /// Has asked.
    Asking,
    /// Is asked, and has not answered.
    Asked,
    /// Has accepted, and waits for the other side.
    Accepted,
    /// Is accepted, and has not gone on.
    Answered,
    Connected,
    Over,
}

/// An id. Others have a pointer to its first field.
#[repr(C)]
pub(super) struct Id {
    raw: rdma_cm_id,
    state: State,
    peer: *mut Id,
    /// Of a request: the listener that it is of.
    listener: *mut Id,
    /// The number of this side's queue pair.
    number: u32,
    depths: (u8, u8),
    retries: u8,
    /// The context that [`device_name`](super::super::ConnectionId::device_name) looks at.
    context: *mut ibv_context,
}

pub(super) unsafe extern "C" fn create_channel() -> *mut rdma_event_channel {
    let Ok(bell) = Bell::new() else { return ptr::null_mut() };
    make(Channel { raw: rdma_event_channel { fd: bell.0 }, bell, events: VecDeque::new() }).cast()
}

pub(super) unsafe extern "C" fn destroy_channel(channel: *mut rdma_event_channel) {
    // SAFETY: made above, and given back.
    unsafe { unmake(channel.cast::<Channel>()) };
}

pub(super) unsafe extern "C" fn get_event(
    channel: *mut rdma_event_channel,
    event: *mut *mut rdma_cm_event,
) -> c_int {
    // SAFETY: it is there.
    let channel = unsafe { &mut *channel.cast::<Channel>() };
    let Some(next) = channel.events.pop_front() else { return fail(libc::EAGAIN) };
    if channel.events.is_empty() {
        channel.bell.quiet();
    }
    // SAFETY: the caller has room for a pointer.
    unsafe { event.write(Box::into_raw(next).cast()) };
    0
}

pub(super) unsafe extern "C" fn acknowledge(event: *mut rdma_cm_event) -> c_int {
    // SAFETY: handed out above, and given back.
    drop(unsafe { Box::from_raw(event.cast::<Event>()) });
    0
}

fn fail(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

/// Tells an id of something.
///
/// # Safety
/// The id is there, and so is the new one if it is a request.
unsafe fn tell(id: *mut Id, what: u32, status: c_int, data: &[u8], new: Option<*mut Id>) {
    // SAFETY: as the caller promises; the channel lives longer.
    unsafe {
        let channel = &mut *(*id).raw.channel.cast::<Channel>();
        let about = new.unwrap_or(id);
        let conn = rdma_conn_param {
            private_data: ptr::null(),
            private_data_len: data.len() as u8,
            responder_resources: (*about).depths.0,
            initiator_depth: (*about).depths.1,
            flow_control: 0,
            retry_count: 7,
            rnr_retry_count: (*about).retries,
            srq: 0,
            qp_num: if (*about).peer.is_null() { 0 } else { (*(*about).peer).number },
        };
        let listen_id = if new.is_some() { id.cast() } else { ptr::null_mut() };
        let raw = rdma_cm_event {
            id: about.cast(),
            listen_id,
            event: what,
            status,
            param: rdma_event_param { conn },
        };
        let mut event = Box::new(Event { raw, data: data.to_vec() });
        if (*id).raw.port_space == RDMA_PS_UDP && what == event::ESTABLISHED {
            let mut ah_attr = ibv_ah_attr { is_global: 1, port_num: 1, ..Default::default() };
            ah_attr.grh.dgid.raw = ADDRESS.to_ipv6_mapped().octets();
            event.raw.param.ud = rdma_ud_param {
                private_data: ptr::null(),
                private_data_len: data.len() as u8,
                ah_attr,
                qp_num: conn.qp_num,
                qkey: RDMA_UDP_QKEY,
            };
        }
        if !data.is_empty() {
            event.raw.param.conn.private_data = event.data.as_ptr().cast();
        }
        channel.events.push_back(event);
        channel.bell.ring();
    }
}

pub(super) unsafe extern "C" fn create(
    channel: *mut rdma_event_channel,
    id: *mut *mut rdma_cm_id,
    context: *mut c_void,
    port_space: c_int,
) -> c_int {
    // SAFETY: the caller has room for a pointer.
    unsafe { id.write(make_id(channel, context, port_space).cast()) };
    0
}

fn make_id(channel: *mut rdma_event_channel, context: *mut c_void, port_space: c_int) -> *mut Id {
    let nowhere = to_raw(SocketAddr::from(([0, 0, 0, 0], 0)));
    let raw = rdma_cm_id {
        verbs: ptr::null_mut(),
        channel,
        context,
        qp: ptr::null_mut(),
        source: nowhere,
        destination: nowhere,
        gids: [0; 4],
        pkey: 0,
        path_record: ptr::null_mut(),
        path_count: 0,
        end_of_route: 0,
        port_space,
        port: 0,
    };
    let null = ptr::null_mut();
    let (peer, listener) = (null, null);
    let id = make(Id {
        raw,
        state: State::Idle,
        peer,
        listener,
        number: 0,
        depths: (0, 0),
        retries: 7,
        context: ptr::null_mut(),
    });
    world(|world| world.ids.borrow_mut().push(NonNull::new(id).expect("a box is somewhere")));
    id
}

pub(super) unsafe extern "C" fn migrate(id: *mut rdma_cm_id, channel: *mut rdma_event_channel) -> c_int {
    // SAFETY: as rdma_migrate_id(3) asks, the caller holds the id, its channel and the new one; the double runs on one thread.
    unsafe {
        let from = &mut *(*id).channel.cast::<Channel>();
        let (moved, left) =
            from.events.drain(..).partition(|event| event.raw.id == id && event.raw.listen_id.is_null());
        from.events = left;
        (*id).channel = channel;
        let to = &mut *channel.cast::<Channel>();
        to.events.extend::<VecDeque<_>>(moved);
        if !to.events.is_empty() {
            to.bell.ring();
        }
    }
    0
}

pub(super) unsafe extern "C" fn destroy(id: *mut rdma_cm_id) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: it is there until now, with its channel.
    unsafe {
        let _ = end(this);
        let channel = &mut *(*this).raw.channel.cast::<Channel>();
        // Requests that nobody has heard of go with their listener.
        let mut unheard = Vec::new();
        channel.events.retain(|event| {
            let is_mine = event.raw.id == id || event.raw.listen_id == id;
            if is_mine && event.raw.id != id {
                unheard.push(event.raw.id);
            }
            !is_mine
        });
        unheard.into_iter().for_each(|request| {
            destroy(request);
        });
        world(|world| {
            let mut ids = world.ids.borrow_mut();
            ids.retain(|other| other.as_ptr() != this);
            for other in ids.iter() {
                let other = other.as_ptr();
                if (*other).listener == this {
                    (*other).listener = ptr::null_mut();
                }
            }
        });
        if !(*this).context.is_null() {
            device::close((*this).context);
        }
        unmake(this);
    }
    0
}

/// Ends whatever there is between an id and its peer.
///
/// # Safety
/// The id is there.
unsafe fn end(this: *mut Id) -> c_int {
    // SAFETY: as the caller promises; a peer is there as long as it is one.
    unsafe {
        let peer = (*this).peer;
        let state = std::mem::replace(&mut (*this).state, State::Over);
        leave_backlog(this);
        if peer.is_null() {
            return fail(libc::EINVAL);
        }
        (*this).peer = ptr::null_mut();
        (*peer).peer = ptr::null_mut();
        match (*peer).state {
            State::Asking => tell(peer, event::REJECTED, CONSUMER, &[], None),
            State::Over => {}
            // The last that a passive side hears whose peer has never gone on.
            State::Accepted => tell(peer, event::REJECTED, CONSUMER, &[], None),
            _ => tell(peer, event::DISCONNECTED, 0, &[], None),
        }
        (*peer).state = State::Over;
        if state == State::Connected {
            tell(this, event::DISCONNECTED, 0, &[], None);
        }
    }
    0
}

/// Gives an id the device.
///
/// # Safety
/// The id is there.
unsafe fn attach(this: *mut Id) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        if (*this).context.is_null() {
            let Ok(context) = device::open() else { return false };
            (*this).context = context.as_ptr();
        }
        (*this).raw.verbs = (*this).context;
        (*this).raw.port = 1;
    }
    true
}

pub(super) unsafe extern "C" fn bind(id: *mut rdma_cm_id, address: *mut libc::sockaddr) -> c_int {
    // SAFETY: both are there, the latter with room for any.
    unsafe {
        let Some(mut address) = of_raw(&*address.cast()) else { return fail(libc::EAFNOSUPPORT) };
        let is_any = address.ip().is_unspecified();
        if !is_any && address.ip() != IpAddr::V4(ADDRESS) {
            return fail(libc::ENODEV);
        }
        if address.port() == 0 {
            address.set_port(world(|world| 32768 + (world.number() % 28000) as u16));
        }
        let this = id.cast::<Id>();
        let space = (*this).raw.port_space;
        let is_taken = world(|world| {
            world.ids.borrow().iter().any(|other| {
                let other = other.as_ptr();
                let is_listener = matches!((*other).state, State::Listening(_));
                is_listener
                    && (*other).raw.port_space == space
                    && of_raw(&(*other).raw.source).is_some_and(|bound| bound.port() == address.port())
            })
        });
        if is_taken {
            return fail(libc::EADDRINUSE);
        }
        (*id).source = to_raw(address);
        if !is_any && !attach(this) {
            return fail(libc::EMFILE);
        }
    }
    0
}

pub(super) unsafe extern "C" fn resolve_address(
    id: *mut rdma_cm_id,
    _: *mut libc::sockaddr,
    to: *mut libc::sockaddr,
    _: c_int,
) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: id and address are there, the latter with room for any.
    unsafe {
        let Some(address) = of_raw(&*to.cast()) else { return fail(libc::EAFNOSUPPORT) };
        if address.ip() != IpAddr::V4(ADDRESS) {
            tell(this, event::ADDR_ERROR, -libc::ENETUNREACH, &[], None);
            return 0;
        }
        if !attach(this) {
            return fail(libc::EMFILE);
        }
        (*id).destination = to_raw(address);
        let port = world(|world| 32768 + (world.number() % 28000) as u16);
        (*id).source = to_raw(SocketAddr::from((ADDRESS, port)));
        (*this).state = State::Resolved;
        tell(this, event::ADDR_RESOLVED, 0, &[], None);
    }
    0
}

pub(super) unsafe extern "C" fn resolve_route(id: *mut rdma_cm_id, _: c_int) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: the id is there.
    unsafe {
        if (*this).state != State::Resolved {
            return fail(libc::EINVAL);
        }
        (*this).state = State::Routed;
        tell(this, event::ROUTE_RESOLVED, 0, &[], None);
    }
    0
}

pub(super) unsafe extern "C" fn listen(id: *mut rdma_cm_id, backlog: c_int) -> c_int {
    // SAFETY: the id is there.
    unsafe { (*id.cast::<Id>()).state = State::Listening(backlog.max(1) as usize) };
    0
}

/// The listener of a port.
fn listener(address: SocketAddr, space: c_int) -> Option<*mut Id> {
    world(|world| {
        let ids = world.ids.borrow();
        // SAFETY: those in the table are there.
        let is_it = |id: &*mut Id| unsafe {
            let bound = of_raw(&(**id).raw.source);
            matches!((**id).state, State::Listening(_))
                && (**id).raw.port_space == space
                && bound.is_some_and(|bound| bound.port() == address.port())
        };
        ids.iter().map(|id| id.as_ptr()).find(is_it)
    })
}

/// # Safety
/// The parameters are there, with the bytes that they name.
unsafe fn data<'a>(parameters: *const rdma_conn_param) -> &'a [u8] {
    // SAFETY: as the caller promises; a pointer to no bytes is not null.
    unsafe { slice::from_raw_parts((*parameters).private_data.cast(), (*parameters).private_data_len.into()) }
}

pub(super) unsafe extern "C" fn connect(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: id and parameters are there.
    unsafe {
        let space = (*id).port_space;
        let most = if space == RDMA_PS_UDP { 180 } else { 56 };
        if (*this).state != State::Routed || (*parameters).private_data_len > most {
            return fail(libc::EINVAL);
        }
        (*this).number = (*parameters).qp_num;
        (*this).retries = (*parameters).rnr_retry_count;
        (*this).depths = ((*parameters).responder_resources, (*parameters).initiator_depth);
        let Some(address) = of_raw(&(*id).destination) else { return fail(libc::EINVAL) };
        let Some(listener) = listener(address, space) else {
            (*this).state = State::Over;
            let (what, status) = match space {
                RDMA_PS_UDP => (event::UNREACHABLE, 1),
                _ => (event::REJECTED, INVALID_SERVICE),
            };
            tell(this, what, status, &[], None);
            return 0;
        };
        match &mut (*listener).state {
            State::Listening(room @ 1..) => *room -= 1,
            // As when nobody answers, and all tries have been made.
            _ => {
                (*this).state = State::Over;
                tell(this, event::UNREACHABLE, -libc::ETIMEDOUT, &[], None);
                return 0;
            }
        }
        (*this).state = State::Asking;
        let request = make_id((*listener).raw.channel, (*listener).raw.context, space);
        (*request).state = State::Asked;
        (*request).listener = listener;
        (*request).retries = (*this).retries;
        // What one side answers is what the other asks.
        (*request).depths = ((*this).depths.1, (*this).depths.0);
        (*request).raw.source = (*id).destination;
        (*request).raw.destination = (*id).source;
        (*request).peer = this;
        (*this).peer = request;
        if !attach(request) {
            return fail(libc::EMFILE);
        }
        tell(listener, event::CONNECT_REQUEST, 0, data(parameters), Some(request));
    }
    0
}

/// A request is one no more.
///
/// # Safety
/// The id is there, and so is its listener if it has one.
unsafe fn leave_backlog(this: *mut Id) {
    // SAFETY: as the caller promises.
    unsafe {
        let listener = std::mem::replace(&mut (*this).listener, ptr::null_mut());
        if let Some(Id { state: State::Listening(room), .. }) = listener.as_mut() {
            *room += 1;
        }
    }
}

pub(super) unsafe extern "C" fn accept(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: id and parameters are there, and a peer as long as it is one.
    unsafe {
        if (*this).state != State::Asked || (*parameters).private_data_len > 196 {
            return fail(libc::EINVAL);
        }
        leave_backlog(this);
        (*this).number = (*parameters).qp_num;
        let peer = (*this).peer;
        if peer.is_null() {
            return fail(libc::EINVAL);
        }
        if (*id).port_space == RDMA_PS_UDP {
            (*this).state = State::Over;
            (*peer).state = State::Over;
            tell(peer, event::ESTABLISHED, 0, data(parameters), None);
            (*peer).peer = ptr::null_mut();
            (*this).peer = ptr::null_mut();
        } else {
            (*this).state = State::Accepted;
            (*peer).state = State::Answered;
            (*peer).depths = ((*parameters).initiator_depth, (*parameters).responder_resources);
            tell(peer, event::CONNECT_RESPONSE, 0, data(parameters), None);
        }
    }
    0
}

pub(super) unsafe extern "C" fn establish(id: *mut rdma_cm_id) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: the id is there, and a peer as long as it is one.
    unsafe {
        if (*this).state != State::Answered {
            return fail(libc::EINVAL);
        }
        (*this).state = State::Connected;
        let peer = (*this).peer;
        if (*peer).state == State::Accepted {
            (*peer).state = State::Connected;
            tell(peer, event::ESTABLISHED, 0, &[], None);
        }
    }
    0
}

pub(super) unsafe extern "C" fn notify(id: *mut rdma_cm_id, _: ibv_event_type) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: the id is there.
    unsafe {
        if (*this).state == State::Accepted {
            (*this).state = State::Connected;
            tell(this, event::ESTABLISHED, 0, &[], None);
        }
    }
    0
}

pub(super) unsafe extern "C" fn reject(id: *mut rdma_cm_id, bytes: *const c_void, len: u8) -> c_int {
    let this = id.cast::<Id>();
    // SAFETY: id and bytes are there, and a peer as long as it is one.
    unsafe {
        if (*this).state != State::Asked || len > 148 {
            return fail(libc::EINVAL);
        }
        leave_backlog(this);
        (*this).state = State::Over;
        let peer = std::mem::replace(&mut (*this).peer, ptr::null_mut());
        if !peer.is_null() {
            (*peer).peer = ptr::null_mut();
            (*peer).state = State::Over;
            let bytes = slice::from_raw_parts(bytes.cast(), len.into());
            tell(peer, event::REJECTED, CONSUMER, bytes, None);
        }
    }
    0
}

pub(super) unsafe extern "C" fn disconnect(id: *mut rdma_cm_id) -> c_int {
    // SAFETY: the id is there.
    unsafe { end(id.cast()) }
}

pub(super) unsafe extern "C" fn attributes(
    id: *mut rdma_cm_id,
    to: *mut ibv_qp_attr,
    mask: *mut c_int,
) -> c_int {
    use ibv_qp_attr_mask as bit;
    let this = id.cast::<Id>();
    // SAFETY: all are there, and a peer as long as it is one.
    unsafe {
        let to = &mut *to;
        let set = match to.qp_state {
            ibv_qp_state::IBV_QPS_INIT => {
                (to.port_num, to.qkey) = (1, RDMA_UDP_QKEY);
                let last = match (*id).port_space {
                    RDMA_PS_UDP => bit::IBV_QP_QKEY,
                    _ => bit::IBV_QP_ACCESS_FLAGS,
                };
                bit::IBV_QP_STATE | bit::IBV_QP_PKEY_INDEX | bit::IBV_QP_PORT | last
            }
            ibv_qp_state::IBV_QPS_RTR => {
                let Some(peer) = (*this).peer.as_ref() else { return fail(libc::EINVAL) };
                to.dest_qp_num = peer.number;
                bit::IBV_QP_STATE | bit::IBV_QP_AV | bit::IBV_QP_PATH_MTU | bit::IBV_QP_DEST_QPN
            }
            _ => {
                to.rnr_retry = (*this).retries;
                bit::IBV_QP_STATE | bit::IBV_QP_TIMEOUT | bit::IBV_QP_RETRY_CNT | bit::IBV_QP_RNR_RETRY
            }
        };
        mask.write(set.0 as c_int);
    }
    0
}
