//! What values can be, each and together.

use super::faults::FaultsConfig;
use super::network::{Addressing, Cidr, Device, NetworkConfig, RouteConfig};
use super::tcp::{BufferSizes, CongestionControl, Ecn, TcpConfig};
use super::{Invalid, NetConfig, Sections};
use crate::device::MacAddress;
use demikernel_config::within;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The longest name of an interface: the kernel has 16 bytes, with a zero at the end.
const INTERFACE_NAME: usize = 15;

/// Queues of an interface for one stack.
const MOST_QUEUES: usize = 64;

/// Addresses of an interface.
const MOST_ADDRESSES: usize = 32;

/// Routes, gateways among them.
const MOST_ROUTES: usize = 256;

/// What links must carry at least (RFC 791 section 3.2, RFC 8200 section 5).
const LEAST_MTU: u16 = 68;
const LEAST_MTU_V6: u16 = 1280;

/// The largest window that TCP can tell (RFC 7323 section 2.3).
const LARGEST_BUFFER: u32 = 1 << 30;
/// Less than a segment would not move.
const SMALLEST_BUFFER: u32 = 2048;

impl Sections for NetConfig {
    const NAMES: &'static [&'static str] =
        &["network", "dpdk", "xdp", "tcp", "udp", "limits", "capture", "faults"];

    fn validate(&self) -> Result<(), Invalid> {
        self.network.validate()?;
        self.validate_dpdk()?;
        self.validate_xdp()?;
        self.tcp.validate()?;
        within("udp.receive-buffer", self.udp.receive_buffer, SMALLEST_BUFFER..=LARGEST_BUFFER)?;
        let limits = &self.limits;
        for (key, value, range) in [
            ("sockets", limits.sockets, 1..=1 << 24),
            ("time-wait", limits.time_wait, 0..=1 << 24),
            ("half-open", limits.half_open, 1..=1 << 20),
            ("backlog", limits.backlog, 1..=1 << 20),
            ("neighbours", limits.neighbours, 1..=1 << 20),
            ("neighbour-packets", limits.neighbour_packets, 1..=1 << 16),
            ("fragmented-packets", limits.fragmented_packets, 1..=1 << 16),
            ("fragments", limits.fragments, 2..=8192),
            ("fragment-memory", limits.fragment_memory, 1 << 16..=LARGEST_BUFFER),
            ("resets", limits.resets, 0..=1 << 30),
            ("icmp-errors", limits.icmp_errors, 0..=1 << 30),
        ] {
            within(&format!("limits.{key}"), value, range)?;
        }
        if let Some(file) = self.capture.file.as_ref().filter(|file| file.as_os_str().is_empty()) {
            return Err(Invalid::new("capture.file", format!("{file:?}"), "the name of a file"));
        }
        within("capture.snap-length", self.capture.snap_length, 64..=1 << 18)?;
        self.faults.validate()
    }
}

impl NetConfig {
    fn validate_dpdk(&self) -> Result<(), Invalid> {
        let dpdk = &self.dpdk;
        if self.network.device == Device::Dpdk && dpdk.port.is_empty() {
            let expected = "the PCI address or the name of a port, as the device is \"dpdk\"";
            return Err(Invalid::new("dpdk.port", "\"\"", expected));
        }
        if let Some(queues) = dpdk.queues {
            within("dpdk.queues", queues, 1..=64)?;
        }
        within("dpdk.receive-descriptors", dpdk.receive_descriptors, 32..=1 << 15)?;
        within("dpdk.transmit-descriptors", dpdk.transmit_descriptors, 32..=1 << 15)?;
        within("dpdk.memory", dpdk.memory, 32 << 20..=u32::MAX)
    }

