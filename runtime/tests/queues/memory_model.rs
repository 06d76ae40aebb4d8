//! The in-memory queue against a model of it: any sequence of pushes, pops, cancellations and closings.

use crate::run;
use demikernel_runtime::QToken;
use demikernel_runtime::queue::{Closed, Queue, TryPopError, TryPushError, queue, queue_with_capacity};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
enum Action {
    Push,
    TryPush,
    Pop,
    TryPop,
    /// Takes the result of a pop that is done.
    Take(usize),
    DropPop(usize),
    DetachPop(usize),
    DropPush(usize),
    DetachPush(usize),
    Close,
}

fn action() -> impl Strategy<Value = Action> {
    let some = 0..6usize;
    prop_oneof![
        9 => Just(Action::Push),
        3 => Just(Action::TryPush),
        9 => Just(Action::Pop),
        2 => Just(Action::TryPop),
        5 => some.clone().prop_map(Action::Take),
        5 => some.clone().prop_map(Action::DropPop),
        1 => some.clone().prop_map(Action::DetachPop),
        3 => some.clone().prop_map(Action::DropPush),
        1 => some.prop_map(Action::DetachPush),
        1 => prop_oneof![9 => Just(Action::Push), 1 => Just(Action::Close)],
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PopState {
    Waits,
    /// Nobody will see what it gets.
    Detached,
    Has(u32),
    Ended,
}

/// The queue as plainly as possible. Elements are numbers that count up, so their order is their own.
#[derive(Default)]
struct Model {
    capacity: usize,
    elements: Vec<u32>,
    pops: BTreeMap<usize, PopState>,
    /// Elements of pushes that wait, and whether somebody waits for the push.
    pushes: VecDeque<(u32, bool)>,
    pushed: Vec<u32>,
    closed: bool,
}

impl Model {
    fn first_waiting(&mut self) -> Option<&mut PopState> {
        self.pops.values_mut().find(|pop| matches!(pop, PopState::Waits | PopState::Detached))
    }

    fn put(&mut self, element: u32) {
        match self.first_waiting() {
            Some(pop) => {
                *pop = if *pop == PopState::Waits { PopState::Has(element) } else { PopState::Ended }
            }
            None => {
                self.elements.push(element);
                self.elements.sort_unstable();
            }
        }
    }

    fn take(&mut self) -> Option<u32> {
        let first = (!self.elements.is_empty()).then(|| self.elements.remove(0))?;
        while self.elements.len() < self.capacity {
            let Some((element, awaited)) = self.pushes.pop_front() else { break };
            self.put(element);
            if awaited {
                self.pushed.push(element);
            }
        }
        Some(first)
    }
}

fn nth<T>(tokens: &BTreeMap<usize, T>, index: usize) -> Option<usize> {
    tokens.keys().nth(index).copied()
}

/// The queue and its model, side by side.
struct Both {
    queue: Queue<u32>,
    pops: BTreeMap<usize, QToken<Result<u32, Closed>>>,
    pushes: BTreeMap<usize, QToken<Result<(), Closed>>>,
    model: Model,
}

impl Both {
    fn new(capacity: Option<usize>) -> Both {
        Both {
            queue: capacity.map_or_else(queue, queue_with_capacity),
            pops: BTreeMap::new(),
            pushes: BTreeMap::new(),
            model: Model { capacity: capacity.unwrap_or(usize::MAX), ..Model::default() },
        }
    }

    fn act(&mut self, id: usize, action: Action) {
        let element = id as u32;
        match action {
            Action::Push => self.push(id, element),
            Action::TryPush => self.try_push(element),
            Action::Pop => self.pop(id),
            Action::TryPop => {
                let ended = if self.model.closed { TryPopError::Closed } else { TryPopError::Empty };
                assert_eq!(self.queue.try_pop(), self.model.take().ok_or(ended));
            }
            Action::Take(index) => self.take(index),
            Action::DropPop(index) => self.drop_pop(index),
            Action::DetachPop(index) => self.detach_pop(index),
            Action::DropPush(index) => self.drop_push(index),
            Action::DetachPush(index) => self.detach_push(index),
            Action::Close => self.close(),
        }
    }

    fn push(&mut self, id: usize, element: u32) {
        let mut token = self.queue.push(element);
        if self.model.closed {
            assert_eq!(token.try_take(), Some(Err(Closed)));
        } else if self.model.elements.len() < self.model.capacity {
            assert_eq!(token.try_take(), Some(Ok(())));
            self.model.put(element);
        } else {
            assert!(!token.is_done());
            self.pushes.insert(id, token);
            self.model.pushes.push_back((element, true));
        }
    }

    fn try_push(&mut self, element: u32) {
        let expected = if self.model.closed {
            Err(TryPushError::Closed(element))
        } else if self.model.elements.len() >= self.model.capacity {
            Err(TryPushError::Full(element))
        } else {
            self.model.put(element);
            Ok(())
        };
        assert_eq!(self.queue.try_push(element), expected);
    }

    fn pop(&mut self, id: usize) {
        self.pops.insert(id, self.queue.pop());
        let state = match self.model.take() {
            Some(element) => PopState::Has(element),
            None if self.model.closed => PopState::Ended,
            None => PopState::Waits,
        };
        self.model.pops.insert(id, state);
    }

    fn take(&mut self, index: usize) {
        let Some(id) = nth(&self.pops, index) else { return };
        let expected = match self.model.pops[&id] {
            PopState::Has(element) => Some(Ok(element)),
            PopState::Ended => Some(Err(Closed)),
            PopState::Waits | PopState::Detached => None,
        };
        assert_eq!(self.pops.get_mut(&id).unwrap().try_take(), expected);
        if expected.is_some() {
            self.pops.remove(&id);
            self.model.pops.remove(&id);
        }
    }

    fn drop_pop(&mut self, index: usize) {
        let Some(id) = nth(&self.pops, index) else { return };
        drop(self.pops.remove(&id));
        if let Some(PopState::Has(element)) = self.model.pops.remove(&id) {
            self.model.put(element);
        }
    }

    fn detach_pop(&mut self, index: usize) {
        let Some(id) = nth(&self.pops, index) else { return };
        self.pops.remove(&id).unwrap().detach();
        let state = self.model.pops.get_mut(&id).unwrap();
        *state = if *state == PopState::Waits { PopState::Detached } else { PopState::Ended };
    }

    fn drop_push(&mut self, index: usize) {
        let Some(id) = nth(&self.pushes, index) else { return };
        drop(self.pushes.remove(&id));
        self.model.pushes.retain(|(element, _)| *element as usize != id);
    }

    fn detach_push(&mut self, index: usize) {
        let Some(id) = nth(&self.pushes, index) else { return };
        self.pushes.remove(&id).unwrap().detach();
        self.model.pushes.iter_mut().find(|(element, _)| *element as usize == id).unwrap().1 = false;
    }

    fn close(&mut self) {
        self.queue.close();
        self.model.closed = true;
        self.model.pushes.clear();
        while let Some(pop) = self.model.first_waiting() {
            *pop = PopState::Ended;
        }
        for (_, mut token) in std::mem::take(&mut self.pushes) {
            assert_eq!(token.try_take(), Some(Err(Closed)));
        }
    }

    /// Done is what the model says is, and nothing else.
    fn compare(&mut self) {
        for element in self.model.pushed.drain(..) {
            assert_eq!(self.pushes.remove(&(element as usize)).unwrap().try_take(), Some(Ok(())));
        }
        assert!(self.pushes.values().all(|token| !token.is_done()));
        for (id, token) in &self.pops {
            assert_eq!(token.is_done(), self.model.pops[id] != PopState::Waits);
        }
        assert_eq!(self.queue.len(), self.model.elements.len());
    }

    /// Everything that was not popped is there, in order.
    fn finish(mut self) {
        for (id, token) in std::mem::take(&mut self.pops) {
            drop(token);
            if let Some(PopState::Has(element)) = self.model.pops.remove(&id) {
                self.model.put(element);
            }
        }
        while let Some(element) = self.model.take() {
            assert_eq!(self.queue.try_pop(), Ok(element));
        }
        assert!(self.queue.is_empty());
    }
}

fn check(capacity: Option<usize>, actions: Vec<Action>) {
    let mut both = Both::new(capacity);
    for (id, action) in actions.into_iter().enumerate() {
        both.act(id, action);
        both.compare();
    }
    both.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(
        capacity in prop::option::of(1..4usize),
        actions in prop::collection::vec(action(), 0..120),
    ) {
        run(async { check(capacity, actions) });
    }
}
