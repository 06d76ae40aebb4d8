//! Which socket a packet is for: a hash table from the two addresses and ports to the number of a slot.
//!
//! The hash is keyed, so that a peer who chooses its ports cannot make many flows fall together. The key comes from
//! whoever makes the table, as nothing here draws randomness.

use ahash::RandomState;
use hashbrown::HashTable;
use std::hash::{Hash, Hasher};
#[cfg(test)]
use std::net::SocketAddr;
use std::net::{IpAddr, Ipv4Addr};

/// What stands before an IPv4 address that is mapped to IPv6.
const MAPPED: u64 = 0xffff_0000_0000;

/// Two ends. IPv4 addresses stand as IPv4-mapped ones, so that one comparison serves both families: a socket of IPv6
/// that serves IPv4 as well knows its peer by the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    local: [u64; 2],
    remote: [u64; 2],
    /// Local in the upper half.
    ports: u32,
}

impl Flow {
    /// The flow between two ends.
    #[cfg(test)]
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow::of(local.ip(), local.port(), remote.ip(), remote.port())
    }

    /// The flow between two ends.
    #[inline]
    pub(crate) fn of(local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> Flow {
        Flow {
            local: words(local),
            remote: words(remote),
            ports: u32::from(local_port) << 16 | u32::from(remote_port),
        }
    }
}

impl Flow {
    /// The hosts that it is between, as a flow without ports.
    #[inline]
    pub(crate) fn hosts(&self) -> Flow {
        Flow { ports: 0, ..*self }
    }
}

/// Of IPv4.
impl Flow {
    /// The flow between two ends; the local port is in the upper half.
    #[inline]
    pub(crate) fn of_v4(local: u32, remote: u32, ports: u32) -> Flow {
        let mapped = |address| [0, MAPPED | u64::from(address)];
        Flow { local: mapped(local), remote: mapped(remote), ports }
    }

    /// What [`of_v4`](Flow::of_v4) makes a flow of, if it is such a one.
    #[inline]
    pub(crate) fn to_v4(self) -> Option<(u32, u32, u32)> {
        let v4 = self.local[0] == 0 && self.local[1] >> 32 == MAPPED >> 32;
        v4.then_some((self.local[1] as u32, self.remote[1] as u32, self.ports))
    }

    /// Both addresses, if they are of IPv4.
    #[inline]
    pub(crate) fn v4(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        self.to_v4().map(|(local, remote, _)| (local.into(), remote.into()))
    }
}

/// Word by word: as an array, each address would be hashed with its length, byte by byte.
impl Hash for Flow {
    #[inline(always)]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if let Some((local, remote, ports)) = self.to_v4() {
            hasher.write_u64(u64::from(local) << 32 | u64::from(remote));
            return hasher.write_u32(ports);
        }
        let Flow { local: [a, b], remote: [c, d], ports } = *self;
        [a, b, c, d].into_iter().for_each(|word| hasher.write_u64(word));
        hasher.write_u32(ports);
    }
}

impl Flow {
    /// The address here.
    #[inline]
    pub(crate) fn local(&self) -> IpAddr {
        address(self.local)
    }

    /// The address of the peer.
    #[inline]
    pub(crate) fn remote(&self) -> IpAddr {
        address(self.remote)
    }

    /// A number that is most likely another for other hosts; they can choose it.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        ((self.remote[1] ^ self.local[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
    }

    /// The port here.
    #[inline]
    pub(crate) fn local_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// The port of the peer.
    #[inline]
    pub(crate) fn remote_port(&self) -> u16 {
        self.ports as u16
    }
}

/// A flow that is kept with its socket: of IPv4 in 16 bytes.
#[derive(Debug)]
pub(crate) enum Ends {
    V4 { local: u32, remote: u32, ports: u32 },
    V6(Box<Flow>),
}

const _: () = assert!(size_of::<Ends>() == 16);

