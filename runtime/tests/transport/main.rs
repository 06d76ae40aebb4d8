//! What every transport must do, the same tests for each.
//!
//! Each test runs twice on each transport, once with a runtime that spins when idle and once with one that
//! blocks, and afterwards no descriptor, buffer or operation may be left.

#[macro_use]
#[path = "../common/kernel.rs"]
mod kernel;

mod cancel;
mod datagrams;
mod faults;
mod files;
mod harness;
mod load;
mod operations;
mod streams;

/// Makes a test of every function named, for every transport. Those of `pieces` rely on small pushes to arrive
/// in one piece. Those of `kernel` have a peer, or do something, that only the kernel knows of.
macro_rules! suite {
    (
        all { $($module:ident: $($test:ident),+;)+ }
        pieces { $($pieces_module:ident: $($pieces_test:ident),+;)+ }
        kernel { $($kernel_module:ident: $($kernel_test:ident),+;)+ }
    ) => {
        on_kernel_sockets! {
            crate::harness::check;
            $($module: $($test),+;)+
            $($pieces_module: $($pieces_test),+;)+
            $($kernel_module: $($kernel_test),+;)+
        }
        mod on_sim {
            $($(
                #[test]
                fn $test() {
                    crate::harness::check_simulated(crate::$module::$test);
                }
            )+)+
            $($(
                #[test]
                fn $pieces_test() {
                    crate::harness::check_simulated_in_pieces_as_pushed(crate::$pieces_module::$pieces_test);
                }
            )+)+
        }
    };
}

suite! {
    all {
        streams: echo_of_all_sizes_and_families, pushes_arrive_in_order, a_push_of_many_buffers_is_whole,
            half_close_both_ways, pushes_go_before_a_shutdown, pushes_go_before_a_close,
            close_ends_what_waits, addresses_and_options, a_connection_is_there_when_connect_is_done;
        datagrams: echo_of_datagrams, connected_datagrams, a_limit_cuts_datagrams, many_datagrams_in_a_row;
        cancel: a_cancelled_pop_loses_nothing, a_cancelled_accept_loses_nothing, a_cancelled_push_is_not_sent,
            a_push_that_has_started_is_whole, a_cancelled_connect, a_detached_push_is_sent;
        faults: a_refused_connection, a_used_address, wrong_numbers, a_full_unix_queue_is_waited_for;
        load: a_thousand_connections, several_megabytes_both_ways;
        files: what_is_written_is_read, files_append_and_truncate, opening_fails_as_it_should,
            a_cancelled_read_keeps_its_buffer, direct_input_and_output, close_is_after_what_is_under_way;
    }
    pieces {
        streams: pops_are_served_in_order, a_limit_leaves_the_rest;
        cancel: a_result_that_nobody_took_goes_to_the_next, cancelled_at_every_step, cancelled_operations_do_not_pile_up,
            pops_given_up_together_leave_the_order;
        faults: a_tiny_pool_recovers, one_full_socket_does_not_stop_others;
    }
    kernel {
        streams: a_close_that_lingers_stops_nobody, late_data_wakes_a_blocked_runtime;
        cancel: the_end_of_the_runtime_cancels;
        faults: a_reset_is_an_error, a_peer_that_vanishes, too_many_files;
        load: a_busy_socket_does_not_starve_others;
    }
}
