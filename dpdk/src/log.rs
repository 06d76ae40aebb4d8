//! The log of DPDK, as events of `tracing`, and the reasons in it.

use std::cell::RefCell;
use std::ffi::c_char;
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

thread_local! {
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

fn emit(level: u32, line: &str) {
    match level {
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
