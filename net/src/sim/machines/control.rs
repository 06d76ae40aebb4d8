//! What tests, and programs that know of the simulation, ask for.

use super::machine::{Machine, Program, Task};
use super::{Action, Inner, Outcome};
use crate::sim::{LinkConfig, LinkStats, Trace};
use demikernel_runtime::time::Instant;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// A handle on a [`Simulation`](super::Simulation): adds machines, changes links, and breaks things, from outside and
/// from the programs of the machines ([`Control::current`]).
///
/// Machines are named. All calls about a machine panic if there is none of that name.
///
/// ```
/// use demikernel_net::sim::{Control, Simulation};
/// use demikernel_runtime::time::{Duration, sleep};
///
/// let simulation = Simulation::new(0)?;
/// simulation.host("server", async || sleep(Duration::from_secs(1)).await);
/// simulation.block_on("test", async {
///     let control = Control::current();
///     control.link("test", "server", |link| link.loss = 0.5);
///     control.isolate("server");
///     control.crash("server");
///     sleep(Duration::from_millis(1)).await; // what was asked for is done when no machine runs
///     assert!(!control.is_on("server") && control.is_on("test"));
///     assert_eq!(control.elapsed(), Duration::from_millis(1));
/// });
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Control(pub(super) Rc<Inner>);

thread_local! {
    static CURRENT: RefCell<Option<(Control, usize)>> = const { RefCell::new(None) };
}

/// While it lives, a machine is the one that runs.
pub(super) struct Current(Option<(Control, usize)>);

impl Current {
    pub(super) fn enter(inner: &Inner, number: usize) -> Current {
        let control = inner.me.upgrade().map(|inner| (Control(inner), number));
        Current(CURRENT.replace(control))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // What it was may be the last handle.
        let inner = CURRENT.replace(self.0.take());
        drop(inner);
    }
}

/// Machines.
impl Control {
    /// The simulation that this code runs in.
    ///
    /// # Panics
    /// Outside of the programs of machines.
    #[track_caller]
    pub fn current() -> Control {
        match Control::try_current() {
            Some(control) => control,
            None => panic!(
                "this code does not run in a simulation: it is not a program of one of its machines, nor the body of a \
                 #[demikernel::test(transport = \"sim\")]"
            ),
        }
    }

    /// The simulation that this code runs in, if it does.
    pub fn try_current() -> Option<Control> {
        CURRENT.with_borrow(|current| current.as_ref().map(|(control, _)| control.clone()))
    }

    /// Adds a machine, and runs a program on it: a server, which is started again when the machine is
    /// [bounced](Self::bounce), and which no [`run`](super::Simulation::run) waits for. Gives the machine's IPv4
    /// address, by the order of their making from 10.0.0.1 on; the IPv6 address of 10.0.0.1 is fd00::1.
    ///
    /// A program that returns an error makes the run fail; so does one that panics. A task that it spawned may panic as
    /// on any runtime.
    ///
    /// # Panics
    /// If there is a machine of that name.
    pub fn host<P, F>(&self, name: &str, program: P) -> IpAddr
    where
        P: Fn() -> F + 'static,
        F: Future + 'static,
        F::Output: Outcome,
    {
        let program = Rc::new(program);
        let make = move || -> Task {
            let program = program.clone();
            // Its first part, too, runs on the machine.
            Box::pin(async move { program().await.into_result() })
        };
        Machine::addresses(self.add(name, Program::Host(Box::new(make))))[0]
    }

    /// Adds a machine, and runs a program on it that [`run`](super::Simulation::run) waits for. As
    /// [`host`](Self::host) otherwise, but it cannot be started again.
    ///
    /// # Panics
    /// If there is a machine of that name.
    pub fn client<F>(&self, name: &str, program: F) -> IpAddr
    where
        F: Future + 'static,
        F::Output: Outcome,
    {
        let task: Task = Box::pin(async move { program.await.into_result() });
        Machine::addresses(self.add(name, Program::Client(Some(task).into())))[0]
    }

    pub(super) fn add(&self, name: &str, program: Program) -> usize {
        let mut state = self.0.state.borrow_mut();
        assert!(!state.names.contains_key(name), "there is a machine of the name {name:?} already");
        let number = state.machines.len();
        for address in Machine::addresses(number) {
            state.fabric.add_address(address, number);
        }
        state.names.insert(name.to_owned(), number);
        state.machines.push(Rc::new(Machine::new(number, name.to_owned(), program, self.0.config.seed)));
        state.actions.push_back(Action::Start(number));
        number
    }

