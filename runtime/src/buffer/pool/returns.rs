//! How counts come back from other threads: a lock-free stack of chunks.
//!
//! Any thread gives a count back by adding one to the chunk's `pending`. Whoever raises it from
//! zero also pushes the chunk onto the stack of its pool, so a chunk is on the stack at most once,
//! however many counts come back. The owner takes the whole stack at once and for each chunk
//! exchanges `pending` with zero. As nothing is ever popped singly, there is no ABA problem.
//!
//! Why a chunk on the stack stays alive: the counts in `pending` have not been taken off the
//! chunk's count, which is therefore not zero, until the owner takes them.

#[cfg(not(demikernel_loom))]
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

#[cfg(demikernel_loom)]
use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use std::ptr::{self, NonNull};

/// The part of a node that the stack uses.
pub(in crate::buffer) struct Link<T> {
    /// Counts given back and not yet taken by the owner.
    pending: AtomicU32,
    /// The node below this one on the stack.
    next: AtomicPtr<T>,
}

impl<T> Link<T> {
    pub(in crate::buffer) fn new() -> Link<T> {
        Link { pending: AtomicU32::new(0), next: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// A node of the stack.
pub(in crate::buffer) trait Linked: Sized {
    /// Where the stack keeps its state; always the same place for the same node.
    fn link(&self) -> &Link<Self>;
}

/// The stack. On cache lines of its own, as other threads write it.
#[repr(align(128))]
pub(super) struct Returns<T> {
    head: AtomicPtr<T>,
}

impl<T: Linked> Returns<T> {
    pub(super) fn new() -> Returns<T> {
        Returns { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether there is nothing to take. May be out of date at once.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Gives back one count of `node`; any thread.
    ///
    /// # Safety
    ///
    /// The caller holds a count of the node, which is a node of this stack's owner, and gives it
    /// up: the node may be gone when this returns. The stack itself is never freed.
    pub(super) unsafe fn give(&self, node: NonNull<T>) {
        // SAFETY: alive, as the caller's count has not been given back yet.
        let link = unsafe { node.as_ref() }.link();
        // Release: what the caller did to the node's memory happens before the owner's exchange in
        // `take`. Acquire: pairs with that exchange, so that the owner has read `next` before it is
        // overwritten below.
        if link.pending.fetch_add(1, Ordering::AcqRel) > 0 {
            // It is on the stack, or about to be pushed by whom raised the count from zero. It may
            // be taken, and the node freed, from now on.
            return;
        }
        // Not on the stack, so the owner cannot take the count just added: the node stays alive.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.next.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, node.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes everything that has been given back; only the owner.
    pub(super) fn take(&self) -> Taken<T> {
        // Acquire: sees the nodes' `next` as they were when they were pushed. Every push goes
        // through a read-modify-write, so the pushes below the top are in its release sequence.
        Taken { next: self.head.swap(ptr::null_mut(), Ordering::Acquire) }
    }
}

/// Nodes taken off the stack, each with the number of counts that came back.
pub(super) struct Taken<T> {
    next: *mut T,
}

impl<T: Linked> Iterator for Taken<T> {
    type Item = (NonNull<T>, u32);

    fn next(&mut self) -> Option<(NonNull<T>, u32)> {
        let node = NonNull::new(self.next)?;
        // SAFETY: the node's pending counts are taken only here, once, so it is still alive.
        let link = unsafe { node.as_ref() }.link();
        self.next = link.next.load(Ordering::Relaxed);
        // From here on another thread may push the node again, and overwrite `next`.
        let counts = link.pending.swap(0, Ordering::AcqRel);
        debug_assert!(counts > 0);
        Some((node, counts))
    }
}

#[cfg(all(test, demikernel_loom))]
mod tests {
    use std::sync::atomic::AtomicUsize as Plain;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    struct Node {
        link: Link<Node>,
        data: UnsafeCell<u64>,
    }

    impl Linked for Node {
        fn link(&self) -> &Link<Node> {
            &self.link
        }
    }

    /// A node that is shared with other threads for the length of a model.
    #[derive(Clone, Copy)]
    struct Shared(NonNull<Node>);
    // SAFETY: the models below access the node only as `give` and `take` allow.
    unsafe impl Send for Shared {}

    fn node() -> Shared {
        let node = Box::new(Node { link: Link::new(), data: UnsafeCell::new(0) });
        Shared(NonNull::from(Box::leak(node)))
    }

    fn read_and_give(stack: &Returns<Node>, node: Shared) {
        // SAFETY: the thread holds a count, and gives it up last.
        unsafe {
            node.0.as_ref().data.with(|data| assert_eq!(*data, 0));
            stack.give(node.0);
        }
    }

    /// Takes until all `counts` of the nodes came back, then writes to them and frees them.
    fn take_all(stack: &Returns<Node>, nodes: &[Shared], counts: u32) {
        let mut left = vec![counts; nodes.len()];
        while left.iter().any(|&count| count > 0) {
            for (node, count) in stack.take() {
                let index = nodes.iter().position(|n| n.0 == node).expect("a node of this model");
                left[index] = left[index].checked_sub(count).expect("no count comes back twice");
                if left[index] == 0 {
                    // SAFETY: no count is left, so this thread has the node to itself; loom fails
                    // if the write races with a reader, or the link is still used after this.
                    unsafe {
                        node.as_ref().data.with_mut(|data| *data = 1);
                        drop(Box::from_raw(node.as_ptr()));
                    }
                }
            }
            thread::yield_now();
        }
        assert!(stack.is_empty());
    }

    fn model(threads: usize, nodes: usize) {
        static RUNS: Plain = Plain::new(0);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.check(move || {
            RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let stack = Arc::new(Returns::new());
            let nodes: Vec<Shared> = (0..nodes).map(|_| node()).collect();
            let threads: Vec<_> = (0..threads)
                .map(|_| {
                    let (stack, nodes) = (stack.clone(), nodes.clone());
                    thread::spawn(move || nodes.into_iter().for_each(|node| read_and_give(&stack, node)))
                })
                .collect();
            take_all(&stack, &nodes, threads.len() as u32);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!(RUNS.load(std::sync::atomic::Ordering::Relaxed) > 1);
    }

    #[test]
    fn loom_two_threads_give_back_one_node() {
        model(2, 1);
    }

    #[test]
    fn loom_one_thread_gives_back_two_nodes() {
        model(1, 2);
    }

    #[test]
    fn loom_two_threads_give_back_two_nodes() {
        model(2, 2);
    }
}
