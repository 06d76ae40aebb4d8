//! The ports of Demikernel's examples on the userspace stack, with the kernel at the other end, on the device of whose tests
//! this is a module.

use crate::on_device;
use crate::programs::ports::{self, Place};

fn on_the_stack(name: &str, test: fn(&Place)) {
    if let Some(lab) = on_device(name) {
        Place::on(&lab).iter().for_each(test);
    }
}

#[test]
fn the_echo_server_has_many_clients() {
    on_the_stack("port-echo", ports::the_echo_server_has_many_clients);
}

#[test]
fn the_echo_server_goes_on_beside_a_client_that_does_not_read() {
    on_the_stack("port-mute", ports::the_echo_server_goes_on_beside_a_client_that_does_not_read);
}

#[test]
fn echo_clients_send_and_check_each_byte() {
    on_the_stack("port-clients", ports::echo_clients_send_and_check_each_byte);
}

#[test]
fn ping_pong_checks_each_byte_at_both_ends() {
    on_the_stack("port-ping", ports::ping_pong_checks_each_byte_at_both_ends);
}

#[test]
fn the_relay_passes_on_each_byte() {
    on_the_stack("port-relay", ports::the_relay_passes_on_each_byte);
}

#[test]
fn pipes_carry_each_byte() {
    on_the_stack("port-pipe", ports::pipes_carry_each_byte);
}
