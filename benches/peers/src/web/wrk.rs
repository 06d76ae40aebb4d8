//! wrk, and what it prints.

use crate::child;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// A run of wrk.
pub(super) struct Run {
    /// Requests that were answered.
    pub(super) requests: u64,
    /// And in a second.
    pub(super) rate: f64,
}

/// One thread and so many connections, whole seconds. It runs on the cores and with the priority of who calls.
pub(super) fn run(server: SocketAddr, tls: bool, connections: usize, seconds: u64) -> io::Result<Run> {
    let scheme = if tls { "https" } else { "http" };
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "60s"]);
    wrk.arg(format!("{scheme}://{server}/"));
    let limit = Duration::from_secs(seconds + 90);
    let printed = child::output(&mut wrk, limit)?.check("wrk")?.stdout;
    parse(&printed).ok_or_else(|| io::Error::other(format!("wrk printed: {}", printed.trim())))
}

/// Nothing if there are no figures, or some of the requests failed.
fn parse(printed: &str) -> Option<Run> {
    let failed = ["Socket errors:", "Non-2xx"].iter().any(|complaint| printed.contains(complaint));
    let requests =
        printed.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let rate = printed.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())?;
    (!failed).then_some(Run { requests, rate })
}

/// Whether it is installed.
pub(super) fn available() -> bool {
    // Without arguments it says how it is used.
    Command::new("wrk").arg("--version").output().is_ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    const PRINTED: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        12345 requests in 1.00s, 1.54MB read\nRequests/sec:  12340.50\nTransfer/sec:      1.54MB\n";

    #[test]
    fn figures_are_read_from_what_wrk_prints() {
        let run = parse(PRINTED).unwrap();
        assert_eq!((run.requests, run.rate), (12_345, 12_340.5));
    }

    #[test]
    fn a_run_in_which_requests_failed_is_none() {
        assert!(
            parse(&format!("{PRINTED}  Socket errors: connect 0, read 3, write 0, timeout 0\n")).is_none()
        );
        assert!(parse(&format!("{PRINTED}  Non-2xx or 3xx responses: 7\n")).is_none());
        assert!(parse("unable to connect\n").is_none());
    }
}
