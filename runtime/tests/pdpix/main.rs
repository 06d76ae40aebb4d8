//! The PDPIX calls on every transport of kernel sockets and files.

#[macro_use]
#[path = "../common/kernel.rs"]
mod kernel;

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod sockets;

on_kernel_sockets! {
    crate::common::check;
    sockets: an_echo_server_of_one_loop, datagrams, a_unix_connection, close_fails_what_waits,
        a_closed_listener_accepts_no_more, the_end_of_a_stream, options_and_names, a_refused_connection;
    files: written_and_read, appended, several_reads_at_once, the_end_of_a_file, files_that_cannot_be_opened,
        closed_while_it_opens, seeking;
    calls: calls_on_what_they_are_not_for, descriptors_are_used_again_with_another_number;
}
