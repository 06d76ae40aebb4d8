//! `cargo xtask works`: what works on which transport, as tests have shown it; the table in README.md.
//!
//! `xtask/works.toml` names for each feature and transport the tests that show it. The table follows from that file alone,
//! and is right as the stages see to it: one that a test is named of fails when that test is not among those that have passed.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use toml::{Table, Value};

use crate::stages::{Outcome, STAGES};
use crate::tidy;
use crate::workspace::Workspace;

/// What is claimed, from the root of the workspace.
const CLAIMS: &str = "xtask/works.toml";

/// What has the table, and what stands before and behind it there.
const DOCUMENT: &str = "README.md";
const MARKS: [&str; 2] = ["<!-- Written by `cargo xtask works --bless` -->\n", "<!-- The end of it -->\n"];

/// The columns: how a transport is named in the file of claims, and in the table.
const TRANSPORTS: [(&str, &str); 9] = [
    ("io_uring", "io_uring"),
    ("epoll", "epoll"),
    ("memory", "memory"),
    ("sim", "sim"),
    ("tap", "TAP"),
    ("packet", "packet"),
    ("xdp", "AF_XDP"),
    ("dpdk", "DPDK"),
    ("rdma", "RDMA"),
];

/// Say what works on which transport, and which tests show it.
///
/// xtask/works.toml names them. With each it is said whether it was among those that passed when its stage was last run here.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Fail if a test has not passed here, or README.md says something else
    #[arg(long, conflicts_with = "bless")]
    check: bool,
    /// Write the table into README.md
    #[arg(long)]
    bless: bool,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let features = read(&workspace.root)?;
    if options.bless {
        let path = workspace.root.join(DOCUMENT);
        let text = fs::read_to_string(&path)?;
        let (before, _, after) = split(&text)?;
        fs::write(&path, [before, &table(&features), after].concat())?;
    }
    print!("{}", table(&features));
    let mut unseen = 0;
    for feature in &features {
        println!("\n{}", feature.name);
        for ((name, _), cell) in TRANSPORTS.iter().zip(&feature.cells) {
            match cell {
                Cell::Unknown => {}
                Cell::No(why) => println!("  {name}: no: {why}"),
                Cell::Shown(claims) => {
                    for claim in claims {
                        let seen = claim.is_among(&load(&workspace.target, &claim.stage));
                        unseen += usize::from(!seen);
                        println!("  {name}: {claim}{}", if seen { "" } else { " (has not passed here)" });
                    }
                }
            }
        }
    }
    let findings = findings(&workspace)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    let is_right = findings.is_empty() && (unseen == 0 || !options.check);
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with the file or with README.md, without running anything.
pub(crate) fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let features = read(&workspace.root)?;
    let mut findings = Vec::new();
    let document = fs::read_to_string(workspace.root.join(DOCUMENT))?;
    if split(&document)?.1 != table(&features) {
        findings.push(format!("{DOCUMENT}: its table is not that of {CLAIMS}: cargo xtask works --bless"));
    }
    let mut sources = Sources { workspace, words: Vec::new() };
    for claim in features.iter().flat_map(Feature::claims) {
        if !sources.have(claim)? {
            findings.push(format!("{CLAIMS}: there is no test '{claim}'"));
        }
    }
    Ok(findings)
}

/// What a stage has shown, for `cargo xtask works` to know; it has failed if it has not shown what is claimed.
pub(crate) fn after(
    workspace: &Workspace,
    stage: &str,
    passed: &BTreeSet<String>,
    outcome: Outcome,
) -> Result<Outcome> {
    if matches!(outcome, Outcome::Skipped(_)) {
        return Ok(outcome);
    }
    let names: Vec<_> = passed.iter().map(String::as_str).collect();
    fs::write(record(&workspace.target, stage), names.join("\n"))?;
    let features = read(&workspace.root)?;
    let claims = features.iter().flat_map(Feature::claims).filter(|claim| claim.stage == stage);
    let missing: BTreeSet<_> =
        claims.filter(|claim| !claim.is_among(passed)).map(|claim| &*claim.test).collect();
    let missing: Vec<_> = missing.into_iter().collect();
    ensure!(missing.is_empty(), "{CLAIMS} names tests that have not passed: {}", missing.join(", "));
    Ok(outcome)
}

