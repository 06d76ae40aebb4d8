//! Running a command: everything it prints goes to a log file, the terminal shows a line of progress, and a
//! command that exceeds its time is killed with all of its children.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Notes SIGINT and SIGTERM, which the commands do not get themselves, as each has a process group of its own.
pub(crate) fn watch_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends xtask at once, also while it is not in `Runner`.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&INTERRUPTED))?;
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))?;
    }
    Ok(())
}

/// Whether somebody asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Runs a command on the caller's terminal, without a log.
pub(crate) fn inherit(command: &mut Command) -> Result<ExitStatus> {
    println!("$ {}", describe(command));
    command.status().with_context(|| format!("cannot run {}", describe(command)))
}

/// Runs the commands of one stage.
pub(crate) struct Runner {
    log: File,
    log_path: PathBuf,
    progress: Progress,
    deadline: Instant,
    limit: Duration,
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Stream {
    Output,
    Error,
}

impl Runner {
    /// A runner that logs to `target/xtask/NAME.log` and allows `limit` in all.
    pub(crate) fn new(target: &Path, name: &str, head: &str, limit: Duration, verbose: bool) -> Result<Self> {
        let directory = target.join("xtask");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let log_path = directory.join(format!("{name}.log"));
        let log = File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
        let progress = Progress::new(head, !verbose && std::io::stdout().is_terminal());
        Ok(Self { log, log_path, progress, deadline: Instant::now() + limit, limit, verbose })
    }

    /// Where everything printed so far is kept.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Adds a line to the log.
    pub(crate) fn note(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}")?;
        if self.verbose {
            println!("{line}");
        }
        Ok(())
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<()> {
        self.output(command).map(drop)
    }

    /// Runs a command that must succeed and returns its standard output.
    pub(crate) fn output(&mut self, command: &mut Command) -> Result<String> {
        let (status, [output, _]) = self.execute(command)?;
        expect_success(command, status)?;
        Ok(output)
    }

    /// Runs a command that must succeed and returns its standard error.
    pub(crate) fn errors(&mut self, command: &mut Command) -> Result<String> {
        let (status, [_, errors]) = self.execute(command)?;
        expect_success(command, status)?;
        Ok(errors)
    }

    /// Runs a command and returns how it ended, and its standard output.
    pub(crate) fn attempt(&mut self, command: &mut Command) -> Result<(ExitStatus, String)> {
        let (status, [output, _]) = self.execute(command)?;
        Ok((status, output))
    }

    /// Runs a command and returns how it ended, its standard output and its standard error.
    pub(crate) fn execute(&mut self, command: &mut Command) -> Result<(ExitStatus, [String; 2])> {
        let text = describe(command);
        self.note(&format!("$ {text}"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot run {text}"))?;
        let kept = self.follow(&mut child);
        if kept.is_err() {
            kill_group(&child);
        }
        let status = child.wait()?;
        Ok((status, kept?))
    }

    /// Copies what the child prints until both of its streams end.
    fn follow(&mut self, child: &mut Child) -> Result<[String; 2]> {
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().context("no stdout")?, Stream::Output, sender.clone());
        forward(child.stderr.take().context("no stderr")?, Stream::Error, sender);
        let mut kept = [String::new(), String::new()];
        let mut last = String::new();
        loop {
            match lines.recv_timeout(Duration::from_millis(200)) {
                Ok((stream, line)) => {
                    let text = &mut kept[usize::from(stream == Stream::Error)];
                    text.push_str(&line);
                    text.push('\n');
                    // Messages of cargo for programs are for xtask alone.
                    if !line.starts_with("{\"reason\":") {
                        self.note(&line)?;
                        last = line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(kept),
            }
            if !self.verbose {
                self.progress.show(&last);
            }
            if interrupted() {
                bail!("interrupted");
            }
            if Instant::now() > self.deadline {
                bail!("not finished after {} s, the limit of this stage", self.limit.as_secs());
            }
        }
    }
}

fn expect_success(command: &Command, status: ExitStatus) -> Result<()> {
    // The log has the whole command, for which a summary has no room.
    let words = std::iter::once(command.get_program()).chain(command.get_args().take(1));
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    ensure!(status.success(), "{}: {status}", words.join(" "));
    Ok(())
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

fn forward(stream: impl Read + Send + 'static, kind: Stream, sender: Sender<(Stream, String)>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send((kind, text)).is_err() {
                break;
            }
            line.clear();
        }
    });
}

fn kill_group(child: &Child) {
    let Ok(group) = i32::try_from(child.id()) else { return };
    // SAFETY: kill takes two integers and touches no memory of this process. The group is the child's own
    // (`process_group(0)`), and its number cannot have been reused, as the child has not been waited for.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// A command as one would type it, with the variables that were set for it.
fn describe(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quote(&value?.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quote(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '*', '\'', '"']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

/// One line that is rewritten on a terminal; a line every 30 seconds elsewhere.
struct Progress {
    head: String,
    started: Instant,
    shown: Instant,
    /// Whether the last line printed can be printed over.
    terminal: bool,
}

impl Progress {
    fn new(head: &str, terminal: bool) -> Self {
        let now = Instant::now();
        println!("{head} ...");
        Self { head: head.to_owned(), started: now, shown: now, terminal }
    }

    fn show(&mut self, last: &str) {
        let pause = if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(30) };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.started.elapsed().as_secs();
        let text: String =
            format!("{} ... {seconds} s  {}", self.head, last.trim()).chars().take(79).collect();
        if self.terminal {
            // Up to the line that `new` printed, and over it.
            println!("\x1b[1A\r\x1b[2K{text}");
        } else {
            println!("{text}");
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\x1b[1A\r\x1b[2K");
            // Progress is decoration: a closed standard output shows up where results are printed.
            let _ = std::io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(name: &str, limit: Duration) -> Runner {
        let directory = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        Runner::new(&directory, name, name, limit, false).unwrap()
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn streams_are_kept_apart_and_logged_together() {
        let mut runner = runner("streams", Duration::from_secs(20));
        assert_eq!(runner.output(&mut shell("echo out; echo err >&2")).unwrap(), "out\n");
        assert_eq!(runner.errors(&mut shell("echo out; echo err >&2")).unwrap(), "err\n");
        let log = std::fs::read_to_string(runner.log_path()).unwrap();
        assert_eq!(log.matches("out\n").count(), 2);
        assert!(log.starts_with("$ sh -c 'echo out; echo err >&2'\n"), "{log}");
    }

    #[test]
    fn a_failure_says_which_program_and_how_it_ended() {
        let error = runner("failure", Duration::from_secs(20)).run(&mut shell("exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "sh -c: exit status: 3");
    }

    #[test]
    fn a_command_over_its_limit_is_killed_with_its_children() {
        let started = Instant::now();
        let mut runner = runner("limit", Duration::from_millis(300));
        // The grandchild keeps the pipe open: only killing the whole group ends the wait.
        let error = runner.run(&mut shell("sleep 60 & wait")).unwrap_err();
        assert!(error.to_string().starts_with("not finished after"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
