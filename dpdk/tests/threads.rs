//! Queues of one port on several threads. In a process of its own, as a pool that a thread leaves behind is the next
//! one's, whichever test that belongs to.

mod common;

use common::eal;
use demikernel_dpdk::{Port, PortConfig, Queue};
use demikernel_runtime::buffer::pool;

/// The next of two queues of a device that has a frame whenever it is asked, and takes any.
fn open() -> Queue {
    let mut config = PortConfig::new("net_null0,size=60");
    config.queues = 2;
    Port::open(eal(), &config).unwrap_or_else(|error| panic!("{error}"))
}

/// Bytes in use of the pool that a thread without one gets: one that was left behind, if there is one.
fn in_use_of_a_new_thread() -> usize {
    let look = || {
        pool::collect();
        pool::stats().in_use()
    };
    std::thread::spawn(look).join().unwrap()
}

#[test]
fn memory_of_a_thread_that_has_gone_stays_while_the_port_may_write_to_it() {
    let other = std::thread::spawn(|| {
        let mut queue = open();
        (queue.index(), queue.receive(drop))
        // The queue goes, and with the thread its pool, but not the port.
    });
    let mut queue = open();
    let (index, count) = other.join().unwrap();
    assert_eq!((queue.index() + index, count), (1, 32));
    assert_eq!(queue.receive(drop), 32);
    assert!(in_use_of_a_new_thread() > 0, "the pool is kept");
    drop(queue);
    assert_eq!(in_use_of_a_new_thread(), 0, "nothing is used once the port is closed");
}
