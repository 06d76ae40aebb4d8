//! The store that a runtime is configured with, logs by the calls of PDPIX, and both beside sockets.
//!
//! - `configured`: where the store is, who may have it, and what is said when something is wrong.
//! - `descriptors`: `pdpix` on logs.
//! - `combined`: tokens of sockets and of logs in one wait.

mod combined;
mod configured;
mod descriptors;

use demikernel::storage::{Geometry, Store, StoreOptions, Volume, memory::Disk};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A path of its own for each test, which is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{}/storage-{}-{number}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let _ = std::fs::remove_file(&path);
        Scratch(path.into())
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A store on a disk with small segments, and the disk.
async fn small_store(segments: u64) -> (Store, Disk) {
    let disk = Disk::new(Geometry::new(512, (64 << 10) + segments * 8192));
    let options = StoreOptions::new().create(true).segment_size(8192);
    (options.open(Volume::attach(disk.device())).await.unwrap(), disk)
}
