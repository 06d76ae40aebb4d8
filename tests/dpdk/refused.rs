//! What cannot start says why, and what to do.

use crate::programs::built;
use crate::programs::lab::Lab;
use std::process::{Command, Stdio};

fn errors(name: &str, dpdk: &str) -> String {
    let configuration = format!("[network]\naddresses = [\"10.7.0.9/24\"]\n[dpdk]\n{dpdk}\n");
    let lab = Lab::here(name, "dpdk", &configuration);
    let mut command = Command::new(built("echo"));
    command.args(["serve", "--listen", "10.7.0.9:0", "--transport", "dpdk"]);
    let output = command.env("DEMIKERNEL_CONFIG", &lab.configuration).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const NO_HUGE: &str = "huge-pages = false\nmemory = \"64MiB\"";

#[track_caller]
fn refused(name: &str, dpdk: &str, expected: &[&str]) {
    let errors = errors(name, &format!("{dpdk}\n{NO_HUGE}"));
    for expected in expected {
        assert!(errors.contains(expected), "{expected:?} is not in {errors:?}");
    }
}

#[test]
fn without_a_port_the_key_is_named() {
    let errors = errors("none", "");
    assert!(
        errors.contains("dpdk.port: found \"\", expected the PCI address or the name of a port"),
        "{errors}"
    );
}

#[test]
fn devices_that_are_not_there_are_named() {
    refused(
        "unknown",
        "port = \"net_nothing0\"",
        &["port \"net_nothing0\": cannot find or start the device"],
    );
    refused("pci", "port = \"0000:7f:1f.7\"", &["\"0000:7f:1f.7\": cannot open: there is no PCI device"]);
    refused(
        "zero-copy",
        "port = \"net_memif0,role=client,zero-copy=yes\"",
        &["zero-copy=yes is not supported"],
    );
    refused("iface", "port = \"net_af_packet0,iface=nowhere0\"", &["cannot find or start the device"]);
}

#[test]
fn arguments_that_eal_does_not_know_are_errors_of_ours() {
    refused("eal", "port = \"net_null0\"\neal = [\"--no-such-argument\"]", &["DPDK's EAL does not start"]);
    refused("help", "port = \"net_null0\"\neal = [\"--help\"]", &["would print help and end the process"]);
}

#[test]
fn a_client_of_memif_without_a_server_is_told_so() {
    let port = format!("port = \"net_memif0,role=client,socket=demikernel-{}-nobody\"", std::process::id());
    refused("client", &port, &["cannot start: nobody listens at its socket"]);
}

#[test]
fn a_role_that_another_process_has_is_an_error() {
    let socket = std::env::temp_dir().join(format!("demikernel-{}-role.sock", std::process::id()));
    let port = format!(
        "port = \"net_memif0,role=server,id=0,socket={},socket-abstract=no\"\n{NO_HUGE}",
        socket.display()
    );
    let configuration = format!("[network]\naddresses = [\"10.7.0.8/24\"]\n[dpdk]\n{port}\n");
    let first = Lab::here("role-first", "dpdk", &configuration);
    let server = first.serve("echo", &["serve", "--listen", "10.7.0.8:0"]);
    let errors = errors("role-second", &port);
    assert!(errors.contains("cannot "), "{errors}");
    drop(server);
    let _ = std::fs::remove_file(socket);
}
