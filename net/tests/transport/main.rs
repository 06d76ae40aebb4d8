//! The stack as a transport of the runtime.
//!
//! - `kernel`: with the Linux kernel at the other end of a TAP interface.
//! - `harness`: what the runtime has of tests for its own transports, each over the stack's loopback.
//! - `devices`: devices that are full, or gone.
//! - `destructors`: of memory that was sent, which use the transport.
//! - `early`: what leaves within a push, and what waits for the turn.

// Tests that need the kernel are among these.
#[allow(dead_code)]
#[path = "../../../runtime/tests/transport/cancel.rs"]
mod cancel;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../runtime/tests/transport/datagrams.rs"]
mod datagrams;
mod destructors;
mod devices;
mod early;
mod harness;
mod kernel;
mod looking;
#[path = "../../../runtime/tests/transport/operations.rs"]
mod operations;
#[allow(dead_code)]
#[path = "../../../runtime/tests/transport/streams.rs"]
mod streams;

macro_rules! suite {
    ($($module:ident: $($test:ident),+;)+) => {
        mod on_the_stack {
            $($(
                #[test]
                fn $test() {
                    crate::harness::check(crate::$module::$test);
                }
            )+)+
        }
    };
}

// Without those that need the kernel, Unix sockets or files, or a backlog that counts as Linux does.
suite! {
    streams: echo_of_all_sizes_and_families, pushes_arrive_in_order, a_push_of_many_buffers_is_whole,
        half_close_both_ways, pushes_go_before_a_shutdown, pushes_go_before_a_close, close_ends_what_waits,
        a_connection_is_there_when_connect_is_done, pops_are_served_in_order, a_limit_leaves_the_rest;
    datagrams: echo_of_datagrams, connected_datagrams, a_limit_cuts_datagrams, many_datagrams_in_a_row;
    cancel: a_cancelled_pop_loses_nothing, a_cancelled_accept_loses_nothing, a_cancelled_push_is_not_sent,
        a_push_that_has_started_is_whole, a_detached_push_is_sent,
        a_result_that_nobody_took_goes_to_the_next, cancelled_at_every_step, cancelled_operations_do_not_pile_up,
        pops_given_up_together_leave_the_order;
}
