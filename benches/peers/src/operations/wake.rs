//! Wake one sleeping task of many, at random, which wakes the one that woke it: two wakes and two polls.

use super::{Plan, Samples};
use crate::machine::Rng;
use crate::runtimes::Runtime;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What the sleepers and the main task share.
pub(crate) struct Switchboard {
    sleepers: RefCell<Vec<Option<Waker>>>,
    called: RefCell<Vec<bool>>,
    main: RefCell<Option<Waker>>,
    answered: Cell<bool>,
    asleep: Cell<usize>,
    over: Cell<bool>,
}

impl Switchboard {
    pub(crate) fn new(sleepers: usize) -> Rc<Self> {
        Rc::new(Self {
            sleepers: RefCell::new(vec![None; sleepers]),
            called: RefCell::new(vec![false; sleepers]),
            main: RefCell::new(None),
            answered: Cell::new(false),
            asleep: Cell::new(0),
            over: Cell::new(false),
        })
    }

    /// The sleeper's side: answers each call, until it is over.
    pub(crate) async fn sleep(&self, index: usize) {
        poll_fn(|cx| self.poll_sleeper(index, cx)).await
    }

    fn poll_sleeper(&self, index: usize, cx: &mut Context<'_>) -> Poll<()> {
        if self.over.get() {
            return Poll::Ready(());
        }
        if std::mem::take(&mut self.called.borrow_mut()[index]) {
            self.answered.set(true);
            self.wake_main();
        }
        let mut sleepers = self.sleepers.borrow_mut();
        match &sleepers[index] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            known => {
                let first = known.is_none();
                sleepers[index] = Some(cx.waker().clone());
                if first {
                    self.asleep.set(self.asleep.get() + 1);
                    if self.asleep.get() == sleepers.len() {
                        self.wake_main();
                    }
                }
            }
        }
        Poll::Pending
    }

    fn wake_main(&self) {
        if let Some(waker) = &*self.main.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Parks the main task until `done`. Not a loop of yields: monoio puts a task that wakes itself at the
    /// front of its queue and would never run another.
    async fn park(&self, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            if done() {
                return Poll::Ready(());
            }
            let mut main = self.main.borrow_mut();
            match &*main {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => *main = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// The main task's side, once the sleepers have been spawned.
    pub(crate) async fn measure(&self, plan: Plan) -> Samples {
        let count = self.sleepers.borrow().len();
        self.park(|| self.asleep.get() == count).await;
        let mut random = Rng(88_172_645_463_325_252);
        plan.sample(async || {
            for _ in 0..plan.operations {
                let index = random.below(count as u64) as usize;
                self.called.borrow_mut()[index] = true;
                self.sleepers.borrow()[index].as_ref().expect("asleep").wake_by_ref();
                self.park(|| self.answered.replace(false)).await;
            }
        })
        .await
    }

    /// Lets the sleepers end.
    pub(crate) fn dismiss(&self) {
        self.over.set(true);
        for waker in self.sleepers.take().into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Wakes among `sleepers` tasks.
pub(super) fn run<R: Runtime>(sleepers: usize, plan: Plan) -> Samples {
    R::run(async move {
        let board = Switchboard::new(sleepers);
        let spawn_one = |index| {
            let board = board.clone();
            R::spawn(async move { board.sleep(index).await })
        };
        let handles: Vec<_> = (0..sleepers).map(spawn_one).collect();
        let samples = board.measure(plan).await;
        board.dismiss();
        for handle in handles {
            handle.await;
        }
        samples
    })
}
