//! iperf3, against a server of ours (`tests/programs/iperf3.rs`).

use crate::lab::Lab;
use crate::programs::{client, text};
use serde_json::Value;

const SIZE: f64 = 50e6;

/// Runs a client, and returns what went out and what arrived, in bytes.
fn measure(host: &str, port: &str, arguments: &[&str]) -> Option<(f64, f64)> {
    let output = client("iperf3", &[&["-J", "-c", host, "-p", port], arguments].concat(), b"")?;
    let report: Value = serde_json::from_str(&text(&output)).expect("a report in JSON");
    assert!(report["error"].is_null(), "{report}");
    let bytes = |sum: &str| report["end"][sum]["bytes"].as_f64();
    let sums = bytes("sum_sent").zip(bytes("sum_received")).or_else(|| {
        // Of datagrams there is one sum, and the share that was lost.
        let lost = report["end"]["sum"]["lost_percent"].as_f64()?;
        bytes("sum").map(|bytes| (bytes, bytes * (1.0 - lost / 100.0)))
    });
    Some(sums.unwrap_or_else(|| panic!("no sums in {}", report["end"])))
}

#[test]
fn both_ways_and_several_at_once() {
    let Some(lab) = Lab::new("iperf") else { return };
    for (listen, host) in [("10.9.0.2:0", "10.9.0.2"), ("[fd00:9::2]:0", "fd00:9::2")] {
        let server = lab.serve("iperf3", &[listen]);
        for arguments in [&["-n", "50M"][..], &["-n", "50M", "-R"], &["-n", "50M", "-P", "4"]] {
            let Some((sent, received)) = measure(host, &server.port(), arguments) else { return };
            // What is under way when the client has sent enough is not counted.
            assert!(
                sent >= SIZE && received >= 0.8 * SIZE,
                "{arguments:?}: {sent} sent, {received} received"
            );
        }
    }
}

#[test]
fn datagrams_arrive() {
    let Some(lab) = Lab::new("iperf-udp") else { return };
    for (listen, host) in [("10.9.0.2:0", "10.9.0.2"), ("[fd00:9::2]:0", "fd00:9::2")] {
        let server = lab.serve("iperf3", &[listen]);
        let arguments = ["-u", "-b", "20M", "-n", "2M"];
        let Some((sent, received)) = measure(host, &server.port(), &arguments) else { return };
        assert!(sent >= 2e6 && received >= 0.9 * sent, "{sent} sent, {received} received");
    }
}
