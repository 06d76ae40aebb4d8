//! `cargo xtask lint`: the stages that only read the source.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::process::inherit;
use crate::test;
use crate::workspace::Workspace;

const STAGES: [&str; 7] = ["fmt", "tidy", "rfc", "msrv", "licences", "clippy", "docs"];

/// Run the stages that only read the source: fmt, tidy, rfc, msrv, licences, clippy, docs.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Let rustfmt and clippy mend what they can first
    #[arg(long)]
    fix: bool,
    /// Show all that the stages print, as it comes
    #[arg(long, short)]
    verbose: bool,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.fix {
        let workspace = Workspace::find()?;
        let mut clippy = workspace.cargo("clippy");
        clippy.args(["--fix", "--allow-dirty", "--workspace", "--all-targets", "--all-features"]);
        for command in [&mut clippy, workspace.cargo("fmt").arg("--all")] {
            let status = inherit(command)?;
            if !status.success() {
                bail!("{status}");
            }
        }
    }
    test::run(&test::Options::only(&STAGES, options.verbose))
}
