//! `cargo xtask rfc`: which requirements of the RFCs the crate `net` obeys, and which of them a test shows.
//!
//! A table `net/rfc/rfcNNNN.toml` says in our words what an RFC requires. A tag in the sources says where: in
//! brackets its number and an id of that table. In code it counts where it stands in a comment, and in tests anywhere,
//! as the rows of their tables have tags in their names.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use toml::{Table, Value};

use crate::stages::{Job, Outcome};
use crate::tidy;
use crate::workspace::Workspace;

/// What is scanned, from the root of the workspace.
pub(crate) const SOURCES: &str = "net";

/// The tables, from the root of the workspace.
const TABLES: &str = "net/rfc";

/// Say for each RFC how many of its requirements the crate `net` implements and tests.
///
/// The requirements are in net/rfc/rfcNNNN.toml. A tag in a comment of code, such as `[rfc9293 MUST-13]`, implements
/// one, and a tag in a test tests it. A tag that no table knows is an error.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// List the requirements that are not implemented or not tested
    #[arg(long)]
    missing: bool,
    /// Only these RFCs, by number
    #[arg(value_name = "RFC", value_parser = parse_number)]
    rfcs: Vec<u32>,
}

/// The subcommand.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut report = check(&Workspace::find()?.root)?;
    if let Some(number) = options.rfcs.iter().find(|number| report.find(**number).is_none()) {
        let known: Vec<_> = report.rfcs.iter().map(|rfc| rfc.number.to_string()).collect();
        bail!("no table {TABLES}/rfc{number}.toml; there are {}", known.join(", "));
    }
    if !options.rfcs.is_empty() {
        report.rfcs.retain(|rfc| options.rfcs.contains(&rfc.number));
        let asked: Vec<_> = options.rfcs.iter().map(|number| format!("[rfc{number} ")).collect();
        report.findings.retain(|finding| asked.iter().any(|tag| finding.contains(tag)));
    }
    print!("{}", report.table());
    if options.missing {
        print!("\n{}", report.missing());
    }
    report.findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The test stage: every tag is known, every table is right.
pub(crate) fn stage(job: &mut Job<'_>) -> Result<Outcome> {
    let report = check(&job.workspace.root)?;
    job.runner.note(&report.table())?;
    for finding in &report.findings {
        job.runner.note(finding)?;
    }
    ensure!(report.findings.is_empty(), "{} findings", report.findings.len());
    let [must, ..] = Level::ALL.map(|level| report.rfcs.iter().map(|rfc| rfc.count(level)).sum::<Count>());
    let Count { known, implemented, tested } = must;
    Ok(Outcome::Passed(format!("of {known} MUST {implemented} implemented, {tested} tested")))
}

fn parse_number(text: &str) -> Result<u32> {
    let digits = text.get(..3).filter(|start| start.eq_ignore_ascii_case("rfc")).map_or(text, |_| &text[3..]);
    digits.parse().map_err(|_| anyhow!("expected the number of an RFC, such as 9293"))
}

/// Reads the tables, and the sources for what they have of them.
fn check(root: &Path) -> Result<Report> {
    let mut report = Report::default();
    for file in tidy::files(&root.join(TABLES)) {
        let name = relative(root, &file);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        report.rfcs.push(Rfc::parse(&file, &text).with_context(|| name)?);
    }
    report.rfcs.sort_by_key(|rfc| rfc.number);
    let mut sources = Vec::new();
    for file in
        tidy::files(&root.join(SOURCES)).into_iter().filter(|file| file.extension() == Some("rs".as_ref()))
    {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        sources.push((file, text));
    }
    let only_tests: BTreeSet<_> = sources.iter().flat_map(|(file, text)| test_modules(file, text)).collect();
    for (file, text) in &sources {
        let relative_path = file.strip_prefix(root).unwrap_or(file);
        let declared = file.ancestors().any(|part| only_tests.contains(part));
        let place = if declared { Place::Test } else { place_of(relative_path) };
        let name = relative(root, file);
        tags(text, place).iter().for_each(|found| report.take(&name, found));
    }
    Ok(report)
}

fn relative(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).display().to_string()
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Code,
    Test,
    /// Benchmarks and examples show nothing, and are not the stack.
    Neither,
}

fn place_of(path: &Path) -> Place {
    let has = |name: &str| path.components().any(|part| part.as_os_str() == name);
    match () {
        () if has("tests") || has("tests.rs") || has("fuzz") => Place::Test,
        () if has("src") => Place::Code,
        () => Place::Neither,
    }
}

