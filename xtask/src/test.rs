//! `cargo xtask test`: chooses stages, runs them, prints the summary.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{Runner, interrupted};
use crate::setup::{self, Tool};
use crate::stages::{Job, Outcome, STAGES, Stage};
use crate::works;
use crate::workspace::Workspace;

/// Lines of a failed stage's log that are shown; all of it stays in the file.
const SHOWN: usize = 150;

/// Run the test stages, after installing the programs they need.
///
/// Each stage is timed and its output kept in target/xtask/STAGE.log; of a failed stage the end is shown. The last
/// line is the sum: N passed, N failed, N skipped. The exit status is 0 if none failed.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Count a stage that cannot run here as failed, and let no single test skip itself
    #[arg(long)]
    require_all: bool,
    /// Run only these stages (names separated by commas; see --list)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these stages out
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    except: Vec<String>,
    /// Name the stages and do nothing
    #[arg(long)]
    list: bool,
    /// Show all that the stages print, as it comes
    #[arg(long, short)]
    verbose: bool,
    /// How long the soak lasts
    #[arg(long, value_name = "N", default_value_t = 10)]
    soak_seconds: u64,
}

impl Options {
    /// The options for exactly these stages.
    pub(crate) fn only(stages: &[&str], verbose: bool) -> Self {
        Self {
            require_all: true,
            only: stages.iter().map(|&name| name.to_owned()).collect(),
            except: Vec::new(),
            list: false,
            verbose,
            soak_seconds: 10,
        }
    }

    fn choose<'a>(&self, stages: &[&'a Stage]) -> Result<Vec<&'a Stage>> {
        for name in self.only.iter().chain(&self.except) {
            if !stages.iter().any(|stage| stage.name == name) {
                let names: Vec<_> = stages.iter().map(|stage| stage.name).collect();
                bail!("no stage is called '{name}'; there are {}", names.join(", "));
            }
        }
        let named = |list: &[String], stage: &Stage| list.iter().any(|name| name == stage.name);
        let wanted = |stage: &&&Stage| self.only.is_empty() || named(&self.only, stage);
        Ok(stages.iter().filter(wanted).filter(|stage| !named(&self.except, stage)).copied().collect())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

struct Row {
    name: &'static str,
    verdict: Verdict,
    time: Duration,
    note: String,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let here: Vec<_> = STAGES.iter().filter(|stage| (stage.applies)(&workspace)).collect();
    if options.list {
        for stage in here {
            println!("{:12} {}", stage.name, stage.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = options.choose(&here)?;
    let tools: Vec<&Tool> = chosen.iter().flat_map(|stage| stage.needs).copied().collect();
    if let Err(error) = setup::install(&tools) {
        // The stages that need the missing program say so themselves; the others can run.
        eprintln!("warning: {error:#}");
    }
    let mut rows = Vec::new();
    for (index, stage) in chosen.iter().enumerate() {
        rows.push(run_stage(&workspace, options, stage, &format!("[{}/{}]", index + 1, chosen.len()))?);
        if interrupted() {
            println!("interrupted");
            break;
        }
    }
    summarise(&rows);
    let failed = interrupted() || rows.iter().any(|row| row.verdict == Verdict::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_stage(workspace: &Workspace, options: &Options, stage: &Stage, position: &str) -> Result<Row> {
    let head = format!("{position} {}", stage.name);
    let started = Instant::now();
    let runner = Runner::new(
        &workspace.target,
        stage.name,
        &head,
        stage.limit(options.soak_seconds),
        options.verbose,
    )?;
    let log = runner.log_path().to_path_buf();
    let (require_all, soak_seconds) = (options.require_all, options.soak_seconds);
    let mut job = Job { workspace, runner, require_all, soak_seconds, passed: BTreeSet::new() };
    let result = match stage.needs.iter().find_map(|tool| tool.missing()) {
        Some(reason) => Ok(Outcome::Skipped(reason)),
        None => (stage.run)(&mut job),
    };
    let result = result.and_then(|outcome| works::after(workspace, stage.name, &job.passed, outcome));
    // Takes its line of progress away, which the line with the result replaces.
    drop(job);
    let (verdict, note) = match result {
        Ok(Outcome::Passed(note)) => (Verdict::Passed, note),
        Ok(Outcome::Skipped(reason)) if require_all => (Verdict::Failed, reason),
        Ok(Outcome::Skipped(reason)) => (Verdict::Skipped, reason),
        Err(error) => (Verdict::Failed, format!("{error:#}")),
    };
    if verdict == Verdict::Failed && !options.verbose {
        show_end(&log);
    }
    let row = Row { name: stage.name, verdict, time: started.elapsed(), note };
    println!("{position} {}", line(&row));
    Ok(row)
}

fn show_end(log: &Path) {
    let Ok(text) = fs::read(log) else { return };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let start = lines.len().saturating_sub(SHOWN);
    if start > 0 {
        println!("(the last {SHOWN} of {} lines of {})", lines.len(), log.display());
    }
    for line in &lines[start..] {
        println!("{line}");
    }
}

fn line(row: &Row) -> String {
    let text =
        format!("{:12} {:8} {:6.1} s  {}", row.name, row.verdict.word(), row.time.as_secs_f64(), row.note);
    text.trim_end().to_owned()
}

fn summarise(rows: &[Row]) {
    println!();
    for row in rows {
        println!("{}", line(row));
    }
    let total: Duration = rows.iter().map(|row| row.time).sum();
    println!("{:12} {:8} {:6.1} s", "all", "", total.as_secs_f64());
    println!("{}", closing_line(rows));
}

/// The last line of a run, in the form that CI looks for.
fn closing_line(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let [passed, failed, skipped] = [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(count);
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict) -> Row {
        Row { name: "fmt", verdict, time: Duration::from_millis(1250), note: String::new() }
    }

    #[test]
    fn the_closing_line_counts_verdicts() {
        let rows = [Verdict::Passed, Verdict::Failed, Verdict::Passed, Verdict::Skipped].map(row);
        assert_eq!(closing_line(&rows), "2 passed, 1 failed, 1 skipped");
        assert_eq!(closing_line(&[]), "0 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn stages_are_chosen_in_the_order_of_the_table() {
        let stages: Vec<_> = STAGES.iter().collect();
        let names = |options: &Options| {
            options.choose(&stages).unwrap().iter().map(|stage| stage.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&Options::only(&["clippy", "fmt"], false)), ["fmt", "clippy"]);
        let mut options = Options::only(&[], false);
        options.except = vec!["fmt".to_owned()];
        assert_eq!(names(&options).len(), STAGES.len() - 1);
    }

    #[test]
    fn an_unknown_stage_is_refused_with_the_names_that_exist() {
        let stages: Vec<_> = STAGES.iter().collect();
        let error = Options::only(&["clipy"], false).choose(&stages).err().unwrap().to_string();
        assert!(error.starts_with("no stage is called 'clipy'; there are fmt, "), "{error}");
    }

    #[test]
    fn a_row_shows_name_verdict_time_and_note() {
        let mut row = row(Verdict::Failed);
        assert_eq!(line(&row), "fmt          FAILED      1.2 s");
        row.note = "3 findings".to_owned();
        assert_eq!(line(&row), "fmt          FAILED      1.2 s  3 findings");
    }
}
