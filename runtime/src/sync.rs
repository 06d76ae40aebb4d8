//! The atomics and locks of the cross-thread paths, which `--cfg demikernel_loom` replaces with loom's.

#[cfg(demikernel_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(demikernel_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(demikernel_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(demikernel_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
