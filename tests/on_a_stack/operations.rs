//! What operations on streams promise, on the userspace stack, with the kernel at the other end, on the device of whose tests
//! this is a module.

use crate::on_device;
use crate::programs::peers;

#[test]
fn tokios_copy_echoes() {
    on_device("copy").iter().for_each(peers::tokios_copy_echoes);
}

#[test]
fn a_push_of_many_buffers_is_whole() {
    on_device("pieces").iter().for_each(peers::a_push_of_many_buffers_is_whole);
}

#[test]
fn pops_that_are_given_up_lose_nothing() {
    on_device("give-up").iter().for_each(peers::pops_that_are_given_up_lose_nothing);
}

#[test]
fn a_peer_that_is_gone_is_noticed_in_silence() {
    on_device("keepalive").iter().for_each(peers::a_peer_that_is_gone_is_noticed_in_silence);
}
