//! The log of DPDK, as events of `tracing`, and the reasons in it.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::panic::catch_unwind;
use std::slice;
use std::sync::Mutex;

/// `RTE_LOG_ERR` and others of rte_log.h; smaller is worse.
const ERR: u32 = 4;
const WARNING: u32 = 5;
const NOTICE: u32 = 6;
const INFO: u32 = 7;

/// What is kept of the errors of one call.
const KEPT: usize = 3;

/// The errors since the call began whose reasons are wanted. DPDK complains on threads of its own, too.
static REASONS: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Calls DPDK one at a time, and says what it complained of meanwhile.
pub(crate) fn with_reasons<R>(call: impl FnOnce() -> R) -> (R, Option<String>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let reasons = || REASONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *reasons() = Some(Vec::new());
    let result = call();
    let lines = reasons().take().unwrap_or_default();
    (result, (!lines.is_empty()).then(|| lines.join("; ")))
}

/// The same, where complaints are no errors of ours.
pub(crate) fn quietly<R>(call: impl FnOnce() -> R) -> (R, Option<String>) {
    quiet(|| with_reasons(call))
}

/// Errors meanwhile are not told.
pub(crate) fn quiet<R>(call: impl FnOnce() -> R) -> R {
    let before = QUIET.replace(true);
    let result = call();
    QUIET.set(before);
    result
}

/// Whether this thread's errors are not told now.
pub(crate) fn is_quiet() -> bool {
    QUIET.get()
}

thread_local! {
    /// Whether errors on this thread are only told to who called.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The beginning of a line whose end has not been written yet.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What DPDK calls for its messages.
///
/// # Safety
///
/// `text` is valid for reads of `length` bytes.
pub(crate) unsafe extern "C" fn write(level: u32, text: *const c_char, length: usize) {
    // SAFETY: as the caller promises.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    // A subscriber is anybody's code, and must not unwind into C.
    let _ = catch_unwind(|| {
        let text = String::from_utf8_lossy(bytes);
        for piece in text.split_inclusive('\n') {
            let line = LINE.with_borrow_mut(|line| {
                line.push_str(piece);
                line.ends_with('\n').then(|| std::mem::take(line))
            });
            if let Some(line) = line {
                emit(level, line.trim_end());
            }
        }
    });
}

/// What DPDK calls when the link of a port has changed.
///
/// # Safety
///
/// `port` is a string, valid during the call.
pub(crate) unsafe extern "C" fn link(port: *const c_char, up: u8, speed: u32) {
    // SAFETY: as the caller promises.
    let port = unsafe { CStr::from_ptr(port) }.to_string_lossy();
    let _ = catch_unwind(|| match up {
        0 => tracing::warn!(%port, "the link is down: what is sent is lost until it is up again"),
        _ => tracing::info!(%port, speed, "the link is up"),
    });
}

fn emit(level: u32, line: &str) {
    match level {
        ..=WARNING if QUIET.get() => tracing::debug!(target: "dpdk", "{line}"),
        ..=ERR => tracing::error!(target: "dpdk", "{line}"),
        WARNING => tracing::warn!(target: "dpdk", "{line}"),
        NOTICE..=INFO => tracing::debug!(target: "dpdk", "{line}"),
        _ => tracing::trace!(target: "dpdk", "{line}"),
    }
    let mut reasons = REASONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(reasons) = reasons.as_mut()
        && level <= ERR
        && !line.is_empty()
        && reasons.len() < KEPT
    {
        reasons.push(line.trim_start_matches("EAL: ").to_owned());
    }
}
