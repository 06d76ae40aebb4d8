//! The in-memory queue, as a story of each of its promises.

use crate::{Trace, allocations, run};
use demikernel_runtime::queue::{Closed, Pops, Queue, TryPopError, TryPushError, queue, queue_with_capacity};
use demikernel_runtime::{QToken, Runtime, spawn, wait_all, wait_any, yield_now};
use futures::future::join_all;
use futures::{FutureExt, StreamExt, poll};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

#[test]
fn pops_are_served_in_order_and_wake_nobody_else() {
    let trace = Trace::default();
    run(async {
        let queue = queue();
        let tasks = ["a", "b", "c"].map(|name| {
            let (queue, trace) = (queue.clone(), trace.clone());
            spawn(async move {
                let mut token = queue.pop();
                let mut polls = 0;
                let popped = std::future::poll_fn(|cx| {
                    polls += 1;
                    token.poll_unpin(cx)
                });
                let popped: u32 = popped.await.unwrap();
                trace.log(format!("{name} has {popped} after {polls} polls"));
            })
        });
        yield_now().await;
        for number in 1..=3 {
            trace.log(format!("push {number}"));
            queue.push(number).await.unwrap();
            yield_now().await;
            yield_now().await;
        }
        join_all(tasks).await;
    });
    trace.expect(&[
        "push 1",
        "a has 1 after 2 polls",
        "push 2",
        "b has 2 after 2 polls",
        "push 3",
        "c has 3 after 2 polls",
    ]);
}

#[test]
fn a_push_waits_for_room_and_is_not_overtaken() {
    let trace = Trace::default();
    run(async {
        let queue = queue_with_capacity(1);
        assert_eq!(queue.capacity(), Some(1));
        let tasks = ["a", "b", "c"].map(|name| {
            let (queue, trace) = (queue.clone(), trace.clone());
            spawn(async move {
                queue.push(name).await.unwrap();
                trace.log(format!("{name} pushed"));
            })
        });
        yield_now().await;
        assert_eq!(queue.try_push("d"), Err(TryPushError::Full("d")));
        for _ in 0..3 {
            let popped = queue.pop().await.unwrap();
            trace.log(format!("popped {popped}"));
            yield_now().await;
        }
        join_all(tasks).await;
        assert!(queue.is_empty());
    });
    trace.expect(&["a pushed", "popped a", "b pushed", "popped b", "c pushed", "popped c"]);
}

#[test]
fn an_element_whose_pop_is_dropped_goes_back_to_its_place() {
    run(async {
        let queue = queue();
        let mut pops: Vec<_> = (0..3).map(|_| queue.pop()).collect();
        for number in 0..4 {
            queue.push(number).await.unwrap();
        }
        assert!(pops.iter().all(QToken::is_done));
        assert_eq!(queue.len(), 1);
        // The second and the first, in this order.
        drop(pops.remove(1));
        drop(pops.remove(0));
        assert_eq!(queue.len(), 3);
        assert_eq!(pops.remove(0).await, Ok(2));
        for expected in [0, 1, 3] {
            assert_eq!(queue.pop().await, Ok(expected));
        }
    });
}

#[test]
fn an_element_whose_pop_is_dropped_goes_to_the_pop_that_waits() {
    run(async {
        let queue = queue();
        let (first, second) = (queue.pop(), queue.pop());
        queue.push("a").await.unwrap();
        assert!(first.is_done() && !second.is_done());
        drop(first);
        assert_eq!(second.await, Ok("a"));
    });
}

#[test]
fn a_select_that_takes_the_other_branch_loses_nothing() {
    run(async {
        let (left, right) = (queue(), queue());
        let pushing = {
            let (left, right) = (left.clone(), right.clone());
            spawn(async move {
                for number in 0..100u32 {
                    // Both at once, so that the branch that is not taken has its element.
                    left.push(number).await.unwrap();
                    right.push(number).await.unwrap();
                    yield_now().await;
                }
                left.close();
                right.close();
            })
        };
        let mut seen = (Vec::new(), Vec::new());
        loop {
            futures::select! {
                popped = left.pop() => match popped {
                    Ok(number) => seen.0.push(number),
                    Err(Closed) => break,
                },
                popped = right.pop() => match popped {
                    Ok(number) => seen.1.push(number),
                    Err(Closed) => break,
                },
            }
        }
        for (queue, seen) in [(left, &mut seen.0), (right, &mut seen.1)] {
            seen.extend(Pops::new(queue).map(Result::unwrap).collect::<Vec<_>>().await);
            assert_eq!(*seen, (0..100).collect::<Vec<_>>());
        }
        pushing.await.unwrap();
    });
}

#[test]
fn a_cancelled_push_takes_its_element_with_it() {
    run(async {
        let queue = queue_with_capacity(1);
        let elements: Vec<_> = (0..4).map(Rc::new).collect();
        let mut pushes: Vec<_> = elements.iter().map(|element| queue.push(element.clone())).collect();
        assert!(pushes[0].is_done() && !pushes[1].is_done());
        drop(pushes.remove(2));
        assert_eq!(Rc::strong_count(&elements[2]), 1);
        // Detached, it is pushed all the same.
        pushes.remove(1).detach();
        for expected in [0, 1, 3] {
            assert_eq!(queue.try_pop().as_deref(), Ok(&expected));
        }
        assert_eq!(queue.try_pop(), Err(TryPopError::Empty));
        assert!(wait_all(&mut pushes).await.into_iter().all(|pushed| pushed.is_ok()));
    });
}

