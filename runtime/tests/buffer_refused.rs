//! The system refuses memory. In a process of its own, as it limits the process.
#![cfg(not(demikernel_loom))]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use demikernel_runtime::buffer::{BufferMut, pool};

/// Sets how much address space the process may use, and returns what it was.
fn set_address_space(bytes: libc::rlim_t) -> libc::rlim_t {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid structure.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &mut limits), 0);
        let before = std::mem::replace(&mut limits.rlim_cur, bytes.min(limits.rlim_max));
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limits), 0);
        before
    }
}

#[test]
fn what_the_system_refuses_is_an_error_and_can_be_waited_for() {
    const BIG: usize = 128 << 20;
    let kept = BufferMut::with_capacity(100).unwrap();
    let before = set_address_space(64 << 20);

    let error = BufferMut::with_capacity(BIG).unwrap_err();
    assert_eq!((error.errno(), error.needed()), (Some(libc::ENOMEM), BIG));
    assert!(error.to_string().contains("the system refused"), "{error}");
    let small: Vec<_> = (0..10).map(|_| BufferMut::with_capacity(100).unwrap()).collect();

    // While something is in use it may come back, and then there may be more.
    let mut future = pin!(BufferMut::allocate(BIG));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(cx).is_pending());
    drop((kept, small));
    assert!(matches!(future.as_mut().poll(cx), Poll::Ready(Err(_))), "nothing can come back");
    drop(BufferMut::with_capacity(100).unwrap());

    set_address_space(before);
    assert_eq!(BufferMut::with_capacity(BIG).unwrap().capacity(), BIG);
    assert_eq!(pool::stats().in_use(), 0);
}
