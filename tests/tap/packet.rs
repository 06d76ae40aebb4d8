//! The stack on one end of a veth pair, through a packet socket: what is tested on a TAP interface, as far as it differs in
//! what it asks of the device.

use crate::programs::lab::Lab;
use crate::programs::ports::{self, Place};
use crate::programs::{clients, peers};

fn packet(name: &str) -> Option<Lab> {
    Lab::veth(name, "packet", 1)
}

#[test]
fn redis_clients_understand_the_key_value_server() {
    packet("packet-redis").iter().for_each(clients::redis_clients_understand_the_key_value_server);
}

#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    packet("packet-http").iter().for_each(clients::curl_and_wrk_speak_to_the_http_server);
}

#[test]
fn clients_speak_tls_to_the_servers() {
    packet("packet-tls").iter().for_each(clients::clients_speak_tls_to_the_servers);
}

#[test]
fn tokios_copy_echoes() {
    packet("packet-copy").iter().for_each(peers::tokios_copy_echoes);
}

#[test]
fn a_push_of_many_buffers_is_whole() {
    packet("packet-pieces").iter().for_each(peers::a_push_of_many_buffers_is_whole);
}

#[test]
fn pops_that_are_given_up_lose_nothing() {
    packet("packet-give-up").iter().for_each(peers::pops_that_are_given_up_lose_nothing);
}

#[test]
fn a_peer_that_is_gone_is_noticed_in_silence() {
    packet("packet-keepalive").iter().for_each(peers::a_peer_that_is_gone_is_noticed_in_silence);
}

#[test]
fn the_ports_serve_many_clients_and_pass_on_each_byte() {
    let Some(lab) = packet("packet-ports") else { return };
    for place in Place::on(&lab) {
        ports::the_echo_server_has_many_clients(&place);
        ports::the_relay_passes_on_each_byte(&place);
    }
}
