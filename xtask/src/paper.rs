//! `cargo xtask paper`: the experiments of the Demikernel paper, and a page about them.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::process::inherit;
use crate::setup::{self, Tool};
use crate::workspace::Workspace;

/// Run the experiments of the Demikernel paper (SOSP 2021) again, on the transports that this machine has, and write
/// report.html and results.json.
///
/// Echo latency with demikernel's own share of it (Fig. 5), echo with a synchronous log (Fig. 7), throughput by the size of
/// messages (Fig. 8), a UDP relay (Fig. 10), key-value with and without persistence (Fig. 11). Those over interfaces of
/// the kernel take root, those over memif libdpdk, those over RDMA a device; what is not here says why in the report. Leave
/// the machine alone meanwhile: with --quick for two minutes, else for a quarter of an hour.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Fewer and shorter rounds: two minutes after building
    #[arg(long)]
    quick: bool,
    /// The directory for the report, target/paper unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only write the report again, of the results in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "arguments"])]
    results: Option<PathBuf>,
    /// Passed on to the measuring program (such as --only echo,log or --rounds 9)
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The features of the measuring program that can be compiled in, and those that the examples have with them.
fn features(has_dpdk: bool, has_rdma: bool) -> String {
    let mut features = vec!["demikernel-paper/stack"];
    if has_dpdk {
        features.push("demikernel-paper/dpdk");
    }
    if has_rdma {
        features.push("demikernel-paper/rdma");
    }
    features.join(",")
}

fn are_installed(tools: &[&'static Tool]) -> bool {
    tools.iter().all(|tool| tool.missing().is_none())
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let has_device = fs::read_dir("/sys/class/infiniband").is_ok_and(|mut devices| devices.next().is_some());
    let has_dpdk = are_installed(&[&setup::PKG_CONFIG, &setup::DPDK]);
    let has_rdma = has_device && are_installed(&[&setup::CMAKE, &setup::CLANG, &setup::RDMA]);
    let mut build = workspace.cargo("build");
    // In one go, so that the examples have the transports that the program has.
    build.args(["--release", "-p", "demikernel", "-p", "demikernel-paper", "--bin", "demikernel-paper"]);
    build.args(["--example", "udp-relay", "--example", "key-value"]);
    let status = inherit(build.args(["--features", &features(has_dpdk, has_rdma)]))?;
    ensure!(status.success(), "the experiments do not build: {status}");
    let out = options.out.clone().unwrap_or_else(|| workspace.target.join("paper"));
    let release = workspace.target.join("release");
    // Where the caller is, as what the caller names may be relative to that.
    let mut command = std::process::Command::new(release.join("demikernel-paper"));
    match &options.results {
        Some(results) => command.arg("report").arg(results),
        None => command.arg("measure").arg("--examples").arg(release.join("examples")),
    };
    if options.quick {
        command.arg("--quick");
    }
    let status = inherit(command.arg("--out").arg(out).args(&options.arguments))?;
    ensure!(status.success(), "the experiments have failed: {status}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::{Options, features};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from([&["paper"], words].concat());
        line.map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn transports_are_compiled_in_where_they_can_be() {
        assert_eq!(features(false, false), "demikernel-paper/stack");
        assert!(features(true, true).ends_with("demikernel-paper/dpdk,demikernel-paper/rdma"));
    }

    #[test]
    fn a_report_of_results_measures_nothing() {
        let options = parse(&["--quick", "--out", "here", "--", "--rounds", "2"]).unwrap();
        assert!(options.quick && options.arguments == ["--rounds", "2"]);
        assert!(
            parse(&["--results", "results.json", "--quick"]).err().unwrap().contains("cannot be used with")
        );
        assert!(parse(&["--fast"]).err().unwrap().contains("unexpected argument"));
    }
}
