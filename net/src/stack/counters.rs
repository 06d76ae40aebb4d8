//! What is counted, by reason.

use std::cell::Cell;

crate::counters::counters! {
    /// What has become of packets: see [`Stack::counters`](super::Stack::counters).
    Counter:
    /// Frames received.
    Received => "frames_received",
    /// Frames given to the device.
    Transmitted => "frames_transmitted",
    /// Packets that went from here to here.
    LoopedBack => "looped_back",
    /// Frames whose Ethernet header is malformed.
    MalformedEthernet => "malformed_ethernet",
    /// Frames for another station.
    OtherStation => "other_station",
    /// Frames of a protocol that is not spoken here.
    UnknownEtherType => "unknown_ether_type",
    /// Malformed ARP packets.
    MalformedArp => "malformed_arp",
    /// Malformed IP packets.
    MalformedIp => "malformed_ip",
    /// Packets for an address that is not ours.
    OtherHost => "other_host",
    /// Packets from an address that nobody can have.
    MartianSource => "martian_source",
    /// Packets with a source route.
    SourceRouted => "source_routed",
    /// Packets of a protocol that is not spoken here.
    UnknownProtocol => "unknown_protocol",
    /// Fragments.
    Fragments => "fragments",
    /// Packets put together from fragments.
    Reassembled => "reassembled",
    /// Fragments that were refused, or given up.
    FragmentsDropped => "fragments_dropped",
    /// Malformed ICMP messages.
    MalformedIcmp => "malformed_icmp",
    /// Malformed IGMP messages.
    MalformedIgmp => "malformed_igmp",
    /// Packets that say, or ask whether, another host has one of our addresses.
    AddressConflict => "address_conflict",
    /// Redirects taken.
    Redirects => "redirects",
    /// Packets not sent, as their source is no longer an address of ours.
    LostSource => "lost_source",
    /// Echo requests answered.
    EchoAnswered => "echo_answered",
    /// ICMP messages that the limit forbade.
    IcmpLimited => "icmp_limited",
    /// ICMP errors about what was sent from here.
    IcmpErrors => "icmp_errors",
    /// Malformed TCP segments.
    MalformedTcp => "malformed_tcp",
    /// TCP segments with a wrong checksum.
    TcpChecksum => "tcp_checksum",
    /// Segments that found neither a connection nor a listener.
    NoConnection => "tcp_no_connection",
    /// Resets sent for these.
    ResetsSent => "tcp_resets_sent",
    /// Resets that the limit forbade.
    ResetsLimited => "tcp_resets_limited",
    /// Connections that did not become, as there were as many sockets as there may be.
    NoSocket => "no_socket",
    /// Connections that skipped TIME-WAIT, as there were as many as there may be.
    TimeWaitOverflow => "tcp_time_wait_overflow",
    /// Malformed UDP datagrams.
    MalformedUdp => "malformed_udp",
    /// UDP datagrams with a wrong checksum.
    UdpChecksum => "udp_checksum",
    /// Datagrams for ports that nobody has.
    NoPort => "udp_no_port",
    /// Datagrams dropped as the queue of their socket was full.
    UdpOverflow => "udp_overflow",
    /// Packets dropped as their next hop was not known.
    NeighborUnknown => "neighbor_unknown",
    /// Packets dropped as too many waited for their next hop.
    NeighborOverflow => "neighbor_overflow",
    /// Packets dropped as too many were to be sent at once.
    OutboundOverflow => "outbound_overflow",
    /// Packets dropped as there was no memory for their headers.
    NoMemory => "no_memory",
}

/// Counts of each.
#[derive(Debug)]
pub(crate) struct Counters([Cell<u64>; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Counters {
        Counters([const { Cell::new(0) }; Counter::ALL.len()])
    }
}

impl Counters {
    #[inline]
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        let cell = &self.0[counter as usize];
        cell.set(cell.get() + count);
    }

    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].get()
    }
}
