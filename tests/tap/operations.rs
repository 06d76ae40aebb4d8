//! What operations on streams promise, on the userspace stack, with the kernel at the other end.

use crate::programs::peers;
use crate::tap;

#[test]
fn tokios_copy_echoes() {
    tap("copy").iter().for_each(peers::tokios_copy_echoes);
}

#[test]
fn a_push_of_many_buffers_is_whole() {
    tap("pieces").iter().for_each(peers::a_push_of_many_buffers_is_whole);
}

#[test]
fn pops_that_are_given_up_lose_nothing() {
    tap("give-up").iter().for_each(peers::pops_that_are_given_up_lose_nothing);
}

#[test]
fn a_peer_that_is_gone_is_noticed_in_silence() {
    tap("keepalive").iter().for_each(peers::a_peer_that_is_gone_is_noticed_in_silence);
}
