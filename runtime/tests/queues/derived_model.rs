//! Merge, filter, map and sort against models of them, with pops that are given up at any time.

use crate::run;
use demikernel_runtime::queue::{Closed, filter, map, merge, queue, sort};
use demikernel_runtime::{QToken, yield_now};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Action {
    /// Pushes a number to one of two sources.
    Push(usize, u32),
    Pop,
    /// Takes the result of the pop under way.
    Take,
    Drop,
    Yield,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..2usize, 0..100u32).prop_map(|(source, number)| Action::Push(source, number)),
        5 => Just(Action::Pop),
        4 => Just(Action::Take),
        4 => Just(Action::Drop),
        4 => Just(Action::Yield),
    ]
}

/// Lets every task that is ready, and those that they wake, run.
async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

type Pop<T> = Option<QToken<Result<T, Closed>>>;

fn take<T>(pop: &mut Pop<T>) -> Option<T> {
    let popped = pop.as_mut()?.try_take()?;
    *pop = None;
    Some(popped.expect("not closed"))
}

/// With one pop at a time the elements of each source arrive in order, all of them, and once.
async fn check_merge(actions: Vec<Action>) {
    let sources = [queue(), queue()];
    let numbered = sources.each_ref().map(|source| map(source.clone(), |pair: (usize, u32)| pair));
    let [one, other] = numbered;
    let merged = merge(filter(one, |(_, number)| number % 3 != 0), other);
    let mut expected = [VecDeque::new(), VecDeque::new()];
    let mut pop: Pop<(usize, u32)> = None;
    for action in actions {
        match action {
            Action::Push(source, number) => {
                sources[source].push((source, number)).await.unwrap();
                if source == 1 || number % 3 != 0 {
                    expected[source].push_back(number);
                }
            }
            Action::Pop if pop.is_none() => pop = Some(merged.pop()),
            Action::Drop => pop = None,
            Action::Take => {
                if let Some((source, number)) = take(&mut pop) {
                    assert_eq!(expected[source].pop_front(), Some(number));
                }
            }
            Action::Pop | Action::Yield => yield_now().await,
        }
    }
    drop(pop);
    while expected.iter().any(|expected| !expected.is_empty()) {
        let mut pop = Some(merged.pop());
        settle().await;
        let (source, number) = take(&mut pop).expect("something is left");
        assert_eq!(expected[source].pop_front(), Some(number));
    }
    assert!(!merged.pop().is_done());
}

/// A pop gives the least of what is there when it is served.
async fn check_sort(actions: Vec<Action>) {
    let source = queue();
    let sorted = sort(source.clone());
    // What is there, and what the pop under way has.
    let (mut there, mut has) = (Vec::<(u32, usize)>::new(), None);
    let mut pop: Pop<(u32, usize)> = None;
    for (id, action) in actions.into_iter().enumerate() {
        match action {
            Action::Push(_, number) => {
                source.push((number, id)).await.unwrap();
                there.push((number, id));
            }
            Action::Pop if pop.is_none() => pop = Some(sorted.pop()),
            Action::Drop => {
                pop = None;
                there.extend(has.take());
            }
            Action::Take => {
                if let Some(popped) = take(&mut pop) {
                    assert_eq!(has.take(), Some(popped));
                }
            }
            Action::Pop | Action::Yield => settle().await,
        }
        if has.is_none() && pop.as_ref().is_some_and(QToken::is_done) {
            there.sort_unstable();
            has = Some(there.remove(0));
        }
    }
    drop(pop);
    there.extend(has);
    there.sort_unstable();
    for expected in there {
        assert_eq!(sorted.pop().await, Ok(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_filter_and_map(actions in prop::collection::vec(action(), 0..80)) {
        run(check_merge(actions));
    }

    #[test]
    fn sorted(actions in prop::collection::vec(action(), 0..80)) {
        run(check_sort(actions));
    }
}