    fn validate_xdp(&self) -> Result<(), Invalid> {
        let xdp = &self.xdp;
        if !(1..=MOST_QUEUES).contains(&xdp.queues.len()) {
            let found = format!("{} queues", xdp.queues.len());
            return Err(Invalid::new("xdp.queues", found, format!("1 to {MOST_QUEUES}")));
        }
        for (index, &queue) in xdp.queues.iter().enumerate() {
            let key = format!("xdp.queues[{index}]");
            within(&key, queue, 0..=1023)?;
            if xdp.queues[..index].contains(&queue) {
                return Err(Invalid::new(key, format!("{queue} again"), "each queue once"));
            }
        }
        for (key, entries) in
            [("xdp.receive-ring", xdp.receive_ring), ("xdp.transmit-ring", xdp.transmit_ring)]
        {
            within(key, entries, 64..=1 << 16)?;
            if !entries.is_power_of_two() {
                return Err(Invalid::new(key, entries, "a power of two"));
            }
        }
        within("xdp.memory", xdp.memory, 1 << 20..=LARGEST_BUFFER)
    }
}

impl NetworkConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let name = &self.interface;
        let is_name = (1..=INTERFACE_NAME).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
            && (self.device == Device::Tap || !name.contains('%'));
        if !is_name {
            let expected = format!("the name of an interface, 1 to {INTERFACE_NAME} bytes");
            return Err(Invalid::new("network.interface", format!("{name:?}"), expected));
        }
        if let Some(mac) = self.mac.filter(|mac| mac.is_multicast() || *mac == MacAddress::default()) {
            return Err(Invalid::new(
                "network.mac",
                mac,
                "the address of one host, the first byte of which is even",
            ));
        }
        if let Some(vlan) = self.vlan {
            within("network.vlan", vlan, 1..=4094)?;
        }
        self.validate_addresses()?;
        self.validate_routes()?;
        self.validate_mtu()?;
        within("network.ring-frames", self.ring_frames, 32..=1 << 16)?;
        if !self.ring_frames.is_power_of_two() {
            return Err(Invalid::new("network.ring-frames", self.ring_frames, "a power of two"));
        }
        within("network.wait", self.wait, Duration::ZERO..=Duration::from_secs(3600))?;
        within("network.hop-limit", self.hop_limit, 1..=u8::MAX)?;
        let (first, last) = self.ephemeral_ports;
        if first == 0 || first > last {
            let expected = "the first and the last port, from 1 to 65535";
            return Err(Invalid::new("network.ephemeral-ports", format!("[{first}, {last}]"), expected));
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), Invalid> {
        let count = self.addresses.len();
        if count > MOST_ADDRESSES {
            let expected = format!("{MOST_ADDRESSES} at most");
            return Err(Invalid::new("network.addresses", format!("{count} addresses"), expected));
        }
        for (index, addressing) in self.addresses.iter().enumerate() {
            let key = format!("network.addresses[{index}]");
            if let Addressing::Static(cidr) = addressing
                && let Err(expected) = is_host(*cidr)
            {
                return Err(Invalid::new(key, cidr, expected));
            }
            if self.addresses[..index].iter().any(|earlier| is_same(earlier, addressing)) {
                return Err(Invalid::new(key, format!("{addressing} again"), "each address once"));
            }
        }
        Ok(())
    }

    fn validate_routes(&self) -> Result<(), Invalid> {
        let count = self.gateways.len() + self.routes.len();
        if count > MOST_ROUTES {
            let expected = format!("{MOST_ROUTES} at most, with gateways");
            return Err(Invalid::new("network.routes", format!("{count} routes"), expected));
        }
        for (index, gateway) in self.gateways.iter().enumerate() {
            let key = format!("network.gateways[{index}]");
            if self.gateways[..index].contains(gateway) {
                return Err(Invalid::new(key, format!("{gateway} again"), "each router once"));
            }
            self.validate_router(&key, *gateway)?;
        }
        for (index, route) in self.routes.iter().enumerate() {
            self.validate_route(&format!("network.routes[{index}]"), route, &self.routes[..index])?;
        }
        Ok(())
    }

    fn validate_route(&self, key: &str, route: &RouteConfig, earlier: &[RouteConfig]) -> Result<(), Invalid> {
        let network = route.to.network();
        if network != route.to {
            return Err(Invalid::new(format!("{key}.to"), route.to, format!("a network, such as {network}")));
        }
        if let Some(router) = route.via {
            let key = format!("{key}.via");
            if router.is_ipv4() != route.to.address().is_ipv4() {
                let version = if router.is_ipv4() { "IPv6" } else { "IPv4" };
                return Err(Invalid::new(
                    key,
                    router,
                    format!("an {version} address, as that of {network} is"),
                ));
            }
            self.validate_router(&key, router)?;
        }
        if earlier.iter().any(|earlier| (earlier.to, earlier.via) == (route.to, route.via)) {
            return Err(Invalid::new(key, format!("the route to {network} again"), "each route once"));
        }
        Ok(())
    }

    /// A router must be a neighbour: nobody else could be asked the way to it.
    fn validate_router(&self, key: &str, router: IpAddr) -> Result<(), Invalid> {
        let networks = || self.statics().filter(|cidr| cidr.address().is_ipv4() == router.is_ipv4());
        if self.statics().any(|cidr| cidr.address() == router) {
            return Err(Invalid::new(
                key,
                format!("{router}, an address of our own"),
                "the address of a router",
            ));
        }
        let link_local = matches!(router, IpAddr::V6(address) if address.is_unicast_link_local());
        let automatic = if router.is_ipv4() { Addressing::Dhcp } else { Addressing::Slaac };
        // Networks that are not yet known may have it.
        let unknown = self.addresses.contains(&automatic);
        let is_one = !router.is_unspecified() && !router.is_multicast() && !router.is_loopback();
        if is_one && (link_local || unknown || networks().any(|cidr| cidr.contains(router))) {
            return Ok(());
        }
        let mut known: Vec<_> = networks().map(|cidr| cidr.network().to_string()).collect();
        if router.is_ipv6() {
            known.push("fe80::/10".to_owned());
        }
        let expected = match known.as_slice() {
            [] => format!("no router, as there is no address of its version, nor \"{automatic}\""),
            known => format!("an address in {}", known.join(", ")),
        };
        Err(Invalid::new(key, router, expected))
    }

    fn validate_mtu(&self) -> Result<(), Invalid> {
        let Some(mtu) = self.mtu else { return Ok(()) };
        let v6 = self.addresses.contains(&Addressing::Slaac)
            || self.statics().any(|cidr| cidr.address().is_ipv6());
        let (least, why) = if v6 { (LEAST_MTU_V6, ", as IPv6 needs") } else { (LEAST_MTU, "") };
        if mtu < least {
            return Err(Invalid::new("network.mtu", mtu, format!("{least} bytes or more{why}")));
        }
        Ok(())
    }

    fn statics(&self) -> impl Iterator<Item = Cidr> {
        self.addresses.iter().filter_map(|addressing| match addressing {
            Addressing::Static(cidr) => Some(*cidr),
            _ => None,
        })
    }
}

