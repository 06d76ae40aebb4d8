//! The atomics of the cross-thread paths, which `--cfg demikernel_loom` replaces with loom's.

#[cfg(demikernel_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
#[cfg(not(demikernel_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
