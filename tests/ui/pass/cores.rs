//! Runs on each core, which gets its index.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

static SEEN: AtomicUsize = AtomicUsize::new(0);

const CORES: usize = 1;

#[demikernel::main(cores = (CORES + 1), idle = "block")]
async fn main(core: usize) -> io::Result<()> {
    assert_eq!(core, demikernel::core_index());
    let before = SEEN.fetch_or(1 << core, Ordering::SeqCst);
    assert_eq!(before & (1 << core), 0);
    // Each core waits for the other, so both are here at once.
    while SEEN.load(Ordering::SeqCst) != 0b11 {
        demikernel::yield_now().await;
    }
    Ok(())
}
