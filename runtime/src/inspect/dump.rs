//! Tasks and tokens, as they wait.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Every task of a runtime, and every token that no task is known to wait for. [Displayed](fmt::Display), it is a
/// text for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Dump {
    /// Which of the program's cores it is.
    pub core: usize,
    /// Which of the process's runtimes it is.
    pub runtime: u32,
    /// What the future that was given to `block_on` waits for, if there is one.
    pub main: Option<Vec<Token>>,
    /// The tasks, in the order in which they were spawned.
    pub tasks: Vec<Task>,
    /// Tokens that no task is known to wait for: nobody has polled them, or a combinator has that brings a waker
    /// of its own.
    pub others: Vec<Token>,
    /// Tasks and tokens that there are besides, but were too many.
    pub omitted: usize,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Task {
    /// Its number among all operations of the runtime, in the order in which they were started.
    pub id: u32,
    /// Its name, if it was [given](crate::JoinHandle::named) one.
    pub name: Option<String>,
    /// The file, line and column that spawned it.
    pub spawned: String,
    /// The type of its future.
    pub future: Cow<'static, str>,
    /// How far it is.
    pub progress: Progress,
    /// The tokens that will wake it.
    pub waits_for: Vec<Token>,
}

/// How far a task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Progress {
    /// It will be polled.
    Ready,
    /// It waits: for its tokens, or, if there are none, for somebody who has its waker, such as a channel.
    #[default]
    Waiting,
    /// It has ended, and its handle was not awaited yet.
    Ended,
}

/// An operation under way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Token {
    /// Its number among all operations of the runtime.
    pub id: u32,
    /// What it is.
    pub kind: TokenKind,
    /// The device that does it, if it said so.
    pub device: Option<Cow<'static, str>>,
    /// What the device says it does.
    pub what: Option<String>,
    /// The type of the result.
    pub result: Option<Cow<'static, str>>,
    /// For how long it has been under way, to the turn of the loop.
    pub since: Option<Duration>,
    /// In how much time it is due, if it is a timer.
    pub due: Option<Duration>,
    /// The task that is waited for, if it is a join.
    pub task: Option<u32>,
    /// Its token was dropped; the device has not given it up yet.
    pub cancelled: bool,
}

/// What a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenKind {
    /// Something that a device or a queue does.
    #[default]
    Operation,
    /// The passing of time.
    Timer,
    /// The end of a task.
    Join,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "core {} (runtime {}): {} tasks", self.core, self.runtime, self.tasks.len())?;
        if let Some(tokens) = &self.main {
            writeln!(f, "  main")?;
            write_tokens(f, tokens)?;
        }
        for task in &self.tasks {
            write!(f, "  task {}", task.id)?;
            if let Some(name) = &task.name {
                write!(f, " {name:?}")?;
            }
            let progress = match task.progress {
                Progress::Ready => "ready",
                Progress::Waiting if task.waits_for.is_empty() => "waits for its waker",
                Progress::Waiting => "waits",
                Progress::Ended => "has ended",
            };
            writeln!(f, " {progress}, spawned at {}: {}", task.spawned, task.future)?;
            write_tokens(f, &task.waits_for)?;
        }
        if !self.others.is_empty() {
            writeln!(f, "  tokens of no known task")?;
            write_tokens(f, &self.others)?;
        }
        match self.omitted {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

fn write_tokens(f: &mut fmt::Formatter<'_>, tokens: &[Token]) -> fmt::Result {
    tokens.iter().try_for_each(|token| writeln!(f, "    {token}"))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.task) {
            (TokenKind::Timer, _) => write!(f, "timer {}", self.id)?,
            (TokenKind::Join, Some(task)) => write!(f, "end of task {task}")?,
            (TokenKind::Join, None) => write!(f, "end of a task")?,
            (TokenKind::Operation, _) => write!(f, "operation {}", self.id)?,
        }
        if let Some(due) = self.due {
            write!(f, ", due in {due:.1?}")?;
        }
        match (&self.device, &self.what) {
            (Some(device), Some(what)) => write!(f, ", {device}: {what}")?,
            (Some(device), None) => write!(f, ", {device}")?,
            _ => {}
        }
        if let Some(result) = &self.result {
            write!(f, " -> {result}")?;
        }
        if let Some(since) = self.since {
            write!(f, ", for {since:.1?}")?;
        }
        if self.cancelled { f.write_str(", cancelled") } else { Ok(()) }
    }
}