/// Two prefixes do not make two addresses.
fn is_same(one: &Addressing, other: &Addressing) -> bool {
    match (one, other) {
        (Addressing::Static(one), Addressing::Static(other)) => one.address() == other.address(),
        _ => one == other,
    }
}

/// Whether it is the address of one host on its network; what was expected if not.
fn is_host(cidr: Cidr) -> Result<(), String> {
    let address = cidr.address();
    let everybody = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || everybody {
        return Err("the address of a host".to_owned());
    }
    if cidr.length() == 0 {
        return Err("a prefix of one bit or more".to_owned());
    }
    // Networks of two have neither a name nor a broadcast address (RFC 3021).
    if let (IpAddr::V4(host), IpAddr::V4(network)) = (address, cidr.network().address())
        && cidr.length() < 31
    {
        let broadcast = Ipv4Addr::from_bits(network.to_bits() | u32::MAX >> cidr.length());
        if host == network || host == broadcast {
            return Err(format!("the address of a host, between {network} and {broadcast}"));
        }
    }
    Ok(())
}

impl FaultsConfig {
    fn validate(&self) -> Result<(), Invalid> {
        const LONGEST: Duration = Duration::from_secs(60);
        for (key, share) in [
            ("drop", self.drop),
            ("corrupt", self.corrupt),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ] {
            within(&format!("faults.{key}"), share, 0.0..=1.0)?;
        }
        within("faults.reorder-delay", self.reorder_delay, Duration::ZERO..=LONGEST)?;
        within("faults.delay", self.delay, Duration::ZERO..=LONGEST)?;
        if let Some(bytes) = self.size_limit {
            within("faults.size-limit", bytes, 64..=1 << 16)?;
        }
        self.rate_limit.map_or(Ok(()), |frames| within("faults.rate-limit", frames, 1..=1 << 30))
    }
}

