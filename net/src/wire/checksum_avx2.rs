//! Sums in the registers of AVX2, which the compiler may not use by itself.

use super::sum_lanes;

/// Bytes of one step: four registers, so that their additions do not wait for each other.
const STEP: usize = 64;

/// Of some bytes; `None` if this processor has no such registers.
#[inline]
pub(super) fn sum(bytes: &[u8]) -> Option<u64> {
    if !is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: the processor has the instructions.
    Some(unsafe { sum_with_avx2(bytes) })
}

/// # Safety
///
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn sum_with_avx2(bytes: &[u8]) -> u64 {
    sum_lanes::<STEP, { STEP / 4 }>(bytes)
}
