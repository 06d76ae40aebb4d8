//! As much of librdmacm as two ends take that find each other.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use ibverbs_sys::{ibv_context, ibv_pd, ibv_qp, ibv_qp_init_attr};

/// `enum rdma_cm_event_type`.
pub(super) mod event {
    pub(crate) const ADDRESS_RESOLVED: u32 = 0;
    pub(crate) const ROUTE_RESOLVED: u32 = 2;
    pub(crate) const REQUEST: u32 = 4;
    pub(crate) const ESTABLISHED: u32 = 9;
}

const PORT_SPACE_TCP: c_int = 0x0106;
const TIMEOUT_MS: c_int = 5000;

/// The beginning of `struct rdma_cm_id`.
#[repr(C)]
struct Id {
    verbs: *mut ibv_context,
    channel: *mut c_void,
    context: *mut c_void,
    pair: *mut ibv_qp,
}

/// The beginning of `struct rdma_cm_event`.
#[repr(C)]
struct Event {
    id: *mut Id,
    listener: *mut Id,
    event: u32,
    status: c_int,
}

/// `struct rdma_conn_param`.
#[repr(C)]
struct Parameters {
    private_data: *const c_void,
    private_data_len: u8,
    responder_resources: u8,
    initiator_depth: u8,
    flow_control: u8,
    retry_count: u8,
    rnr_retry_count: u8,
    srq: u8,
    number: u32,
}

unsafe extern "C" {
    fn rdma_create_event_channel() -> *mut c_void;
    fn rdma_get_cm_event(channel: *mut c_void, event: *mut *mut Event) -> c_int;
    fn rdma_ack_cm_event(event: *mut Event) -> c_int;
    fn rdma_create_id(channel: *mut c_void, id: *mut *mut Id, context: *mut c_void, space: c_int) -> c_int;
    fn rdma_bind_addr(id: *mut Id, address: *mut libc::sockaddr) -> c_int;
    fn rdma_listen(id: *mut Id, backlog: c_int) -> c_int;
    fn rdma_get_src_port(id: *mut Id) -> u16;
    fn rdma_resolve_addr(id: *mut Id, from: *mut libc::sockaddr, to: *mut libc::sockaddr, ms: c_int)
    -> c_int;
    fn rdma_resolve_route(id: *mut Id, ms: c_int) -> c_int;
    fn rdma_create_qp(id: *mut Id, domain: *mut ibv_pd, attributes: *mut ibv_qp_init_attr) -> c_int;
    fn rdma_connect(id: *mut Id, parameters: *mut Parameters) -> c_int;
    fn rdma_accept(id: *mut Id, parameters: *mut Parameters) -> c_int;
}

fn check(what: &str, code: c_int) -> io::Result<()> {
    let error = || io::Error::other(format!("{what}: {}", io::Error::last_os_error()));
    if code == 0 { Ok(()) } else { Err(error()) }
}

fn parameters() -> Parameters {
    Parameters {
        private_data: ptr::null(),
        private_data_len: 0,
        responder_resources: 0,
        initiator_depth: 0,
        flow_control: 0,
        retry_count: 6,
        rnr_retry_count: 7,
        srq: 0,
        number: 0,
    }
}

/// An address as the library takes it.
fn raw(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: numbers, all of which may be zero; and the storage has room for either address.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        match address {
            SocketAddr::V4(address) => {
                let into = (&raw mut storage).cast::<libc::sockaddr_in>();
                (*into).sin_family = libc::AF_INET as u16;
                (*into).sin_port = address.port().to_be();
                (*into).sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            }
            SocketAddr::V6(address) => {
                let into = (&raw mut storage).cast::<libc::sockaddr_in6>();
                (*into).sin6_family = libc::AF_INET6 as u16;
                (*into).sin6_port = address.port().to_be();
                (*into).sin6_addr.s6_addr = address.ip().octets();
                (*into).sin6_scope_id = address.scope_id();
            }
        }
        storage
    }
}

/// A connection, or what becomes one. It stays as long as the program.
pub(super) struct Manager {
    channel: *mut c_void,
    id: *mut Id,
}

// What is called is there, as nothing is ever given back.
impl Manager {
    pub(super) fn new() -> io::Result<Manager> {
        // SAFETY: the library says where things are.
        unsafe {
            let (channel, mut id) = (rdma_create_event_channel(), ptr::null_mut());
            check("make a channel", if channel.is_null() { -1 } else { 0 })?;
            let made = rdma_create_id(channel, &mut id, ptr::null_mut(), PORT_SPACE_TCP);
            check("make an identifier", made)?;
            Ok(Manager { channel, id })
        }
    }

    pub(super) fn listen(&self, address: IpAddr) -> io::Result<()> {
        let mut address = raw(SocketAddr::new(address, 0));
        // SAFETY: see above.
        unsafe {
            check("bind", rdma_bind_addr(self.id, (&raw mut address).cast()))?;
            check("listen", rdma_listen(self.id, 1))
        }
    }

    pub(super) fn port(&self) -> u16 {
        // SAFETY: see above.
        u16::from_be(unsafe { rdma_get_src_port(self.id) })
    }

    pub(super) fn resolve_address(&self, to: SocketAddr) -> io::Result<()> {
        let mut to = raw(to);
        // SAFETY: see above.
        let started =
            unsafe { rdma_resolve_addr(self.id, ptr::null_mut(), (&raw mut to).cast(), TIMEOUT_MS) };
        check("resolve the address", started)
    }

    pub(super) fn resolve_route(&self) -> io::Result<()> {
        // SAFETY: see above.
        check("resolve the route", unsafe { rdma_resolve_route(self.id, TIMEOUT_MS) })
    }

    pub(super) fn connect(&self) -> io::Result<()> {
        // SAFETY: see above.
        check("connect", unsafe { rdma_connect(self.id, &mut parameters()) })
    }

    pub(super) fn accept(&self) -> io::Result<()> {
        // SAFETY: see above.
        check("accept", unsafe { rdma_accept(self.id, &mut parameters()) })
    }

    /// Waits for the next event, which is to be this, and says of which connection it is.
    pub(super) fn next(&self, wanted: u32) -> io::Result<Manager> {
        // SAFETY: see above; the event is there until it is acknowledged.
        unsafe {
            let mut event = ptr::null_mut();
            check("wait for an event", rdma_get_cm_event(self.channel, &mut event))?;
            let (id, came, status) = ((*event).id, (*event).event, (*event).status);
            rdma_ack_cm_event(event);
            if came != wanted {
                return Err(io::Error::other(format!("event {came} ({status}) of the connection manager")));
            }
            Ok(Manager { channel: self.channel, id })
        }
    }

    /// The device, once it is known.
    pub(super) fn context(&self) -> *mut ibv_context {
        // SAFETY: see above.
        unsafe { (*self.id).verbs }
    }

    /// Makes the queue pair of the connection.
    ///
    /// # Safety
    /// The domain and the queues in the attributes are there, and stay.
    pub(super) unsafe fn make_pair(
        &self,
        domain: *mut ibv_pd,
        attributes: &mut ibv_qp_init_attr,
    ) -> io::Result<*mut ibv_qp> {
        // SAFETY: see above, and as the caller promises.
        unsafe {
            check("make a queue pair", rdma_create_qp(self.id, domain, attributes))?;
            Ok((*self.id).pair)
        }
    }
}
