//! `cargo xtask exact`: instructions, system calls and allocations per operation, compared with the committed ones.
//!
//! These three do not depend on how busy the machine is, so CI can check them. The program is the bench target `ops`
//! of the facade: `ops list` prints a line `NAME COUNT` for each operation, and `ops run NAME COUNT` performs it
//! `COUNT` times. Each is run with COUNT and with 2 x COUNT; the difference divided by COUNT is the price of one
//! operation, without start-up, warm-up and shut-down.
//!
//! - Instructions: valgrind's callgrind, user space only. Within [`TOLERANCE`] of the committed count.
//! - System calls: strace, which unlike valgrind leaves the vDSO alone, so that reading the clock is none.
//! - Allocations: the heap summary of valgrind's memcheck.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use toml::{Table, Value};

use crate::dependencies;
use crate::process::Runner;
use crate::setup;
use crate::stages::{Job, Outcome};
use crate::workspace::{self, Workspace};

/// The committed counts, from the root of the workspace.
pub(crate) const COMMITTED: &str = "benches/instructions.toml";

/// How far instructions may be from the committed count, in either direction: what gets cheaper is to be committed,
/// too, or it could get dearer again unseen.
const TOLERANCE: f64 = 0.05;

/// Calls and allocations per operation below this are of warm-up, such as a vector that grows once more.
const NOISE: f64 = 0.01;

/// Count instructions, system calls and allocations per operation, and compare with the committed counts.
///
/// The counts are in benches/instructions.toml, with the compiler that they hold for. They do not depend on how busy
/// the machine is.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Write what was measured to the file instead of comparing
    #[arg(long)]
    bless: bool,
    /// Show what the programs print
    #[arg(long, short)]
    verbose: bool,
    /// Only these operations
    #[arg(value_name = "OPERATION", conflicts_with = "bless")]
    operations: Vec<String>,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    if !setup::install(&[&setup::VALGRIND, &setup::STRACE])? {
        bail!("valgrind and strace are needed: cargo xtask setup");
    }
    let limit = Duration::from_secs(3600);
    let runner = Runner::new(&workspace.target, "exact", "exact", limit, options.verbose)?;
    let mut job =
        Job { workspace: &workspace, runner, require_all: true, soak_seconds: 0, passed: Default::default() };
    let measured = measure_all(&mut job, &options.operations)?;
    let compiler = dependencies::compiler_version(&mut job)?;
    drop(job);
    let file = workspace.root.join(COMMITTED);
    if options.bless {
        fs::write(&file, render(&compiler, &measured))
            .with_context(|| format!("cannot write {COMMITTED}"))?;
        println!("{}\nwritten to {COMMITTED}", table(&measured, &measured));
        return Ok(ExitCode::SUCCESS);
    }
    let committed = Committed::load(&file)?;
    println!("{}", table(&measured, &committed.costs));
    if committed.compiler != compiler {
        println!("The committed counts are of Rust {}, these of {compiler}.", committed.compiler);
    }
    let findings = compare(&measured, &committed.costs);
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The test stage: all operations, nothing written.
pub(crate) fn stage(job: &mut Job<'_>) -> Result<Outcome> {
    let committed = Committed::load(&job.workspace.root.join(COMMITTED))?;
    let compiler = dependencies::compiler_version(job)?;
    if committed.compiler != compiler {
        let reason = format!("the committed counts are of Rust {}, this is {compiler}", committed.compiler);
        return Ok(Outcome::Skipped(reason));
    }
    let measured = measure_all(job, &[])?;
    let mut findings = compare(&measured, &committed.costs);
    let forgotten = committed.costs.keys().filter(|name| !measured.contains_key(*name));
    findings.extend(forgotten.map(|name| format!("{name}: committed, but `ops list` does not have it")));
    job.runner.note(&table(&measured, &committed.costs))?;
    for finding in &findings {
        job.runner.note(finding)?;
    }
    ensure!(findings.is_empty(), "{}", findings.join("; "));
    Ok(Outcome::Passed(format!("{} operations", measured.len())))
}

/// Per operation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: f64,
    syscalls: f64,
    allocations: f64,
}

type Costs = BTreeMap<String, Cost>;

fn measure_all(job: &mut Job<'_>, only: &[String]) -> Result<Costs> {
    let program = build(job)?;
    let list = job.runner.output(job.workspace.command(&program).arg("list"))?;
    let mut operations = parse_list(&list)?;
    if let Some(name) = only.iter().find(|name| !operations.iter().any(|(known, _)| known == *name)) {
        let known: Vec<_> = operations.iter().map(|(name, _)| name.as_str()).collect();
        bail!("no operation is called '{name}'; there are {}", known.join(", "));
    }
    operations.retain(|(name, _)| only.is_empty() || only.contains(name));
    let mut costs = Costs::new();
    for (name, count) in operations {
        let cost = measure(job, &program, &name, count).with_context(|| name.clone())?;
        costs.insert(name, cost);
    }
    Ok(costs)
}

