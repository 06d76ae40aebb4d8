//! What tshark finds in captures of the stack's: an opinion of others on what it writes, and on the capture itself.

use super::echoed::echoed;
use super::lab::Lab;
use super::{client, text};
use std::path::Path;
use std::time::Duration;

/// What must be there, that the others mean something, and how many at least.
const EXPECTED: [(&str, u64); 7] = [
    ("ip.src == 10.9.0.2 && tcp.len > 1000", 1300),
    ("ipv6.src == fd00:9::2 && tcp.len > 1000", 1300),
    ("tcp.flags.syn == 1 && tcp.flags.ack == 1", 6),
    ("tcp.flags.reset == 1", 2),
    ("icmp.type == 0 || icmpv6.type == 129", 8),
    ("arp || icmpv6.type == 136", 2),
    ("tcp.checksum.status == 1", 5000),
];

/// What must not be there, and how many there may be all the same.
const WRONG: [(&str, u64); 8] = [
    ("_ws.malformed", 0),
    // A severity of "error".
    ("_ws.expert.severity >= 0x00800000", 0),
    ("tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0", 0),
    ("icmp.checksum.status == 0 || icmpv6.checksum.status == 0", 0),
    ("tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment || tcp.analysis.out_of_order", 0),
    // Both sides take what is not acknowledged within some ten milliseconds for lost, and a busy machine may not run us
    // in that time.
    ("(ip.src == 10.9.0.2 || ipv6.src == fd00:9::2) && tcp.analysis.retransmission", 2),
    ("tcp.analysis.retransmission", 5),
    ("tcp.analysis.duplicate_ack", 5),
];

/// What tshark says, which computes checksums, too.
fn tshark(capture: &Path, arguments: &[&str]) -> Option<String> {
    let mut all = vec!["-n", "-r", capture.to_str().unwrap()];
    for option in ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        all.extend(["-o", option]);
    }
    all.extend(arguments);
    client("tshark", &all, b"").as_ref().map(text)
}

/// How many packets each of the filters lets through.
fn count<'a>(capture: &Path, filters: impl Iterator<Item = &'a str>) -> Option<Vec<u64>> {
    let statistics = filters.fold("io,stat,0".to_owned(), |list, filter| format!("{list},{filter}"));
    let report = tshark(capture, &["-q", "-z", &statistics])?;
    // A table of one row, with packets and bytes of each.
    let row = report.lines().find(|line| line.contains("<>")).unwrap_or_else(|| panic!("no row in {report}"));
    let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    Some(cells[1..].iter().step_by(2).map(|count| count.parse().unwrap()).collect())
}

/// Echoes of a few sizes, pings, and a connection that is refused, captured.
fn captured(lab: &Lab, settings: &str, capture: &Path) -> Option<()> {
    lab.configure(&format!("offload = false\n{settings}[capture]\nfile = {capture:?}\n"));
    // The server tells where it listens; both versions share its capture, as nothing else can have the interface.
    let server = lab.serve("echo", &["serve", "--listen", "[::]:7"]);
    for host in ["10.9.0.2", "fd00:9::2"] {
        let address = std::net::SocketAddr::new(host.parse().unwrap(), 7);
        for size in [8, 1000, 2 << 20] {
            echoed(address, size);
        }
        let refused = std::net::TcpStream::connect((address.ip(), 9)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        for size in ["56", "4000"] {
            text(&client("ping", &["-c", "2", "-i", "0.01", "-s", size, "-W", "5", host], b"")?);
        }
    }
    // What the last connection still says.
    std::thread::sleep(Duration::from_millis(200));
    drop(server);
    Some(())
}

/// `settings` are what else the file says, first in its section `[network]`.
pub(crate) fn tshark_finds_nothing_wrong(lab: &Lab, settings: &str) {
    let capture = lab.configuration.with_extension("pcapng");
    let done = captured(lab, settings, &capture).and_then(|()| check(&capture));
    let _ = std::fs::remove_file(&capture);
    if done.is_none() {
        eprintln!("skipped");
    }
}

fn check(capture: &Path) -> Option<()> {
    let counts = count(capture, EXPECTED.iter().chain(&WRONG).map(|(filter, _)| *filter))?;
    let (expected, wrong) = counts.split_at(EXPECTED.len());
    for (found, (filter, least)) in expected.iter().zip(EXPECTED) {
        assert!(*found >= least, "{found} of {filter}, {least} expected");
    }
    assert_eq!(wrong.len(), WRONG.len());
    for (found, (filter, most)) in wrong.iter().zip(WRONG) {
        if *found > most {
            let packets = tshark(capture, &["-Y", filter])?;
            panic!(
                "{found} of {filter}, such as\n{}",
                packets.lines().take(10).collect::<Vec<_>>().join("\n")
            );
        }
    }
    Some(())
}
