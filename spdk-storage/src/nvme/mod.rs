//! NVMe drives without the kernel: a polled driver of our own, over VFIO.
//!
//! It needs an IOMMU and a drive that is bound to `vfio-pci`; no huge pages, no SPDK, no DPDK. Each core that opens a
//! namespace has a pair of queues of its own, so that no lock and no system call is on the way of an operation: it is an
//! entry in memory, and one write to a register for all those of a turn of the runtime. While operations are under way
//! the runtime polls, whatever its idle policy; while none are, nothing is polled. So a drive that is taken away while
//! nothing is done with it is given back at the next operation on each core, which fails, or when it is let go of.
//!
//! ```no_run
//! use demikernel_runtime::Runtime;
//! use demikernel_runtime::buffer::Buffer;
//! use demikernel_spdk_storage::{Volume, nvme};
//!
//! Runtime::new()?.block_on(async {
//!     let volume = Volume::attach(nvme::open("0000:5e:00.0/1".parse()?, nvme::Options::default())?);
//!     volume.write(0, Buffer::copy_from_slice(&[7; 4096])?).await?;
//!     volume.flush().await?;
//!     std::io::Result::Ok(())
//! })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! From the user down to the drive:
//!
//! | module       | holds                                                                              |
//! |--------------|------------------------------------------------------------------------------------|
//! | `address`    | [`Address`]: where a namespace is                                                  |
//! | `open`       | [`open`], and which controllers the process has                                    |
//! | `driver`     | operations of one core: divided into commands, followed to their end               |
//! | `data`       | where the data of a command is: pages and scatter-gather lists                     |
//! | `reach`      | which of the heap's regions the device has, and where                              |
//! | `controller` | what cores share: bring-up and reset, admin commands, events                       |
//! | `admin`      | the admin queue                                                                    |
//! | `queue`      | a submission and a completion queue; `barrier`: what the device sees when          |
//! |              | (their entries are in `specification`, as commands through the kernel have them)   |
//! | `dma`        | memory that the device has; `iova`: addresses for it                               |
//! | `registers`  | those of a controller                                                              |
//! | `bus`        | what a controller is reached by: `vfio`, or in tests `double`, one in memory       |

mod address;
mod admin;
mod barrier;
mod bus;
mod controller;
mod data;
mod dma;
#[cfg(test)]
mod double;
mod driver;
mod iova;
mod open;
mod queue;
mod reach;
mod registers;
mod vfio;

use crate::specification::{command, identify, status};
pub use address::{Address, Function};
pub use driver::NvmeDriver;
pub use open::{Options, namespaces, open};
