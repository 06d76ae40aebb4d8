//! What goes over the control socket, version 1.
//!
//! Everything is lines of UTF-8. The program begins with a [`Greeting`] in JSON. Then the client asks by a line, a
//! [`Command`], of at most [`LONGEST`] bytes, and gets one line of JSON, an [`Answer`]: an object with one key, which
//! is the answer's name. A command that makes no sense is answered by `error`, and the connection goes on; after a
//! line that is too long, or no UTF-8, it is closed.
//!
//! | command | answer |
//! |---|---|
//! | `metrics` | `metrics`: of every runtime of the process its [`Metrics`] |
//! | `prometheus` | `prometheus`: the same as Prometheus reads it, in a string |
//! | `dump [MOST]` | `dump`: of every runtime a [`Dump`] of at most so many tasks and tokens (1000) |
//! | `connections [MOST]` | `connections`: at most so many of every runtime (1000) |
//! | `capture on PATH` | `capture`: the files that were begun, one for each runtime that can capture |
//! | `capture off` | `capture`: no files |
//!
//! The path of a capture is taken as the program takes it, so it had better be absolute; a file that is there already
//! is not touched. Further runtimes have files with `.1`, `.2`, ... behind the path. A capture ends by itself at
//! [`LARGEST_CAPTURE`] bytes.
//!
//! A runtime that does not answer within [`PATIENCE`], as one of its tasks does not return, is among `silent`, with the
//! reason. Later versions may add keys and commands; a client passes over keys that it does not know. Anything else
//! changes the number in the greeting.
//!
//! ```text
//! $ socat - UNIX-CONNECT:/run/server.sock
//! {"demikernel":1,"pid":4711,"program":"server"}
//! dump 10
//! {"dump":{"runtimes":[{"core":0, ...
//! ```

use demikernel_runtime::inspect::{Connection, Dump, Metrics};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The longest command, in bytes, with the end of the line.
pub const LONGEST: usize = 4096;

/// How much of each runtime is told if the command does not say.
pub const MOST: usize = 1000;

/// How much can be asked for.
pub const LIMIT: usize = 100_000;

/// The bytes after which a capture ends.
pub const LARGEST_CAPTURE: u64 = 1 << 30;

/// How long a runtime may take to answer.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What the program says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Greeting {
    /// The version of the protocol.
    pub demikernel: u32,
    /// The number of the process.
    pub pid: u32,
    /// The program's name.
    pub program: String,
}

impl Greeting {
    /// This process's.
    pub fn new() -> Greeting {
        let program = std::env::current_exe().ok();
        let program = program.as_ref().and_then(|path| path.file_name());
        let program = program.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Greeting { demikernel: VERSION, pid: std::process::id(), program }
    }
}

impl Default for Greeting {
    fn default() -> Greeting {
        Greeting::new()
    }
}

/// What a client can ask for.
///
/// ```
/// use demikernel_inspect::protocol::Command;
///
/// assert_eq!("dump 10".parse(), Ok(Command::Dump(10)));
/// assert_eq!("capture on /tmp/a b.pcapng".parse::<Command>().unwrap().to_string(), "capture on /tmp/a b.pcapng");
/// let error = "dump all".parse::<Command>().unwrap_err().to_string();
/// assert_eq!(error, "\"all\" is no number from 1 to 100000");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Metrics of all runtimes.
    Metrics,
    /// The same as a text.
    Prometheus,
    /// Tasks and tokens, so many of each runtime.
    Dump(usize),
    /// Connections, so many of each runtime.
    Connections(usize),
    /// Begins a capture in this file, or ends the one that there is.
    Capture(Option<PathBuf>),
}

/// Why a line is no command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoCommand(String);

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoCommand {}

impl FromStr for Command {
    type Err = NoCommand;

    fn from_str(line: &str) -> Result<Command, NoCommand> {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        match (word, rest) {
            ("metrics", "") => Ok(Command::Metrics),
            ("prometheus", "") => Ok(Command::Prometheus),
            ("dump", _) => most(rest).map(Command::Dump),
            ("connections", _) => most(rest).map(Command::Connections),
            ("capture", "off") => Ok(Command::Capture(None)),
            ("capture", _) => match rest.strip_prefix("on ").map(str::trim_start) {
                Some(path) if !path.is_empty() && !path.contains('\0') => {
                    Ok(Command::Capture(Some(path.into())))
                }
                _ => Err(NoCommand("expected `capture on PATH` or `capture off`".to_owned())),
            },
            _ => {
                let all =
                    "metrics, prometheus, dump [MOST], connections [MOST], capture on PATH, capture off";
                let shown: String = word.chars().take(40).collect();
                Err(NoCommand(format!("{shown:?} is no command; there are {all}")))
            }
        }
    }
}

fn most(text: &str) -> Result<usize, NoCommand> {
    if text.is_empty() {
        return Ok(MOST);
    }
    let number = text.parse().ok().filter(|number| (1..=LIMIT).contains(number));
    let shown = || text.chars().take(40).collect::<String>();
    number.ok_or_else(|| NoCommand(format!("{:?} is no number from 1 to {LIMIT}", shown())))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Metrics => f.write_str("metrics"),
            Command::Prometheus => f.write_str("prometheus"),
            Command::Dump(most) => write!(f, "dump {most}"),
            Command::Connections(most) => write!(f, "connections {most}"),
            Command::Capture(Some(path)) => write!(f, "capture on {}", path.display()),
            Command::Capture(None) => f.write_str("capture off"),
        }
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// To `metrics`.
    Metrics(Of<Metrics>),
    /// To `prometheus`.
    Prometheus(String),
    /// To `dump`.
    Dump(Of<Dump>),
    /// To `connections`.
    Connections(Of<Vec<Connection>>),
    /// To `capture`: the files.
    Capture(Vec<PathBuf>),
    /// Why there is no answer.
    Error(String),
}

/// Of every runtime, and why others have told nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Of<T> {
    /// In the order in which the runtimes were made.
    pub runtimes: Vec<T>,
    /// One reason for each runtime that has not answered.
    pub silent: Vec<String>,
}
