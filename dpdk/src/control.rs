//! Calls that must not meet what DPDK's thread for interrupts does with the same port.
//!
//! The driver of memif takes a connection down on that thread when the peer has gone, and on ours when the port is stopped,
//! without a lock: memory was freed twice when both ends of a cable closed at once. So its ports are stopped and closed on
//! that thread.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex};

use crate::ffi;
use crate::log;

/// What is called, and what has come of it.
struct Call {
    call: fn(u16) -> i32,
    port: u16,
    quiet: bool,
    result: Mutex<Option<i32>>,
    done: Condvar,
}

/// Calls on DPDK's thread for interrupts if the port's driver needs that, else here; returns when that is done. Nothing of
/// what is called takes a lock that this thread holds.
pub(crate) fn call(port: u16, call: fn(u16) -> i32) -> i32 {
    if ffi::dk_port_is_memif(port) == 0 {
        return call(port);
    }
    let quiet = log::is_quiet();
    let order = Arc::new(Call { call, port, quiet, result: Mutex::new(None), done: Condvar::new() });
    let argument = Arc::into_raw(order.clone());
    // SAFETY: `perform` takes over the count that it is given, once.
    if unsafe { ffi::dk_interrupt_thread_call(perform, argument.cast_mut().cast()) } != 0 {
        // SAFETY: the call was refused, so `perform` never takes this count over: it is still ours, and taken back once.
        drop(unsafe { Arc::from_raw(argument) });
        return call(port);
    }
    let mut result = order.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        if let Some(result) = *result {
            return result;
        }
        result = order.done.wait(result).unwrap_or_else(|poisoned| poisoned.into_inner());
    }
}

/// # Safety
///
/// `order` is a count of a [`Call`] that becomes this call's.
unsafe extern "C" fn perform(order: *mut c_void) {
    // SAFETY: as the caller promises.
    let order = unsafe { Arc::from_raw(order.cast::<Call>()) };
    let result = match order.quiet {
        true => log::quiet(|| (order.call)(order.port)),
        false => (order.call)(order.port),
    };
    *order.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
    order.done.notify_all();
}
