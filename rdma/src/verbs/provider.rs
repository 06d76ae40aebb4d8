//! Who is behind the raw interfaces: the system's libraries, or the double.
//!
//! What sets things up goes through a table of functions. What moves data (`post_send`, `post_recv`, `post_srq_recv`,
//! `poll_cq`, `req_notify_cq`) is in the context of a device, where each driver puts its own: the double is a driver
//! there like others, and costs no call more.

use std::ffi::{c_int, c_uint, c_void};

use super::raw::*;

/// The functions of libibverbs on an open device. Each is what the function of its name is there, `ibv_` left out.
pub(super) struct Provider {
    pub(super) close_device: unsafe extern "C" fn(*mut ibv_context) -> c_int,
    pub(super) query_device: unsafe extern "C" fn(*mut ibv_context, *mut ibv_device_attr) -> c_int,
    pub(super) query_port: unsafe extern "C" fn(*mut ibv_context, u8, *mut _compat_ibv_port_attr) -> c_int,
    pub(super) query_gid_table:
        unsafe extern "C" fn(*mut ibv_context, *mut ibv_gid_entry, usize, u32, usize) -> isize,
    pub(super) get_async_event: unsafe extern "C" fn(*mut ibv_context, *mut ibv_async_event) -> c_int,
    pub(super) ack_async_event: unsafe extern "C" fn(*mut ibv_async_event),
    pub(super) alloc_pd: unsafe extern "C" fn(*mut ibv_context) -> *mut ibv_pd,
    pub(super) dealloc_pd: unsafe extern "C" fn(*mut ibv_pd) -> c_int,
    pub(super) reg_mr: unsafe extern "C" fn(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr,
    pub(super) dereg_mr: unsafe extern "C" fn(*mut ibv_mr) -> c_int,
    pub(super) create_comp_channel: unsafe extern "C" fn(*mut ibv_context) -> *mut ibv_comp_channel,
    pub(super) destroy_comp_channel: unsafe extern "C" fn(*mut ibv_comp_channel) -> c_int,
    pub(super) get_cq_event:
        unsafe extern "C" fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int,
    pub(super) ack_cq_events: unsafe extern "C" fn(*mut ibv_cq, c_uint),
    pub(super) create_cq: unsafe extern "C" fn(
        *mut ibv_context,
        c_int,
        *mut c_void,
        *mut ibv_comp_channel,
        c_int,
    ) -> *mut ibv_cq,
    pub(super) resize_cq: unsafe extern "C" fn(*mut ibv_cq, c_int) -> c_int,
    pub(super) destroy_cq: unsafe extern "C" fn(*mut ibv_cq) -> c_int,
    pub(super) create_srq: unsafe extern "C" fn(*mut ibv_pd, *mut ibv_srq_init_attr) -> *mut ibv_srq,
    pub(super) modify_srq: unsafe extern "C" fn(*mut ibv_srq, *mut ibv_srq_attr, c_int) -> c_int,
    pub(super) destroy_srq: unsafe extern "C" fn(*mut ibv_srq) -> c_int,
    pub(super) create_qp: unsafe extern "C" fn(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp,
    pub(super) modify_qp: unsafe extern "C" fn(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int,
    pub(super) destroy_qp: unsafe extern "C" fn(*mut ibv_qp) -> c_int,
    pub(super) create_ah: unsafe extern "C" fn(*mut ibv_pd, *mut ibv_ah_attr) -> *mut ibv_ah,
    pub(super) destroy_ah: unsafe extern "C" fn(*mut ibv_ah) -> c_int,
}

/// The system's.
pub(super) static SYSTEM: Provider = Provider {
    close_device: ibv_close_device,
    query_device: ibv_query_device,
    query_port: ibv_query_port,
    query_gid_table: _ibv_query_gid_table,
    get_async_event: ibv_get_async_event,
    ack_async_event: ibv_ack_async_event,
    alloc_pd: ibv_alloc_pd,
    dealloc_pd: ibv_dealloc_pd,
    reg_mr: ibv_reg_mr,
    dereg_mr: ibv_dereg_mr,
    create_comp_channel: ibv_create_comp_channel,
    destroy_comp_channel: ibv_destroy_comp_channel,
    get_cq_event: ibv_get_cq_event,
    ack_cq_events: ibv_ack_cq_events,
    create_cq: ibv_create_cq,
    resize_cq: ibv_resize_cq,
    destroy_cq: ibv_destroy_cq,
    create_srq: ibv_create_srq,
    modify_srq: ibv_modify_srq,
    destroy_srq: ibv_destroy_srq,
    create_qp: ibv_create_qp,
    modify_qp: ibv_modify_qp,
    destroy_qp: ibv_destroy_qp,
    create_ah: ibv_create_ah,
    destroy_ah: ibv_destroy_ah,
};

/// The functions of librdmacm that are used. Each is what the function of its name is there, `rdma_` left out; `migrate` is
/// `rdma_migrate_id`.
pub(super) struct Manager {
    pub(super) create_event_channel: unsafe extern "C" fn() -> *mut rdma_event_channel,
    pub(super) destroy_event_channel: unsafe extern "C" fn(*mut rdma_event_channel),
    pub(super) get_cm_event: unsafe extern "C" fn(*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int,
    pub(super) ack_cm_event: unsafe extern "C" fn(*mut rdma_cm_event) -> c_int,
    pub(super) create_id:
        unsafe extern "C" fn(*mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, c_int) -> c_int,
    pub(super) destroy_id: unsafe extern "C" fn(*mut rdma_cm_id) -> c_int,
    pub(super) migrate: unsafe extern "C" fn(*mut rdma_cm_id, *mut rdma_event_channel) -> c_int,
    pub(super) bind_addr: unsafe extern "C" fn(*mut rdma_cm_id, *mut libc::sockaddr) -> c_int,
    pub(super) resolve_addr:
        unsafe extern "C" fn(*mut rdma_cm_id, *mut libc::sockaddr, *mut libc::sockaddr, c_int) -> c_int,
    pub(super) resolve_route: unsafe extern "C" fn(*mut rdma_cm_id, c_int) -> c_int,
    pub(super) listen: unsafe extern "C" fn(*mut rdma_cm_id, c_int) -> c_int,
    pub(super) connect: unsafe extern "C" fn(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int,
    pub(super) accept: unsafe extern "C" fn(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int,
    pub(super) establish: unsafe extern "C" fn(*mut rdma_cm_id) -> c_int,
    pub(super) reject: unsafe extern "C" fn(*mut rdma_cm_id, *const c_void, u8) -> c_int,
    pub(super) disconnect: unsafe extern "C" fn(*mut rdma_cm_id) -> c_int,
    pub(super) notify: unsafe extern "C" fn(*mut rdma_cm_id, ibv_event_type) -> c_int,
    pub(super) init_qp_attr: unsafe extern "C" fn(*mut rdma_cm_id, *mut ibv_qp_attr, *mut c_int) -> c_int,
}

/// The system's.
pub(super) static SYSTEM_MANAGER: Manager = Manager {
    create_event_channel: rdma_create_event_channel,
    destroy_event_channel: rdma_destroy_event_channel,
    get_cm_event: rdma_get_cm_event,
    ack_cm_event: rdma_ack_cm_event,
    create_id: rdma_create_id,
    destroy_id: rdma_destroy_id,
    migrate: rdma_migrate_id,
    bind_addr: rdma_bind_addr,
    resolve_addr: rdma_resolve_addr,
    resolve_route: rdma_resolve_route,
    listen: rdma_listen,
    connect: rdma_connect,
    accept: rdma_accept,
    establish: rdma_establish,
    reject: rdma_reject,
    disconnect: rdma_disconnect,
    notify: rdma_notify,
    init_qp_attr: rdma_init_qp_attr,
};
