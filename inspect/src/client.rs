//! The other end of the control socket.

use crate::protocol::{Answer, Command, Greeting, Of, VERSION};
use demikernel_runtime::inspect::{Connection, Dump, Metrics};
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest answer that is taken, in bytes: what the other process says is not trusted either.
const LONGEST_ANSWER: u64 = 256 << 20;

/// How long a program may take to answer: longer than each of many cores may.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a running program.
#[derive(Debug)]
pub struct Client {
    input: BufReader<UnixStream>,
    greeting: Greeting,
}

impl Client {
    /// Connects to the control socket of a program.
    ///
    /// # Errors
    /// Those of connecting; `InvalidData` if there is another protocol at the other end, or another version of it.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut input = BufReader::new(stream);
        let greeting: Greeting = receive(&mut input)?;
        if greeting.demikernel != VERSION {
            let other = greeting.demikernel;
            return Err(invalid(format!("the program speaks version {other}, and this version {VERSION}")));
        }
        Ok(Client { input, greeting })
    }

    /// What the program has said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks for anything.
    ///
    /// # Errors
    /// Those of the socket, and of kind `Other` what the program says is wrong.
    pub fn ask(&mut self, command: &Command) -> io::Result<Answer> {
        let line = format!("{command}\n");
        self.input.get_mut().write_all(line.as_bytes())?;
        match receive(&mut self.input)? {
            Answer::Error(error) => Err(io::Error::other(error)),
            answer => Ok(answer),
        }
    }

    /// The metrics of all runtimes.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn metrics(&mut self) -> io::Result<Of<Metrics>> {
        match self.ask(&Command::Metrics)? {
            Answer::Metrics(metrics) => Ok(metrics),
            other => Err(unexpected(&other)),
        }
    }

    /// The tasks and tokens of all runtimes, at most so many of each.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn dump(&mut self, most: usize) -> io::Result<Of<Dump>> {
        match self.ask(&Command::Dump(most))? {
            Answer::Dump(dump) => Ok(dump),
            other => Err(unexpected(&other)),
        }
    }

    /// The connections of all runtimes, at most so many of each.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn connections(&mut self, most: usize) -> io::Result<Of<Vec<Connection>>> {
        match self.ask(&Command::Connections(most))? {
            Answer::Connections(connections) => Ok(connections),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins captures, or ends them. Gives the files.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn capture(&mut self, path: Option<PathBuf>) -> io::Result<Vec<PathBuf>> {
        match self.ask(&Command::Capture(path))? {
            Answer::Capture(files) => Ok(files),
            other => Err(unexpected(&other)),
        }
    }
}

fn receive<T: DeserializeOwned>(input: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    input.take(LONGEST_ANSWER).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A program that has enough clients says so in place of its greeting.
    serde_json::from_slice(&line).map_err(|error| match serde_json::from_slice(&line) {
        Ok(Answer::Error(text)) => io::Error::other(text),
        _ => invalid(format!("not what a demikernel program says: {error}")),
    })
}

fn unexpected(answer: &Answer) -> io::Error {
    let text: String = format!("{answer:?}").chars().take(80).collect();
    invalid(format!("the answer is to something else: {text}"))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
