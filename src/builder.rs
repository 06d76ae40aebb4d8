//! The settings of a program's runtimes.

use crate::choose::{self, Choice, Team};
use crate::control;
use crate::storage::Configured;
use demikernel_runtime::{Idle, Runtime, Time, run_on_cores};
use std::future::Future;
use std::io;
use std::process::{ExitCode, Termination};
use std::rc::Rc;
use std::sync::Arc;

/// Makes runtimes: one with [`build`](Self::build), or one per core with [`run`](Self::run).
///
/// `#[demikernel::main]` and `#[demikernel::test]` stand for this, with keys of the same names.
///
/// ```
/// use demikernel::{Builder, Idle};
///
/// let runtime = Builder::new().transport("epoll").idle(Idle::Block).build()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until build or run is called"]
pub struct Builder {
    transport: Option<String>,
    storage: Option<String>,
    cores: Option<usize>,
    idle: Idle,
    time: Time,
    seed: u64,
    configuration: Option<String>,
}

impl Builder {
    /// The defaults: one core, the transport that suits (see [`transport`](Self::transport)), adaptive
    /// idling, real time.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The transport of `net`, by name: one of [`transports`](crate::transports), or `"auto"`.
    ///
    /// Without this call the environment variable `DEMIKERNEL_TRANSPORT` has the choice, and without that
    /// it is as `"auto"`: io_uring, or epoll with a warning where the kernel refuses io_uring. A transport
    /// that was named has to start: otherwise `build` fails and says why.
    ///
    /// `"sim"` is one machine on the userspace stack without a network around it; a test, or `sim::Simulation`, has
    /// many. Without the feature `sim` it is the same as `"memory"`, sockets within the process.
    pub fn transport(mut self, name: &str) -> Builder {
        self.transport = Some(name.to_owned());
        self
    }

    /// Where files and logs are.
    ///
    /// - `"io_uring"`, `"epoll"` (a pool of threads), or `"auto"`, which is the transport's own where it has files: the
    ///   device of [`fs`](crate::fs). `"memory"` (and `"sim"`) has both in memory.
    /// - `"nvme"` and `"spdk"`: logs are on a drive, which `device` under `[storage]` of `demikernel.toml` says.
    /// - A device, as it is written there: a path with a slash or a dot, the address of a drive such as
    ///   `"0000:5e:00.0/1"`, `"spdk:ADDRESS"`, or `"memory:64MiB"`.
    ///
    /// Without this call the environment variable `DEMIKERNEL_STORAGE` has the choice, and without that the file.
    /// [`storage::store`](crate::storage::store) opens what was chosen, when it is first needed.
    pub fn storage(mut self, name: &str) -> Builder {
        self.storage = Some(name.to_owned());
        self
    }

    /// How many cores [`run`](Self::run) uses; one unless set.
    ///
    /// # Panics
    /// If it is 0.
    pub fn cores(mut self, cores: usize) -> Builder {
        assert_ne!(cores, 0, "a program needs at least one core");
        self.cores = Some(cores);
        self
    }

    /// What a runtime does when no task is ready.
    pub fn idle(mut self, idle: Idle) -> Builder {
        self.idle = idle;
        self
    }

    /// Which clock a runtime goes by.
    pub fn time(mut self, time: Time) -> Builder {
        self.time = time;
        self
    }

    /// The seed of everything random in what is simulated (`"memory"` and `"sim"`). 0 unless set.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = seed;
        self
    }

    /// How the userspace stack and its device are to be, for the transports that are one, and where logs are: the text of a
    /// `demikernel.toml`, in place of the file that `DEMIKERNEL_CONFIG` names. Others do not look at it.
    ///
    /// ```
    /// let text = "[network]\ndevice = \"tap\"\naddresses = [\"10.0.0.2/24\"]\n";
    /// let builder = demikernel::Builder::new().transport("tap").configuration(text);
    /// # drop(builder);
    /// ```
    pub fn configuration(mut self, text: &str) -> Builder {
        self.configuration = Some(text.to_owned());
        self
    }

    /// Makes a runtime for this thread.
    ///
    /// # Errors
    /// `InvalidInput` for names nobody knows; `Unsupported` for transports that are not compiled in; and
    /// what the system says when a transport that was named cannot start. The text says what to do.
    pub fn build(&self) -> io::Result<Runtime> {
        self.build_from(demikernel_runtime::Builder::new(), None)
    }

    fn build_from(
        &self,
        builder: demikernel_runtime::Builder,
        team: Option<&Arc<Team>>,
    ) -> io::Result<Runtime> {
        let mut choice = Choice::new(self.transport.as_deref(), self.storage.as_deref(), self.seed)?;
        choice.configuration.clone_from(&self.configuration);
        choice.core = team.map(|team| (builder.place().0, team.clone()));
        let configured = Configured::new(choice.logs.clone(), self.configuration.as_deref())?;
        let control = control::open(self.configuration.as_deref())?;
        let runtime = builder.idle(self.idle).time(self.time).build()?;
        runtime.keep(control);
        runtime.set_default_logs(Rc::new(configured));
        for transport in choose::open(&choice)? {
            runtime.attach(transport);
        }
        tracing::info!(devices = ?runtime.devices(), idle = %self.idle, "runtime started");
        Ok(runtime)
    }

    /// Runs `main` to its end on as many cores as were set, each with a runtime of its own in a thread that
    /// is pinned to a processor; [`core_index`](crate::core_index) tells them apart. Listeners made on
    /// several cores for one address share its connections.
    ///
    /// When one of them fails (its output [reports](Termination::report) something other than success, it
    /// panics, or its runtime cannot be made), the others are stopped. Gives the code for the process, which
    /// is the first failing core's; what went wrong is printed to the standard error.
    pub fn run<M, F>(&self, main: M) -> ExitCode
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: Future,
        F::Output: Termination,
    {
        let main = || async { main().await.report() };
        let team = Team::new(self.cores.unwrap_or(1));
        let results = run_on_cores(
            team.cores(),
            |builder| self.build_from(builder, Some(&team)),
            main,
            |code| *code != ExitCode::SUCCESS,
        );
        let mut end = ExitCode::SUCCESS;
        for (core, result) in results.into_iter().enumerate() {
            let code = match result {
                Ok(code) => code.unwrap_or(ExitCode::SUCCESS),
                Err(error) => {
                    eprintln!("error: core {core}: {error}");
                    ExitCode::FAILURE
                }
            };
            if end == ExitCode::SUCCESS {
                end = code;
            }
        }
        end
    }
}
