//! The program itself: a run that is too short to say anything but that everything works, and command lines that are refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn paper(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demikernel-paper")).args(arguments).output().expect("it is started")
}

fn refused(arguments: &[&str]) -> String {
    let output = paper(arguments);
    assert!(!output.status.success(), "{arguments:?} is taken");
    String::from_utf8(output.stderr).expect("text")
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("demikernel-paper-test-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory for temporary files");
    path
}

/// Built by `cargo build -p demikernel --examples` with the features of this program, as the test stages do.
fn examples() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_demikernel-paper")).with_file_name("examples");
    assert!(
        path.join("udp-relay").exists(),
        "build the examples first: cargo build -p demikernel --examples"
    );
    path
}

#[test]
fn every_experiment_runs_on_the_transports_of_this_machine() {
    let out = directory("run");
    let examples = examples();
    let (out_text, examples) = (out.to_str().expect("text"), examples.to_str().expect("text"));
    let arguments =
        ["measure", "--rounds", "1", "--milliseconds", "2", "--out", out_text, "--examples", examples];
    let output = paper(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("there is a report");
    assert!(page.contains("A short run") && page.contains("<svg"));
    let results = std::fs::read_to_string(out.join("results.json")).expect("there are results");
    let results: Value = serde_json::from_str(&results).expect("JSON");
    let has = |experiment: &str, system: &str| {
        let figures = results["figures"].as_array().expect("a list");
        figures.iter().any(|figure| figure["experiment"] == experiment && figure["system"] == system)
    };
    let redis = Command::new("redis-benchmark").arg("--version").output().is_ok();
    let mut transports = vec!["epoll"];
    // As other tests: what may be missing on a machine of somebody's has to be there on that of CI.
    if std::env::var_os("DEMIKERNEL_REQUIRE_ALL").is_some() {
        transports.extend(["io_uring", "tap", "packet", "xdp", "dpdk"]);
    }
    for transport in transports {
        for experiment in ["echo", "log", "sizes", "relay", "key-value"] {
            let is_reachable = experiment != "key-value" || redis && transport != "dpdk";
            assert!(!is_reachable || has(experiment, transport), "{transport}, {experiment}: {errors}");
        }
    }
    let missing = |name: &str| {
        let transports = results["transports"].as_array().expect("a list");
        transports.iter().find(|transport| transport["name"] == name).expect("it is named")["missing"].clone()
    };
    assert_eq!(missing("epoll"), Value::Null);
    if !Path::new("/sys/class/infiniband").exists() {
        assert!(missing("rdma").as_str().expect("a reason").contains("no RDMA device"));
    }
    std::fs::remove_dir_all(out).expect("it is ours");
}

#[test]
fn wrong_command_lines_say_what_is_wrong() {
    assert!(refused(&["measure"]).contains("--examples"));
    assert!(refused(&["measure", "--examples", ".", "--rounds", "0"]).contains("0 is not in 1..=1000"));
    assert!(refused(&["measure", "--examples", ".", "--only", "fig5"]).contains("possible values: echo"));
    assert!(refused(&["measure", "--examples", "/nowhere"]).contains("no /nowhere/udp-relay"));
    assert!(refused(&["report", "/nowhere.json"]).contains("/nowhere.json: No such file"));
}

#[test]
fn a_report_is_made_again_of_what_was_recorded() {
    let out = directory("again");
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded.json");
    let output = paper(&["report", recorded, "--out", out.to_str().expect("text")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.join("report.html").exists());
    let garbage = out.join("garbage.json");
    std::fs::write(&garbage, "{\"version\": 1}").expect("it is ours");
    assert!(refused(&["report", garbage.to_str().expect("text")]).contains("missing field"));
    std::fs::remove_dir_all(out).expect("it is ours");
}