fn build(job: &mut Job<'_>) -> Result<PathBuf> {
    let mut command = job.workspace.cargo("bench");
    command.args(["-p", "demikernel", "--bench", "ops", "--no-run", workspace::JSON]);
    // Both change the machine code, and the committed counts are those of the profile in Cargo.toml.
    command.env("CARGO_INCREMENTAL", "0").env_remove("RUSTFLAGS");
    let messages = job.runner.output(&mut command)?;
    let mut found = workspace::executables(&messages).into_iter().filter(|built| built.target == "ops");
    found.next().map(|built| built.path).context("cargo built no bench target `ops`")
}

fn parse_list(list: &str) -> Result<Vec<(String, u64)>> {
    let parse = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok().filter(|&count| count > 0)?))
    };
    let lines = list.lines().map(|line| parse(line).with_context(|| format!("`ops list` printed {line:?}")));
    let operations = lines.collect::<Result<Vec<_>>>()?;
    ensure!(!operations.is_empty(), "`ops list` names no operation");
    Ok(operations)
}

fn measure(job: &mut Job<'_>, program: &Path, name: &str, count: u64) -> Result<Cost> {
    let mut price = |total: fn(&mut Job<'_>, &Path, &str, u64) -> Result<u64>| -> Result<f64> {
        let once = total(job, program, name, count)?;
        let twice = total(job, program, name, 2 * count)?;
        Ok((twice as f64 - once as f64) / count as f64)
    };
    Ok(Cost {
        instructions: price(instructions)?,
        syscalls: price(syscalls)?,
        allocations: price(allocations)?,
    })
}

fn ops(command: &mut Command, program: &Path, name: &str, count: u64) {
    command.arg(program).args(["run", name, &count.to_string()]);
}

fn instructions(job: &mut Job<'_>, program: &Path, name: &str, count: u64) -> Result<u64> {
    let mut command = job.workspace.command("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    ops(&mut command, program, name, count);
    number_after(&job.runner.errors(&mut command)?, "Collected :")
}

fn allocations(job: &mut Job<'_>, program: &Path, name: &str, count: u64) -> Result<u64> {
    let mut command = job.workspace.command("valgrind");
    command.args(["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"]);
    ops(&mut command, program, name, count);
    number_after(&job.runner.errors(&mut command)?, "total heap usage:")
}

fn syscalls(job: &mut Job<'_>, program: &Path, name: &str, count: u64) -> Result<u64> {
    let mut command = job.workspace.command("strace");
    command.args(["-f", "-c", "-U", "calls,name"]);
    ops(&mut command, program, name, count);
    let summary = job.runner.errors(&mut command)?;
    let total = summary.lines().find_map(|line| line.trim().strip_suffix("total"));
    let total = total.and_then(|calls| calls.trim().parse().ok());
    total.context("no total in the summary of strace")
}

/// The number that follows a label, thousands separated by commas or not.
pub(crate) fn number_after(text: &str, label: &str) -> Result<u64> {
    let rest = text.split_once(label).map(|(_, rest)| rest.trim_start());
    let number = rest.and_then(|rest| rest.split_whitespace().next());
    let number = number.and_then(|number| number.replace(',', "").parse().ok());
    number.ok_or_else(|| anyhow!("valgrind printed no number after '{label}'"))
}

/// What is wrong, a line for each.
fn compare(measured: &Costs, committed: &Costs) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, now) in measured {
        let Some(before) = committed.get(name) else {
            findings.push(format!("{name}: not in {COMMITTED}; run `cargo xtask exact --bless`"));
            continue;
        };
        if (now.instructions - before.instructions).abs() > TOLERANCE * before.instructions {
            let (now, before) = (now.instructions, before.instructions);
            findings.push(format!("{name}: {now:.1} instructions, committed {before:.1}"));
        }
        for (what, now, before) in [
            ("system calls", now.syscalls, before.syscalls),
            ("allocations", now.allocations, before.allocations),
        ] {
            if (now - before).abs() > NOISE {
                findings.push(format!("{name}: {now:.3} {what}, committed {before:.3}"));
            }
        }
    }
    findings
}

fn table(measured: &Costs, committed: &Costs) -> String {
    let mut text = format!(
        "{:28} {:>12} {:>12} {:>6} {:>9} {:>12}\n",
        "operation", "instructions", "committed", "ratio", "syscalls", "allocations"
    );
    for (name, cost) in measured {
        let before = committed.get(name).map(|cost| cost.instructions);
        let (before, ratio) = match before {
            Some(before) => (format!("{before:.1}"), format!("{:.2}", cost.instructions / before)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let Cost { instructions, syscalls, allocations } = cost;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:28} {instructions:>12.1} {before:>12} {ratio:>6} {syscalls:>9.2} {allocations:>12.2}"
        );
    }
    text.truncate(text.trim_end().len());
    text
}

