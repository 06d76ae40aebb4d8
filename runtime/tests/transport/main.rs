//! What every transport on kernel sockets must do, the same tests for each.
//!
//! Each test runs twice on each transport, once with a runtime that spins when idle and once with one that
//! blocks, and afterwards no descriptor, buffer or operation may be left.

mod datagrams;
mod harness;
mod streams;

use demikernel_runtime::transport::epoll::Epoll;

/// Makes a test of every function named, for every transport.
macro_rules! suite {
    ($($module:ident: $($test:ident),+;)+) => {
        mod epoll {
            $($(
                #[test]
                fn $test() {
                    crate::harness::check(crate::Epoll::transport, crate::$module::$test);
                }
            )+)+
        }
    };
}

suite! {
    streams: echo_of_all_sizes_and_families, pushes_arrive_in_order, a_push_of_many_buffers_is_whole,
        pops_are_served_in_order, a_limit_leaves_the_rest, half_close_both_ways, pushes_go_before_a_shutdown,
        pushes_go_before_a_close, close_ends_what_waits, addresses_and_options, late_data_wakes_a_blocked_runtime,
        a_connection_is_there_when_connect_is_done;
    datagrams: echo_of_datagrams, connected_datagrams, a_limit_cuts_datagrams, many_datagrams_in_a_row;
}
