//! The in-memory queue against a model of it: any sequence of pushes, pops, cancellations and closings.

use crate::run;
use demikernel_runtime::QToken;
use demikernel_runtime::queue::{Closed, TryPopError, TryPushError, queue, queue_with_capacity};
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

fn check(capacity: Option<usize>, actions: Vec<Action>) {
    let queue = capacity.map_or_else(queue, queue_with_capacity);
    let mut pops: BTreeMap<usize, QToken<Result<u32, Closed>>> = BTreeMap::new();
    let mut pushes: BTreeMap<usize, QToken<Result<(), Closed>>> = BTreeMap::new();
    let mut model = Model { capacity: capacity.unwrap_or(usize::MAX), ..Model::default() };
    for (id, action) in actions.into_iter().enumerate() {
        let element = id as u32;
        match action {
            Action::Push => {
                let mut token = queue.push(element);
                if model.closed {
                    assert_eq!(token.try_take(), Some(Err(Closed)));
                } else if model.elements.len() < model.capacity {
                    assert_eq!(token.try_take(), Some(Ok(())));
                    model.put(element);
                } else {
                    assert!(!token.is_done());
                    pushes.insert(id, token);
                    model.pushes.push_back((element, true));
                }
            }
            Action::TryPush => {
                let expected = if model.closed {
                    Err(TryPushError::Closed(element))
                } else if model.elements.len() >= model.capacity {
                    Err(TryPushError::Full(element))
                } else {
                    model.put(element);
                    Ok(())
                };
                assert_eq!(queue.try_push(element), expected);
            }
            Action::Pop => {
                pops.insert(id, queue.pop());
                let state = match model.take() {
                    Some(element) => PopState::Has(element),
                    None if model.closed => PopState::Ended,
                    None => PopState::Waits,
                };
                model.pops.insert(id, state);
            }
            Action::TryPop => {
                let ended = if model.closed { TryPopError::Closed } else { TryPopError::Empty };
                assert_eq!(queue.try_pop(), model.take().ok_or(ended));
            }
            Action::Take(index) => {
                let Some(id) = nth(&pops, index) else { continue };
                let expected = match model.pops[&id] {
                    PopState::Has(element) => Some(Ok(element)),
                    PopState::Ended => Some(Err(Closed)),
                    PopState::Waits | PopState::Detached => None,
                };
                assert_eq!(pops.get_mut(&id).unwrap().try_take(), expected);
                if expected.is_some() {
                    pops.remove(&id);
                    model.pops.remove(&id);
                }
            }
            Action::DropPop(index) => {
                let Some(id) = nth(&pops, index) else { continue };
                drop(pops.remove(&id));
                if let Some(PopState::Has(element)) = model.pops.remove(&id) {
                    model.put(element);
                }
            }
            Action::DetachPop(index) => {
                let Some(id) = nth(&pops, index) else { continue };
                pops.remove(&id).unwrap().detach();
                let state = model.pops.get_mut(&id).unwrap();
                *state = if *state == PopState::Waits { PopState::Detached } else { PopState::Ended };
            }
            Action::DropPush(index) => {
                let Some(id) = nth(&pushes, index) else { continue };
                drop(pushes.remove(&id));
                model.pushes.retain(|(element, _)| *element as usize != id);
            }
            Action::DetachPush(index) => {
                let Some(id) = nth(&pushes, index) else { continue };
                pushes.remove(&id).unwrap().detach();
                model.pushes.iter_mut().find(|(element, _)| *element as usize == id).unwrap().1 = false;
            }
            Action::Close => {
                queue.close();
                model.closed = true;
                model.pushes.clear();
                while let Some(pop) = model.first_waiting() {
                    *pop = PopState::Ended;
                }
                for (_, mut token) in std::mem::take(&mut pushes) {
                    assert_eq!(token.try_take(), Some(Err(Closed)));
                }
            }
        }
        for element in model.pushed.drain(..) {
            assert_eq!(pushes.remove(&(element as usize)).unwrap().try_take(), Some(Ok(())));
        }
        assert!(pushes.values().all(|token| !token.is_done()));
        for (id, token) in &pops {
            assert_eq!(token.is_done(), model.pops[id] != PopState::Waits);
        }
        assert_eq!(queue.len(), model.elements.len());
    }
    // Everything that was not popped is there, in order.
    for (id, token) in pops {
        drop(token);
        if let Some(PopState::Has(element)) = model.pops.remove(&id) {
            model.put(element);
        }
    }
    while let Some(element) = model.take() {
        assert_eq!(queue.try_pop(), Ok(element));
    }
    assert!(queue.is_empty());
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
