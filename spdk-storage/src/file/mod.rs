//! Files, block devices and NVMe namespaces of the kernel, through a ring of io_uring of their own.
//!
//! From the user down to the kernel:
//!
//! - `open`: [`FileOptions`]. `lock`: who may have a file; `create`: a new one; `block`: what the kernel says of a device;
//!   `namespace`: NVMe by its character device.
//! - `driver`: [`FileDriver`]. `engine`: from a command to its end. `transfer`: what one has still to do.
//! - `dialect`: what differs between files, `calls`, and namespaces, `commands`.
//! - `rings`: one ring, or two where the device is polled. `ring`: the two queues shared with the kernel.

mod block;
mod calls;
mod commands;
mod create;
mod dialect;
mod driver;
mod engine;
mod lock;
mod namespace;
mod open;
mod ring;
mod rings;
mod transfer;

pub use driver::FileDriver;
pub use open::FileOptions;
