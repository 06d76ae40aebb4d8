//! The stack as a transport of the runtime: with the Linux kernel at the other end of a TAP interface.

#[path = "../common/mod.rs"]
mod common;
mod kernel;