/// The files, and directories with more of them, of modules that are declared in this file for tests alone.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let directory = match file.file_stem() {
        Some(stem) if !["mod", "lib", "main"].iter().any(|root| *stem == **root) => file.with_extension(""),
        _ => file.with_file_name(""),
    };
    let marks = test_lines(text);
    let lines = text.lines().zip(marks).filter(|(_, only_tests)| *only_tests);
    let declared = lines.filter_map(|(line, _)| {
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.flat_map(|name| [directory.join(name), directory.join(format!("{name}.rs"))]).collect()
}

/// For each line of a formatted source file, whether it belongs to something that only tests have.
fn test_lines(text: &str) -> Vec<bool> {
    let lines: Vec<_> = text.lines().collect();
    let mut marks = vec![false; lines.len()];
    for (index, line) in lines.iter().enumerate() {
        let attribute = line.trim_start();
        if attribute.starts_with("#[cfg(test)]") || attribute.starts_with("#[cfg(all(test,") {
            let indentation = &line[..line.len() - attribute.len()];
            marks[index..index + item_lines(&lines[index..], indentation)].fill(true);
        }
    }
    marks
}

/// How many lines an item has, with the attributes with which it begins.
fn item_lines(lines: &[&str], indentation: &str) -> usize {
    let is_attribute = |line: &&str| line.trim_start().starts_with(['#', '/']);
    let attributes = lines.iter().take_while(|line| is_attribute(line)).count();
    let item = &lines[attributes..];
    // A parameter is indented further than its function; a field stands alone.
    let is_field = |line: &str| {
        line.ends_with(',') && !line.get(indentation.len()..).is_some_and(|rest| rest.starts_with(' '))
    };
    let length = match item.iter().position(|line| line.ends_with([';', '{', '}']) || is_field(line)) {
        Some(index) if item[index].ends_with([';', ',']) => index + 1,
        Some(_) => tidy::body_end(item, indentation).unwrap_or(item.len()),
        None => item.len(),
    };
    attributes + length
}

/// What looks like a tag.
#[derive(Debug, PartialEq)]
struct Found<'a> {
    line: usize,
    is_test: bool,
    /// All within the brackets.
    text: &'a str,
}

impl Found<'_> {
    fn parse(&self) -> Option<(u32, &str)> {
        let (number, id) = self.text.strip_prefix("rfc")?.split_once(' ')?;
        let one_word = !id.is_empty() && !id.contains(char::is_whitespace);
        Some((number.parse().ok()?, id)).filter(|_| one_word)
    }
}

fn tags(text: &str, place: Place) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    for (index, (line, only_tests)) in text.lines().zip(test_lines(text)).enumerate() {
        let is_test = place == Place::Test || only_tests;
        for (start, opening) in line.match_indices("[rfc") {
            let inside = &line[start + 1..];
            let is_tag = inside[opening.len() - 1..].starts_with(|c: char| c.is_ascii_digit());
            let counts = is_test || place == Place::Code && line[..start].contains("//");
            if is_tag && counts {
                let end = inside.find(']').unwrap_or(inside.len());
                found.push(Found { line: index + 1, is_test, text: &inside[..end] });
            }
        }
    }
    found
}

/// All tables, and what the sources have of them.
#[derive(Debug, Default)]
struct Report {
    rfcs: Vec<Rfc>,
    /// `file:line: what is wrong`, one each.
    findings: Vec<String>,
}

impl Report {
    fn find(&self, number: u32) -> Option<usize> {
        self.rfcs.binary_search_by_key(&number, |rfc| rfc.number).ok()
    }

    fn take(&mut self, file: &str, found: &Found<'_>) {
        if let Err(what) = self.count(found) {
            self.findings.push(format!("{file}:{}: {what}", found.line));
        }
    }

    fn count(&mut self, found: &Found<'_>) -> Result<()> {
        let tag = found.text;
        let (number, id) = found.parse().with_context(|| format!("[{tag}] is not an RFC and one id"))?;
        let index =
            self.find(number).with_context(|| format!("[{tag}]: there is no {TABLES}/rfc{number}.toml"))?;
        let requirement = self.rfcs[index].requirements.iter_mut().find(|requirement| requirement.id == id);
        let requirement =
            requirement.with_context(|| format!("[{tag}]: {TABLES}/rfc{number}.toml has no \"{id}\""))?;
        requirement.implemented |= !found.is_test;
        requirement.tested |= found.is_test;
        Ok(())
    }

