//! The table: a row for each figure, with its references, its bar, and whether that is met.

use std::fmt::Write;

/// A figure beside what it is compared with.
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours.
    pub figure: String,
    /// What it is compared with.
    pub references: String,
    /// What there is to reach, in words, and whether it has been reached.
    pub bar: Option<(String, bool)>,
}

const HEADER: [&str; 5] = ["figure", "demikernel", "references", "bar", "met"];

/// The table as Markdown, its columns aligned.
pub fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let (bar, met) = match &row.bar {
            Some((bar, met)) => (bar.clone(), if *met { "yes" } else { "no" }),
            None => (String::new(), ""),
        };
        [row.name.clone(), row.figure.clone(), row.references.clone(), bar, met.to_owned()]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            write!(text, "| {cell:width$} ").expect("a string takes all");
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

/// A number of something per second.
pub fn rate(value: f64) -> String {
    match value {
        10_000.0.. => format!("{:.1} k/s", value / 1e3),
        _ => format!("{value:.0}/s"),
    }
}

/// A time in seconds.
pub fn time(seconds: f64) -> String {
    match seconds * 1e6 {
        10_000.0.. => format!("{:.1} ms", seconds * 1e3),
        1000.0.. => format!("{:.2} ms", seconds * 1e3),
        micros => format!("{micros:.0} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_bars_judged() {
        let row = |name: &str, bar| Row {
            name: name.to_owned(),
            figure: rate(12_345.0),
            references: time(0.0042),
            bar,
        };
        let table = render(&[row("a", None), row("longer", Some((">= 1".to_owned(), false)))]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
        assert_eq!(lines[3], "| longer | 12.3 k/s   | 4.20 ms    | >= 1 | no  |");
    }
}
