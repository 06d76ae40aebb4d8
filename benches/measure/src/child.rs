//! Child processes: those that end by themselves, within a limit, and servers, which are killed.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
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

/// A process that serves until this is dropped.
pub struct Server {
    child: Child,
    /// The first line that it printed.
    pub ready: String,
}

impl Server {
    /// Starts a server, and waits for its first line; an error with the last line of standard error if none comes within
    /// `limit`.
    pub fn start(command: &mut Command, limit: Duration) -> io::Result<Server> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, line) = mpsc::channel();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let errors = collect(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            if let Some(Ok(line)) = lines.next() {
                // Nobody listens when the limit has passed.
                let _ = sender.send(line);
            }
            // What it says later is read, lest it waits for that.
            lines.for_each(drop);
        });
        let mut server = Server { child, ready: String::new() };
        match line.recv_timeout(limit) {
            Ok(line) => {
                server.ready = line;
                Ok(server)
            }
            Err(reason) => {
                drop(server);
                let errors = errors.join().expect("reading does not panic");
                let last = errors.lines().rev().find(|line| !line.trim().is_empty());
                let silent = match reason {
                    mpsc::RecvTimeoutError::Timeout => "the server does not say that it is ready",
                    mpsc::RecvTimeoutError::Disconnected => "the server has ended",
                };
                Err(io::Error::other(last.unwrap_or(silent).to_owned()))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_server_is_ready_with_its_first_line_and_says_why_it_is_not() {
        let server =
            Server::start(&mut shell("echo ready 7; exec sleep 60"), Duration::from_secs(20)).unwrap();
        assert_eq!(server.ready, "ready 7");
        let error =
            Server::start(&mut shell("echo no such device >&2"), Duration::from_secs(20)).err().unwrap();
        assert_eq!(error.to_string(), "no such device");
        let error = Server::start(&mut shell("exec sleep 60"), Duration::from_millis(100)).err().unwrap();
        assert!(error.to_string().contains("does not say"), "{error}");
    }

    #[test]
    fn a_child_over_its_limit_is_killed() {
        let output = output(&mut shell("exec sleep 60"), Duration::from_millis(100)).unwrap();
        assert!(output.check("sleep").is_err());
    }
}
