//! Where the workspace is, and the `cargo` commands for it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The paths that every command needs.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The build directory, shared by all stages that compile with the same flags.
    pub(crate) target: PathBuf,
    /// Our own packages.
    pub(crate) members: Vec<Package>,
}

impl Workspace {
    /// Finds the workspace of the running xtask.
    pub(crate) fn find() -> Result<Self> {
        // The variable that `cargo run` sets wins over the compiled-in path, as a build directory can be shared
        // by several clones.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = manifest.parent().context("xtask has no parent directory")?.to_path_buf();
        ensure!(root.join("Cargo.toml").is_file(), "no Cargo.toml in {}", root.display());
        let metadata = metadata(&root, &["--no-deps"])?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
        Ok(Self { target: PathBuf::from(target), members: read_packages(&metadata)?, root })
    }

    /// `cargo SUBCOMMAND` in the workspace; `--locked`, so that no check silently tests other versions.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.command("cargo");
        command.arg(subcommand);
        if subcommand != "fmt" {
            command.arg("--locked");
        }
        command
    }

    /// A command that starts in the root directory.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // What cargo has told xtask of itself: build scripts that ask for it (ring's) would run anew whenever another
        // package's program is the one that starts cargo.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// All packages of the lock file, ours among them.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        read_packages(&metadata(&self.root, &["--locked"])?)
    }

    /// Whether a path below the root exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// What `cargo metadata` says of one package.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The oldest compiler that it promises to build with, if it says.
    pub(crate) rust_version: Option<String>,
    /// Its SPDX expression.
    pub(crate) licence: Option<String>,
    /// Its features without `default`.
    pub(crate) features: Vec<String>,
    /// Its integration tests.
    pub(crate) tests: Vec<String>,
    /// Everything that is built of it, as its files are named.
    pub(crate) targets: Vec<String>,
    /// Where it is.
    pub(crate) directory: PathBuf,
}

impl Package {
    fn read(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let features = value["features"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let targets = || value["targets"].as_array().into_iter().flatten();
        let names = targets().filter_map(|target| Some(target["name"].as_str()?.replace('-', "_")));
        let tests = targets().filter(|target| target["kind"][0] == "test");
        Self {
            name: text("name").unwrap_or_default(),
            rust_version: text("rust_version"),
            licence: text("license"),
            features: features.filter(|name| name != "default").collect(),
            tests: tests.filter_map(|target| target["name"].as_str()).map(str::to_owned).collect(),
            targets: names.collect(),
            directory: Path::new(&text("manifest_path").unwrap_or_default()).with_file_name(""),
        }
    }
}

fn read_packages(metadata: &Value) -> Result<Vec<Package>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages.iter().map(Package::read).collect())
}

fn metadata(root: &Path, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--quiet"]).args(arguments).current_dir(root);
    let output = command.output().context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata prints")
}

/// The option of cargo for messages that [`executables`] reads, and diagnostics for people.
pub(crate) const JSON: &str = "--message-format=json-render-diagnostics";

/// An executable that cargo has built.
#[derive(Debug, PartialEq)]
pub(crate) struct Executable {
    /// The name of the target.
    pub(crate) target: String,
    /// The directory of the package.
    pub(crate) package: PathBuf,
    pub(crate) path: PathBuf,
}

/// The executables in the output of a cargo command with [`JSON`].
pub(crate) fn executables(messages: &str) -> Vec<Executable> {
    let read = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(Executable {
            target: message["target"]["name"].as_str()?.to_owned(),
            package: Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf(),
            path: message["executable"].as_str()?.into(),
        })
    };
    messages.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_other_messages() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"lib"},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"ops"},"executable":"/t/ops-1"}
not json
{"reason":"build-finished","success":true}
"#;
        let found = Executable { target: "ops".into(), package: "/a".into(), path: "/t/ops-1".into() };
        assert_eq!(executables(messages), [found]);
    }
}
