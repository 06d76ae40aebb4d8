//! What the measurements need from the machine: clocks, affinity, CPU accounting, bursts of real-time priority.

use std::fs;
use std::time::Duration;

/// The core on which servers and executor benchmarks run.
pub const SERVER_CORE: usize = 0;
/// The core on which load generators run.
pub const CLIENT_CORE: usize = 1;

/// Pins the calling thread, and every thread it starts later, to one core.
pub fn pin(core: usize) {
    pin_to(&[core]);
}

/// Pins the calling thread, and every thread and process it starts later, to some cores.
pub fn pin_to(cores: &[usize]) {
    // SAFETY: the set is plain data, for which all zeros is the empty set; the kernel copies it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.iter().for_each(|core| libc::CPU_SET(*core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result != 0 {
        eprintln!("cannot pin to {cores:?}: {}", std::io::Error::last_os_error());
    }
}

fn clock_ns(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, into one that lives across the call.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of this process, all threads: what other tenants of the core take does not count.
pub fn cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of the calling thread.
pub fn thread_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Wall-clock time.
pub fn wall_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// What the scheduler did to the threads of a process since it started.
#[derive(Clone, Copy, Default)]
pub struct Scheduled {
    /// Time on a CPU, ns.
    pub running: u64,
    /// Time ready to run but waiting for a CPU, ns.
    pub waiting: u64,
    /// How often a thread was taken off its CPU.
    pub preempted: u64,
}

impl Scheduled {
    /// Sums over the threads that `pid` has now.
    pub fn of(pid: u32) -> Self {
        let mut sum = Scheduled::default();
        for task in tasks(pid) {
            let path = format!("/proc/{pid}/task/{task}");
            let stat = fs::read_to_string(format!("{path}/schedstat")).unwrap_or_default();
            let mut figures = stat.split_whitespace().filter_map(|x| x.parse::<u64>().ok());
            sum.running += figures.next().unwrap_or(0);
            sum.waiting += figures.next().unwrap_or(0);
            let status = fs::read_to_string(format!("{path}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
            sum.preempted += line.and_then(|x| x.trim().parse().ok()).unwrap_or(0);
        }
        sum
    }

    /// What has been added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            running: self.running.saturating_sub(before.running),
            waiting: self.waiting.saturating_sub(before.waiting),
            preempted: self.preempted.saturating_sub(before.preempted),
        }
    }
}

fn tasks(pid: u32) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The kernel's workers of a process go before its own threads, as they would on a machine that has a core to spare: a
/// thread that spins for 50 us would else keep the flush waiting that it waits for.
fn set_policy(pid: u32, policy: libc::c_int) {
    for task in tasks(pid) {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{task}/comm")).unwrap_or_default();
        let priority = match policy {
            libc::SCHED_FIFO if name.starts_with("iou-wrk") => 2,
            libc::SCHED_FIFO => 1,
            _ => 0,
        };
        let parameters = libc::sched_param { sched_priority: priority };
        // SAFETY: the kernel reads one sched_param that lives across the call. Without the privilege the
        // call fails and the burst runs at normal priority: noisier figures, not wrong ones.
        unsafe { libc::sched_setscheduler(task, policy, &parameters) };
    }
}

/// While it lives, some processes, and what they start, run under SCHED_FIFO: who spins would otherwise lose to who sleeps.
///
/// Held for bursts of tens of milliseconds with longer pauses between, so that the other tenants of a shared
/// machine keep running. (Niceness does not help: with autogroups it counts only within a session.)
pub struct Burst {
    pids: Vec<u32>,
}

impl Burst {
    /// Raises this process and the server, if `enabled`.
    pub fn start(server: u32, enabled: bool) -> Self {
        Self::of(if enabled { vec![server, std::process::id()] } else { vec![] })
    }

    /// Raises these processes.
    pub fn of(pids: Vec<u32>) -> Self {
        pids.iter().for_each(|pid| set_policy(*pid, libc::SCHED_FIFO));
        Self { pids }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        for pid in self.pids.iter().rev() {
            set_policy(*pid, libc::SCHED_OTHER);
        }
    }
}

/// How bursts are made.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Whether a burst has real-time priority.
    pub real_time: bool,
    /// How long everybody else may run before each burst.
    pub pause: Duration,
}

/// A small generator (xorshift64*): the same sequence in every run.
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// One line about where the figures come from.
pub fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let model = model.trim_start_matches([' ', '\t', ':']);
    // The parallelism that the standard library tells is that of a process which has pinned itself.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    format!("{model}, {cores} cores, Linux {}, load {load} at the end", kernel.trim())
}
