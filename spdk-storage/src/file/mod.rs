//! Files and block devices of the kernel, through a ring of io_uring of their own.
//!
//! - `open`: opening and locking, and what the kernel says of a file or a device.
//! - `driver`: commands become operations of the ring.
//! - `ring`: the two queues shared with the kernel. `regions`: the heap's memory, registered with it.

mod driver;
mod open;
mod regions;
mod ring;

pub use driver::FileDriver;
pub use open::FileOptions;
