//! Files on every transport for them.
//!
//! Each test runs with a runtime that spins when idle and with one that blocks; afterwards no descriptor
//! and no buffer may be left.

mod at;
#[path = "../common/mod.rs"]
mod common;
mod cursor;
mod directory;
mod paths;

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
                    crate::common::check(crate::epoll, || {
                        crate::$module::$test(crate::directory::Directory::new())
                    });
                }
            )+)+
        }
        #[cfg(feature = "io-uring")]
        mod on_io_uring {
            $($(
                #[test]
                fn $test() {
                    crate::common::check(crate::uring, || {
                        crate::$module::$test(crate::directory::Directory::new())
                    });
                }
            )+)+
        }
    };
}

suite! {
    at: blocks_at_offsets, many_at_once, lists_of_buffers, past_the_page_cache, lengths,
        opening, a_dropped_open_leaves_no_file_open, dropped_operations;
    cursor: write_seek_read, reads_are_as_long_as_the_room, reads_see_what_was_written,
        appending, a_dropped_read_does_not_move, a_file_dropped_after_a_write, large_copy, vectored, lines,
        refused_at_the_next_call, a_write_waits_for_memory, seeking;
    paths: whole_files, directories, what_is_missing;
}
