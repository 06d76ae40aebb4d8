//! How long data may be unacknowledged, and that the peer knows of it (RFC 5482).

use demikernel_runtime::time::{Duration, Instant};

use super::{Connection, Marks};
use crate::tcp::state::State;
use crate::wire::tcp::Segment;

/// The field counts minutes, else seconds.
const MINUTES: u16 = 1 << 15;

impl Connection {
    /// How long data may be unacknowledged before the connection is given up; `None` as the configuration says. The peer is
    /// told, if the configuration wants that, and its own wish heeded no more. [rfc5482 3.1] [rfc9293 MUST-21]
    pub fn set_user_timeout(&mut self, now: Instant, timeout: Option<Duration>) {
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let rare = self.rare();
        rare.user_timeout = timeout;
        rare.user_timeout_is_ours = timeout.is_some();
        rare.user_timeout_told = None;
        rare.progress.get_or_insert(now);
        let tells = timeout.is_some() && self.shared.config().user_timeout_option;
        self.marks.set(Marks::USER_TIMEOUT, tells && self.state != State::Closed);
    }

    /// Has a segment tell our timeout, until something is acknowledged that was sent with it: options alone are not.
    /// [rfc5482 3.1-option]
    #[cold]
    pub(crate) fn tell_user_timeout(&mut self, segment: &mut Segment) {
        let (next, unacknowledged) = (self.send.next, self.send.unacknowledged);
        let rare = self.rare();
        let from = *rare.user_timeout_told.get_or_insert(next);
        let Some(timeout) = rare.user_timeout.filter(|_| !unacknowledged.is_after(from)) else {
            return self.marks.remove(Marks::USER_TIMEOUT);
        };
        segment.options.user_timeout = Some(field_of(timeout));
    }

    /// The peer says how long it will wait, so it is no use to wait for less, or for much longer. Not more than the
    /// configuration allows, for that holds memory here; and not if the user here has decided. [rfc5482 3.1-adapt]
    #[cold]
    pub(crate) fn heed_user_timeout(&mut self, now: Instant, field: u16) {
        let config = self.shared.config();
        let (least, most) = (config.user_timeout_least, config.user_timeout_most);
        if !config.user_timeout_option || field & !MINUTES == 0 {
            return;
        }
        let rare = self.rare();
        if !rare.user_timeout_is_ours {
            rare.user_timeout = Some(timeout_of(field).max(least).min(most));
            rare.progress.get_or_insert(now);
        }
    }
}

/// Seconds, or minutes if there are too many; rounded up, as nothing means no timeout.
fn field_of(timeout: Duration) -> u16 {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let most = u64::from(MINUTES - 1);
    if seconds <= most { seconds as u16 } else { MINUTES | seconds.div_ceil(60).min(most) as u16 }
}

fn timeout_of(field: u16) -> Duration {
    let count = u64::from(field & !MINUTES);
    Duration::from_secs(if field & MINUTES == 0 { count } else { 60 * count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_counts_seconds_or_minutes() {
        for (seconds, field, told) in [
            (1, 1, 1),
            (32_767, 32_767, 32_767),
            (32_768, MINUTES | 547, 32_820),
            (1 << 40, u16::MAX, 1_966_020),
        ] {
            assert_eq!(field_of(Duration::from_secs(seconds)), field);
            assert_eq!(timeout_of(field), Duration::from_secs(told));
        }
        assert_eq!(field_of(Duration::from_millis(1)), 1);
    }
}
