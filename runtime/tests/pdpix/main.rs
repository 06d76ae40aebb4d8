//! The PDPIX calls on every transport of kernel sockets and files.

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod sockets;

use demikernel_runtime::transport::Transport;
use std::io;

fn epoll() -> io::Result<Transport> {
    demikernel_runtime::transport::epoll::Epoll::transport()
}

#[cfg(feature = "io-uring")]
fn uring() -> io::Result<Transport> {
    use demikernel_runtime::transport::uring::{Config, Uring};
    Uring::new(Config::default()).map(Transport::both)
}

/// Makes a test of every function named, for every transport.
macro_rules! suite {
    ($($module:ident: $($test:ident),+;)+) => {
        mod on_epoll {
            $($(
                #[test]
                fn $test() {
                    crate::common::check(crate::epoll, crate::$module::$test);
                }
            )+)+
        }
        #[cfg(feature = "io-uring")]
        mod on_io_uring {
            $($(
                #[test]
                fn $test() {
                    crate::common::check(crate::uring, crate::$module::$test);
                }
            )+)+
        }
    };
}

suite! {
    sockets: an_echo_server_of_one_loop, datagrams, a_unix_connection, close_fails_what_waits,
        a_closed_listener_accepts_no_more, the_end_of_a_stream, options_and_names, a_refused_connection;
    files: written_and_read, appended, several_reads_at_once, the_end_of_a_file, files_that_cannot_be_opened,
        closed_while_it_opens, seeking;
    calls: calls_on_what_they_are_not_for, descriptors_are_used_again_with_another_number;
}
