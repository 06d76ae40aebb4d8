//! What has happened, in words.

use crate::time::Instant;
use std::fmt;

/// A record of events.
#[derive(Debug, Default)]
pub(super) struct Trace {
    first: Option<Instant>,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn add(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        let first = *self.first.get_or_insert(now);
        self.lines.push(format!("{:?} {what}", now - first));
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}