impl Ends {
    #[inline]
    pub(crate) fn new(flow: Flow) -> Ends {
        match flow.to_v4() {
            Some((local, remote, ports)) => Ends::V4 { local, remote, ports },
            None => Ends::V6(Box::new(flow)),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Flow {
        match self {
            Ends::V4 { local, remote, ports } => Flow::of_v4(*local, *remote, *ports),
            Ends::V6(flow) => **flow,
        }
    }

    /// Whether it is this flow.
    #[inline(always)]
    pub(crate) fn are(&self, flow: &Flow) -> bool {
        match self {
            Ends::V4 { local, remote, ports } => flow.to_v4() == Some((*local, *remote, *ports)),
            Ends::V6(own) => **own == *flow,
        }
    }

    /// See [`Flow::to_v4`].
    #[inline]
    pub(crate) fn to_v4(&self) -> Option<(u32, u32, u32)> {
        match self {
            Ends::V4 { local, remote, ports } => Some((*local, *remote, *ports)),
            Ends::V6(_) => None,
        }
    }
}

/// The address of two words.
#[inline]
fn address([high, low]: [u64; 2]) -> IpAddr {
    if high == 0 && low >> 32 == MAPPED >> 32 {
        IpAddr::V4((low as u32).into())
    } else {
        IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into())
    }
}

/// An address as two words that are compared at once.
#[inline]
fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [0, MAPPED | u64::from(v4.to_bits())],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

/// The slots of sockets, by flow. A socket knows its flow itself, so an entry is eight bytes: with a million connections
/// most of the table is in some cache, and the entry that is found is hardly ever another's.
pub(crate) struct Table {
    entries: HashTable<Entry>,
    hash: RandomState,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Half of the flow's hash, of which all that the table needs is made.
    tag: u32,
    slot: u32,
}

/// The hash that the table goes by: its lowest bits choose a place, its highest are compared there.
#[inline]
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

impl Table {
    /// An empty table whose hash depends on `key`.
    pub(crate) fn new(key: [u64; 4]) -> Table {
        let [a, b, c, d] = key;
        Table { entries: HashTable::new(), hash: RandomState::with_seeds(a, b, c, d) }
    }

    #[inline(always)]
    fn tag(&self, flow: &Flow) -> u32 {
        self.hash.hash_one(flow) as u32
    }

    /// The slot of a flow: of those that may be it, the one of which `is_it` is true.
    #[inline(always)]
    pub(crate) fn find(&self, flow: &Flow, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = self.tag(flow);
        let entry = self.entries.find(spread(tag), |entry| entry.tag == tag && is_it(entry.slot))?;
        Some(entry.slot)
    }

    /// The slot of a flow, most likely, without a look at its socket.
    #[inline(never)]
    pub(crate) fn guess(&self, flow: &Flow) -> Option<u32> {
        self.find(flow, |_| true)
    }

    /// Notes the slot of a flow that has none.
    pub(crate) fn insert(&mut self, flow: &Flow, slot: u32) {
        let tag = self.tag(flow);
        self.entries.insert_unique(spread(tag), Entry { tag, slot }, |entry| spread(entry.tag));
    }

    /// Gives a flow another slot than `slot`, which it has.
    pub(crate) fn replace(&mut self, flow: &Flow, slot: u32, by: u32) {
        let tag = self.tag(flow);
        if let Some(entry) = self.entries.find_mut(spread(tag), |entry| entry.slot == slot) {
            entry.slot = by;
        }
    }

    /// Forgets that a flow has this slot; whether it had.
    pub(crate) fn remove(&mut self, flow: &Flow, slot: u32) -> bool {
        let tag = self.tag(flow);
        let entry = self.entries.find_entry(spread(tag), |entry| entry.slot == slot);
        entry.map(|entry| entry.remove()).is_ok()
    }

    /// How many flows there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("flows", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A table, and the flows of its slots.
    struct Model {
        table: Table,
        flows: Vec<(u32, Flow)>,
    }