impl TcpConfig {
    fn validate(&self) -> Result<(), Invalid> {
        const SECOND: Duration = Duration::from_secs(1);
        const MILLISECOND: Duration = Duration::from_millis(1);
        const MINUTE: Duration = Duration::from_secs(60);
        within("tcp.initial-window", self.initial_window, 1..=256)?;
        within("tcp.max-rto", self.max_rto, SECOND..=10 * MINUTE)?;
        within("tcp.min-rto", self.min_rto, MILLISECOND..=self.max_rto)?;
        validate_buffer("tcp.receive-buffer", self.receive_buffer)?;
        validate_buffer("tcp.send-buffer", self.send_buffer)?;
        for (key, retries) in [
            ("syn-retries", self.syn_retries),
            ("syn-ack-retries", self.syn_ack_retries),
            ("retries", self.retries),
            ("orphan-retries", self.orphan_retries),
        ] {
            within(&format!("tcp.{key}"), retries, 1..=127)?;
        }
        // RFC 9293 section 3.8.6.3 wants less than half a second.
        within("tcp.acknowledgment-delay", self.acknowledgment_delay, Duration::ZERO..=499 * MILLISECOND)?;
        if let Some(timeout) = self.user_timeout {
            within("tcp.user-timeout", timeout, SECOND..=24 * 60 * MINUTE)?;
        }
        within("tcp.user-timeout-most", self.user_timeout_most, SECOND..=24 * 60 * MINUTE)?;
        within("tcp.user-timeout-least", self.user_timeout_least, SECOND..=self.user_timeout_most)?;
        within("tcp.fin-wait", self.fin_wait, SECOND..=10 * MINUTE)?;
        within("tcp.time-wait", self.time_wait, SECOND..=4 * MINUTE)?;
        within("tcp.keepalive.idle", self.keepalive.idle, SECOND..=24 * 60 * MINUTE)?;
        within("tcp.keepalive.interval", self.keepalive.interval, SECOND..=24 * 60 * MINUTE)?;
        within("tcp.keepalive.count", self.keepalive.count, 1..=127)?;
        if self.congestion_control == CongestionControl::Dctcp && self.ecn != Ecn::Exact {
            let expected = "\"exact\", as congestion-control is \"dctcp\"";
            return Err(Invalid::new("tcp.ecn", format!("\"{}\"", self.ecn), expected));
        }
        Ok(())
    }
}

fn validate_buffer(key: &str, sizes: BufferSizes) -> Result<(), Invalid> {
    let BufferSizes { initial, maximum } = sizes;
    within(&format!("{key}.maximum"), maximum, SMALLEST_BUFFER..=LARGEST_BUFFER)?;
    within(&format!("{key}.initial"), initial, SMALLEST_BUFFER..=maximum)
}
