//! Pipes.

use crate::support::run;
use crate::{popped, text};
use demikernel_runtime::buffer::pool;
use demikernel_runtime::pdpix::{
    Opcode, Qd, Qt, async_close, close, create_pipe, open_pipe, pop, push, sgaalloc, wait, wait_all,
};
use std::fmt::Debug;
use std::io;
use std::time::Duration;

const SHORT: Option<Duration> = Some(Duration::from_millis(1));

#[track_caller]
fn refused<T: Debug>(result: io::Result<T>, number: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(number));
}

async fn errno(qt: Qt) -> i32 {
    wait(qt, None).await.unwrap().errno()
}

fn pipe() -> (Qd, Qd) {
    (create_pipe("pipe").unwrap(), open_pipe("pipe").unwrap())
}

#[test]
fn each_end_pops_what_the_other_has_pushed() {
    run(async {
        let (near, far) = pipe();
        let waiting = pop(near, None).unwrap();
        for words in [["a", "b"], ["c", "d"]] {
            wait(push(far, text(words[0])).unwrap(), None).await.unwrap().ok().unwrap();
            wait(push(near, text(words[1])).unwrap(), None).await.unwrap().ok().unwrap();
        }
        assert_eq!(popped(wait(waiting, None).await.unwrap()), b"a");
        for (qd, expected) in [(far, b"b"), (near, b"c"), (far, b"d")] {
            assert_eq!(popped(wait(pop(qd, None).unwrap(), None).await.unwrap()), expected);
        }
        refused(push(near, sgaalloc(0).unwrap()), libc::EINVAL);
        close(near).unwrap();
        close(far).unwrap();
    });
}

#[test]
fn names_are_for_one_pipe_at_a_time() {
    run(async {
        let first = create_pipe("a name").unwrap();
        refused(create_pipe("a name"), libc::EEXIST);
        refused(open_pipe("another"), libc::ENOENT);
        let other = open_pipe("a name").unwrap();
        refused(open_pipe("a name"), libc::ENOENT);
        // Another pipe, which the end of the first one does not touch.
        let second = create_pipe("a name").unwrap();
        close(first).unwrap();
        close(other).unwrap();
        let other = open_pipe("a name").unwrap();
        push(second, text("b")).unwrap();
        assert_eq!(popped(wait(pop(other, None).unwrap(), None).await.unwrap()), b"b");
        // Nobody can open what its maker has given up.
        close(create_pipe("a name").unwrap()).unwrap();
        refused(open_pipe("a name"), libc::ENOENT);
        create_pipe("a name").unwrap();
        refused(create_pipe(""), libc::EINVAL);
        refused(create_pipe(&"x".repeat(256)), libc::EINVAL);
        create_pipe(&"x".repeat(255)).unwrap();
    });
}

#[test]
fn the_other_end_pops_what_is_there_and_then_nothing() {
    run(async {
        let buffers = pool::stats().in_use();
        let (near, far) = pipe();
        let never = pop(near, None).unwrap();
        push(near, sgaalloc(3).unwrap()).unwrap();
        push(far, sgaalloc(4).unwrap()).unwrap();
        push(far, sgaalloc(5).unwrap()).unwrap();
        assert_eq!(wait(never, None).await.unwrap().value.sga().unwrap().len(), 4);
        let never = [pop(near, None).unwrap(), pop(near, None).unwrap()];
        close(near).unwrap();
        let results = wait_all(&never, None).await.unwrap();
        assert_eq!(results[0].value.sga().unwrap().len(), 5, "it came before");
        assert_eq!(results[1].errno(), libc::ECANCELED);
        assert_eq!(popped(wait(pop(far, None).unwrap(), None).await.unwrap()), [0; 3]);
        for _ in 0..2 {
            assert_eq!(popped(wait(pop(far, None).unwrap(), None).await.unwrap()), b"");
        }
        assert_eq!(errno(push(far, text("a")).unwrap()).await, libc::EPIPE);
        close(far).unwrap();
        drop(results);
        assert_eq!(pool::stats().in_use(), buffers);
    });
}

#[test]
fn what_the_closed_end_had_not_popped_is_dropped() {
    run(async {
        let buffers = pool::stats().in_use();
        let (near, far) = pipe();
        push(far, sgaalloc(5).unwrap()).unwrap();
        assert_eq!(wait(async_close(near).unwrap(), None).await.unwrap().opcode, Opcode::Close);
        assert_eq!(pool::stats().in_use(), buffers, "though the other end is open");
        close(far).unwrap();
    });
}

#[test]
fn pushes_wait_while_the_pipe_is_full() {
    run(async {
        let (near, far) = pipe();
        for _ in 0..1024 {
            wait(push(near, text("a")).unwrap(), None).await.unwrap().ok().unwrap();
        }
        let waiting = push(near, text("b")).unwrap();
        refused(wait(waiting, SHORT).await, libc::ETIMEDOUT);
        assert_eq!(popped(wait(pop(far, None).unwrap(), None).await.unwrap()), b"a");
        wait(waiting, SHORT).await.unwrap().ok().unwrap();
        let by_the_other = push(near, text("c")).unwrap();
        close(far).unwrap();
        assert_eq!(errno(by_the_other).await, libc::EPIPE);

        let (near, _far) = pipe();
        let pushes: Vec<Qt> = (0..=1024).map(|_| push(near, text("a")).unwrap()).collect();
        close(near).unwrap();
        assert_eq!(errno(pushes[1023]).await, 0);
        assert_eq!(errno(pushes[1024]).await, libc::ECANCELED);
    });
}