    impl Model {
        fn new(key: u64) -> Model {
            Model { table: Table::new([key, key + 1, key + 2, key + 3]), flows: Vec::new() }
        }

        fn insert(&mut self, flow: Flow, slot: u32) {
            self.table.insert(&flow, slot);
            self.flows.push((slot, flow));
        }

        fn find(&self, flow: &Flow) -> Option<u32> {
            self.table.find(flow, |slot| self.flows.contains(&(slot, *flow)))
        }
    }

    #[test]
    fn a_flow_is_found_by_all_four_of_its_parts() {
        let mut model = Model::new(1);
        let (here, there) = (at("10.0.0.1:80"), at("10.0.0.2:4000"));
        let flow = Flow::new(here, there);
        model.insert(flow, 7);
        for other in [
            Flow::new(there, here),
            Flow::new(at("10.0.0.1:81"), there),
            Flow::new(at("10.0.0.3:80"), there),
            Flow::new(here, at("10.0.0.2:4001")),
            Flow::new(here, at("10.0.0.3:4000")),
        ] {
            assert_eq!((model.find(&other), model.table.guess(&other)), (None, None));
        }
        assert_eq!((model.find(&flow), model.table.guess(&flow)), (Some(7), Some(7)));
        assert!(
            !model.table.remove(&flow, 8) && model.table.remove(&flow, 7) && !model.table.remove(&flow, 7)
        );
        assert_eq!((model.find(&flow), model.table.len()), (None, 0));
    }

    /// Whoever has the same hash is told apart by its socket.
    #[test]
    fn of_two_with_one_hash_each_is_found() {
        let mut model = Model::new(1);
        let flow = Flow::new(at("10.0.0.1:80"), at("10.0.0.2:4000"));
        model.table.insert(&flow, 8);
        model.insert(flow, 7);
        assert_eq!(model.find(&flow), Some(7));
        assert!(model.table.remove(&flow, 8));
        assert_eq!(model.find(&flow), Some(7));
    }

    #[test]
    fn a_flow_tells_its_parts() {
        for (here, there) in [("10.0.0.1:80", "10.0.0.2:4000"), ("[2001:db8::1]:1", "[::1]:65535")] {
            let flow = Flow::new(at(here), at(there));
            assert_eq!(SocketAddr::new(flow.local(), flow.local_port()), at(here));
            assert_eq!(SocketAddr::new(flow.remote(), flow.remote_port()), at(there));
        }
        let mut table = Table::new([1; 4]);
        let flow = Flow::new(at("10.0.0.1:80"), at("10.0.0.2:9"));
        table.insert(&flow, 1);
        table.replace(&flow, 3, 4);
        table.replace(&flow, 1, 2);
        assert_eq!(table.guess(&flow), Some(2));
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let mut model = Model::new(0);
        model.insert(Flow::new(at("10.0.0.1:80"), at("10.0.0.2:9")), 1);
        let mapped = Flow::new(at("[::ffff:10.0.0.1]:80"), at("[::ffff:10.0.0.2]:9"));
        assert_eq!(model.find(&mapped), Some(1));
        assert_eq!(model.find(&Flow::new(at("[::10.0.0.1]:80"), at("[::10.0.0.2]:9"))), None);
    }

    #[test]
    fn many_flows_keep_their_slots() {
        let mut table = Table::new([5, 6, 7, 8]);
        let flow = |port: u16| Flow::new(at("[2001:db8::1]:443"), (at("[2001:db8::2]:1").ip(), port).into());
        for port in 0..10_000 {
            table.insert(&flow(port), u32::from(port));
        }
        for port in (0..10_000).step_by(2) {
            assert!(table.remove(&flow(port), u32::from(port)));
        }
        for port in 0..10_000 {
            let found = table.find(&flow(port), |slot| slot == u32::from(port));
            assert_eq!(found, (port % 2 == 1).then_some(u32::from(port)));
        }
    }
}
