//! Who is compared, and which column of the table is whose.

/// The runtimes of the executor operations, variants included.
pub const RUNTIMES: [&str; 14] = [
    "mini",
    "mini-atomic",
    "tokio",
    "tokio-local",
    "tokio-localset",
    "tokio-uring",
    "monoio",
    "glommio",
    "compio",
    "smol",
    "smol-static",
    "embassy",
    "futures",
    "demikernel",
];

/// A column: a project, and the contenders that are variants of it. A cell shows the best of them.
pub struct Peer {
    /// The project's name.
    pub name: &'static str,
    /// Its runtimes and servers.
    pub variants: &'static [&'static str],
}

/// All peers of the executor and of kernel sockets, in the order of the columns.
pub const PEERS: [Peer; 8] = [
    Peer {
        name: "tokio",
        variants: &["tokio", "tokio-local", "tokio-localset", "tokio-multi", "tokio-axum"],
    },
    Peer { name: "tokio-uring", variants: &["tokio-uring", "tokio-uring-single"] },
    Peer { name: "monoio", variants: &["monoio", "monoio-defer", "monoio-poll", "monoio-legacy"] },
    Peer { name: "glommio", variants: &["glommio"] },
    Peer { name: "compio", variants: &["compio", "compio-defer", "compio-axum"] },
    Peer { name: "smol", variants: &["smol", "smol-static"] },
    Peer { name: "embassy", variants: &["embassy"] },
    Peer { name: "futures", variants: &["futures"] },
];

/// The peers of the userspace stack.
pub const STACKS: [Peer; 1] = [Peer { name: "smoltcp", variants: &["smoltcp"] }];

/// Every peer's variants.
pub fn peer_variants() -> impl Iterator<Item = &'static str> {
    PEERS.iter().chain(&STACKS).flat_map(|peer| peer.variants).copied()
}
