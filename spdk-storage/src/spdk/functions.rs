//! The functions of SPDK and DPDK that are called, and their types.
//!
//! Prototypes are those of `spdk/nvme.h`, `spdk/env.h`, `spdk/env_dpdk.h` and `rte_eal.h`, which have been the same from
//! SPDK 21.01 on. All structures are opaque but two, which NVMe lays out.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;

/// `struct spdk_nvme_ctrlr`.
#[repr(C)]
pub(super) struct RawController([u8; 0]);

/// `struct spdk_nvme_ns`.
#[repr(C)]
pub(super) struct RawNamespace([u8; 0]);

/// `struct spdk_nvme_qpair`.
#[repr(C)]
pub(super) struct RawQueuePair([u8; 0]);

/// `struct spdk_nvme_transport_id`, of which only the size matters: less than this in every version.
#[repr(C, align(8))]
pub(super) struct RawTransportId(pub(super) [u8; 4096]);

/// `struct spdk_nvme_cpl`: an entry of a completion queue (NVM Express Base Specification 2.0, figure 89).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCompletion {
    pub(super) dw0: u32,
    pub(super) dw1: u32,
    pub(super) head: u16,
    pub(super) queue: u16,
    pub(super) command: u16,
    /// The phase, and the status above it.
    pub(super) status: u16,
}

/// `struct spdk_nvme_dsm_range`: a range of blocks (NVM Command Set Specification 1.0, figure 41).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawRange {
    pub(super) attributes: u32,
    pub(super) blocks: u32,
    pub(super) first: u64,
}

const _: () = assert!(size_of::<RawCompletion>() == 16 && size_of::<RawRange>() == 16);

/// `SPDK_NVME_DSM_ATTR_DEALLOCATE`.
pub(super) const DEALLOCATE: u32 = 1 << 2;

/// Of `enum spdk_nvme_ns_flags`.
pub(super) const CAN_DEALLOCATE: u32 = 1 << 0;
pub(super) const CAN_FLUSH: u32 = 1 << 1;
pub(super) const CAN_WRITE_ZEROES: u32 = 1 << 3;
pub(super) const EXTENDED_BLOCKS: u32 = 1 << 5;

/// `spdk_nvme_cmd_cb`.
pub(super) type Done = unsafe extern "C" fn(*mut c_void, *const RawCompletion);
/// `spdk_nvme_req_reset_sgl_cb`.
pub(super) type ResetSgl = unsafe extern "C" fn(*mut c_void, u32);
/// `spdk_nvme_req_next_sge_cb`.
pub(super) type NextSge = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut u32) -> c_int;
/// `spdk_nvme_timeout_cb`.
pub(super) type Overdue = unsafe extern "C" fn(*mut c_void, *mut RawController, *mut RawQueuePair, u16);

type Ctrlr = *mut RawController;
type Ns = *mut RawNamespace;
type Qpair = *mut RawQueuePair;

/// Declares the table, and how it is filled by name.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// A library's functions, or a double's.
        #[derive(Clone, Copy)]
        pub(super) struct Functions {
            $($(#[$doc])* pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// All of them, by what `find` knows of each name.
            ///
            /// # Errors
            /// The name of the first that is not found.
            ///
            /// # Safety
            /// What is found under a name is that function.
            pub(super) unsafe fn load(
                mut find: impl FnMut(&'static str) -> Option<*mut c_void>,
            ) -> Result<Functions, &'static str> {
                Ok(Functions {
                    $($name: {
                        let address = find(stringify!($name)).ok_or(stringify!($name))?;
                        // SAFETY: the function of this name has this type, as its header says.
                        unsafe {
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                                address,
                            )
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    #[cfg_attr(feature = "dpdk", expect(dead_code, reason = "demikernel-dpdk starts it"))]
    rte_eal_init: fn(c_int, *mut *mut c_char) -> c_int;
    rte_version: fn() -> *const c_char;
    spdk_env_dpdk_post_init: fn(bool) -> c_int;
    spdk_mem_register: fn(*mut c_void, usize) -> c_int;
    spdk_mem_unregister: fn(*mut c_void, usize) -> c_int;
    spdk_nvme_transport_id_parse: fn(*mut RawTransportId, *const c_char) -> c_int;
    spdk_nvme_connect: fn(*const RawTransportId, *const c_void, usize) -> Ctrlr;
    spdk_nvme_detach: fn(Ctrlr) -> c_int;
    spdk_nvme_ctrlr_reset: fn(Ctrlr) -> c_int;
    spdk_nvme_ctrlr_get_data: fn(Ctrlr) -> *const u8;
    spdk_nvme_ctrlr_process_admin_completions: fn(Ctrlr) -> i32;
    spdk_nvme_ctrlr_register_timeout_callback: fn(Ctrlr, u64, u64, Overdue, *mut c_void);
    spdk_nvme_ctrlr_cmd_abort: fn(Ctrlr, Qpair, u16, Done, *mut c_void) -> c_int;
    spdk_nvme_ctrlr_get_first_active_ns: fn(Ctrlr) -> u32;
    spdk_nvme_ctrlr_get_next_active_ns: fn(Ctrlr, u32) -> u32;
    spdk_nvme_ctrlr_get_ns: fn(Ctrlr, u32) -> Ns;
    spdk_nvme_ctrlr_alloc_io_qpair: fn(Ctrlr, *const c_void, usize) -> Qpair;
    spdk_nvme_ctrlr_free_io_qpair: fn(Qpair) -> c_int;
    spdk_nvme_qpair_process_completions: fn(Qpair, u32) -> i32;
    spdk_nvme_ns_get_data: fn(Ns) -> *const u8;
    spdk_nvme_ns_get_sector_size: fn(Ns) -> u32;
    spdk_nvme_ns_get_num_sectors: fn(Ns) -> u64;
    spdk_nvme_ns_get_flags: fn(Ns) -> u32;
    spdk_nvme_ns_cmd_read: fn(Ns, Qpair, *mut c_void, u64, u32, Done, *mut c_void, u32) -> c_int;
    spdk_nvme_ns_cmd_write: fn(Ns, Qpair, *mut c_void, u64, u32, Done, *mut c_void, u32) -> c_int;
    spdk_nvme_ns_cmd_readv: fn(Ns, Qpair, u64, u32, Done, *mut c_void, u32, ResetSgl, NextSge) -> c_int;
    spdk_nvme_ns_cmd_writev: fn(Ns, Qpair, u64, u32, Done, *mut c_void, u32, ResetSgl, NextSge) -> c_int;
    spdk_nvme_ns_cmd_flush: fn(Ns, Qpair, Done, *mut c_void) -> c_int;
    spdk_nvme_ns_cmd_dataset_management: fn(Ns, Qpair, u32, *const RawRange, u16, Done, *mut c_void) -> c_int;
    spdk_nvme_ns_cmd_write_zeroes: fn(Ns, Qpair, u64, u32, Done, *mut c_void, u32) -> c_int;
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}