#[test]
fn a_push_that_is_done_stays_when_its_token_is_dropped() {
    run(async {
        let queue = queue();
        drop(queue.push(1));
        assert_eq!(queue.pop().await, Ok(1));
    });
}

#[test]
fn close_fails_pushes_and_lets_pops_have_what_is_there() {
    run(async {
        let queue = queue_with_capacity(2);
        let mut pushes: Vec<_> = (0..3).map(|number| queue.push(number)).collect();
        queue.close();
        assert!(queue.is_closed());
        assert_eq!(wait_all(&mut pushes).await, [Ok(()), Ok(()), Err(Closed)]);
        assert_eq!(queue.push(4).await, Err(Closed));
        assert_eq!(queue.try_push(5), Err(TryPushError::Closed(5)));
        assert_eq!(queue.pop().await, Ok(0));
        let given_up = queue.pop();
        assert!(given_up.is_done());
        assert_eq!(queue.pop().await, Err(Closed));
        drop(given_up);
        assert_eq!(queue.pop().await, Ok(1), "given back after the end was told");
        assert_eq!(queue.try_pop(), Err(TryPopError::Closed));
    });
}

#[test]
fn the_last_handle_ends_the_queue() {
    run(async {
        let first = queue::<u8>();
        let other = first.clone();
        let popping = spawn(first.pop());
        drop(first);
        yield_now().await;
        assert!(!popping.is_finished());
        drop(other);
        assert_eq!(popping.await.unwrap(), Err(Closed));

        let queue = queue_with_capacity(1);
        let element = Rc::new(());
        let mut pushes = [queue.push(element.clone()), queue.push(element.clone())];
        drop(queue);
        assert_eq!(Rc::strong_count(&element), 1);
        assert_eq!(wait_all(&mut pushes).await, [Ok(()), Err(Closed)]);
    });
}

#[test]
fn a_token_with_an_element_keeps_it_when_the_queue_is_gone() {
    run(async {
        let queue = queue();
        let (kept, dropped) = (queue.pop(), queue.pop());
        let element = Rc::new(());
        queue.push(element.clone()).await.unwrap();
        queue.push(element.clone()).await.unwrap();
        drop(queue);
        assert_eq!(Rc::strong_count(&element), 3);
        drop(dropped);
        assert_eq!(Rc::strong_count(&element), 2);
        assert!(kept.await.is_ok());
    });
}

#[test]
fn tokens_of_several_queues_in_one_wait() {
    run(async {
        let queues = [queue(), queue(), queue()];
        let mut pops = queues.each_ref().map(Queue::pop);
        queues[2].push('c').await.unwrap();
        assert_eq!(wait_any(&mut pops).await, Ok((2, Ok('c'))));
        queues[0].push('a').await.unwrap();
        assert_eq!(wait_any(&mut pops).await, Ok((0, Ok('a'))));
    });
}

/// Uses the queue that it is in when it is dropped.
struct Reenters(Rc<RefCell<Option<Queue<Reenters>>>>);

impl Drop for Reenters {
    fn drop(&mut self) {
        if let Some(queue) = &*self.0.borrow() {
            let _ = queue.try_pop().map(|other| other.0.clone());
            let _ = queue.len();
        }
    }
}

#[test]
fn elements_may_use_the_queue_when_they_are_dropped() {
    run(async {
        let queue = queue_with_capacity(2);
        let own = Rc::new(RefCell::new(Some(queue.clone())));
        let mut pushes: Vec<_> = (0..6).map(|_| queue.push(Reenters(own.clone()))).collect();
        drop(pushes.remove(4));
        drop(queue.try_pop());
        let popped = queue.pop();
        queue.close();
        drop(popped);
        drop(queue);
        // The cycle ends here, inside of a drop.
        let last = own.borrow_mut().take();
        drop(last);
    });
}

#[test]
fn it_outlives_its_runtime() {
    let first = Runtime::new().unwrap();
    let (queue, waiting) = first.block_on(async {
        let queue = queue();
        let waiting = queue.pop();
        (queue, waiting)
    });
    drop(first);
    queue.try_push(1).unwrap();
    queue.try_push(2).unwrap();
    run(async {
        assert_eq!(queue.pop().await, Ok(2));
        assert_eq!(waiting.await, Ok(1));
    });
}

#[test]
fn no_slot_is_left() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let queue = queue_with_capacity(2);
        let pushes: Vec<_> = (0..9).map(|number| queue.push(number)).collect();
        let pops: Vec<_> = (0..4).map(|_| queue.pop()).collect();
        drop((pushes, pops, queue));
    });
    assert_eq!(runtime.metrics().live_operations, 0);
}

#[test]
fn no_allocation_per_element() {
    run(async {
        let (there, back) = (queue(), queue_with_capacity(2));
        let task = {
            let (there, back) = (there.clone(), back.clone());
            spawn(async move {
                while let Ok(number) = there.pop().await {
                    back.push(number).await.unwrap();
                }
            })
        };
        let mut before = 0;
        for round in 0..100u64 {
            if round == 10 {
                before = allocations();
            }
            // Pops that wait and pops that do not, and some that are given up; pushes that wait.
            for number in 0..4 {
                there.push(number).await.unwrap();
            }
            drop(back.pop());
            for number in 0..4 {
                assert_eq!(back.pop().await, Ok(number));
            }
            assert!(poll!(pin!(back.pop())).is_pending());
        }
        assert_eq!(allocations() - before, 0);
        there.close();
        task.await.unwrap();
    });
}

#[test]
#[should_panic(expected = "room for at least one element")]
fn no_room_is_refused() {
    drop(queue_with_capacity::<u8>(0));
}
