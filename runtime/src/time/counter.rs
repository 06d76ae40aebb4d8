//! The time stamp counter of x86-64.

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::fs;
use std::sync::OnceLock;

/// The kernel's own choice of a clock. It reads `tsc` only while the kernel believes that the counters of all
/// cores run at one constant rate and agree: a judgement with a watchdog behind it that no user program can make.
const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Whether there is one.
pub(super) const EXISTS: bool = true;

/// Whether the counter can serve as a clock on this machine; asked once in a process.
pub(super) fn is_reliable() -> bool {
    static RELIABLE: OnceLock<bool> = OnceLock::new();
    *RELIABLE.get_or_init(|| is_invariant() && is_clock_of_kernel())
}

/// The counter. Not ordered with the instructions around it: they may move across by some nanoseconds.
#[inline]
pub(super) fn ticks() -> u64 {
    // SAFETY: RDTSC belongs to every x86-64 processor, reads no memory and writes only its two result registers.
    unsafe { _rdtsc() }
}

/// CPUID 8000_0007h, EDX bit 8: the counter neither stops nor changes its rate in any power state.
fn is_invariant() -> bool {
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    cpuid(0x8000_0000).0 >= POWER_MANAGEMENT && cpuid(POWER_MANAGEMENT).1 & (1 << 8) != 0
}

/// EAX and EDX of a CPUID leaf.
#[allow(unused_unsafe, reason = "__cpuid has become safe after the oldest compiler that is supported")]
fn cpuid(leaf: u32) -> (u32, u32) {
    // SAFETY: every x86-64 processor has CPUID; a leaf that it does not know yields meaningless numbers, no fault.
    let answer = unsafe { __cpuid(leaf) };
    (answer.eax, answer.edx)
}

/// False also when sysfs cannot be read, as in some sandboxes.
fn is_clock_of_kernel() -> bool {
    fs::read_to_string(CLOCKSOURCE).is_ok_and(|name| name.trim() == "tsc")
}
