//! Finds libdpdk and compiles the shim over it.

use std::env;
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-changed=src/shim.h");
    println!("cargo:rerun-if-env-changed=DOCS_RS");
    if env::var_os("DOCS_RS").is_some() {
        // Documentation is made without linking anything.
        return;
    }
    let library = match pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(true)
        .probe("libdpdk")
    {
        Ok(library) => library,
        Err(error) => {
            // One line: what pkg-config says is long, and seldom says more.
            let found = if matches!(error, pkg_config::Error::ProbeFailure { .. }) {
                "is older or missing"
            } else {
                "is not found"
            };
            eprintln!(
                "error: the feature `dpdk` needs libdpdk 22.11 or later, which {found}: apt-get install libdpdk-dev pkg-config"
            );
            exit(1);
        }
    };
    let mut build = cc::Build::new();
    build.file("src/shim.c").includes(&library.include_paths).warnings(true).opt_level(3);
    // As pkg-config says for whoever includes the headers, whose functions use these instructions.
    for flag in flags() {
        build.flag(flag);
    }
    build.compile("demikernel_dpdk_shim");
}

/// What the compiler is to be told beyond directories of headers, which pkg-config's crate leaves out.
fn flags() -> Vec<String> {
    let output = std::process::Command::new("pkg-config").args(["--cflags-only-other", "libdpdk"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
