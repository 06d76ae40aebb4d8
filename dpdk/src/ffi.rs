//! What `shim.h` declares. Whoever changes one changes the other.

use std::ffi::{c_char, c_int, c_void};

/// `struct rte_mempool`.
#[repr(C)]
pub(crate) struct Mempool {
    _opaque: [u8; 0],
}

/// `struct dk_interrupt`.
#[repr(C)]
pub(crate) struct Interrupt {
    _opaque: [u8; 0],
}

/// `struct rte_mbuf`.
#[repr(C)]
pub(crate) struct Mbuf {
    _opaque: [u8; 0],
}

/// Bytes of the record behind an mbuf's header.
pub(crate) const OWNER_SIZE: usize = 16;

/// Of an mbuf's header.
pub(crate) const MBUF_SIZE: usize = 128;

/// `struct dk_stack`.
#[repr(C)]
pub(crate) struct Stack {
    pub(crate) count: u32,
    pub(crate) settled: u32,
    pub(crate) capacity: u32,
    pub(crate) foreign_count: u32,
    pub(crate) objects: *mut *mut Mbuf,
    pub(crate) foreign: *mut *mut Mbuf,
    pub(crate) owner: *const c_void,
    pub(crate) lock: u32,
    pub(crate) closed: u32,
}

/// `struct dk_segment_in`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SegmentIn {
    pub(crate) mbuf: *mut Mbuf,
    pub(crate) data: *const u8,
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) hash: u32,
}

pub(crate) const IN_LAST: u32 = 1 << 0;
pub(crate) const IN_OWN: u32 = 1 << 1;
pub(crate) const IN_IP_GOOD: u32 = 1 << 2;
pub(crate) const IN_L4_GOOD: u32 = 1 << 3;
pub(crate) const IN_HASH: u32 = 1 << 4;
pub(crate) const IN_IP_BAD: u32 = 1 << 5;
pub(crate) const IN_L4_BAD: u32 = 1 << 6;
/// What takes a closer look, or not, if only the first two are set of them.
pub(crate) const IN_KIND: u32 = IN_LAST | IN_OWN | IN_IP_BAD | IN_L4_BAD;

/// `struct dk_segment_out`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SegmentOut {
    pub(crate) mbuf: *mut Mbuf,
    pub(crate) data: *const u8,
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) l2_length: u16,
    pub(crate) l3_length: u16,
    pub(crate) l4_length: u16,
    pub(crate) segment_size: u16,
}

pub(crate) const OUT_LAST: u32 = 1 << 0;
pub(crate) const OUT_IP_CHECKSUM: u32 = 1 << 1;
pub(crate) const OUT_TCP_CHECKSUM: u32 = 1 << 2;
pub(crate) const OUT_UDP_CHECKSUM: u32 = 1 << 3;
pub(crate) const OUT_V6: u32 = 1 << 4;

/// `struct dk_port_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PortInfo {
    pub(crate) driver: [c_char; 64],
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u16,
    pub(crate) max_mtu: u16,
    pub(crate) max_rx_queues: u16,
    pub(crate) max_tx_queues: u16,
    pub(crate) max_segments: u16,
    pub(crate) socket: i32,
}

pub(crate) const CAN_TX_IP_CHECKSUM: u32 = 1 << 0;
pub(crate) const CAN_TX_TCP_CHECKSUM: u32 = 1 << 1;
pub(crate) const CAN_TX_UDP_CHECKSUM: u32 = 1 << 2;
pub(crate) const CAN_TX_TSO: u32 = 1 << 3;
pub(crate) const CAN_TX_SEGMENTS: u32 = 1 << 4;

/// `struct dk_port_setup`.
#[repr(C)]
pub(crate) struct PortSetup {
    pub(crate) queues: u16,
    pub(crate) rx_descriptors: u16,
    pub(crate) tx_descriptors: u16,
    pub(crate) mtu: u16,
    pub(crate) offloads: u32,
    pub(crate) hash_key: *const u8,
    pub(crate) hash_key_length: u32,
    pub(crate) interrupts: u32,
}

/// `struct dk_link`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) speed: u32,
    pub(crate) up: u8,
    pub(crate) full_duplex: u8,
}

/// `struct dk_counter`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    pub(crate) name: [c_char; 64],
    pub(crate) value: u64,
}

/// `dk_log_callback`.
pub(crate) type LogCallback = unsafe extern "C" fn(level: u32, text: *const c_char, length: usize);

/// `dk_link_callback`.
pub(crate) type LinkCallback = unsafe extern "C" fn(port: *const c_char, up: u8, speed: u32);