    /// The IPv4 address of a machine, if there is one of that name. Programs need not ask: `"name:port"` is an address to
    /// [`TcpStream::connect`](demikernel_runtime::net::TcpStream::connect) and all others.
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        let number = self.0.state.borrow().names.get(name).copied();
        number.map(|number| Machine::addresses(number)[0])
    }

    /// Switches a machine off, as when its power fails: the futures of its tasks are dropped, and of what they have sent
    /// only what has left arrives. Its peers find out by their timeouts. What was in its files is gone.
    pub fn crash(&self, name: &str) {
        self.act(name, Action::Crash);
    }

    /// Switches a machine off, if it is on, and on again: a host's program starts once more. Its peers find out when they
    /// next send it something.
    pub fn bounce(&self, name: &str) {
        self.act(name, Action::Bounce);
    }

    /// Whether a machine is on.
    pub fn is_on(&self, name: &str) -> bool {
        let machine = self.machine(name);
        machine.is_on()
    }

    fn act(&self, name: &str, action: fn(usize) -> Action) {
        let number = self.number(name);
        self.0.state.borrow_mut().actions.push_back(action(number));
    }

    #[track_caller]
    fn number(&self, name: &str) -> usize {
        let number = self.0.state.borrow().names.get(name).copied();
        number.unwrap_or_else(|| panic!("no machine of the simulation is named {name:?}"))
    }

    #[track_caller]
    fn machine(&self, name: &str) -> Rc<Machine> {
        let number = self.number(name);
        self.0.state.borrow().machines[number].clone()
    }
}

/// Links.
impl Control {
    /// Changes all links, also those of machines that come later. What is under way arrives as it was going to.
    pub fn links(&self, change: impl Fn(&mut LinkConfig)) {
        self.0.state.borrow_mut().fabric.configure_all(change);
    }

    /// Changes the link between two machines, both ways.
    pub fn link(&self, one: &str, other: &str, change: impl Fn(&mut LinkConfig)) {
        self.link_one_way(one, other, &change);
        self.link_one_way(other, one, &change);
    }

    /// Changes the link from one machine to another.
    pub fn link_one_way(&self, from: &str, to: &str, change: impl FnOnce(&mut LinkConfig)) {
        let (from, to) = (self.number(from), self.number(to));
        self.0.state.borrow_mut().fabric.configure(from, to, change);
    }

    /// Lets nothing pass between two machines.
    pub fn partition(&self, one: &str, other: &str) {
        self.link(one, other, |link| link.partitioned = true);
    }

    /// Ends a [partition](Self::partition).
    pub fn repair(&self, one: &str, other: &str) {
        self.link(one, other, |link| link.partitioned = false);
    }

    /// Lets nothing pass between a machine and all others.
    pub fn isolate(&self, name: &str) {
        let number = self.number(name);
        self.0.state.borrow_mut().fabric.isolate(number);
    }

    /// Ends an [isolation](Self::isolate).
    pub fn rejoin(&self, name: &str) {
        let number = self.number(name);
        self.0.state.borrow_mut().fabric.rejoin(number);
    }

    /// Holds packets between two machines, until they are [released](Self::release).
    pub fn hold(&self, one: &str, other: &str) {
        let (one, other) = (self.number(one), self.number(other));
        let mut state = self.0.state.borrow_mut();
        state.fabric.hold(one, other);
        state.fabric.hold(other, one);
    }

    /// Sends what was [held](Self::hold), and holds no more.
    pub fn release(&self, one: &str, other: &str) {
        let (one, other) = (self.number(one), self.number(other));
        let now = self.0.lockstep.now();
        let mut state = self.0.state.borrow_mut();
        state.fabric.release(now, one, other);
        state.fabric.release(now, other, one);
    }

    /// What has become of packets from one machine to another.
    pub fn stats(&self, from: &str, to: &str) -> LinkStats {
        let (from, to) = (self.number(from), self.number(to));
        self.0.state.borrow_mut().fabric.stats(from, to)
    }
}

/// What there is to know.
impl Control {
    /// What everything follows from.
    pub fn seed(&self) -> u64 {
        self.0.config.seed
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.0.lockstep.now()
    }

    /// The name of the machine whose program this is, if it is one of this simulation.
    pub fn machine_name(&self) -> Option<String> {
        let number = self.current_number()?;
        self.0.state.borrow().machines.get(number).map(|machine| machine.name.clone())
    }

    /// The time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.now() - self.0.start
    }

    /// Anything, as the seed has it. Inside of a machine's program it is drawn from the machine's own generator, so
    /// that what one machine draws does not depend on what others do.
    pub fn random(&self) -> u64 {
        let number = self.current_number();
        let mut state = self.0.state.borrow_mut();
        match number.and_then(|number| state.machines.get(number).cloned()) {
            Some(machine) => machine.random.borrow_mut().next(),
            None => state.random.next(),
        }
    }

    /// The machine that runs, if it is one of this simulation.
    fn current_number(&self) -> Option<usize> {
        CURRENT.with_borrow(|inside| {
            inside.as_ref().filter(|(control, _)| Rc::ptr_eq(&control.0, &self.0)).map(|(_, number)| *number)
        })
    }

    /// All packets so far: the same in each run that does the same.
    pub fn trace(&self) -> Trace {
        self.0.trace()
    }

    /// What a machine's stack has counted since it was switched on, by name.
    pub fn counters(&self, name: &str) -> Vec<(&'static str, u64)> {
        let machine = self.machine(name);
        machine.counters()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("seed", &self.seed())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
