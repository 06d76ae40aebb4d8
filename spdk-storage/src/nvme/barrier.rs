//! The order of accesses to memory and registers, as the device sees it.
//!
//! Fences of the language are for other threads. On x86 they serve for devices too, as neither stores nor loads pass each
//! other, and a store to a register none; on ARM devices are further away than threads.

#[cfg(not(target_arch = "aarch64"))]
use std::sync::atomic::{Ordering, fence};

/// Everything that was written before is there when the device reads the doorbell that is written next.
#[cfg(not(target_arch = "aarch64"))]
#[inline]
pub(super) fn before_doorbell() {
    fence(Ordering::Release);
}

/// What the device wrote before the phase that was just read, is read after it.
#[cfg(not(target_arch = "aarch64"))]
#[inline]
pub(super) fn after_phase() {
    fence(Ordering::Acquire);
}

#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn before_doorbell() {
    // SAFETY: it does nothing but wait for stores.
    unsafe { std::arch::asm!("dsb st", options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn after_phase() {
    // SAFETY: it does nothing but order loads.
    unsafe { std::arch::asm!("dmb oshld", options(nostack, preserves_flags)) };
}