    fn table(&self) -> String {
        let mut text = format!("{:8}", "");
        for level in Level::ALL {
            let _ = write!(text, " {:>6} {:>12} {:>7}", level.name(), "implemented", "tested");
        }
        text.push('\n');
        for rfc in &self.rfcs {
            let _ = write!(text, "rfc{:<5}", rfc.number);
            Level::ALL.iter().for_each(|level| rfc.count(*level).write(&mut text));
            let _ = writeln!(text, "  {}", rfc.title);
        }
        let _ = write!(text, "{:8}", "all");
        for level in Level::ALL {
            self.rfcs.iter().map(|rfc| rfc.count(level)).sum::<Count>().write(&mut text);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    fn missing(&self) -> String {
        let mut text = String::new();
        for rfc in &self.rfcs {
            for requirement in rfc.requirements.iter().filter(|requirement| requirement.lacks().is_some()) {
                let Requirement { id, level, section, text: what, .. } = requirement;
                let lacks = requirement.lacks().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "rfc{} {id}, {} of section {section}, {lacks}: {what}",
                    rfc.number,
                    level.name()
                );
            }
        }
        text
    }
}

/// The table of one RFC.
#[derive(Debug, PartialEq)]
struct Rfc {
    number: u32,
    title: String,
    requirements: Vec<Requirement>,
}

#[derive(Debug, PartialEq)]
struct Requirement {
    id: String,
    level: Level,
    section: String,
    text: String,
    implemented: bool,
    tested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Must,
    Should,
    May,
}

impl Level {
    const ALL: [Level; 3] = [Level::Must, Level::Should, Level::May];

    fn name(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
            Level::May => "MAY",
        }
    }
}

impl Rfc {
    /// The title is what the comment at the beginning says behind the number.
    fn parse(file: &Path, text: &str) -> Result<Self> {
        let stem = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = stem.strip_prefix("rfc").and_then(|rest| rest.strip_suffix(".toml")?.parse().ok());
        let number = number.with_context(|| format!("{stem} is not called rfcNNNN.toml"))?;
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        let title = title.split_once(": ").map_or(title, |(_, title)| title).trim_end_matches('.');
        let table: Table = text.parse()?;
        if let Some(key) = table.keys().find(|key| *key != "requirement") {
            bail!("unknown key `{key}`, expected [[requirement]]");
        }
        let list = table.get("requirement").and_then(Value::as_array).context("no [[requirement]]")?;
        let requirements = list.iter().map(Requirement::parse).collect::<Result<Vec<_>>>()?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = requirements.iter().find(|requirement| !ids.insert(&requirement.id)) {
            bail!("\"{}\" is there twice", twice.id);
        }
        Ok(Self { number, title: title.to_owned(), requirements })
    }

    fn count(&self, level: Level) -> Count {
        let of_level = self.requirements.iter().filter(|requirement| requirement.level == level);
        let count = |requirement: &Requirement| Count {
            known: 1,
            implemented: requirement.implemented.into(),
            tested: requirement.tested.into(),
        };
        of_level.map(count).sum()
    }
}

impl Requirement {
    fn parse(value: &Value) -> Result<Self> {
        const KEYS: [&str; 4] = ["id", "level", "section", "text"];
        let table = value.as_table().context("a requirement is not a table")?;
        let id = table.get("id").and_then(Value::as_str).context("a requirement has no `id`")?;
        ensure!(
            !id.is_empty() && !id.contains(|c: char| c.is_whitespace() || c == ']'),
            "id {id:?} is not a word that a tag can hold"
        );
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&&***key)) {
            bail!("unknown key `{key}` of \"{id}\", expected {}", KEYS.join(", "));
        }
        let read = |key: &str| {
            let text = table.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned).with_context(|| format!("\"{id}\" has no `{key}`"))
        };
        let level = read("level")?;
        let level = Level::ALL
            .into_iter()
            .find(|known| known.name() == level)
            .with_context(|| format!("the level of \"{id}\" is \"{level}\", expected MUST, SHOULD or MAY"))?;
        let (section, text) = (read("section")?, read("text")?);
        Ok(Self { id: id.to_owned(), level, section, text, implemented: false, tested: false })
    }

    fn lacks(&self) -> Option<&'static str> {
        match (self.implemented, self.tested) {
            (true, true) => None,
            (true, false) => Some("not tested"),
            (false, true) => Some("not implemented"),
            (false, false) => Some("neither implemented nor tested"),
        }
    }
}

/// How many requirements there are of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    known: usize,
    implemented: usize,
    tested: usize,
}

impl Count {
    fn write(self, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = if self.known == 0 {
            write!(text, " {:>6} {:>12} {:>7}", "-", "", "")
        } else {
            write!(text, " {:>6} {:>12} {:>7}", self.known, self.implemented, self.tested)
        };
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::default(), |sum, count| Count {
            known: sum.known + count.known,
            implemented: sum.implemented + count.implemented,
            tested: sum.tested + count.tested,
        })
    }
}

#[cfg(test)]
mod tests;
