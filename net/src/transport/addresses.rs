//! Addresses that others give, before a program begins.

use super::NetTransport;
use crate::ip::addresses::scope;
use crate::stack::{Awaited, Stack};
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

/// Scope of addresses of one link.
const LINK: u8 = 2;

/// Once there is an address, the other ways to get one have so long to show: in a network that has only one of them a
/// program is not to wait for ever, but who has both is to have both addresses. Routers are asked twice meanwhile.
const MORE: Duration = Duration::from_secs(5);

impl NetTransport {
    /// Waits until the stack has what its configuration asks others for: an address of a DHCP server, and one of a
    /// router's prefix; and until nobody else has its own. Once there is one, the others are given five seconds. It
    /// blocks the thread; a time of zero does not wait.
    ///
    /// # Errors
    /// `TimedOut` if there is no address in the end; `AddrInUse` if another host has one that the configuration says;
    /// that of a device that has failed.
    pub fn wait_for_addresses(&self, limit: Duration) -> io::Result<()> {
        if limit.is_zero() {
            return Ok(());
        }
        let first = Cell::new(None);
        self.turn_until(Instant::now() + limit, || {
            let engine = self.engine.borrow();
            let awaited = engine.stack.awaits();
            if awaited == Awaited::default() {
                return true;
            }
            if awaited.detection || !has_address(&engine.stack) {
                return false;
            }
            let since = first.get().unwrap_or_else(Instant::now);
            first.set(Some(since));
            since.elapsed() >= MORE
        });
        self.check_running()?;
        let engine = self.engine.borrow();
        if let [first, ..] = engine.stack.duplicates() {
            let text = format!("another host has the address {first}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let missing = missing(engine.stack.awaits());
        if missing.is_empty() {
            return Ok(());
        }
        if has_address(&engine.stack) {
            tracing::warn!(name = self.name, "{}", missing.join(", "));
            return Ok(());
        }
        let text = format!("no address after {limit:?}: {}", missing.join(", "));
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// Whether others than neighbours can be reached.
fn has_address(stack: &Stack) -> bool {
    stack.addresses().iter().any(|address| address.unique && scope(address.address) != LINK)
}

/// What has not come, in words.
fn missing(awaited: Awaited) -> Vec<&'static str> {
    let words = [
        (awaited.lease, "no DHCP server has given an address"),
        (awaited.prefix, "no router has advertised a prefix"),
        (awaited.detection, "it is not known yet whether another host has ours"),
    ];
    words.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, words)| words).collect()
}
