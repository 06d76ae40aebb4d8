//! The PDPIX calls on every transport of kernel sockets and files.

#[macro_use]
#[path = "../common/kernel.rs"]
mod kernel;

mod calls;
mod closing;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod sockets;

on_kernel_sockets! {
    crate::common::check;
    sockets: an_echo_server_of_one_loop, datagrams, a_unix_connection, close_fails_what_waits,
        a_closed_listener_accepts_no_more, the_end_of_a_stream, options_and_names, a_refused_connection;
    closing: an_async_close_waits_for_the_peer, an_async_close_needs_nobody_who_waits, an_async_close_has_a_limit,
        an_async_close_says_that_the_peer_has_gone, other_queues_are_closed_at_once, one_direction_ends;
    files: written_and_read, appended, several_reads_at_once, the_end_of_a_file, files_that_cannot_be_opened,
        closed_while_it_opens, seeking;
    calls: calls_on_what_they_are_not_for, descriptors_are_used_again_with_another_number;
}
