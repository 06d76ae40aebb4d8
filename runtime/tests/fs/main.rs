//! Files on every transport for them.
//!
//! Each test runs with a runtime that spins when idle and with one that blocks; afterwards no descriptor
//! and no buffer may be left.

#[macro_use]
#[path = "../common/kernel.rs"]
mod kernel;

mod at;
#[path = "../common/mod.rs"]
mod common;
mod cursor;
mod directory;
mod paths;

use directory::Directory;
use std::io;

/// Runs a test as all are run, with a directory of its own.
fn check<F: Future<Output = io::Result<()>>>(make: common::Make, test: impl Fn(Directory) -> F) {
    common::check(make, || test(Directory::new()));
}

on_kernel_sockets! {
    crate::check;
    at: blocks_at_offsets, many_at_once, lists_of_buffers, past_the_page_cache, lengths,
        opening, a_dropped_open_leaves_no_file_open, dropped_operations;
    cursor: write_seek_read, reads_are_as_long_as_the_room, reads_see_what_was_written,
        appending, a_dropped_read_does_not_move, a_file_dropped_after_a_write, large_copy, vectored, lines,
        refused_at_the_next_call, a_write_waits_for_memory, seeking;
    paths: whole_files, directories, what_is_missing;
}
