//! What the lock file may contain: the stages `msrv` and `licences`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

use crate::stages::{Job, Outcome, passed};

/// Clippy's `incompatible_msrv` knows which parts of the standard library are too new, and cargo refuses a compiler
/// that is too old; what is left are the dependencies. If the promised compiler is installed, it has the last word.
pub(crate) fn msrv(job: &mut Job<'_>) -> Result<Outcome> {
    let packages = job.workspace.packages()?;
    let ours = job.workspace.members.iter();
    let ours: Vec<_> = ours.map(|package| package.rust_version.as_deref().unwrap_or("none")).collect();
    let promised = *ours.first().context("the workspace has no packages")?;
    ensure!(ours.iter().all(|version| *version == promised), "members differ in rust-version: {ours:?}");
    let compiler = compiler_version(job)?;
    ensure!(
        version(promised) <= version(&compiler),
        "rust-version is {promised}, but the compiler here is {compiler}"
    );
    let newer = packages.iter().filter(|package| {
        package.rust_version.as_deref().is_some_and(|needed| version(needed) > version(promised))
    });
    let newer: Vec<_> = newer.map(|package| package.name.as_str()).collect();
    ensure!(newer.is_empty(), "these dependencies need more than Rust {promised}: {}", newer.join(", "));

    let mut check = job.workspace.command("cargo");
    check.arg(format!("+{promised}")).args(["check", "--locked", "--workspace", "--all-features"]);
    if !installed_toolchains(job).iter().any(|name| name.starts_with(&format!("{promised}."))) {
        return passed(format!("Rust {promised} promised, {compiler} here"));
    }
    job.runner.run(check.arg("--target-dir").arg(job.workspace.target.join("msrv")))?;
    passed(format!("compiled with Rust {promised}"))
}

/// `1.95.0`, from `rustc --version`.
pub(crate) fn compiler_version(job: &mut Job<'_>) -> Result<String> {
    let text = job.runner.output(Command::new("rustc").arg("--version"))?;
    let version =
        text.split_whitespace().nth(1).with_context(|| format!("rustc --version printed {text:?}"))?;
    Ok(version.to_owned())
}

fn installed_toolchains(job: &mut Job<'_>) -> Vec<String> {
    // Without rustup there is one toolchain, and no `+VERSION` to choose another.
    let list = job.runner.output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    list.lines().map(str::to_owned).collect()
}

/// Major, minor and patch of a version, missing parts as zero.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// A part of what cargo-deny checks, with its own configuration, as cargo-deny takes minutes to install.
pub(crate) fn licences(job: &mut Job<'_>) -> Result<Outcome> {
    let allowed = allowed_licences(&fs::read_to_string(job.workspace.root.join("deny.toml"))?)?;
    let packages = job.workspace.packages()?;
    let mut refused = Vec::new();
    for package in &packages {
        let licence = package.licence.as_deref().unwrap_or("no licence");
        if !is_allowed(licence, &allowed) {
            refused.push(format!("{} ({licence})", package.name));
        }
    }
    ensure!(refused.is_empty(), "not allowed by deny.toml: {}", refused.join(", "));
    passed(format!("{} packages", packages.len()))
}

fn allowed_licences(text: &str) -> Result<Vec<String>> {
    let table: Table = text.parse().context("deny.toml")?;
    let list = table.get("licenses").and_then(|licences| licences.get("allow")).and_then(Value::as_array);
    let list = list.context("deny.toml has no licenses.allow")?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Whether an SPDX expression can be satisfied. `AND` is split first, whatever the parentheses say: for nested
/// expressions that is stricter than needed, and never laxer.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let is_listed = |term: &str| allowed.iter().any(|name| name == term.trim_matches([' ', '(', ')']));
    expression
        .split(" AND ")
        .all(|any| any.split(" OR ").flat_map(|old_form| old_form.split('/')).any(is_listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.88") < version("1.100.0-nightly"));
        assert!(version("1.88") <= version("1.88.0"));
        assert!(version("1.95.1") > version("1.95"));
    }

    #[test]
    fn licence_expressions() {
        let allowed = allowed_licences("[licenses]\nallow = ['MIT', 'Unicode-3.0']").unwrap();
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("Apache-2.0/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("Apache-2.0 OR (MIT AND Zlib)", false),
            ("no licence", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
