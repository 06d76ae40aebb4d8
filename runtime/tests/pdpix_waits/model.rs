//! Random pushes, pops, closings and waits on queues in memory: each operation's result is given once, and
//! is what a naive model says.

use crate::support::run;
use demikernel_runtime::buffer::Buffer;
use demikernel_runtime::pdpix::{
    Opcode, QResult, Qd, Qt, Value, close, pop, push, queue, wait, wait_all, wait_any, wait_next_n,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Action {
    Push(usize),
    Pop(usize),
    /// Closes one of the queues, and makes a new one in its place.
    Close(usize),
    Wait(usize),
    WaitAny(Vec<usize>),
    WaitAll(Vec<usize>),
    WaitNext(usize),
}

const QUEUES: usize = 2;

fn action() -> impl Strategy<Value = Action> {
    let some = || prop::collection::vec(0..12usize, 1..4);
    prop_oneof![
        8 => (0..QUEUES).prop_map(Action::Push),
        8 => (0..QUEUES).prop_map(Action::Pop),
        1 => (0..QUEUES).prop_map(Action::Close),
        4 => (0..12usize).prop_map(Action::Wait),
        3 => some().prop_map(Action::WaitAny),
        3 => some().prop_map(Action::WaitAll),
        3 => (1..4usize).prop_map(Action::WaitNext),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Waits,
    Pushed,
    Popped(u32),
    Failed,
}

#[derive(Default)]
struct Model {
    operations: BTreeMap<Qt, Expected>,
    elements: [VecDeque<u32>; QUEUES],
    pops: [VecDeque<Qt>; QUEUES],
}

impl Model {
    fn is_done(&self, qt: Qt) -> bool {
        self.operations[&qt] != Expected::Waits
    }

    fn check(&mut self, result: QResult) {
        let expected = self.operations.remove(&result.qt).expect("given once");
        match (expected, result.opcode, result.value) {
            (Expected::Pushed, Opcode::Push, Value::None) => {}
            (Expected::Popped(number), Opcode::Pop, Value::Popped { sga, from: None }) => {
                assert_eq!(sga.to_vec(), number.to_le_bytes());
            }
            (Expected::Failed, Opcode::Failed, Value::Failed(error)) => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Some tokens by their places among all, each once.
    fn some(&self, places: &[usize]) -> Vec<Qt> {
        let mut tokens: Vec<Qt> =
            places.iter().filter_map(|&place| self.operations.keys().nth(place).copied()).collect();
        tokens.sort();
        tokens.dedup();
        tokens
    }
}

async fn check(actions: Vec<Action>) {
    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
    let mut queues: [Qd; QUEUES] = std::array::from_fn(|_| queue().unwrap());
    let mut model = Model::default();
    for (number, action) in (0u32..).zip(actions) {
        match action {
            Action::Push(index) => {
                let data = Buffer::from(number.to_le_bytes().to_vec());
                model.operations.insert(push(queues[index], data).unwrap(), Expected::Pushed);
                match model.pops[index].pop_front() {
                    Some(pop) => drop(model.operations.insert(pop, Expected::Popped(number))),
                    None => model.elements[index].push_back(number),
                }
            }
            Action::Pop(index) => {
                let qt = pop(queues[index], None).unwrap();
                let expected = model.elements[index].pop_front().map_or(Expected::Waits, Expected::Popped);
                if expected == Expected::Waits {
                    model.pops[index].push_back(qt);
                }
                model.operations.insert(qt, expected);
            }
            Action::Close(index) => {
                close(queues[index]).unwrap();
                assert!(push(queues[index], Buffer::new()).is_err());
                queues[index] = queue().unwrap();
                model.elements[index].clear();
                for qt in std::mem::take(&mut model.pops[index]) {
                    model.operations.insert(qt, Expected::Failed);
                }
            }
            Action::Wait(place) => {
                let Some(qt) = model.some(&[place]).pop() else { continue };
                let result = wait(qt, AT_ONCE).await;
                assert_eq!(result.is_ok(), model.is_done(qt));
                if let Ok(result) = result {
                    model.check(result);
                    assert!(wait(qt, AT_ONCE).await.is_err());
                }
            }
            Action::WaitAny(places) => {
                let tokens = model.some(&places);
                let first = tokens.iter().position(|&qt| model.is_done(qt));
                let result = wait_any(&tokens, AT_ONCE).await;
                assert_eq!(result.as_ref().ok().map(|(index, _)| *index), first);
                if let Ok((index, result)) = result {
                    assert_eq!(result.qt, tokens[index]);
                    model.check(result);
                }
            }
            Action::WaitAll(places) => {
                let tokens = model.some(&places);
                let all = tokens.iter().all(|&qt| model.is_done(qt));
                let results = wait_all(&tokens, AT_ONCE).await;
                assert_eq!(results.is_ok(), all);
                for (result, qt) in results.into_iter().flatten().zip(tokens) {
                    assert_eq!(result.qt, qt);
                    model.check(result);
                }
            }
            Action::WaitNext(n) => {
                let done = model.operations.values().filter(|&&it| it != Expected::Waits).count();
                let results = wait_next_n(n, AT_ONCE).await;
                assert_eq!(results.as_ref().map_or(0, Vec::len), done.min(n));
                results.into_iter().flatten().for_each(|result| model.check(result));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(actions in prop::collection::vec(action(), 0..120)) {
        run(check(actions));
    }
}
