//! Loading what is about to be touched, so that the waits for memory of many things overlap.

/// Of x86-64, and of nearly all others.
const LINE: usize = 64;

/// Starts loading all cache lines of a value.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(offset);
        // SAFETY: a prefetch has no effect on memory and never faults, whatever the address.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line) };
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = (value, LINE);
}
