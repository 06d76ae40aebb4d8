//! Running fio, and reading the one line that it prints.

use std::io;
use std::path::Path;
use std::process::Command;

/// What a run of fio came to.
pub struct Run {
    /// Operations per second.
    pub rate: f64,
    /// Bytes per second.
    pub bandwidth: f64,
}

/// Fields of its terse output, version 3, from where those of reads or of writes begin.
const READS: usize = 5;
const WRITES: usize = 46;

/// Runs a job on a file.
///
/// # Errors
/// Says what fio says.
pub fn run(file: &Path, arguments: &[&str]) -> io::Result<Run> {
    let mut command = Command::new("fio");
    command.args(["--name=job", "--output-format=terse", "--terse-version=3", "--randrepeat=0"]);
    command.arg("--filename").arg(file).args(arguments);
    let output = command.output()?;
    let (text, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let begin = if arguments.iter().any(|argument| argument.ends_with("write")) { WRITES } else { READS };
    let run = text.lines().find_map(|line| parse(line, begin)).filter(|_| output.status.success());
    run.ok_or_else(|| io::Error::other(format!("fio: {}: {text}{complaint}", output.status)))
}

fn parse(line: &str, begin: usize) -> Option<Run> {
    let fields: Vec<&str> = line.split(';').collect();
    let number = |at: usize| fields.get(begin + at)?.parse::<f64>().ok();
    (fields.first() == Some(&"3")).then_some(Run { bandwidth: number(1)? * 1024.0, rate: number(2)? })
}

/// Whether it is installed.
pub fn is_there() -> bool {
    Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success())
}
