//! House rules that rustfmt and clippy do not know: lengths of files and functions, notes to oneself, paths of the
//! machine that something was written on, tabs, banners.
//!
//! A scanner of lines suffices, as rustfmt has run before: a function ends at the first closing brace that is
//! indented as its first line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lines of a Rust file before its tests, or of a module inside of one (an example is one file, whatever its parts).
const FILE_LINES: usize = 800;

/// Lines of a function from its signature to its closing brace: a screen.
const FUNCTION_LINES: usize = 70;

/// Words and paths that have no place in a repository; split, so that this file may hold them.
const FORBIDDEN: [(&str, &str); 7] = [
    (concat!("TO", "DO"), "a note to oneself: open an issue"),
    (concat!("FIX", "ME"), "a note to oneself: open an issue"),
    (concat!("XX", "X"), "a note to oneself: open an issue"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    ("\t", "a tab"),
];

const BANNERS: [&str; 5] = ["----", "====", "****", "####", "////"];

/// What was looked at and what was found.
pub(crate) struct Report {
    /// How many files were read.
    pub(crate) files: usize,
    /// `file:line: what is wrong`, one each.
    pub(crate) findings: Vec<String>,
}

/// Checks all text of ours below `root`.
pub(crate) fn check(root: &Path) -> Result<Report> {
    let mut report = Report { files: 0, findings: Vec::new() };
    for file in files(root).into_iter().filter(|file| is_ours(file)) {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let mut found = check_text(&text);
        if name.ends_with(".rs") {
            found.extend(check_lengths(&text));
        }
        found.sort();
        report.findings.extend(found.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
        report.files += 1;
    }
    Ok(report)
}

/// All files below a directory, sorted, without build directories and git's own.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let skipped = [".git", "target"].iter().any(|name| path.ends_with(name));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => waiting.push(path),
                Ok(kind) if kind.is_file() && !skipped => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_ours(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "toml" | "md" | "sh")) || file.ends_with(".ci/run")
}

fn check_text(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut find = |what: &str| found.push((index + 1, what.to_owned()));
        FORBIDDEN.iter().filter(|(word, _)| contains_word(line, word)).for_each(|(_, what)| find(what));
        if line.ends_with([' ', '\r']) {
            find("white space at the end of the line");
        }
        let comment = line.trim_start().trim_start_matches('/');
        let is_comment = line.trim_start().starts_with("//");
        if is_comment && BANNERS.iter().any(|banner| comment.trim_start().starts_with(banner)) {
            find("a banner");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push((text.lines().count(), "no newline at the end of the file".to_owned()));
    }
    found
}

/// Whether `word` stands in the line, and not as a part of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    let is_edge = |neighbour: Option<char>| !neighbour.is_some_and(char::is_alphabetic);
    let at_edges = |start: usize| {
        is_edge(line[..start].chars().next_back()) && is_edge(line[start + word.len()..].chars().next())
    };
    let letters = word.chars().all(char::is_alphabetic);
    line.match_indices(word).any(|(start, _)| !letters || at_edges(start))
}

fn check_lengths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, lines) in parts(text) {
        if lines > FILE_LINES {
            found.push((start, format!("{lines} lines before the tests, more than {FILE_LINES}")));
        }
    }
    for function in functions(text) {
        if function.lines > FUNCTION_LINES {
            let what =
                format!("fn {} has {} lines, more than {FUNCTION_LINES}", function.name, function.lines);
            found.push((function.start, what));
        }
    }
    found
}

/// Where the file and each module written out in it begin, and how many lines of their own they have before the tests.
fn parts(text: &str) -> Vec<(usize, usize)> {
    let mut parts = vec![(1, 0)];
    let mut inside = false;
    for (index, line) in text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]")) {
        if line.starts_with("mod ") && line.ends_with('{') {
            parts.push((index + 1, 0));
            inside = true;
        }
        let part = if inside { parts.len() - 1 } else { 0 };
        parts[part].1 += 1;
        inside &= line != "}";
    }
    parts
}

