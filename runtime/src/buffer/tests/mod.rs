//! Tests of the module. Each test has a thread, and so a pool, of its own.

mod contiguous; // regions next to each other
mod exhaustion; // limits, errors, waiting, and memory that changes class
mod handles; // what `Buffer`, `BufferMut` and `Sga` do with bytes
mod hooks; // what devices are told about regions
mod model; // random operations against a naive model
mod source; // memory that somebody else gives
mod table; // what a device keeps of each region
mod threads; // counts that come back from other threads
