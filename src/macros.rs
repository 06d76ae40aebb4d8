//! What `#[demikernel::main]` and `#[demikernel::test]` expand to. Public because the expansion is in
//! the user's crate, hidden because nobody else is to call it.

use crate::choose::{SIMULATED, ready_transports};
use crate::{Builder, Idle, Time};
use std::any::Any;
use std::env;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{self, ExitCode, Termination};
use std::str::FromStr;
use std::thread;

#[cfg(feature = "sim")]
mod simulation;
#[cfg(not(feature = "sim"))]
#[path = "macros/no_simulation.rs"]
mod simulation;

/// `#[demikernel::main]`: one runtime, on this thread.
pub fn main_one<M, F>(builder: Builder, main: M) -> F::Output
where
    M: FnOnce() -> F,
    F: Future,
{
    match builder.build() {
        Ok(runtime) => runtime.block_on(main()),
        // The return type is the user's and may have no room for an error.
        Err(error) => {
            eprintln!("error: {error}");
            process::exit(1)
        }
    }
}

/// `#[demikernel::main(cores = N)]`: one runtime for each core.
pub fn main_many<M, F>(builder: Builder, main: M) -> ExitCode
where
    M: Fn(usize) -> F + Send + Sync + 'static,
    F: Future + 'static,
    F::Output: Termination + 'static,
{
    builder.run(move || main(crate::core_index()))
}

/// `cores = "all"`.
pub fn all_cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The keys of one `#[demikernel::test]`. Its methods are those of [`Builder`], so that the macro writes
/// both in the same way.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestConfig {
    transport: Option<&'static str>,
    storage: Option<&'static str>,
    cores: Option<usize>,
    idle: Option<Idle>,
    time: Option<Time>,
    seed: Option<u64>,
    seeds: Option<u64>,
    should_panic: Option<&'static str>,
}

impl TestConfig {
    /// No key given.
    pub fn new() -> TestConfig {
        TestConfig::default()
    }

    /// `transport = "..."`
    pub fn transport(self, name: &'static str) -> TestConfig {
        TestConfig { transport: Some(name), ..self }
    }

    /// `storage = "..."`
    pub fn storage(self, name: &'static str) -> TestConfig {
        TestConfig { storage: Some(name), ..self }
    }

    /// `cores = N`
    pub fn cores(self, cores: usize) -> TestConfig {
        TestConfig { cores: Some(cores), ..self }
    }

    /// `idle = "..."`
    pub fn idle(self, idle: Idle) -> TestConfig {
        TestConfig { idle: Some(idle), ..self }
    }

    /// `time = "..."`
    pub fn time(self, time: Time) -> TestConfig {
        TestConfig { time: Some(time), ..self }
    }

    /// `seed = N`
    pub fn seed(self, seed: u64) -> TestConfig {
        TestConfig { seed: Some(seed), ..self }
    }

    /// `seeds = N`
    pub fn seeds(self, count: u64) -> TestConfig {
        TestConfig { seeds: Some(count), ..self }
    }

    /// `#[should_panic(expected = "...")]`; without `expected` any message will do, so it is empty.
    pub fn should_panic(self, expected: &'static str) -> TestConfig {
        TestConfig { should_panic: Some(expected), ..self }
    }

    /// The transports of this test.
    fn transports(&self) -> Vec<Candidate> {
        if let Some(name) = self.transport {
            return vec![Candidate { name: name.to_owned(), required: true }];
        }
        let is_simulated = |name: &&str| SIMULATED.contains(name);
        // Sockets of the kernel do not follow a virtual clock.
        if self.time == Some(Time::Virtual) {
            let simulated = ready_transports().filter(is_simulated);
            return simulated.map(|name| Candidate { name: name.to_owned(), required: true }).collect();
        }
        if let Some(name) = variable("DEMIKERNEL_TRANSPORT") {
            return vec![Candidate { name, required: true }];
        }
        let all = env::var_os("DEMIKERNEL_REQUIRE_ALL").is_some();
        // A simulated network belongs to one core.
        let usable = |name: &&str| !is_simulated(name) || self.cores.is_none();
        let ready = ready_transports().filter(usable);
        let required = |name| all || is_simulated(&name);
        ready.map(|name| Candidate { name: name.to_owned(), required: required(name) }).collect()
    }

    /// The same in every run unless the environment says otherwise, so that a test which passed
    /// passes again. The environment's seed is one that failed.
    fn seeds_to_use(&self, transport: &str) -> Range<u64> {
        let given: Option<u64> = variable("DEMIKERNEL_SEED");
        let Some(count) = self.seeds.filter(|_| SIMULATED.contains(&transport)) else {
            let seed = self.seed.or(given).unwrap_or(0);
            return seed..seed.saturating_add(1);
        };
        let (first, count) = match given {
            Some(seed) => (seed, 1),
            None => (self.seed.unwrap_or(0), variable("DEMIKERNEL_SEEDS").unwrap_or(count)),
        };
        first..first.saturating_add(count)
    }

