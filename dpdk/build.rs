//! Finds libdpdk and compiles the shim over it.

use std::env;
use std::process::exit;

/// The oldest version that has what the shim calls.
const OLDEST: &str = "22.11";

fn main() {
    for file in ["shim.c", "shim.h", "memif.c", "memif.h"] {
        println!("cargo:rerun-if-changed=src/{file}");
    }
    println!("cargo:rerun-if-env-changed=DOCS_RS");
    if env::var_os("DOCS_RS").is_some() {
        // Documentation is made without linking anything.
        return;
    }
    let library = match pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(true)
        .probe("libdpdk")
    {
        Ok(library) => library,
        Err(_) => {
            // One line: what pkg-config says is long, and seldom says more.
            let found =
                version().map_or("is not found".to_owned(), |version| format!("is found as {version}"));
            eprintln!(
                "error: the feature `dpdk` needs libdpdk {OLDEST} or later, which {found}: apt-get install libdpdk-dev pkg-config"
            );
            exit(1);
        }
    };
    let mut build = cc::Build::new();
    build.files(["src/shim.c", "src/memif.c"]).includes(&library.include_paths).warnings(true).opt_level(3);
    // As pkg-config says for whoever includes the headers, whose functions use these instructions.
    for flag in flags() {
        build.flag(flag);
    }
    build.compile("demikernel_dpdk_shim");
}

/// What version there is, if pkg-config knows of any.
fn version() -> Option<String> {
    let output = std::process::Command::new("pkg-config").args(["--modversion", "libdpdk"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// What the compiler is to be told beyond directories of headers, which pkg-config's crate leaves out.
fn flags() -> Vec<String> {
    let output = std::process::Command::new("pkg-config").args(["--cflags-only-other", "libdpdk"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
