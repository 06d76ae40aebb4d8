//! What a controller tells of by itself.
//!
//! A few requests for events are always outstanding. An event is noted in a log of the controller's, which it does not
//! mention again before that has been read.

use super::super::admin::Purpose;
use super::super::command::{Completion, Submission};
use super::super::dma::{Dma, Space};
use super::{Controller, Inner};
use demikernel_runtime::time::Instant;
use std::io;
use std::sync::Arc;

/// Requests that are outstanding at most.
const REQUESTS: usize = 4;

/// Critical warnings of the SMART log: all that there are.
const WARNINGS: u32 = 0x3f;
/// Notices that are asked for where there are such: namespaces have changed, firmware is being activated.
const NOTICES: u32 = 1 << 8 | 1 << 9;

/// How much of a log is read: all of the SMART log.
const LOG_LENGTH: u32 = 512;

/// Requests, and logs.
pub(super) struct Events {
    /// How many requests are to be outstanding.
    wanted: usize,
    /// Logs to be read.
    unread: Vec<u8>,
    log: Dma,
}

impl Events {
    pub(super) fn new(space: &Arc<Space>) -> io::Result<Events> {
        Ok(Events { wanted: 0, unread: Vec::new(), log: Dma::new(space, LOG_LENGTH as usize)? })
    }
}

impl Controller {
    /// Begins to listen, with a controller that was just brought up.
    pub(super) fn listen(&self, inner: &mut Inner, now: Instant) {
        let Some(data) = &inner.data else { return };
        inner.events.wanted = data.event_requests.min(REQUESTS);
        inner.events.unread.clear();
        let events = Submission::event_configuration(WARNINGS | data.events & NOTICES);
        if inner.admin.submit(events, Purpose::Setting, now).is_none() {
            tracing::warn!(
                name = self.name,
                "an NVMe controller tells of those events only that it tells of anyway"
            );
        }
        self.request(inner, now);
    }

    /// Deals with what admin commands have ended.
    pub(super) fn handle_events(&self, inner: &mut Inner, now: Instant) {
        while let Some((purpose, _, completion)) = inner.admin.poll() {
            match purpose {
                Purpose::Event => self.handle(inner, completion),
                Purpose::Log if completion.status.is_success() => self.read_log(inner),
                Purpose::Abort if completion.status.is_success() && completion.result & 1 == 1 => {
                    tracing::debug!(
                        name = self.name,
                        "an NVMe controller has not aborted a command that it was asked to"
                    );
                }
                _ if !completion.status.is_success() => {
                    tracing::warn!(name = self.name, ?purpose, status = %completion.status, "NVMe admin command failed");
                }
                _ => {}
            }
        }
        self.request(inner, now);
    }

    fn handle(&self, inner: &mut Inner, completion: Completion) {
        if !completion.status.is_success() {
            // To ask again would get the same answer.
            tracing::warn!(name = self.name, status = %completion.status, "an NVMe controller tells of no more events");
            inner.events.wanted = inner.events.wanted.saturating_sub(1);
            return;
        }
        let [kind, information, log, _] = completion.result.to_le_bytes();
        inner.count.events += 1;
        tracing::warn!(name = self.name, event = name(kind & 7, information), "an NVMe controller reports");
        if log != 0 && !inner.events.unread.contains(&log) {
            inner.events.unread.push(log);
        }
    }

    fn read_log(&self, inner: &Inner) {
        // SAFETY: the memory is longer, and the only command that writes it is over.
        let warnings = unsafe { inner.events.log.pointer().read_volatile() };
        tracing::debug!(name = self.name, first_byte = warnings, "the log of an NVMe event was read");
    }

    /// Has as many requests outstanding as wanted, and one log read at a time.
    fn request(&self, inner: &mut Inner, now: Instant) {
        if inner.admin.count(Purpose::Log) == 0
            && let Some(&log) = inner.events.unread.first()
        {
            let command = Submission::log_page(log, inner.events.log.iova(), LOG_LENGTH);
            if inner.admin.submit(command, Purpose::Log, now).is_some() {
                inner.events.unread.remove(0);
            }
        }
        while inner.admin.count(Purpose::Event) < inner.events.wanted {
            if inner.admin.submit(Submission::asynchronous_event(), Purpose::Event, now).is_none() {
                break;
            }
        }
    }
}

/// What has happened.
fn name(kind: u8, information: u8) -> &'static str {
    match (kind, information) {
        (0, 0) => "a write to a doorbell that is not there",
        (0, 1) => "an invalid value in a doorbell",
        (0, 2) => "a diagnostic failure",
        (0, 3) => "a persistent internal error",
        (0, 4) => "a transient internal error",
        (0, _) => "an error",
        (1, 0) => "its reliability is degraded",
        (1, 1) => "a temperature beyond its limits",
        (1, 2) => "its spare blocks are below their threshold",
        (1, _) => "its health has changed",
        (2, 0) => "its namespaces have changed",
        (2, 1) => "firmware is being activated",
        (2, _) => "a notice",
        (6, _) => "an event of its command set",
        (7, _) => "an event of its vendor's",
        _ => "an event without a name here",
    }
}