unsafe extern "C" {
    pub(crate) fn dk_eal_init(
        argc: c_int,
        argv: *mut *mut c_char,
        log: LogCallback,
        link: LinkCallback,
    ) -> c_int;
    pub(crate) safe fn dk_version() -> *const c_char;
    pub(crate) safe fn dk_has_huge_pages() -> c_int;
    pub(crate) safe fn dk_thread() -> *const c_void;

    pub(crate) safe fn dk_memory_allocate(length: usize, alignment: usize) -> *mut c_void;
    pub(crate) fn dk_memory_free(memory: *mut c_void);
    pub(crate) safe fn dk_memory_is_reachable(memory: *const c_void) -> c_int;

    pub(crate) fn dk_pool_create(
        name: *const c_char,
        count: u32,
        buffer_size: u32,
        socket: i32,
        stack: *mut Stack,
    ) -> *mut Mempool;
    pub(crate) fn dk_pool_free(pool: *mut Mempool);
    pub(crate) fn dk_mbuf_set_memory(mbuf: *mut Mbuf, memory: *mut c_void, length: u32);
    pub(crate) fn dk_mbuf_free(mbuf: *mut Mbuf);
    pub(crate) fn dk_stack_take_foreign(stack: *mut Stack) -> u32;

    pub(crate) fn dk_port_probe(devargs: *const c_char) -> c_int;
    pub(crate) fn dk_port_by_name(name: *const c_char, port: *mut u16) -> c_int;
    pub(crate) fn dk_port_info(port: u16, info: *mut PortInfo, can: *mut u32) -> c_int;
    pub(crate) fn dk_port_configure(port: u16, setup: *mut PortSetup) -> c_int;
    pub(crate) fn dk_port_rx_queue(
        port: u16,
        queue: u16,
        descriptors: u16,
        socket: i32,
        pool: *mut Mempool,
    ) -> c_int;
    pub(crate) safe fn dk_port_tx_queue(port: u16, queue: u16, descriptors: u16, socket: i32) -> c_int;
    pub(crate) safe fn dk_port_start(port: u16, promiscuous: c_int) -> c_int;
    pub(crate) fn dk_port_redirection(
        port: u16,
        hash_key: *const u8,
        length: u32,
        table: *mut u16,
        room: u32,
    ) -> c_int;
    pub(crate) safe fn dk_port_stop(port: u16);
    pub(crate) safe fn dk_port_close(port: u16);
    pub(crate) safe fn dk_port_is_memif(port: u16) -> c_int;
    pub(crate) fn dk_interrupt_thread_call(
        function: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    ) -> c_int;
    pub(crate) fn dk_port_link(port: u16, link: *mut Link) -> c_int;
    pub(crate) safe fn dk_port_link_changes(port: u16) -> u32;
    pub(crate) safe fn dk_port_is_down(port: u16) -> c_int;
    pub(crate) fn dk_port_restart(port: u16) -> c_int;
    pub(crate) fn dk_port_counters(port: u16, counters: *mut Counter, room: c_int) -> c_int;

    pub(crate) fn dk_interrupt_open(port: u16, queue: u16, opened: *mut *mut Interrupt) -> c_int;
    pub(crate) fn dk_interrupt_close(interrupt: *mut Interrupt);
    pub(crate) safe fn dk_interrupt_arm(port: u16, queue: u16) -> c_int;
    pub(crate) safe fn dk_interrupt_disarm(port: u16, queue: u16);
    pub(crate) fn dk_interrupt_take(interrupt: *mut Interrupt) -> c_int;

    pub(crate) fn dk_raw_echo(port: u16, queue: u16, stop: *const u8) -> u64;
    pub(crate) fn dk_raw_ping(
        port: u16,
        queue: u16,
        pool: *mut Mempool,
        size: u16,
        nanoseconds: *mut u32,
        count: u32,
    ) -> u32;
    pub(crate) fn dk_raw_flood(port: u16, queue: u16, pool: *mut Mempool, size: u16, stop: *const u8) -> u64;
    pub(crate) fn dk_raw_sink(port: u16, queue: u16, stop: *const u8) -> u64;

    pub(crate) fn dk_receive(
        port: u16,
        queue: u16,
        segments: *mut SegmentIn,
        room: u16,
        dropped: *mut u32,
        pool: *const Mempool,
    ) -> u16;
    pub(crate) fn dk_transmit(
        port: u16,
        queue: u16,
        segments: *mut SegmentOut,
        count: u16,
        refused: *mut u16,
    ) -> u16;
}