    fn builder(&self, transport: &str, seed: u64) -> Builder {
        let mut builder = Builder::new().transport(transport).seed(seed);
        if let Some(name) = self.storage {
            builder = builder.storage(name);
        }
        if let Some(cores) = self.cores {
            builder = builder.cores(cores);
        }
        if let Some(idle) = self.idle {
            builder = builder.idle(idle);
        }
        if let Some(time) = self.time {
            builder = builder.time(time);
        }
        builder
    }

    /// Whether a test on this transport is a machine of a simulation. It has virtual time; who wants the machine's clock gets
    /// one machine, on its own.
    fn is_simulation(&self, transport: &str) -> bool {
        transport == "sim" && self.time != Some(Time::Real)
    }

    /// Whether a panic is the one that `#[should_panic]` asks for.
    fn expects(&self, panic: &(dyn Any + Send)) -> bool {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        self.should_panic.is_some_and(|expected| message.unwrap_or_default().contains(expected))
    }
}

/// A transport that a test may run on.
struct Candidate {
    name: String,
    /// Whether the test fails if this transport cannot start, instead of leaving it out.
    required: bool,
}

/// `#[demikernel::test]`: one runtime, once on each transport.
pub fn test<T, F>(config: TestConfig, test: T) -> ExitCode
where
    T: Fn() -> F,
    F: Future + 'static,
    F::Output: Termination,
{
    run_on_each(&config, &config.transports(), |transport, seed| {
        if config.is_simulation(transport) {
            return simulation::run(config.storage, seed, test());
        }
        let runtime = config.builder(transport, seed).build()?;
        Ok(runtime.block_on(test()).report())
    })
}

/// `#[demikernel::test(cores = N)]`: several runtimes, once on each transport.
///
/// # Panics
///
/// If one of the cores failed. What it returned is on stderr.
pub fn test_many<T, F>(config: TestConfig, test: T)
where
    T: Fn(usize) -> F + Clone + Send + Sync + 'static,
    F: Future + 'static,
    F::Output: Termination + 'static,
{
    run_on_each(&config, &config.transports(), |transport, seed| {
        // `run` reports an error of its own; whether the transport can start here is asked before.
        drop(config.builder(transport, seed).build()?);
        let test = test.clone();
        let code = config.builder(transport, seed).run(move || test(crate::core_index()));
        assert!(code == ExitCode::SUCCESS, "a core failed");
        Ok(code)
    });
}

/// Runs a test on each of its transports, once or with each seed, up to the first failure.
///
/// A test that should panic has to do so on each. Only the last panic goes on to the test harness,
/// or the first that is not the expected one, which the harness then finds to be wrong as well.
fn run_on_each(
    config: &TestConfig,
    candidates: &[Candidate],
    mut run: impl FnMut(&str, u64) -> io::Result<ExitCode>,
) -> ExitCode {
    let mut expected_panic = None;
    let mut skipped = 0;
    for Candidate { name: transport, required } in candidates {
        for seed in config.seeds_to_use(transport) {
            match catch_unwind(AssertUnwindSafe(|| run(transport, seed))) {
                Ok(Ok(code)) if code == ExitCode::SUCCESS && config.should_panic.is_none() => {}
                Ok(Ok(code)) => {
                    note(transport, seed);
                    return code;
                }
                Ok(Err(error)) if *required => return cannot_run(config, &format!("{transport}: {error}")),
                Ok(Err(error)) => {
                    eprintln!("skipped on transport {transport}: {error}");
                    skipped += 1;
                    break;
                }
                Err(panic) if config.expects(&*panic) => expected_panic = Some(panic),
                Err(panic) => {
                    note(transport, seed);
                    resume_unwind(panic);
                }
            }
        }
    }
    if skipped == candidates.len() {
        return cannot_run(config, "none can start");
    }
    match expected_panic {
        Some(panic) => resume_unwind(panic),
        None => ExitCode::SUCCESS,
    }
}

/// Makes a test fail that did not run. With `#[should_panic]` that takes no panic.
fn cannot_run(config: &TestConfig, why: &str) -> ExitCode {
    assert!(config.should_panic.is_some(), "the test cannot run on its transport: {why}");
    eprintln!("the test cannot run on its transport: {why}");
    ExitCode::FAILURE
}

