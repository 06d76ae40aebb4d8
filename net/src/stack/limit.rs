//! [`RateLimit`]: so many a second, and some at once.

use demikernel_runtime::time::Instant;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    /// Tokens that come in a second; as many as there can be at once.
    rate: u32,
    tokens: u32,
    filled: Instant,
}

impl RateLimit {
    pub(crate) const fn new(rate: u32, now: Instant) -> RateLimit {
        RateLimit { rate, tokens: rate, filled: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_nanos().min(1_000_000_000) as u64;
        let new = passed * u64::from(self.rate) / 1_000_000_000;
        if new > 0 {
            self.tokens = self.rate.min(self.tokens.saturating_add(new as u32));
            self.filled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_pass() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut limit = RateLimit::new(10, at(0));
        let count = |limit: &mut RateLimit, ms| (0..100).filter(|_| limit.allows(at(ms))).count();
        assert_eq!(count(&mut limit, 0), 10);
        assert_eq!(count(&mut limit, 99), 0);
        assert_eq!(count(&mut limit, 199), 1);
        assert_eq!(count(&mut limit, 100_000), 10);
    }
}
