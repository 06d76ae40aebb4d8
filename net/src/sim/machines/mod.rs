//! Machines that run ordinary programs, joined by simulated links, in one thread and one virtual time.
//!
//! Each machine is a runtime with a stack of its own: a program on it sees the sockets, timers, files and tasks of that
//! machine and no others, without knowing that it is simulated. They are run in turn, each as far as it can at the
//! present time; when none can do more, time jumps to the next timer or packet.
//!
//! - `machine`: one of them. `port`: its end of the links. `outcome`: what its program may return.
//! - `driver`: whose turn it is, and when.
//! - `control`: what tests, and programs that know of the simulation, ask for.

mod control;
mod driver;
mod machine;
mod outcome;
mod port;

pub use control::Control;
pub use machine::lone_transport;
pub use outcome::Outcome;

use super::fabric::Fabric;
use super::link::LinkConfig;
use super::trace::Trace;
use crate::device::pcapng::{Direction, Writer};
use crate::device::{Frame, Medium};
use crate::tcp;
use demikernel_runtime::Lockstep;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use machine::Machine;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// How a [`Simulation`] is made.
///
/// ```
/// use demikernel_net::sim::{Builder, LinkConfig};
/// use std::time::Duration;
///
/// let slow = LinkConfig { delay: Duration::from_millis(40), ..LinkConfig::default() };
/// let simulation = Builder::new().seed(7).links(slow).build()?;
/// assert_eq!(simulation.seed(), 7);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until build is called"]
pub struct Builder {
    config: Config,
    capture: Option<Box<dyn Sink>>,
}

/// What a capture is written to.
trait Sink: io::Write + std::fmt::Debug {}
impl<W: io::Write + std::fmt::Debug> Sink for W {}

#[derive(Clone, Debug)]
struct Config {
    seed: u64,
    links: Option<LinkConfig>,
    tcp: tcp::Config,
    mtu: usize,
    limit: Duration,
}

impl Builder {
    /// The seed of `DEMIKERNEL_SEED` or else 0, [links as that has them](LinkConfig::from_seed), and a day of virtual time.
    ///
    /// # Panics
    /// If `DEMIKERNEL_SEED` is no number.
    pub fn new() -> Builder {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let seed = std::env::var("DEMIKERNEL_SEED").ok().filter(|text| !text.is_empty());
        let seed = seed.map_or(0, |text| {
            text.parse()
                .unwrap_or_else(|_| panic!("DEMIKERNEL_SEED is {text:?}, expected a number of 64 bits"))
        });
        let config = Config { seed, links: None, tcp: tcp::Config::default(), mtu: 1500, limit: DAY };
        Builder { config, capture: None }
    }

    /// What everything follows from.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.config.seed = seed;
        self
    }

    /// How links are, until they are [changed](Control::links).
    pub fn links(mut self, links: LinkConfig) -> Builder {
        self.config.links = Some(links);
        self
    }

    /// How machines do TCP.
    pub fn tcp(mut self, tcp: tcp::Config) -> Builder {
        self.config.tcp = tcp;
        self
    }

    /// The largest IP packet; 1500 unless set.
    pub fn mtu(mut self, mtu: usize) -> Builder {
        self.config.mtu = mtu;
        self
    }

    /// How much virtual time may pass before what runs is taken to never end; a day unless set.
    pub fn limit(mut self, limit: Duration) -> Builder {
        self.config.limit = limit;
        self
    }

    /// Writes each packet that a machine sends to a capture in the pcapng format.
    pub fn capture(mut self, output: impl io::Write + std::fmt::Debug + 'static) -> Builder {
        self.capture = Some(Box::new(output));
        self
    }

    /// Makes the simulation, without machines.
    ///
    /// # Errors
    /// If the kernel gives no descriptor for wake-ups; those of the capture's output.
    pub fn build(self) -> io::Result<Simulation> {
        let Builder { config, capture } = self;
        let capture = capture.map(|output| Writer::new(output, "sim", Medium::Ip, 1 << 16)).transpose()?;
        let lockstep = Lockstep::new()?;
        let links = config.links.clone().unwrap_or_else(|| LinkConfig::from_seed(config.seed));
        let inner = Rc::new_cyclic(|me| Inner {
            me: me.clone(),
            start: lockstep.now(),
            lockstep,
            state: RefCell::new(State {
                fabric: Fabric::new(config.seed, links),
                machines: Vec::new(),
                names: HashMap::new(),
                ready: VecDeque::new(),
                due: BTreeSet::new(),
                actions: VecDeque::new(),
                capture,
                random: Random::new(config.seed, 0x7369_6d75),
            }),
            config,
        });
        Ok(Simulation(Control(inner)))
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// Machines, the links between them, and their time. Everything follows from one seed: a run is the same each time, to
/// the last bit of the last packet ([`Control::trace`]).
///
/// Programs use [`demikernel_runtime::net`](demikernel_runtime::net) and the rest of the runtime as anywhere, and know
/// each other by name. What else can be done is in [`Control`].
///
/// ```
/// use demikernel_net::sim::Simulation;
/// use demikernel_runtime::net::{TcpListener, TcpStream};
/// use std::io;
///
/// let simulation = Simulation::new(7)?;
/// simulation.host("server", async || {
///     let listener = TcpListener::bind("0.0.0.0:7000").await?;
///     loop {
///         let (stream, _) = listener.accept().await?;
///         stream.push(stream.pop().await?).await?;
///     }
///     #[allow(unreachable_code)]
///     io::Result::Ok(())
/// });
/// simulation.links(|link| link.loss = 0.2);
/// let answer = simulation.block_on("client", async {
///     let stream = TcpStream::connect("server:7000").await?;
///     stream.push("hello".into()).await?;
///     stream.pop().await
/// });
/// assert_eq!(answer?, b"hello");
/// assert!(simulation.elapsed().as_micros() > 0);
/// # io::Result::Ok(())
/// ```
///
/// What is not in the seed's power: hash maps of the standard library and `futures::select!` draw from the system's
/// randomness (use `select_biased!`), and other threads take their time. While a task waits for
/// [`spawn_blocking`](demikernel_runtime::spawn_blocking), virtual time stands still.
///
/// When a test panics, the seed is printed.
#[derive(Debug)]
pub struct Simulation(Control);

impl Simulation {
    /// A simulation without machines, with [links as the seed has them](LinkConfig::from_seed).
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn new(seed: u64) -> io::Result<Simulation> {
        Builder::new().seed(seed).build()
    }

    /// Lets time pass until every [client](Control::client) has finished.
    ///
    /// # Errors
    /// [`Error`]: what failed first.
    ///
    /// # Panics
    /// If the program of a machine does, with its panic. Inside of a runtime.
    #[track_caller]
    pub fn run(&self) -> Result<(), Error> {
        self.0
            .0
            .run_while(|inner| inner.state.borrow().machines.iter().any(|machine| machine.is_client_busy()))
    }

    /// Lets so much time pass, or less if everything has finished.
    ///
    /// # Errors
    /// As [`run`](Self::run), but there is nothing to be late for.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_for(&self, time: Duration) -> Result<(), Error> {
        self.0.0.run_until(self.now().saturating_add(time))
    }

    /// Runs a program on the machine of this name, which is made or [was a client](Control::client), until it has
    /// finished. Everything else goes on meanwhile.
    ///
    /// # Panics
    /// If the program does, or one of another machine fails, or nothing can happen any more, or time runs out. If the
    /// machine is off, or is switched off meanwhile. Inside of a runtime.
    #[track_caller]
    pub fn block_on<F>(&self, name: &str, program: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.0.0.block_on(name, program)
    }
}

