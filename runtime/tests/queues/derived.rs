//! Merge, filter, map and sort, as a story of each of their promises.

use crate::{Trace, allocations, run};
use demikernel_runtime::queue::{
    Closed, PopQueue, Pops, filter, map, merge, queue, queue_with_capacity, sort, sort_by, sort_by_key,
};
use demikernel_runtime::{Runtime, spawn, yield_now};
use futures::StreamExt;
use std::cell::{OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

async fn all<Q: PopQueue<Error = Closed>>(queue: Q) -> Vec<Q::Item> {
    Pops::new(queue).map(Result::unwrap).collect().await
}

#[test]
fn merge_takes_turns_and_ends_with_both() {
    run(async {
        let (one, other) = (queue(), queue());
        let both = merge(one.clone(), other.clone());
        for number in [1, 2, 3] {
            one.push(number).await.unwrap();
        }
        other.push(10).await.unwrap();
        one.close();
        for expected in [1, 10, 2, 3] {
            assert_eq!(both.pop().await, Ok(expected));
        }
        let waiting = both.pop();
        assert!(!waiting.is_done());
        other.push(11).await.unwrap();
        assert_eq!(waiting.await, Ok(11));
        other.close();
        assert_eq!(both.pop().await, Err(Closed));
    });
}

#[test]
fn a_chain_delivers_what_comes_later_and_its_end() {
    let trace = Trace::default();
    run(async {
        let (numbers, words) = (queue(), queue());
        let log = trace.clone();
        let even = filter(numbers.clone(), move |number: &u32| {
            log.log(format!("looks at {number}"));
            number.is_multiple_of(2)
        });
        let text = merge(map(even, |number| format!("<{number}>")), words.clone());
        let popping = spawn(all(text));
        yield_now().await;
        for number in 1..=3 {
            trace.log(format!("push {number}"));
            numbers.push(number).await.unwrap();
            for _ in 0..6 {
                yield_now().await;
            }
        }
        words.push("last".to_string()).await.unwrap();
        words.close();
        numbers.close();
        assert_eq!(popping.await.unwrap(), ["<2>", "last"]);
    });
    trace.expect(&["push 1", "looks at 1", "push 2", "looks at 2", "push 3", "looks at 3"]);
}

/// Nothing is popped from the source that nobody wants.
#[test]
fn sources_are_left_alone_until_somebody_pops() {
    run(async {
        let source = queue();
        let doubled = map(source.clone(), |number: u32| number * 2);
        for number in 1..=3 {
            source.push(number).await.unwrap();
        }
        yield_now().await;
        assert_eq!(source.len(), 3);
        assert_eq!(doubled.pop().await, Ok(2));
        yield_now().await;
        assert_eq!(source.len(), 2);
        assert_eq!(source.pop().await, Ok(2));
        assert_eq!(doubled.pop().await, Ok(6));
    });
}

#[test]
fn a_cancelled_pop_loses_nothing() {
    run(async {
        let (one, other) = (queue(), queue());
        let both = merge(one.clone(), filter(other.clone(), |_| true));
        // Cancelled while it waits: what the pops of the sources bring is kept.
        drop(both.pop());
        one.push(1).await.unwrap();
        other.push(2).await.unwrap();
        yield_now().await;
        let mut popped = [both.pop().await.unwrap(), both.pop().await.unwrap()];
        popped.sort_unstable();
        assert_eq!(popped, [1, 2]);
        // Cancelled with the element in the token.
        one.push(3).await.unwrap();
        let (first, second) = (both.pop(), both.pop());
        assert!(first.is_done() && !second.is_done());
        drop(first);
        assert_eq!(second.await, Ok(3));
    });
}

#[test]
fn what_a_dropped_queue_had_popped_goes_back() {
    run(async {
        let (one, other) = (queue(), queue());
        let both = merge(one.clone(), other.clone());
        let waiting = both.pop();
        one.push(1).await.unwrap();
        other.push(2).await.unwrap();
        assert_eq!(waiting.await, Ok(1));
        let waiting = both.pop();
        assert!(waiting.is_done(), "of the other");
        let next = both.pop();
        one.push(3).await.unwrap();
        // The pop of `one` has its element; the queue goes away before it looks.
        drop(both);
        assert_eq!(next.await, Err(Closed));
        assert_eq!(waiting.await, Ok(2));
        assert_eq!(one.try_pop(), Ok(3));
    });
}

#[test]
fn clones_are_one_queue() {
    run(async {
        let source = queue();
        let one = map(source.clone(), |number: u32| number + 1);
        let other = one.clone();
        let (first, second) = (one.pop(), other.pop());
        drop(one);
        source.push(1).await.unwrap();
        source.push(2).await.unwrap();
        assert_eq!((first.await, second.await), (Ok(2), Ok(3)));
    });
}

#[test]
fn sort_is_by_key_and_stable() {
    run(async {
        let source = queue();
        let sorted = sort_by_key(source.clone(), |job: &(u32, &str)| job.0);
        for job in [(2, "a"), (1, "b"), (2, "c"), (1, "d")] {
            source.push(job).await.unwrap();
        }
        source.close();
        assert_eq!(all(sorted).await, [(1, "b"), (1, "d"), (2, "a"), (2, "c")]);

        let source = queue();
        let greatest = sort_by(source.clone(), |one: &u32, other| other.cmp(one));
        for number in [3, 1, 2] {
            source.push(number).await.unwrap();
        }
        assert_eq!(greatest.pop().await, Ok(3));
        source.push(4).await.unwrap();
        assert_eq!(greatest.pop().await, Ok(4));
    });
}

#[test]
fn sort_gives_waiting_pops_the_least_first() {
    run(async {
        let source = queue();
        let sorted = sort(source.clone());
        let (first, second) = (sorted.pop(), sorted.pop());
        yield_now().await;
        source.push(5).await.unwrap();
        source.push(4).await.unwrap();
        // Both are there when the queue looks.
        assert_eq!((first.await, second.await), (Ok(4), Ok(5)));
        let given_up = sorted.pop();
        source.push(7).await.unwrap();
        yield_now().await;
        assert!(given_up.is_done());
        source.push(8).await.unwrap();
        drop(given_up);
        assert_eq!(sorted.pop().await, Ok(7));
    });
}

#[test]
fn sort_collects_so_much_and_no_more() {
    run(async {
        let source = queue_with_capacity(3000);
        let sorted = sort(source.clone());
        for number in (0..3000).rev() {
            source.push(number).await.unwrap();
        }
        yield_now().await;
        assert_eq!(source.len(), 3000 - 1024);
        assert_eq!(sorted.pop().await, Ok(1976));
        source.close();
        let mut rest = all(sorted).await;
        rest.sort_unstable();
        let expected: Vec<_> = (0..3000).filter(|&number| number != 1976).collect();
        assert_eq!(rest, expected);
    });
}

type AnyQueue = Rc<dyn PopQueue<Item = u32, Error = Closed>>;

#[test]
fn a_function_may_pop_its_own_queue() {
    run(async {
        let source = queue();
        let own: Rc<OnceCell<AnyQueue>> = Rc::default();
        let started = Rc::new(RefCell::new(Vec::new()));
        let (inner, inner_started) = (own.clone(), started.clone());
        let odd: AnyQueue = Rc::new(filter(source.clone(), move |number: &u32| {
            inner_started.borrow_mut().extend(inner.get().map(|queue| queue.pop()));
            number % 2 == 1
        }));
        assert!(own.set(odd.clone()).is_ok());
        for number in 1..=6 {
            source.push(number).await.unwrap();
        }
        assert_eq!(odd.pop().await, Ok(1));
        source.close();
        let mut others = Vec::new();
        for token in started.take() {
            others.extend(token.await);
        }
        assert_eq!(others, [3, 5]);
    });
}

#[test]
fn a_function_may_drop_its_own_queue() {
    run(async {
        let source = queue();
        let own: Rc<RefCell<Option<AnyQueue>>> = Rc::default();
        let inner = own.clone();
        let odd: AnyQueue = Rc::new(filter(source.clone(), move |number: &u32| {
            drop(inner.take());
            number % 2 == 1
        }));
        let waiting = [odd.pop(), odd.pop()];
        own.replace(Some(odd));
        source.push(1).await.unwrap();
        source.push(3).await.unwrap();
        let [first, second] = waiting;
        // It was on its way already.
        assert_eq!((first.await, second.await), (Err(Closed), Err(Closed)));
        assert_eq!(source.pop().await, Ok(3));
    });
}

#[test]
fn a_function_that_panics_ends_the_queue() {
    run(async {
        let source = queue();
        let careful = map(source.clone(), |number: u32| {
            assert_ne!(number, 13, "expected by the test");
            number
        });
        let waiting = [careful.pop(), careful.pop(), careful.pop()];
        source.push(1).await.unwrap();
        source.push(13).await.unwrap();
        let [first, second, third] = waiting;
        assert_eq!(first.await, Ok(1));
        assert_eq!((second.await, third.await), (Err(Closed), Err(Closed)));
        assert_eq!(careful.pop().await, Err(Closed));

        // In a pop that finds the element there.
        let careful = map(source.clone(), |_: u32| -> u32 { panic!("expected by the test") });
        source.push(2).await.unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(careful.pop()))).is_err());
        assert_eq!(careful.pop().await, Err(Closed));

        // A comparison, which is called while nothing else is.
        source.push(3).await.unwrap();
        source.push(4).await.unwrap();
        let sorted = sort_by(source.clone(), |_, _| panic!("expected by the test"));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(sorted.pop()))).is_err());
        drop(sorted);
        assert_eq!(source.push(5).await, Ok(()));
    });
}

#[test]
fn nothing_is_left_of_it() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let (one, other) = (queue::<u32>(), queue());
        let chain = sort(merge(one.clone(), filter(map(other.clone(), |n: u32| n), |n| *n > 3)));
        let pops: Vec<_> = (0..3).map(|_| chain.pop()).collect();
        other.push(2).await.unwrap();
        other.push(5).await.unwrap();
        yield_now().await;
        drop(chain);
        drop(pops);
        for _ in 0..5 {
            yield_now().await;
        }
    });
    assert_eq!(runtime.metrics().live_operations, 0);
}

#[test]
fn no_allocation_per_element() {
    run(async {
        let (one, other) = (queue(), queue());
        let chain = merge(map(one.clone(), |n: u64| n + 1), filter(other.clone(), |n| n % 2 == 0));
        let mut before = 0;
        for round in 0..100u64 {
            if round == 10 {
                before = allocations();
            }
            let waiting = chain.pop();
            one.push(round).await.unwrap();
            other.push(round * 2).await.unwrap();
            let sum = waiting.await.unwrap() + chain.pop().await.unwrap();
            assert_eq!(sum, round * 3 + 1);
        }
        assert_eq!(allocations() - before, 0);
    });
}
