//! One runtime per core, which share nothing.

use super::context;
use super::runtime::{Builder, Runtime};
use super::task::JoinError;
use super::team::{Seated, Team};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// Which of the program's cores this code runs on: 0 for a runtime that is alone.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// assert_eq!(demikernel_runtime::core_index(), 0);
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn core_index() -> usize {
    context::current().index.get()
}

/// What the devices of this core's runtime have counted: by the name of the device, and of each its counters by name.
///
/// ```
/// # demikernel_runtime::Runtime::new().unwrap().block_on(async {
/// for (device, counters) in demikernel_runtime::device_counters() {
///     counters.iter().for_each(|(name, value)| println!("{device}: {name}: {value}"));
/// }
/// # });
/// ```
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn device_counters() -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
    let core = context::current();
    let devices = (0..).map_while(|index| core.device(index));
    devices.map(|device| (device.name(), device.counters())).collect()
}

/// How many cores the program of this thread's runtime runs on.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn core_count() -> usize {
    context::current().cores.get()
}

/// Tells every core's main future to stop.
#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Stop {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Runs `future`, but not beyond a stop.
    async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut registered = false;
        poll_fn(|cx| {
            if !registered {
                registered = true;
                self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
            }
            if self.stopped.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Runs `main` on `cores` runtimes, each in a thread pinned to one of the processors this process may use,
/// and returns what each gave, by core.
///
/// `build` makes each core's runtime, in its thread. When one core's future gives what `failed` says is a
/// failure, or panics, or its runtime or thread cannot be made, the others' futures are dropped: those cores
/// give `Ok(None)`.
///
/// ```
/// use demikernel_runtime::{core_index, run_on_cores};
/// let results = run_on_cores(2, |builder| builder.build(), async || core_index() * 10, |_| false);
/// let results: Vec<_> = results.into_iter().map(|result| result.unwrap()).collect();
/// assert_eq!(results, [Some(0), Some(10)]);
/// ```
///
/// # Errors
/// Per core: why its runtime or its thread could not be made, or its panic as an error of kind `Other`.
///
/// # Panics
/// If `cores` is 0.
pub fn run_on_cores<B, M, Fut>(
    cores: usize,
    build: B,
    main: M,
    failed: fn(&Fut::Output) -> bool,
) -> Vec<io::Result<Option<Fut::Output>>>
where
    B: Fn(Builder) -> io::Result<Runtime> + Sync,
    M: Fn() -> Fut + Sync,
    Fut: Future,
    Fut::Output: Send,
{
    assert_ne!(cores, 0, "a program needs at least one core");
    let stop = Arc::new(Stop::default());
    let processors = PROCESSORS.get_or_init(processors);
    if cores > processors.len() {
        tracing::warn!(
            cores,
            processors = processors.len(),
            "more cores than processors: some will share one"
        );
    }
    let team = Team::new(cores);
    let one = |index: usize| {
        let seated = Seated::new(&team, index);
        if let Err(error) = pin_to_core(index) {
            tracing::warn!(core = index, %error, "cannot pin the core's thread to a processor");
        }
        let runtime = build(Builder::new().core_index(index).cores(cores)).inspect_err(|_| stop.stop())?;
        seated.runs(&runtime.handle());
        let run = || runtime.block_on(stop.run(async { main().await }));
        let result = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| JoinError::panicked(panic).into());
        if result.as_ref().map_or(true, |output| output.as_ref().is_some_and(failed)) {
            // Before the runtime goes: its devices may wait for those of the others.
            stop.stop();
        }
        result
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..cores)
            .map(|index| {
                let thread = std::thread::Builder::new().name(format!("core-{index}"));
                // Those that have started would otherwise run on, and be waited for.
                thread.spawn_scoped(scope, move || one(index)).inspect_err(|_| {
                    stop.stop();
                    team.give_up(index);
                })
            })
            .collect();
        let join = |thread: io::Result<std::thread::ScopedJoinHandle<'_, _>>| match thread?.join() {
            Ok(result) => result,
            Err(panic) => Err(JoinError::panicked(panic).into()),
        };
        threads.into_iter().map(join).collect()
    })
}

/// Pins this thread to one of the processors that the process may use, by its index among them, modulo
/// their number: what [`run_on_cores`] does with each core's thread. A thread that moves takes its cold
/// caches along, which shows in latencies.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub fn pin_to_core(index: usize) -> io::Result<()> {
    // The set of the process, as this thread's own may have been narrowed by an earlier call.
    let processors = PROCESSORS.get_or_init(processors);
    allow(&[processors[index % processors.len()]])
}

/// Lets this thread run on all processors of the process again, if cores are pinned.
pub(crate) fn unpin() {
    if let Some(processors) = PROCESSORS.get()
        && let Err(error) = allow(processors)
    {
        tracing::warn!(%error, "cannot let a thread leave the processor of the core that made it");
    }
}

static PROCESSORS: OnceLock<Vec<usize>> = OnceLock::new();

/// The processors this thread may run on.
fn processors() -> Vec<usize> {
    // SAFETY: the set is plain data, and the kernel writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return vec![0];
        }
        let all: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect();
        if all.is_empty() { vec![0] } else { all }
    }
}

/// Lets this thread run on these processors only.
fn allow(processors: &[usize]) -> io::Result<()> {
    // SAFETY: the set is plain data, for which all zeros is the empty set, and the kernel only reads it; the indices,
    // of `processors`, are within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &processor in processors {
            libc::CPU_SET(processor, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