/// Says which of the runs failed, and how to repeat it.
fn note(transport: &str, seed: u64) {
    eprintln!(
        "note: this was on transport {transport}; repeat it with DEMIKERNEL_TRANSPORT={transport} DEMIKERNEL_SEED={seed}"
    );
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => {
            panic!("the environment variable {name} is `{text}`, which is no {}", std::any::type_name::<T>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transports;

    /// What a run does on a transport.
    #[derive(Clone, Copy)]
    enum Act {
        Pass,
        Fail,
        Panic(&'static str),
        /// The transport cannot start.
        Absent,
        /// It cannot start, although it has to.
        Missing,
    }
    use Act::{Absent, Fail, Missing, Panic, Pass};

    /// Runs a test whose n-th transport acts as the n-th act says. Gives how many were tried, and the
    /// result or the message of the panic.
    fn outcome(config: TestConfig, acts: &[Act]) -> (usize, Result<bool, String>) {
        let candidate =
            |(n, act): (usize, &Act)| Candidate { name: n.to_string(), required: matches!(act, Missing) };
        let candidates: Vec<_> = acts.iter().enumerate().map(candidate).collect();
        let mut tried = 0;
        let run = |name: &str, _| {
            tried += 1;
            match acts[name.parse::<usize>().unwrap()] {
                Pass => Ok(ExitCode::SUCCESS),
                Fail => Ok(ExitCode::FAILURE),
                Panic(message) => panic!("{message}"),
                Absent | Missing => Err(io::Error::other("not today")),
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| run_on_each(&config, &candidates, run)));
        let result =
            result.map(|code| code == ExitCode::SUCCESS).map_err(|panic| match panic.downcast::<String>() {
                Ok(message) => *message,
                Err(other) => other.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
            });
        (tried, result)
    }

    #[test]
    fn a_test_runs_on_each_transport_up_to_the_first_failure() {
        let config = TestConfig::new();
        assert_eq!(outcome(config, &[Pass, Pass, Pass]), (3, Ok(true)));
        assert_eq!(outcome(config, &[Absent, Pass]), (2, Ok(true)));
        assert_eq!(outcome(config, &[Pass, Fail, Pass]), (2, Ok(false)));
        assert_eq!(outcome(config, &[Pass, Panic("no"), Pass]), (2, Err("no".into())));
    }

    #[test]
    fn a_test_that_cannot_run_fails() {
        for acts in [&[Pass, Missing][..], &[Absent, Absent], &[]] {
            let (_, result) = outcome(TestConfig::new(), acts);
            assert!(result.unwrap_err().starts_with("the test cannot run on its transport: "));
            // A panic would be taken for the one that is wanted.
            let (_, result) = outcome(TestConfig::new().should_panic(""), acts);
            assert!(result.is_ok());
        }
    }

    #[test]
    fn a_test_that_should_panic_does_so_on_each_transport() {
        let config = TestConfig::new().should_panic("right");
        let right = Panic("the right one");
        assert_eq!(outcome(config, &[right, right]), (2, Err("the right one".into())));
        assert_eq!(outcome(config, &[right, Absent]), (2, Err("the right one".into())));
        assert_eq!(outcome(config, &[right, Pass]), (2, Ok(true)), "so the harness misses the panic");
        assert_eq!(outcome(config, &[Pass, right]), (1, Ok(true)));
        assert_eq!(outcome(config, &[Panic("another"), right]), (1, Err("another".into())));
        assert_eq!(outcome(TestConfig::new().should_panic(""), &[Panic("any")]), (1, Err("any".into())));
    }

    #[test]
    fn the_keys_decide_the_transports() {
        let names = |config: TestConfig| config.transports().into_iter().map(|c| c.name).collect::<Vec<_>>();
        let config = TestConfig::new();
        assert_eq!(names(config.transport("epoll")), ["epoll"]);
        let simulated: Vec<_> =
            SIMULATED.iter().copied().filter(|name| transports().contains(name)).collect();
        assert_eq!(names(config.time(Time::Virtual)), simulated);
        assert_eq!(names(config.time(Time::Virtual).transport("epoll")), ["epoll"]);
        if env::var_os("DEMIKERNEL_TRANSPORT").is_none() {
            assert_eq!(names(config), ready_transports().collect::<Vec<_>>());
            assert!(!names(config.cores(2)).contains(&"memory".to_owned()));
        }
    }

    #[test]
    fn what_is_simulated_runs_with_each_seed() {
        let config = TestConfig::new().seeds(3);
        if env::var_os("DEMIKERNEL_SEED").is_some() || env::var_os("DEMIKERNEL_SEEDS").is_some() {
            return;
        }
        assert_eq!(config.seeds_to_use("sim"), 0..3);
        assert_eq!(config.seed(7).seeds_to_use("memory"), 7..10);
        assert_eq!(config.seed(7).seeds_to_use("epoll"), 7..8);
        assert_eq!(TestConfig::new().seed(7).seeds_to_use("sim"), 7..8);
        let mut seeds = Vec::new();
        let candidates = [Candidate { name: "sim".to_owned(), required: true }];
        let code = run_on_each(&config, &candidates, |_, seed| {
            seeds.push(seed);
            Ok(if seed == 1 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        });
        assert!(code == ExitCode::FAILURE && seeds == [0, 1], "{seeds:?}");
    }
}
