//! The raw interfaces: libibverbs as `ibverbs-sys` declares it, and what is used of librdmacm, for which there is no crate
//! of that kind.

use std::ffi::{c_int, c_void};

// For librdmacm, which it has the linker look in.
use demikernel_rdma_system as _;
pub(super) use ibverbs_sys::*;

/// `struct rdma_event_channel`.
#[repr(C)]
pub(super) struct rdma_event_channel {
    pub(super) fd: c_int,
}

/// `struct rdma_cm_id`. The library makes these; what follows the fields that are read here is left out.
#[repr(C)]
pub(super) struct rdma_cm_id {
    /// Of the library's own; none before an address is bound or resolved.
    pub(super) verbs: *mut ibv_context,
    pub(super) channel: *mut rdma_event_channel,
    /// The user's.
    pub(super) context: *mut c_void,
    pub(super) qp: *mut ibv_qp,
    pub(super) source: libc::sockaddr_storage,
    pub(super) destination: libc::sockaddr_storage,
    pub(super) gids: [u64; 4],
    pub(super) pkey: u16,
    pub(super) path_record: *mut c_void,
    pub(super) path_count: c_int,
    pub(super) end_of_route: u32,
    pub(super) port_space: c_int,
    pub(super) port: u8,
}

/// `struct rdma_conn_param`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct rdma_conn_param {
    pub(super) private_data: *const c_void,
    pub(super) private_data_len: u8,
    pub(super) responder_resources: u8,
    pub(super) initiator_depth: u8,
    pub(super) flow_control: u8,
    pub(super) retry_count: u8,
    pub(super) rnr_retry_count: u8,
    pub(super) srq: u8,
    pub(super) qp_num: u32,
}

/// `struct rdma_ud_param`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct rdma_ud_param {
    pub(super) private_data: *const c_void,
    pub(super) private_data_len: u8,
    pub(super) ah_attr: ibv_ah_attr,
    pub(super) qp_num: u32,
    pub(super) qkey: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union rdma_event_param {
    pub(super) conn: rdma_conn_param,
    pub(super) ud: rdma_ud_param,
}

/// `struct rdma_cm_event`.
#[repr(C)]
pub(super) struct rdma_cm_event {
    pub(super) id: *mut rdma_cm_id,
    pub(super) listen_id: *mut rdma_cm_id,
    pub(super) event: u32,
    pub(super) status: c_int,
    pub(super) param: rdma_event_param,
}

// As the C compiler lays them out, which the structures that others fill in depend on.
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(rdma_cm_id, destination) == 32 + 128);
    assert!(offset_of!(rdma_cm_id, path_record) == 32 + 256 + 40);
    assert!(offset_of!(rdma_cm_id, port_space) == 344 && offset_of!(rdma_cm_id, port) == 348);
    assert!(size_of::<rdma_conn_param>() == 24);
    assert!(offset_of!(rdma_ud_param, qp_num) == 48 && size_of::<rdma_ud_param>() == 56);
    assert!(offset_of!(rdma_cm_event, param) == 24);
};

/// `enum rdma_cm_event_type`.
pub(super) mod event {
    pub(in crate::verbs) const ADDR_RESOLVED: u32 = 0;
    pub(in crate::verbs) const ADDR_ERROR: u32 = 1;
    pub(in crate::verbs) const ROUTE_RESOLVED: u32 = 2;
    pub(in crate::verbs) const ROUTE_ERROR: u32 = 3;
    pub(in crate::verbs) const CONNECT_REQUEST: u32 = 4;
    pub(in crate::verbs) const CONNECT_RESPONSE: u32 = 5;
    pub(in crate::verbs) const CONNECT_ERROR: u32 = 6;
    pub(in crate::verbs) const UNREACHABLE: u32 = 7;
    pub(in crate::verbs) const REJECTED: u32 = 8;
    pub(in crate::verbs) const ESTABLISHED: u32 = 9;
    pub(in crate::verbs) const DISCONNECTED: u32 = 10;
    pub(in crate::verbs) const DEVICE_REMOVAL: u32 = 11;
    pub(in crate::verbs) const ADDR_CHANGE: u32 = 14;
    pub(in crate::verbs) const TIMEWAIT_EXIT: u32 = 15;
}

/// `enum rdma_port_space`.
pub(super) const RDMA_PS_TCP: c_int = 0x0106;
pub(super) const RDMA_PS_UDP: c_int = 0x0111;

/// The key of all datagram queue pairs that the connection manager joins.
pub(super) const RDMA_UDP_QKEY: u32 = 0x0123_4567;

// Linked by `demikernel-rdma-system`.
unsafe extern "C" {
    pub(super) fn rdma_create_event_channel() -> *mut rdma_event_channel;
    pub(super) fn rdma_destroy_event_channel(channel: *mut rdma_event_channel);
    pub(super) fn rdma_get_cm_event(
        channel: *mut rdma_event_channel,
        event: *mut *mut rdma_cm_event,
    ) -> c_int;
    pub(super) fn rdma_ack_cm_event(event: *mut rdma_cm_event) -> c_int;
    pub(super) fn rdma_create_id(
        channel: *mut rdma_event_channel,
        id: *mut *mut rdma_cm_id,
        context: *mut c_void,
        port_space: c_int,
    ) -> c_int;
    pub(super) fn rdma_destroy_id(id: *mut rdma_cm_id) -> c_int;
    pub(super) fn rdma_migrate_id(id: *mut rdma_cm_id, channel: *mut rdma_event_channel) -> c_int;
    pub(super) fn rdma_bind_addr(id: *mut rdma_cm_id, address: *mut libc::sockaddr) -> c_int;
    pub(super) fn rdma_resolve_addr(
        id: *mut rdma_cm_id,
        source: *mut libc::sockaddr,
        destination: *mut libc::sockaddr,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rdma_resolve_route(id: *mut rdma_cm_id, timeout_ms: c_int) -> c_int;
    pub(super) fn rdma_listen(id: *mut rdma_cm_id, backlog: c_int) -> c_int;
    pub(super) fn rdma_connect(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int;
    pub(super) fn rdma_accept(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int;
    pub(super) fn rdma_establish(id: *mut rdma_cm_id) -> c_int;
    pub(super) fn rdma_reject(id: *mut rdma_cm_id, data: *const c_void, len: u8) -> c_int;
    pub(super) fn rdma_disconnect(id: *mut rdma_cm_id) -> c_int;
    pub(super) fn rdma_notify(id: *mut rdma_cm_id, event: ibv_event_type) -> c_int;
    pub(super) fn rdma_init_qp_attr(
        id: *mut rdma_cm_id,
        attributes: *mut ibv_qp_attr,
        mask: *mut c_int,
    ) -> c_int;
}
