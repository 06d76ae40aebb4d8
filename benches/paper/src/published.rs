//! What the paper says, and what of this run stands beside it.
//!
//! Facts of Zhang et al., "The Demikernel Datapath OS Architecture for Microsecond-scale Datacenter Systems", SOSP 2021,
//! sections 7.1 to 7.5. What is a number in its text is here; bars and curves of its figures were not measured off, and
//! stand as [`DRAWN`].

use crate::report::figures::{Figures, gigabits, rate, time};
use crate::results::Experiment;

/// For what the paper has in a drawing only.
const DRAWN: &str = "not published as a number (drawn)";

/// The paper's machines, for the table beside this one's.
pub(crate) const SETUP: [(&str, &str); 8] = [
    ("processor", "Intel Xeon Silver 4114, 2.2 GHz, two sockets, 20 cores; 5 servers"),
    ("network", "Mellanox ConnectX-5, 100 Gb/s; Arista 7060CX switch, 450 ns at least"),
    ("disk", "Intel Optane 800P (NVMe, 3D XPoint), through SPDK; ext4 for the kernel's systems"),
    ("virtual machine", "no (but for its section on Azure)"),
    ("governor", "performance"),
    ("memory for devices", "2 GB of huge pages of 2 MB"),
    ("priority", "raised by nice, and the real-time scheduler"),
    ("repetitions", "5 runs, averages; a million echoes over them"),
];

