//! A server of ours as a process, from its start to its end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server of ours, ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it has said since, if somebody listens.
    said: Option<JoinHandle<Vec<String>>>,
}

impl Server {
    /// Starts a program, which says on its standard output where it listens.
    pub(crate) fn run(command: &mut Command) -> Server {
        let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server says where it listens").unwrap();
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        let said = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Server { child, address, said: Some(said) }
    }

    /// One that was started otherwise.
    pub(crate) fn of(child: Child, address: SocketAddr) -> Server {
        Server { child, address, said: None }
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Sends a signal, by its name for kill(1).
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The lines that it has said since it listened, of one that has ended.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.said.take().map_or(Vec::new(), |said| said.join().unwrap())
    }

    /// Waits for its end: the exit code, or `None` if a signal ended it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
