//! The examples, with other people's programs on the kernel's side; what a packet socket does as well; DHCP.

use crate::programs::clients;
use crate::programs::lab::Lab;
use crate::programs::{Server, built, client, text};
use crate::tap;
use std::process::{Command, Stdio};

#[test]
fn nc_gets_its_words_back() {
    tap("nc").iter().for_each(clients::nc_gets_its_words_back);
}

/// The same stack on one end of a veth pair, through a packet socket.
#[test]
fn nc_gets_its_words_back_through_a_packet_socket() {
    Lab::veth("packet", "packet", 1).iter().for_each(clients::nc_gets_its_words_back);
}

#[test]
fn the_udp_relay_forwards_and_brings_back_answers() {
    tap("relay").iter().for_each(clients::the_udp_relay_forwards_and_brings_back_answers);
}

#[test]
fn redis_clients_understand_the_key_value_server() {
    tap("redis").iter().for_each(clients::redis_clients_understand_the_key_value_server);
}

#[test]
fn curl_and_wrk_speak_to_the_http_server() {
    tap("http").iter().for_each(clients::curl_and_wrk_speak_to_the_http_server);
}

#[test]
fn clients_speak_tls_to_the_servers() {
    tap("tls").iter().for_each(clients::clients_speak_tls_to_the_servers);
}

#[test]
fn ping_is_answered() {
    tap("ping").iter().for_each(clients::ping_is_answered);
}

#[test]
fn iperf3_measures_both_ways_and_several_at_once() {
    tap("iperf").iter().for_each(clients::iperf3_measures_both_ways_and_several_at_once);
}

#[test]
fn our_client_measures_iperf3() {
    tap("iperf-client").iter().for_each(clients::our_client_measures_iperf3);
}

#[test]
fn iperf3_gets_its_datagrams() {
    tap("iperf-udp").iter().for_each(clients::iperf3_gets_its_datagrams);
}

/// Without a word about addresses in the file: dnsmasq, on the kernel's side, says what there is to say.
#[test]
fn a_server_gets_its_address_from_dnsmasq() {
    let Some(lab) = tap("dhcp") else { return };
    std::fs::write(&lab.configuration, "[network]\nmac = \"02:00:00:00:09:02\"\naddresses = [\"dhcp\"]\n")
        .unwrap();
    let leases = std::env::temp_dir().join(format!("demikernel-leases-{}", std::process::id()));
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=tap0", "--bind-dynamic"]);
    dnsmasq.args(["--user=root", "--pid-file=", "--dhcp-range=10.9.0.50,10.9.0.50,2m"]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
    let dnsmasq = match dnsmasq.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Server::of(child, "10.9.0.1:67".parse().unwrap()),
        Err(error) => {
            assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "dnsmasq: {error}");
            return eprintln!("skipped: dnsmasq: {error}");
        }
    };
    let server = lab.serve("echo", &["serve", "--listen", "0.0.0.0:0"]);
    let output = client("nc", &["-N", "10.9.0.50", &server.port()], b"hello\nworld\n");
    drop(server);
    drop(dnsmasq);
    let _ = std::fs::remove_file(leases);
    if let Some(output) = output {
        assert_eq!(text(&output), "hello\nworld\n");
    }
}

#[test]
fn a_transport_that_cannot_start_says_what_to_do() {
    // A name of a network namespace alone: nobody there gives an address.
    let Some(lab) = tap("start") else { return };
    let run = |configuration: &str| {
        let mut command = Command::new(built("echo"));
        command.args(["serve", "--transport", "tap"]).env("DEMIKERNEL_CONFIG", configuration);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    std::fs::write(&lab.configuration, "[network]\nwait = \"500ms\"\n").unwrap();
    let errors = run(lab.configuration.to_str().unwrap());
    assert!(
        errors.contains("\"tap0\": no address after 500ms: no DHCP server has given an address"),
        "{errors}"
    );
    assert!(errors.contains("say addresses under [network]") && errors.contains("network.wait"), "{errors}");
    let errors = run("/nowhere/demikernel.toml");
    assert!(errors.contains("cannot read /nowhere/demikernel.toml"), "{errors}");
}
