//! iperf3, against a server of ours (`tests/programs/iperf3.rs`).

use crate::lab::Lab;
use crate::programs::{Server, client, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

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

/// The other way around: iperf3 is the server.
#[test]
fn our_client_measures_iperf3() {
    let Some(lab) = Lab::new("iperf-client") else { return };
    let started = Command::new("iperf3").args(["-s", "--forceflush"]).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        assert!(std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_none(), "iperf3 is not installed");
        return eprintln!("skipped: iperf3 is not installed");
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let server = Server::of(child, "10.9.0.1:5201".parse().unwrap());
    assert!(lines.any(|line| line.unwrap().contains("Server listening")));
    std::thread::spawn(move || lines.for_each(drop));
    for address in ["10.9.0.1:5201", "[fd00:9::1]:5201"] {
        for more in [&[][..], &["reverse"]] {
            let output = lab.run("iperf3", &[&["connect", address, "50000000"], more].concat());
            let words: Vec<f64> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [here, there] = words[..] else { panic!("{output}") };
            assert!(here >= SIZE && there >= 0.8 * SIZE, "{address} {more:?}: {output}");
        }
    }
    drop(server);
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