impl Deref for Simulation {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "note: the simulation had seed {}, {:?} had passed in it, and its trace is {}",
                self.seed(),
                self.elapsed(),
                self.trace()
            );
        }
        self.0.0.end();
    }
}

/// What ended a run too early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program of a machine has returned an error.
    #[error("the program of {machine:?} failed: {error}")]
    Failed {
        /// The machine's name.
        machine: String,
        /// The error, as text.
        error: String,
    },
    /// Programs wait, but no packet is under way and no timer is set.
    #[error("nothing can happen any more: {waiting}")]
    Deadlock {
        /// Who waits.
        waiting: String,
    },
    /// More time has passed than a run may take.
    #[error("{limit:?} have passed, and still: {waiting}")]
    Late {
        /// How much it may take.
        limit: Duration,
        /// Who waits.
        waiting: String,
    },
    /// A machine could not be started.
    #[error("{machine:?} cannot be started: {error}")]
    Start {
        /// The machine's name.
        machine: String,
        /// Why.
        error: io::Error,
    },
}

/// What handles share.
struct Inner {
    me: Weak<Inner>,
    lockstep: Lockstep,
    start: Instant,
    config: Config,
    /// Never borrowed while a program runs, or is dropped.
    state: RefCell<State>,
}

struct State {
    fabric: Fabric,
    machines: Vec<Rc<Machine>>,
    names: HashMap<String, usize>,
    /// Machines that have something to do, in the order in which they are run.
    ready: VecDeque<usize>,
    /// Machines by when a timer of theirs is due.
    due: BTreeSet<(Instant, usize)>,
    /// What is done between two turns.
    actions: VecDeque<Action>,
    capture: Option<Writer<Box<dyn Sink>>>,
    random: Random,
}

/// What programs may ask for, also of their own machine, and so cannot be done while one runs.
enum Action {
    Start(usize),
    Crash(usize),
    Bounce(usize),
}

impl State {
    /// A packet that a machine has sent goes onto its link.
    fn send(&mut self, now: Instant, since: Duration, from: usize, packet: Vec<u8>) {
        if let Some(capture) = &mut self.capture {
            let written = Buffer::copy_from_slice(&packet).map_err(io::Error::other).and_then(|head| {
                capture.packet(since, Direction::Out, &Frame::new(head))?;
                capture.flush()
            });
            if let Err(error) = written {
                tracing::warn!(%error, "the capture cannot be written any more");
                self.capture = None;
            }
        }
        self.fabric.send(now, from, packet);
    }

    fn enqueue(&mut self, number: usize) {
        if let Some(machine) = self.machines.get(number)
            && !machine.queued.replace(true)
        {
            self.ready.push_back(number);
        }
    }

    /// Has the list of what is due say what the machine wants.
    fn reschedule(&mut self, machine: &Machine) {
        let next = machine.next_deadline();
        let former = machine.due.replace(next);
        if former == next {
            return;
        }
        if let Some(former) = former {
            self.due.remove(&(former, machine.number));
        }
        self.due.extend(next.map(|next| (next, machine.number)));
    }
}

impl Inner {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(addresses) = machine::localhost(host) {
            return Ok(addresses);
        }
        let number = self.state.borrow().names.get(host).copied();
        number.map(|number| Machine::addresses(number).to_vec()).ok_or_else(|| machine::no_such_name(host))
    }

    fn trace(&self) -> Trace {
        self.state.borrow().fabric.trace()
    }
}
