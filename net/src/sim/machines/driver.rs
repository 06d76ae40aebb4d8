//! Whose turn it is, and when.

use super::control::Current;
use super::machine::{End, Machine, Program};
use super::{Action, Control, Error, Inner};
use demikernel_runtime::JoinHandle;
use demikernel_runtime::time::Instant;
use std::cell::Cell;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long, in real time, threads that the simulation does not know of may take to wake something when nothing else
/// can happen any more.
const DEADLOCK: Duration = Duration::from_secs(5);

/// Turns of machines without time passing, after which it is taken to stand still for ever.
const STANDSTILL: u64 = 1 << 22;

/// What has come of letting things happen.
#[derive(PartialEq, Eq)]
enum Progress {
    /// Something has happened.
    Some,
    /// Nothing is due by then.
    Until,
    /// Nothing is due at all.
    Never,
}

impl Inner {
    /// Lets time pass as long as `goes_on`.
    #[track_caller]
    pub(super) fn run_while(&self, goes_on: impl Fn(&Inner) -> bool) -> Result<(), Error> {
        let end = self.start.saturating_add(self.config.limit);
        let turns = Turns::default();
        self.settle(&turns)?;
        while goes_on(self) {
            match self.step(end, &turns)? {
                Progress::Some => {}
                Progress::Until => {
                    return Err(Error::Late { limit: self.config.limit, waiting: self.waiting() });
                }
                Progress::Never if self.wait_for_threads() => {}
                Progress::Never => return Err(Error::Deadlock { waiting: self.waiting() }),
            }
        }
        Ok(())
    }

    /// Lets time pass up to a moment.
    #[track_caller]
    pub(super) fn run_until(&self, end: Instant) -> Result<(), Error> {
        let turns = Turns::default();
        self.settle(&turns)?;
        while self.step(end, &turns)? == Progress::Some {}
        self.lockstep.advance_to(end);
        Ok(())
    }

