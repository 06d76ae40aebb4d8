//! In-memory queues, and queues made of others: who gets what in which order, and that cancelling a pop
//! loses nothing.

mod derived;
mod derived_model;
mod memory;
mod memory_model;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use demikernel_allocations::of_thread as allocations;
use support::{Trace, run};
