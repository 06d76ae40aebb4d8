//! Other code, as a program runs some between its messages.
//!
//! Where the kernel's code and ours are in no cache because others have run, both are slower, and by how much depends on the
//! machine: in an emulator, which translates what it does not find, the kernel's part of a send takes half as long again.
//! A bare loop has all of the caches for itself, which no program has.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv6Addr;
use std::time::Instant;

/// Runs it; the ns that it took.
pub(super) fn run() -> u64 {
    let start = Instant::now();
    black_box(format!(
        "{:e} {:?} {:?} {}",
        black_box(1.5),
        Ipv6Addr::LOCALHOST,
        "a\u{301}b\n",
        black_box(12345)
    ));
    let mut sorted: Vec<u64> = (0..40).map(|number| number * 7919 % 41).collect();
    sorted.sort_unstable();
    black_box(sorted);
    black_box((0..12).map(|number: u64| (number * 31 % 17, number)).collect::<BTreeMap<_, _>>());
    let _ = black_box(black_box("3.14159e5").parse::<f64>());
    black_box(std::env::var_os(black_box("NONE_OF_THIS_NAME")));
    start.elapsed().as_nanos() as u64
}

/// Nothing.
pub(super) fn none() -> u64 {
    0
}
