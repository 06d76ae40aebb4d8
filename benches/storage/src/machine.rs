//! Clocks, statistics, and what a run leaves on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// CPU time of this thread.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, into one that lives across the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The middle of some figures; not a number if there are none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&mut figures.into_iter().collect::<Vec<_>>(), 0.5)
}

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

/// While it lives, some processes, and what they start, run before all who have no such priority: on a machine
/// that others use, who spins would otherwise lose to who sleeps. (Niceness counts only within a session.)
pub struct Burst {
    pids: Vec<u32>,
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
        let pids = if REAL_TIME.load(Ordering::Relaxed) { pids } else { vec![] };
        pids.iter().for_each(|pid| set_policy(*pid, libc::SCHED_FIFO));
        Burst { pids }
    }

    /// From now on they have the priority that everybody has.
    pub fn disable() {
        REAL_TIME.store(false, Ordering::Relaxed);
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.pids.iter().rev().for_each(|pid| set_policy(*pid, libc::SCHED_OTHER));
        // The others have their turn.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The kernel's workers of a process go before its own threads, as they would on a machine that has a core to spare: a
/// thread that spins for 50 us would else keep the flush waiting that it waits for.
fn set_policy(pid: u32, policy: libc::c_int) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{task}/comm")).unwrap_or_default();
        let priority = match policy {
            libc::SCHED_FIFO if name.starts_with("iou-wrk") => 2,
            libc::SCHED_FIFO => 1,
            _ => 0,
        };
        let parameters = libc::sched_param { sched_priority: priority };
        // SAFETY: the kernel reads one sched_param that lives across the call. Without the privilege the call fails, and
        // figures are noisier, not wrong.
        unsafe { libc::sched_setscheduler(task, policy, &parameters) };
    }
}

/// One line about where the figures come from.
pub fn description(directory: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let directory = directory.display();
    format!("{model}, {cores} cores, Linux {}, load {load} at the end, files in {directory}", kernel.trim())
}
