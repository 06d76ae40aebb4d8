//! A server as a child process.

use super::{END, READY};
use crate::machine;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    spins: bool,
}

impl Server {
    /// Starts the server of echo `name`; see [`Server::launch`].
    pub fn start(name: &str, wrapper: &[String]) -> io::Result<Self> {
        let mut server = Self::launch(&["serve", name], wrapper)?;
        server.spins = super::spins(name);
        Ok(server)
    }

    /// Starts this program with these arguments, through `wrapper` (a command with its arguments) if there is one, and
    /// waits until it listens.
    pub fn launch(arguments: &[&str], wrapper: &[String]) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let core = machine::SERVER_CORE.to_string();
        command.args(arguments).args(["--core", &core]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        match line.trim().strip_prefix(READY).and_then(|address| address.parse().ok()) {
            Some(address) => Ok(Self { child, address, spins: false }),
            None => {
                let _ = child.kill();
                let output = child.wait_with_output()?;
                let errors = String::from_utf8_lossy(&output.stderr);
                Err(io::Error::other(format!("{} does not start: {}", arguments.join(" "), errors.trim())))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it between its turns, if it would take its core from the others.
    pub fn rest(&self) {
        self.signal_if_spinning(libc::SIGSTOP);
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.signal_if_spinning(libc::SIGCONT);
    }

    fn signal_if_spinning(&self, signal: libc::c_int) {
        if self.spins {
            // SAFETY: the child has not been waited for, so that the id is still its own.
            unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        }
    }

    /// Asks it to end, and gives what it wrote to standard error.
    pub fn terminate(self) -> io::Result<String> {
        TcpStream::connect(self.address)?.write_all(&[END])?;
        self.errors()
    }

    /// Ends it by a signal, and gives what it wrote to standard error, such as what callgrind prints when its program is
    /// killed.
    pub fn kill(self) -> io::Result<String> {
        // SAFETY: the child has not been waited for, so that the id is still its own.
        unsafe { libc::kill(self.pid() as libc::pid_t, libc::SIGTERM) };
        // Under valgrind the signal waits until the system call in which the server sleeps returns. If it has ended, nobody
        // listens.
        let _ = TcpStream::connect(self.address);
        self.errors()
    }

    fn errors(mut self) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not end"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors)?;
        Ok(errors)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