/// What a claim is compared with.
pub(crate) enum Beside {
    /// demikernel's share of a round trip's p50, per operation.
    Share { system: &'static str, case: &'static str },
    /// A metric that is a time.
    Time { system: &'static str, case: &'static str, metric: &'static str },
    /// Throughput of round trips with messages of this size.
    Gigabits { system: &'static str, case: &'static str },
    /// By how much a metric of `system` is below that of `than`.
    Saved { system: &'static str, than: &'static str, case: &'static str, metric: &'static str },
    /// The rate of one by that of another: system and case of each.
    Rates { one: (&'static str, &'static str), other: (&'static str, &'static str) },
    /// The p50 of one experiment's system by that of another's.
    Times { one: (Experiment, &'static str), other: (Experiment, &'static str) },
    /// There is nothing of this here, for this reason.
    Nothing(&'static str),
}

/// A sentence of the paper as a row.
pub(crate) struct Claim {
    pub(crate) experiment: Experiment,
    pub(crate) what: &'static str,
    pub(crate) paper: &'static str,
    /// What of this run is nearest to it.
    pub(crate) here: &'static str,
    pub(crate) beside: Beside,
}

use Experiment::{Echo, KeyValue, Log, Relay, Sizes};

const fn claim(
    experiment: Experiment,
    what: &'static str,
    paper: &'static str,
    here: &'static str,
    beside: Beside,
) -> Claim {
    Claim { experiment, what, paper, here, beside }
}

const fn share(system: &'static str, case: &'static str) -> Beside {
    Beside::Share { system, case }
}

const fn p50(system: &'static str, case: &'static str) -> Beside {
    Beside::Time { system, case, metric: "p50" }
}

const fn saved(system: &'static str, metric: &'static str) -> Beside {
    Beside::Saved { system, than: "blocking", case: "udp", metric }
}

const fn rates(one: (&'static str, &'static str), other: (&'static str, &'static str)) -> Beside {
    Beside::Rates { one, other }
}

const NO_RIVALS: &str = "eRPC, Shenango and Caladan are not run here: they take their own network cards";

/// All of them, in the paper's order.
pub(crate) const CLAIMS: [Claim; 30] = [
    claim(
        Echo,
        "Demikernel's share, Catnip UDP",
        "125 ns a packet",
        "stack on DPDK, UDP",
        share("dpdk", "udp"),
    ),
    claim(
        Echo,
        "Demikernel's share, Catnip TCP",
        "200 ns a packet",
        "stack on DPDK, TCP",
        share("dpdk", "tcp"),
    ),
    claim(Echo, "Demikernel's share, Catmint (RDMA)", "250 ns an operation", "RDMA", share("rdma", "tcp")),
    claim(Echo, "Demikernel's share, Catnap (kernel)", DRAWN, "io_uring, TCP", share("io_uring", "tcp")),
    claim(Echo, "round trip, Catnip TCP", DRAWN, "stack on DPDK, TCP, p50", p50("dpdk", "tcp")),
    claim(Echo, "round trip, Catnip UDP", DRAWN, "stack on DPDK, UDP, p50", p50("dpdk", "udp")),
    claim(
        Echo,
        "round trip, Catnap",
        "less than Linux with epoll",
        "io_uring, TCP, p50",
        p50("io_uring", "tcp"),
    ),
    claim(Echo, "round trip, Linux", DRAWN, "blocking sockets, TCP, p50", p50("blocking", "tcp")),
    claim(Echo, "Catnip against Shenango", "3.1 µs less", "", Beside::Nothing(NO_RIVALS)),
    claim(Echo, "Catnip against Caladan", "1.7 µs more", "", Beside::Nothing(NO_RIVALS)),
    claim(Echo, "Catmint against eRPC", "0.2 µs more", "", Beside::Nothing(NO_RIVALS)),
    claim(
        Log,
        "round trip with a log, Linux",
        DRAWN,
        "blocking sockets, write and fdatasync, p50",
        p50("blocking", "tcp"),
    ),
    claim(
        Log,
        "round trip with a log, Catnap",
        "between Linux and Catnip",
        "io_uring, p50",
        p50("io_uring", "tcp"),
    ),
    claim(
        Log,
        "round trip with a log, Catnip × Cattree",
        DRAWN,
        "stack on DPDK, log through io_uring, p50",
        p50("dpdk", "tcp"),
    ),
    claim(
        Log,
        "Catnip's with a log to Linux' without",
        "less than 1",
        "stack on DPDK with a log / blocking sockets without",
        Beside::Times { one: (Log, "dpdk"), other: (Echo, "blocking") },
    ),
    claim(
        Sizes,
        "256 KiB, Catnip TCP",
        "29.7 Gb/s",
        "stack on DPDK",
        Beside::Gigabits { system: "dpdk", case: "262144" },
    ),
    claim(
        Sizes,
        "256 KiB, Catmint",
        "31.5 Gb/s",
        "RDMA",
        Beside::Gigabits { system: "rdma", case: "262144" },
    ),
    claim(
        Sizes,
        "256 KiB, Catnip UDP",
        "33.3 Gb/s",
        "",
        Beside::Nothing("messages are one datagram here, of 1472 bytes at most"),
    ),
    claim(
        Sizes,
        "256 KiB, testpmd (frames alone)",
        "40.3 Gb/s",
        "bare frames of 1514 bytes, one at a time",
        Beside::Gigabits { system: "frames-memif", case: "1514" },
    ),
    claim(
        Sizes,
        "256 KiB, perftest (RDMA alone)",
        "37.7 Gb/s",
        "",
        Beside::Nothing("cargo xtask bench rdma has ib_send_bw beside ours"),
    ),
    claim(Relay, "saved by Catnip, average", "11 µs", "stack on AF_XDP, mean", saved("xdp", "mean")),
    claim(Relay, "saved by Catnip, p99", "13.7 µs", "stack on AF_XDP, p99", saved("xdp", "p99")),
    claim(
        Relay,
        "saved by io_uring",
        "modest; not published as a number (drawn)",
        "io_uring, mean",
        saved("io_uring", "mean"),
    ),
    claim(
        KeyValue,
        "in memory, Catnap to Redis",
        "0.20 to 0.25",
        "io_uring, SET",
        rates(("io_uring", "memory set"), ("redis", "memory set")),
    ),
    claim(
        KeyValue,
        "in memory, Catnip to Redis",
        "1.2",
        "stack on AF_XDP, SET",
        rates(("xdp", "memory set"), ("redis", "memory set")),
    ),
    claim(KeyValue, "in memory, Catmint to Redis", "2", "", Beside::Nothing("redis-benchmark has no RDMA")),
    claim(
        KeyValue,
        "in memory, GET, Catnip to Redis",
        DRAWN,
        "stack on AF_XDP, GET",
        rates(("xdp", "memory get"), ("redis", "memory get")),
    ),
    claim(
        KeyValue,
        "durable, Catnap to Redis",
        "more than 1",
        "io_uring, SET",
        rates(("io_uring", "durable set"), ("redis", "durable set")),
    ),
    claim(
        KeyValue,
        "Catnip × Cattree durable to Redis in memory",
        "0.9 or more",
        "stack on AF_XDP durable to redis-server in memory, SET",
        rates(("xdp", "durable set"), ("redis", "memory set")),
    ),
    claim(
        KeyValue,
        "Catmint × Cattree durable to Redis in memory",
        "0.9 or more",
        "",
        Beside::Nothing("redis-benchmark has no RDMA"),
    ),
];

impl Claim {
    /// What this run has, or why it has nothing.
    pub(crate) fn beside(&self, figures: &Figures<'_>) -> Result<String, String> {
        let of = self.experiment;
        match self.beside {
            Beside::Share { system, case } => {
                let share = figures.share(system, case)?;
                Ok(format!("{} an operation", time(share)))
            }
            Beside::Time { system, case, metric } => Ok(time(figures.quartiles(of, system, case, metric)?)),
            Beside::Gigabits { system, case } => {
                Ok(format!("{} Gb/s", rate(gigabits(figures, system, case)?)))
            }
            Beside::Saved { system, than, case, metric } => {
                let one = |system| figures.rounds(of, system, case, metric);
                Ok(time(figures.differences(&one(than)?, &one(system)?)))
            }
            Beside::Rates { one, other } => {
                let series = |(system, case)| figures.rounds(of, system, case, "rate");
                Ok(rate(figures.ratios(&series(one)?, &series(other)?)))
            }
            Beside::Times { one, other } => {
                let series = |(experiment, system)| figures.rounds(experiment, system, "tcp", "p50");
                Ok(rate(figures.ratios(&series(one)?, &series(other)?)))
            }
            Beside::Nothing(why) => Err(why.to_owned()),
        }
    }
}
