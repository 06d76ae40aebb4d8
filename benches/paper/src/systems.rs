//! What is measured: demikernel on each transport, what each transport takes without it, and what others have.

use crate::ends::Means;
use crate::place::Kind;
use std::fs;

/// What a system is to the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// demikernel.
    Ours,
    /// The same transport without demikernel.
    Floor,
    /// What else there is.
    Other,
}

/// One of them.
pub(crate) struct System {
    /// Its name in the results.
    pub(crate) id: &'static str,
    /// Its name in the report.
    pub(crate) label: &'static str,
    pub(crate) role: Role,
    pub(crate) place: Kind,
    pub(crate) means: Means,
    /// The transport that it needs.
    pub(crate) transport: &'static str,
    /// What ours does when nothing is ready.
    pub(crate) idle: &'static str,
    /// The floor of a transport.
    pub(crate) floor: Option<&'static str>,
}

const fn ours(
    id: &'static str,
    label: &'static str,
    place: Kind,
    transport: &'static str,
    floor: Option<&'static str>,
) -> System {
    System { id, label, role: Role::Ours, place, means: Means::Ours, transport, idle: "spin", floor }
}

const fn floor(
    id: &'static str,
    label: &'static str,
    place: Kind,
    means: Means,
    transport: &'static str,
) -> System {
    System { id, label, role: Role::Floor, place, means, transport, idle: "", floor: None }
}

const fn other(id: &'static str, label: &'static str, means: Means) -> System {
    let (place, role) = (Kind::Loopback, Role::Other);
    System { id, label, role, place, means, transport: "", idle: "", floor: None }
}

/// All of them, in the order of tables.
pub(crate) const SYSTEMS: [System; 17] = [
    ours("dpdk", "demikernel: stack on DPDK, memif", Kind::Memif, "dpdk", Some("frames-memif")),
    floor("frames-memif", "bare frames, memif", Kind::Memif, Means::Memif, "dpdk"),
    ours("rdma", "demikernel: RDMA", Kind::Rdma, "rdma", None),
    ours("tap", "demikernel: stack on TAP", Kind::Tap, "tap", Some("frames-tap")),
    floor("frames-tap", "bare frames, TAP", Kind::Tap, Means::Frames, "tap"),
    ours("packet", "demikernel: stack on packet socket", Kind::Veth, "packet", Some("frames-packet")),
    floor("frames-packet", "bare frames, packet socket", Kind::Veth, Means::Frames, "packet"),
    ours("xdp", "demikernel: stack on AF_XDP", Kind::Veth, "xdp", Some("frames-xdp")),
    floor("frames-xdp", "bare frames, AF_XDP", Kind::Veth, Means::Frames, "xdp"),
    ours("io_uring", "demikernel: io_uring", Kind::Loopback, "io_uring", Some("bare-ring")),
    System {
        idle: "block",
        floor: None,
        ..ours("io_uring-block", "demikernel: io_uring, blocking", Kind::Loopback, "io_uring", None)
    },
    floor("bare-ring", "bare io_uring, spinning", Kind::Loopback, Means::Ring, "io_uring"),
    ours("epoll", "demikernel: epoll", Kind::Loopback, "epoll", Some("bare-sockets")),
    floor("bare-sockets", "bare sockets, spinning", Kind::Loopback, Means::Spinning, ""),
    other("blocking", "sockets, blocking", Means::Blocking),
    other("tokio", "tokio", Means::Tokio),
    other("redis", "redis-server", Means::Blocking),
];

/// The one of this name.
pub(crate) fn named(id: &str) -> Option<&'static System> {
    SYSTEMS.iter().find(|system| system.id == id)
}

impl System {
    /// How many of the four operations of a round trip, two sends and two receives, are of this system's kind.
    pub(crate) fn operations(&self) -> u32 {
        if self.place.is_symmetric() { 4 } else { 2 }
    }

    /// Why it cannot be compiled in or started, as far as can be said without trying.
    pub(crate) fn missing(&self) -> Option<String> {
        if self.transport == "rdma" && fs::read_dir("/sys/class/infiniband").map_or(0, Iterator::count) == 0 {
            return Some("no RDMA device: nothing in /sys/class/infiniband".to_owned());
        }
        let is_known = self.transport.is_empty() || demikernel::transports().contains(&self.transport);
        let remedy = match self.transport {
            "dpdk" => "not compiled in: libdpdk was not there (apt-get install libdpdk-dev)",
            "rdma" => "not compiled in: libibverbs and librdmacm were not there",
            _ => "not compiled in",
        };
        (!is_known).then(|| remedy.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_floors_are_there() {
        for system in &SYSTEMS {
            assert_eq!(SYSTEMS.iter().filter(|other| other.id == system.id).count(), 1, "{}", system.id);
            let floor = system.floor.map(|id| named(id).expect("the floor is a system"));
            assert!(floor.is_none_or(|floor| floor.role == Role::Floor && floor.place == system.place));
        }
    }
}