    #[track_caller]
    pub(super) fn block_on<F>(&self, name: &str, program: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let control = Control(self.me.upgrade().expect("the simulation is there"));
        let known = self.state.borrow().names.get(name).copied();
        let number = known.unwrap_or_else(|| control.add(name, Program::Client(None.into())));
        let turns = Turns::default();
        let started = self.settle(&turns);
        started.unwrap_or_else(|error| panic!("{error}"));
        let machine = self.machine(number);
        let mut task = machine.spawn(program);
        self.state.borrow_mut().enqueue(number);
        let run = self.run_while(|_| machine.is_on() && !task.is_finished());
        match take(&mut task) {
            Some(Ok(output)) => output,
            Some(Err(error)) if error.is_panic() => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => panic!("{error}"),
            },
            _ => match run {
                Err(error) => panic!("{error}"),
                Ok(()) => panic!("the machine {name:?} was switched off while its program was waited for"),
            },
        }
    }

    fn machine(&self, number: usize) -> Rc<Machine> {
        self.state.borrow().machines[number].clone()
    }

    /// Has everybody do what can be done now, then lets time pass to the next thing that is due.
    fn step(&self, until: Instant, turns: &Turns) -> Result<Progress, Error> {
        if self.lockstep.has_outside_work() {
            self.wait(None);
            self.settle(turns)?;
            return Ok(Progress::Some);
        }
        // Looked at after the threads' work, since what that has done is announced before its end.
        if self.enqueue_woken() {
            self.settle(turns)?;
            return Ok(Progress::Some);
        }
        let next = {
            let state = self.state.borrow();
            let timer = state.due.first().map(|(at, _)| *at);
            state.fabric.next_deadline().into_iter().chain(timer).min()
        };
        match next {
            None => return Ok(Progress::Never),
            Some(next) if next > until => return Ok(Progress::Until),
            Some(next) => self.advance(next, turns),
        }
        self.settle(turns)?;
        Ok(Progress::Some)
    }

    fn advance(&self, next: Instant, turns: &Turns) {
        if next > self.lockstep.now() {
            turns.0.set(0);
            self.lockstep.advance_to(next);
        }
        let now = self.lockstep.now();
        let mut state = self.state.borrow_mut();
        while let Some((to, packet)) = state.fabric.receive(now) {
            state.machines[to].deliver(packet);
            state.enqueue(to);
        }
        while let Some((_, number)) = state.due.first().copied().filter(|(at, _)| *at <= now) {
            // It says when it is due again after its turn.
            state.due.pop_first();
            state.machines[number].due.set(None);
            state.enqueue(number);
        }
    }

    /// Everything that can be done without time passing and without packets arriving.
    fn settle(&self, turns: &Turns) -> Result<(), Error> {
        loop {
            self.act()?;
            let next = self.state.borrow_mut().ready.pop_front();
            match next {
                Some(number) => self.run_machine(number, turns)?,
                None if self.enqueue_woken() => {}
                None if self.state.borrow().actions.is_empty() => return Ok(()),
                None => {}
            }
        }
    }

    fn run_machine(&self, number: usize, turns: &Turns) -> Result<(), Error> {
        let machine = self.machine(number);
        machine.queued.set(false);
        turns.count(&machine.name);
        let done = {
            let _current = Current::enter(self, number);
            machine.run()
        };
        let (now, since) = (self.lockstep.now(), self.lockstep.now() - self.start);
        let mut state = self.state.borrow_mut();
        while let Some(packet) = machine.take_packet() {
            state.send(now, since, number, packet);
        }
        state.reschedule(&machine);
        if !done {
            state.enqueue(number);
        }
        drop(state);
        match machine.take_end() {
            Some(End::Panicked(panic)) => resume_unwind(panic),
            Some(End::Failed(error)) => Err(Error::Failed { machine: machine.name.clone(), error }),
            Some(End::Finished) | None => Ok(()),
        }
    }

    /// Machines that another one, or a thread, has woken get a turn; whether there are any.
    fn enqueue_woken(&self) -> bool {
        if !self.lockstep.take_woken() {
            return false;
        }
        let mut state = self.state.borrow_mut();
        let woken: Vec<_> = state.machines.iter().filter(|machine| machine.is_woken()).cloned().collect();
        woken.iter().for_each(|machine| state.enqueue(machine.number));
        !woken.is_empty()
    }

    /// Does what programs have asked for.
    fn act(&self) -> Result<(), Error> {
        loop {
            let Some(action) = self.state.borrow_mut().actions.pop_front() else { return Ok(()) };
            match action {
                Action::Start(number) => self.start_machine(number)?,
                Action::Crash(number) => self.stop_machine(number),
                Action::Bounce(number) => {
                    self.stop_machine(number);
                    self.start_machine(number)?;
                }
            }
        }
    }

    fn start_machine(&self, number: usize) -> Result<(), Error> {
        let machine = self.machine(number);
        let _current = Current::enter(self, number);
        if !machine.is_on() {
            let started = machine.start(&self.lockstep, &self.me, &self.config);
            started.map_err(|error| Error::Start { machine: machine.name.clone(), error })?;
        }
        self.state.borrow_mut().enqueue(number);
        Ok(())
    }

    fn stop_machine(&self, number: usize) {
        let machine = self.machine(number);
        {
            let _current = Current::enter(self, number);
            machine.power_off();
        }
        self.state.borrow_mut().reschedule(&machine);
    }

    /// The end of everything.
    pub(super) fn end(&self) {
        let count = self.state.borrow().machines.len();
        (0..count).for_each(|number| self.stop_machine(number));
        // Programs may have handles on what they are part of.
        let (machines, actions) = {
            let mut state = self.state.borrow_mut();
            state.names.clear();
            (std::mem::take(&mut state.machines), std::mem::take(&mut state.actions))
        };
        drop((machines, actions));
    }

    fn wait(&self, timeout: Option<Duration>) {
        if let Err(error) = self.lockstep.wait(timeout) {
            tracing::error!(%error, "blocking failed, polling instead");
            std::thread::yield_now();
        }
        // The word may have come before; now is the time to look at everybody.
        let mut state = self.state.borrow_mut();
        let woken: Vec<_> = state.machines.iter().filter(|machine| machine.is_woken()).cloned().collect();
        woken.iter().for_each(|machine| state.enqueue(machine.number));
    }

    /// Nothing but another thread can make a task ready; whether one has.
    fn wait_for_threads(&self) -> bool {
        let begin = std::time::Instant::now();
        let has_handles = self.state.borrow().machines.iter().any(|machine| machine.has_handles());
        while has_handles || begin.elapsed() < DEADLOCK {
            self.wait((!has_handles).then(|| DEADLOCK.saturating_sub(begin.elapsed())));
            if !self.state.borrow().ready.is_empty() || self.lockstep.has_outside_work() {
                return true;
            }
        }
        false
    }

    /// Who waits, for people.
    fn waiting(&self) -> String {
        /// Of a thousand machines not all are named.
        const MOST: usize = 10;
        let machines = self.state.borrow().machines.clone();
        let mut waiting: Vec<_> = machines
            .iter()
            .map(|machine| (machine, machine.pending()))
            .filter(|(_, pending)| *pending != (0, 0))
            .map(|(machine, (tasks, operations))| {
                let kind = if machine.is_client() { "client" } else { "host" };
                format!(
                    "{kind} {:?} waits with {tasks} tasks and {operations} other operations",
                    machine.name
                )
            })
            .collect();
        let more = waiting.len().saturating_sub(MOST);
        waiting.truncate(MOST);
        if more > 0 {
            waiting.push(format!("{more} more"));
        }
        if waiting.is_empty() { "no machine waits for anything".to_owned() } else { waiting.join(", ") }
    }
}

/// Turns since time has last passed.
#[derive(Default)]
struct Turns(Cell<u64>);

impl Turns {
    #[track_caller]
    fn count(&self, machine: &str) {
        self.0.set(self.0.get() + 1);
        assert!(
            self.0.get() < STANDSTILL,
            "time stands still: {machine:?} always has something to do, such as a task that yields in a loop until \
             another is ready"
        );
    }
}

/// The output of a task, if it has ended.
fn take<T>(task: &mut JoinHandle<T>) -> Option<Result<T, demikernel_runtime::JoinError>> {
    match Pin::new(task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

impl Machine {
    pub(super) fn is_client(&self) -> bool {
        matches!(self.program, Program::Client(_))
    }

    pub(super) fn is_client_busy(&self) -> bool {
        self.is_client() && self.is_busy()
    }
}
