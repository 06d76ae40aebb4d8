//! The channels within a core and between cores: who gets what in which order, and what cancelling, closing
//! and dropping do to values on their way.

mod cross;
mod model;
mod mpsc;
mod oneshot;
#[path = "../support/mod.rs"]
mod support;

use demikernel_allocations::of_thread as allocations;
use support::{Trace, run};