/// Where the names of a stage's tests are kept that have passed.
fn record(target: &Path, stage: &str) -> PathBuf {
    target.join("xtask").join(format!("{stage}.passed"))
}

fn load(target: &Path, stage: &str) -> BTreeSet<String> {
    // A stage that never ran here has shown nothing.
    let text = fs::read_to_string(record(target, stage)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A row.
struct Feature {
    name: String,
    /// As many as there are transports.
    cells: Vec<Cell>,
}

/// What is known of a feature on a transport.
enum Cell {
    /// No test says anything.
    Unknown,
    /// It cannot be, for this reason.
    No(String),
    /// These tests show it, all of them together.
    Shown(Vec<Claim>),
}

/// That a test shows something: `STAGE BINARY TEST`.
#[derive(Debug, PartialEq)]
struct Claim {
    stage: String,
    /// Its binary and its name.
    test: String,
}

impl Claim {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split(' ').collect();
        let [stage, binary, test] = words[..] else { bail!("'{text}' is not STAGE BINARY TEST") };
        ensure!(STAGES.iter().any(|known| known.name == stage), "'{text}': no stage is called '{stage}'");
        Ok(Self { stage: stage.to_owned(), test: format!("{binary} {test}") })
    }

    fn is_among(&self, passed: &BTreeSet<String>) -> bool {
        passed.contains(&self.test)
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.stage, self.test)
    }
}

impl Feature {
    fn parse(table: &Table) -> Result<Self> {
        let name = table.get("name").and_then(Value::as_str).context("a feature without a name")?;
        let is_known = |key: &str| key == "name" || TRANSPORTS.iter().any(|(transport, _)| *transport == key);
        if let Some(key) = table.keys().find(|key| !is_known(key)) {
            bail!("{name}: no transport is called '{key}'");
        }
        let cell = |transport: &str| {
            Cell::parse(table.get(transport)).with_context(|| format!("{name}, {transport}"))
        };
        let cells = TRANSPORTS.iter().map(|(transport, _)| cell(transport)).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), cells })
    }

    fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.cells.iter().flat_map(|cell| if let Cell::Shown(claims) = cell { &claims[..] } else { &[] })
    }
}

impl Cell {
    fn parse(value: Option<&Value>) -> Result<Self> {
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).with_context(|| format!("not a string: {value:?}"))
        };
        let tests = match value {
            None => return Ok(Self::Unknown),
            Some(Value::Array(tests)) => tests.iter().map(text).collect::<Result<_>>()?,
            Some(value) => vec![text(value)?],
        };
        if let [test] = &tests[..]
            && let Some(why) = test.strip_prefix("no: ")
        {
            return Ok(Self::No(why.to_owned()));
        }
        ensure!(!tests.is_empty(), "no test");
        Ok(Self::Shown(tests.iter().map(|test| Claim::parse(test)).collect::<Result<_>>()?))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::No(_) => "no",
            Self::Shown(_) => "yes",
        }
    }
}

fn read(root: &Path) -> Result<Vec<Feature>> {
    let text = fs::read_to_string(root.join(CLAIMS)).with_context(|| format!("cannot read {CLAIMS}"))?;
    parse(&text).context(CLAIMS)
}

fn parse(text: &str) -> Result<Vec<Feature>> {
    let table: Table = text.parse()?;
    let features = table.get("feature").and_then(Value::as_array).context("no features")?;
    let tables = features.iter().map(|feature| feature.as_table().context("a feature is no table"));
    tables.map(|table| Feature::parse(table?)).collect()
}

