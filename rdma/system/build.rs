//! Looks for what the verbs of `demikernel-rdma` are built with, and links librdmacm.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};

/// What `ibverbs-sys` needs to make its binding, or we to link: how to look for it, and Debian's package.
const NEEDED: [(Need, &str); 8] = [
    (Need::Program("pkg-config"), "pkg-config"),
    (Need::Program("cmake"), "cmake"),
    (Need::Program("cc"), "gcc"),
    (Need::Clang, "libclang-dev"),
    (Need::Library("libnl-3.0"), "libnl-3-dev"),
    (Need::Library("libnl-route-3.0"), "libnl-route-3-dev"),
    (Need::Library("libibverbs"), "libibverbs-dev"),
    (Need::Library("librdmacm"), "librdmacm-dev"),
];

enum Need {
    Program(&'static str),
    /// As pkg-config calls it.
    Library(&'static str),
    /// With which `bindgen` reads headers.
    Clang,
}

impl Need {
    fn is_there(&self) -> bool {
        match self {
            Need::Program(name) => succeeds(name, "--version"),
            Need::Library(name) => Command::new("pkg-config")
                .args(["--exists", name])
                .status()
                .is_ok_and(|status| status.success()),
            Need::Clang => has_clang(),
        }
    }
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["DOCS_RS", "LIBCLANG_PATH", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("DOCS_RS").is_some() {
        // Documentation is made without linking anything.
        return;
    }
    let missing = NEEDED.iter().filter(|(need, _)| !need.is_there()).map(|(_, package)| *package);
    let missing = missing.collect::<Vec<_>>().join(" ");
    if !missing.is_empty() {
        // One line: whoever reads it is to type what it ends with.
        eprintln!(
            "error: RDMA (feature `rdma`, or `verbs` of demikernel-rdma) needs packages that are not found: apt-get install {missing}"
        );
        exit(1);
    }
    println!("cargo:rustc-link-lib=rdmacm");
}

fn succeeds(program: &str, argument: &str) -> bool {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether there is a libclang where `bindgen` looks for it.
fn has_clang() -> bool {
    let mut places: Vec<PathBuf> = env::var_os("LIBCLANG_PATH").into_iter().map(PathBuf::from).collect();
    places.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"].map(PathBuf::from));
    // Those of an architecture, and of a version of LLVM.
    for (directory, prefix) in
        [("/usr/lib", "llvm"), ("/usr/lib", ""), ("/usr/local", "llvm"), ("/opt", "llvm")]
    {
        let entries = entries(Path::new(directory)).filter(|path| name(path).starts_with(prefix));
        places.extend(entries.flat_map(|path| [path.join("lib"), path]));
    }
    places.iter().any(|place| {
        name(place).starts_with("libclang") || entries(place).any(|file| name(&file).starts_with("libclang"))
    })
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
