//! Statistics, bursts, and what a run leaves on the disk.

use demikernel_measure::machine;
use demikernel_measure::stats::median;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The figure that this part of them is not above.
pub fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1) as f64;
    figures.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The median of the quotients of each round.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
}

/// A directory of this run's own, which goes with it.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Below this directory.
    pub fn new(below: &Path) -> io::Result<Scratch> {
        let path = below.join(format!("storage-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch { path })
    }

    /// A place in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} is still there: {error}", self.path.display());
        }
    }
}

/// A burst, after which the others have their turn.
pub struct Burst {
    burst: Option<machine::Burst>,
}

/// While it lives, this session has the greatest share of the processor that sessions can have.
pub struct Preferred(());

impl Preferred {
    /// From now on, if that is allowed.
    pub fn session() -> Preferred {
        let _ = fs::write("/proc/self/autogroup", "-20");
        Preferred(())
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        let _ = fs::write("/proc/self/autogroup", "0");
    }
}

/// Whether bursts are bursts at all.
static REAL_TIME: AtomicBool = AtomicBool::new(true);

impl Burst {
    /// Of this process.
    pub fn start() -> Burst {
        Burst::of(vec![std::process::id()])
    }

    /// Of others, which are there.
    pub fn of(pids: Vec<u32>) -> Burst {
        Burst { burst: REAL_TIME.load(Ordering::Relaxed).then(|| machine::Burst::of(pids)) }
    }

    /// From now on they have the priority that everybody has.
    pub fn disable() {
        REAL_TIME.store(false, Ordering::Relaxed);
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        drop(self.burst.take());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One line about where the figures come from.
pub fn description(directory: &Path) -> String {
    format!("{}, files in {}", machine::description(), directory.display())
}