/// The file of committed counts.
#[derive(Debug, PartialEq)]
struct Committed {
    compiler: String,
    costs: Costs,
}

impl Committed {
    fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {COMMITTED}; `cargo xtask exact --bless` writes it"))?;
        Self::parse(&text).with_context(|| COMMITTED.to_owned())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let compiler = table.get("rustc").and_then(Value::as_str).context("no `rustc`")?.to_owned();
        let operations = table.get("operations").and_then(Value::as_table).context("no [operations]")?;
        let costs = operations.iter().map(|(name, value)| Ok((name.clone(), parse_cost(name, value)?)));
        Ok(Self { compiler, costs: costs.collect::<Result<_>>()? })
    }
}

fn parse_cost(name: &str, value: &Value) -> Result<Cost> {
    let number = |key: &str| {
        let value = value.get(key).with_context(|| format!("operation {name} has no `{key}`"))?;
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        number.with_context(|| format!("`{key}` of {name} is {}, not a number", value.type_str()))
    };
    Ok(Cost {
        instructions: number("instructions")?,
        syscalls: number("syscalls")?,
        allocations: number("allocations")?,
    })
}

fn render(compiler: &str, costs: &Costs) -> String {
    let mut text = String::from(
        "# Per operation, written by `cargo xtask exact --bless` and checked by `cargo xtask test --only exact`.\n",
    );
    text.push_str(&format!("rustc = \"{compiler}\"\n\n[operations]\n"));
    for (name, cost) in costs {
        let Cost { instructions, syscalls, allocations } = cost;
        // Below the noise is zero, and a negative difference is noise.
        let calm = |value: f64| if value.abs() < NOISE { 0.0 } else { value };
        text.push_str(&format!(
            "{name} = {{ instructions = {instructions:.1}, syscalls = {:.2}, allocations = {:.2} }}\n",
            calm(*syscalls),
            calm(*allocations)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(list: &[(&str, f64, f64, f64)]) -> Costs {
        let cost =
            |&(_, instructions, syscalls, allocations): &_| Cost { instructions, syscalls, allocations };
        list.iter().map(|entry| (entry.0.to_owned(), cost(entry))).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let costs = costs(&[("spawn_join", 123.4, 0.0, 0.0), ("yield_64", 20.0, 2.0, 1.0)]);
        let text = render("1.95.0", &costs);
        assert_eq!(Committed::parse(&text).unwrap(), Committed { compiler: "1.95.0".to_owned(), costs });
    }

    #[test]
    fn a_bad_file_is_refused_with_the_key() {
        let error = |text: &str| Committed::parse(text).unwrap_err().to_string();
        assert_eq!(error("[operations]"), "no `rustc`");
        assert_eq!(error("rustc = '1'\n[operations]\na = {}"), "operation a has no `instructions`");
        assert_eq!(
            error("rustc = '1'\n[operations]\na = { instructions = 'few' }"),
            "`instructions` of a is string, not a number"
        );
    }

    #[test]
    fn five_percent_either_way_pass_and_more_does_not() {
        let committed = costs(&[("a", 100.0, 0.0, 0.0)]);
        for (instructions, findings) in [(95.5, 0), (104.5, 0), (94.0, 1), (106.0, 1)] {
            let measured = costs(&[("a", instructions, 0.0, 0.0)]);
            assert_eq!(compare(&measured, &committed).len(), findings, "{instructions}");
        }
    }

    #[test]
    fn one_call_or_allocation_more_is_found() {
        let committed = costs(&[("a", 100.0, 0.0, 1.0)]);
        assert_eq!(compare(&costs(&[("a", 100.0, 0.001, 1.0)]), &committed), [""; 0]);
        assert_eq!(
            compare(&costs(&[("a", 100.0, 1.0, 2.0)]), &committed),
            ["a: 1.000 system calls, committed 0.000", "a: 2.000 allocations, committed 1.000"]
        );
    }

    #[test]
    fn numbers_are_read_from_what_valgrind_prints() {
        assert_eq!(
            number_after("==1== Events    : Ir\n==1== Collected : 126649\n", "Collected :").unwrap(),
            126_649
        );
        let heap = "==1==   total heap usage: 1,204 allocs, 1,204 frees, 99 bytes allocated";
        assert_eq!(number_after(heap, "total heap usage:").unwrap(), 1204);
        assert!(number_after("", "Collected :").is_err());
    }

    #[test]
    fn a_list_of_operations_needs_counts() {
        assert_eq!(parse_list("a 10\nb 2048\n").unwrap(), [("a".to_owned(), 10), ("b".to_owned(), 2048)]);
        for bad in ["", "a", "a 0", "a ten"] {
            assert!(parse_list(bad).is_err(), "{bad:?}");
        }
    }
}
