//! Child processes that end by themselves, within a limit.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a child left.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// An error with the last line of standard error, unless the child succeeded.
    pub fn check(self, what: &str) -> io::Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let reason = self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
        Err(io::Error::other(format!("{what}: {}: {reason}", self.status)))
    }
}

/// Runs a command to its end; kills it when `limit` has passed.
pub fn output(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            break child.wait()?;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |pipe: thread::JoinHandle<String>| pipe.join().expect("reading does not panic");
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = vec![];
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