#[derive(Debug, PartialEq)]
struct Function<'a> {
    name: &'a str,
    start: usize,
    lines: usize,
}

/// The functions of a formatted source file, nested ones too.
fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().copied().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indentation = &line[..line.len() - line.trim_start().len()];
        if let Some(lines) = body_end(&lines[index..], indentation) {
            found.push(Function { name, start: index + 1, lines });
        }
    }
    found
}

/// The name, if a line begins a function.
fn function_name(line: &str) -> Option<&str> {
    const QUALIFIERS: [&str; 7] =
        ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe ", "extern \"C\" "];
    let mut rest = line.trim_start();
    while let Some(next) = QUALIFIERS.iter().find_map(|qualifier| rest.strip_prefix(qualifier)) {
        rest = next;
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// How many lines the function has that begins with the first one; none if it has no body.
pub(crate) fn body_end(lines: &[&str], indentation: &str) -> Option<usize> {
    for (index, line) in lines.iter().enumerate() {
        let opened = line.ends_with('{');
        if opened {
            let is_end =
                |line: &&str| line.strip_prefix(indentation).is_some_and(|rest| rest.starts_with('}'));
            return lines[index + 1..].iter().position(is_end).map(|end| index + 1 + end + 1);
        }
        if line.ends_with('}') {
            return Some(index + 1);
        }
        if line.ends_with(';') {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_measured() {
        let text = "\
pub trait Speak {
    fn declared(&self);
    fn declared_at_length(
        &self,
    ) -> u8;
    fn provided(&self) -> u8 {
        if true {
            1
        } else {
            2
        }
    }
}

pub(crate) const unsafe fn short() {}

async fn bounded<T>(value: T)
where
    T: Send,
{
    drop(value);
}
";
        let found: Vec<_> = functions(text).iter().map(|f| (f.name, f.start, f.lines)).collect();
        assert_eq!(found, [("provided", 6, 7), ("short", 15, 1), ("bounded", 17, 6)]);
    }

    #[test]
    fn a_function_longer_than_a_screen_is_found() {
        let source = |lines: usize| format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2));
        assert_eq!(check_lengths(&source(FUNCTION_LINES)), []);
        let what = format!("fn long has {} lines, more than {FUNCTION_LINES}", FUNCTION_LINES + 1);
        assert_eq!(check_lengths(&source(FUNCTION_LINES + 1)), [(1, what)]);
    }

    #[test]
    fn tests_do_not_count_as_length_of_a_file() {
        let code = "use x;\n".repeat(FILE_LINES);
        assert_eq!(check_lengths(&format!("{code}#[cfg(test)]\nmod tests {{\n}}\n")), []);
        assert_eq!(check_lengths(&format!("{code}mod more;\n#[cfg(test)]\nmod tests {{\n}}\n")).len(), 1);
    }

    #[test]
    fn modules_in_a_file_count_on_their_own() {
        let code = "use x;\n".repeat(FILE_LINES - 2);
        let module = format!("mod part {{\n{code}}}\n");
        assert_eq!(check_lengths(&format!("{code}{module}{module}")), []);
        assert_eq!(
            parts(&format!("{code}{module}use y;\n")),
            [(1, FILE_LINES - 1), (FILE_LINES - 1, FILE_LINES)]
        );
    }

    #[test]
    fn forbidden_text_is_found_with_its_line() {
        let lines = [
            "fine",
            concat!("// TO", "DO: later"),
            concat!("path = \"/ro", "ot/x\""),
            "\tindented",
            "trailing ",
            concat!("// ----", "---- section"),
            "| a | b |",
            "mkdtemp(\"x-XXXXXX\")",
            "last",
        ];
        let found: Vec<_> = check_text(&lines.join("\n")).into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, [2, 3, 4, 5, 6, 9]);
    }
}