/// The table as Markdown has it, aligned to be read as text, too.
fn table(features: &[Feature]) -> String {
    let width = features.iter().map(|feature| feature.name.chars().count()).max().unwrap_or(0);
    let row = |name: &str, cells: &[&str]| {
        let cells: Vec<_> = TRANSPORTS
            .iter()
            .zip(cells)
            .map(|((_, title), cell)| format!("{cell:^width$}", width = title.len()))
            .collect();
        format!("| {name:width$} | {} |\n", cells.join(" | "))
    };
    let rule: Vec<_> = TRANSPORTS.iter().map(|(_, title)| format!(":{}:", "-".repeat(title.len()))).collect();
    let mut text = row("", &TRANSPORTS.map(|(_, title)| title));
    text += &format!("|{}|{}|\n", "-".repeat(width + 2), rule.join("|"));
    for feature in features {
        text += &row(&feature.name, &feature.cells.iter().map(Cell::word).collect::<Vec<_>>());
    }
    text
}

/// What is before the table in a document, the table, and what is behind it.
fn split(document: &str) -> Result<(&str, &str, &str)> {
    let missing = |mark: &str| format!("{DOCUMENT} lacks the line '{}'", mark.trim_end());
    let begin = document.find(MARKS[0]).with_context(|| missing(MARKS[0]))? + MARKS[0].len();
    let end = document[begin..].find(MARKS[1]).with_context(|| missing(MARKS[1]))? + begin;
    Ok((&document[..begin], &document[begin..end], &document[end..]))
}

/// The words in the sources of packages, read when they are asked for.
struct Sources<'a> {
    workspace: &'a Workspace,
    words: Vec<(&'a Path, HashSet<String>)>,
}

impl Sources<'_> {
    /// Whether a test can be there: macros make some, so all that is asked is that a package that has its binary has all words
    /// of its name. Whether it is there shows when its stage runs.
    fn have(&mut self, claim: &Claim) -> Result<bool> {
        let (binary, name) = claim.test.split_once(' ').context("a claim names its binary")?;
        let workspace = self.workspace;
        for package in &workspace.members {
            if package.targets.iter().any(|target| target == binary) {
                let words = self.of(&package.directory)?;
                if name.split("::").all(|part| words.contains(part)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl<'a> Sources<'a> {
    fn of(&mut self, directory: &'a Path) -> Result<&HashSet<String>> {
        if let Some(known) = self.words.iter().position(|(of, _)| *of == directory) {
            return Ok(&self.words[known].1);
        }
        let mut words = HashSet::new();
        for file in tidy::files(directory).into_iter().filter(|file| file.extension() == Some("rs".as_ref()))
        {
            let text = fs::read_to_string(&file)?;
            let is_end = |letter: char| !letter.is_alphanumeric() && letter != '_';
            words.extend(text.split(is_end).map(str::to_owned));
        }
        self.words.push((directory, words));
        Ok(&self.words.last().context("it was pushed")?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[feature]]
name = "TCP"
io_uring = "e2e transport on_io_uring::echo"
rdma = ["rdma rdma streams::echo", "rdma wire lossy"]

[[feature]]
name = "Unix sockets"
rdma = "no: they are another transport's"
"#;

    #[test]
    fn the_table_says_what_the_file_claims() {
        let rows: Vec<_> = table(&parse(TEXT).unwrap()).lines().map(str::to_owned).collect();
        assert_eq!(
            rows[2],
            "| TCP          |   yes    |       |        |     |     |        |        |      | yes  |"
        );
        assert_eq!(
            rows[3],
            "| Unix sockets |          |       |        |     |     |        |        |      |  no  |"
        );
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, expected) in [
            ("udp = \"e2e a b\"", "TCP: no transport is called 'udp'"),
            ("tap = \"e2e a\"", "'e2e a' is not STAGE BINARY TEST"),
            ("tap = \"e3e a b\"", "no stage is called 'e3e'"),
            ("tap = []", "no test"),
            ("tap = 1", "not a string: Integer(1)"),
        ] {
            let error = parse(&format!("[[feature]]\nname = \"TCP\"\n{line}\n")).err().unwrap();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }

    #[test]
    fn only_what_stands_between_the_marks_is_the_table() {
        let document = format!("before\n{}table\n{}after\n", MARKS[0], MARKS[1]);
        let (before, table, after) = split(&document).unwrap();
        assert_eq!((before.len(), table, after.len()), (7 + MARKS[0].len(), "table\n", MARKS[1].len() + 6));
        assert!(
            split("neither").unwrap_err().to_string().starts_with("README.md lacks the line '<!-- Written")
        );
    }
}
