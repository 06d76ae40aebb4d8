//! Queues in memory, and memory.

use crate::support::run;
use crate::{popped, text};
use demikernel_allocations::of_thread as allocations;
use demikernel_runtime::Runtime;
use demikernel_runtime::buffer::{Buffer, Sga, pool};
use demikernel_runtime::pdpix::{
    Opcode, close, pop, push, queue, sgaalloc, sgafree, wait, wait_all, wait_any,
};

#[test]
fn lists_arrive_as_they_were_pushed() {
    run(async {
        let qd = queue().unwrap();
        let waiting = pop(qd, None).unwrap();
        let mut long: Sga = ["a", "b", "c"].map(text).into_iter().collect();
        let tokens =
            [push(qd, long.clone()).unwrap(), push(qd, text("d")).unwrap(), push(qd, Sga::new()).unwrap()];
        wait_all(&tokens, None).await.unwrap();
        let first = wait(waiting, None).await.unwrap().value.into_sga().unwrap();
        assert_eq!((first.segments(), first.to_vec().as_slice()), (3, b"abc".as_slice()));
        for expected in [b"d".as_slice(), b""] {
            assert_eq!(popped(wait(pop(qd, Some(1)).unwrap(), None).await.unwrap()), expected);
        }
        long.push(text("e"));
        close(qd).unwrap();
    });
}

#[test]
fn close_fails_pops_that_wait_and_drops_what_is_there() {
    run(async {
        let buffers = pool::stats().in_use();
        let qd = queue().unwrap();
        let waiting = pop(qd, None).unwrap();
        close(qd).unwrap();
        let result = wait(waiting, None).await.unwrap();
        assert_eq!(result.opcode, Opcode::Failed);
        assert_eq!(result.ok().unwrap_err().raw_os_error(), Some(libc::ECANCELED));

        let qd = queue().unwrap();
        let pushed = push(qd, sgaalloc(100).unwrap()).unwrap();
        close(qd).unwrap();
        wait(pushed, None).await.unwrap().ok().unwrap();
        assert_eq!(pool::stats().in_use(), buffers);
    });
}

#[test]
fn memory_is_zero_and_of_the_size_that_was_asked_for() {
    let buffers = pool::stats().in_use();
    let mut memory = sgaalloc(1000).unwrap();
    assert_eq!(*memory, [0; 1000]);
    memory.fill(7);
    sgafree(memory);
    assert_eq!(*sgaalloc(1000).unwrap(), [0; 1000]);
    assert!(sgaalloc(0).unwrap().is_empty());
    assert_eq!(sgaalloc(3 << 20).unwrap().len(), 3 << 20);
    assert_eq!(pool::stats().in_use(), buffers);
}

#[test]
fn everything_ends_with_the_runtime() {
    let buffers = pool::stats().in_use();
    let runtime = Runtime::new().unwrap();
    let (qd, qt) = runtime.block_on(async {
        let qd = queue().unwrap();
        push(qd, sgaalloc(10).unwrap()).unwrap();
        pop(qd, None).unwrap();
        (qd, pop(qd, None).unwrap())
    });
    assert!(runtime.metrics().live_operations > 0);
    drop(runtime);
    assert_eq!(pool::stats().in_use(), buffers);
    run(async {
        assert_eq!(push(qd, text("a")).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(wait(qt, None).await.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    });
}

#[test]
fn no_allocation_per_operation() {
    run(async {
        let qd = queue().unwrap();
        let data = Buffer::from_static(b"data");
        let mut before = 0;
        for round in 0..100 {
            if round == 10 {
                before = allocations();
            }
            let tokens = [pop(qd, None).unwrap(), push(qd, data.clone()).unwrap()];
            let (first, result) = wait_any(&tokens, None).await.unwrap();
            drop(result);
            wait(tokens[1 - first], None).await.unwrap();
        }
        assert_eq!(allocations() - before, 0);
    });
}

#[test]
#[should_panic(expected = "there is no demikernel runtime on this thread")]
fn outside_of_a_runtime() {
    let _ = queue();
}
