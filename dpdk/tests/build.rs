//! What the build says where libdpdk is too old, or is not there: one line, with what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build script, which cargo has built and run for this test.
fn build_script() -> PathBuf {
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let of_this = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("demikernel-dpdk-"))
    };
    let directories = fs::read_dir(builds).unwrap().flatten().map(|entry| entry.path()).filter(of_this);
    let scripts =
        directories.map(|directory| directory.join("build-script-build")).filter(|script| script.exists());
    // Of several, from former builds, the one of today.
    scripts.max_by_key(|script| script.metadata().unwrap().modified().unwrap()).expect("cargo has built it")
}

/// What it says where pkg-config finds what is in this directory.
fn said(directory: &Path) -> String {
    let output = Command::new(build_script())
        .env_remove("DOCS_RS")
        .env_remove("PKG_CONFIG_PATH")
        .env("PKG_CONFIG_LIBDIR", directory)
        .envs([("TARGET", "x86_64-unknown-linux-gnu"), ("HOST", "x86_64-unknown-linux-gnu")])
        .env("OUT_DIR", directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_library_that_does_not_do_is_named_in_one_line() {
    let directory = std::env::temp_dir().join(format!("demikernel-dpdk-build-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let remedy = "apt-get install libdpdk-dev pkg-config\n";
    let needed = "error: the feature `dpdk` needs libdpdk 22.11 or later, which";
    assert_eq!(said(&directory), format!("{needed} is not found: {remedy}"));
    let old = "Name: DPDK\nDescription: an old one\nVersion: 21.11.3\nLibs: -lrte_eal\n";
    fs::write(directory.join("libdpdk.pc"), old).unwrap();
    assert_eq!(said(&directory), format!("{needed} is found as 21.11.3: {remedy}"));
    fs::remove_dir_all(&directory).unwrap();
}
