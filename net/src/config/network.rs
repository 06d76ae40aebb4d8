//! The section `[network]`.

use crate::device::MacAddress;
use crate::stack::DuplicateDetection;
use demikernel_config::named;
use demikernel_config::values::{self, Text};
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// The device, and what IP needs to know.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkConfig {
    /// What carries the frames.
    #[serde(deserialize_with = "values::text")]
    pub device: Device,
    /// The name of the interface.
    pub interface: String,
    /// The Ethernet address of this side. Without it: of a TAP interface a random one, else that of the interface or port. Where
    /// the kernel has an address from DHCP by that one, give another: a server gives both the same lease.
    #[serde(deserialize_with = "values::optional_text")]
    pub mac: Option<MacAddress>,
    /// The VLAN of the link that is used; `None` for frames without a tag.
    pub vlan: Option<u16>,
    /// Addresses, and ways to get them.
    #[serde(deserialize_with = "values::texts")]
    pub addresses: Vec<Addressing>,
    /// How long a program's start waits for addresses that others give, and for detections.
    #[serde(deserialize_with = "values::text")]
    pub wait: Duration,
    /// Whether nobody else has our addresses.
    #[serde(deserialize_with = "values::text")]
    pub duplicate_detection: DuplicateDetection,
    /// Whether routers may say of a destination that another way is shorter.
    pub accept_redirects: bool,
    /// Routers for all destinations that have no other route.
    #[serde(deserialize_with = "values::texts")]
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<RouteConfig>,
    /// The largest IP packet, in bytes; without it that of the device.
    pub mtu: Option<u16>,
    /// Whether the kernel at the other end of a TAP interface leaves checksums to us and we to it, and cuts segments; of
    /// a port of DPDK, whether checksums and cutting are left to it where it can.
    pub offload: bool,
    /// Frames in each ring of a packet socket, a power of two.
    pub ring_frames: u32,
    /// How many routers packets pass at most.
    pub hop_limit: u8,
    /// Local ports of sockets that are not bound to one: the first and the last.
    pub ephemeral_ports: (u16, u16),
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            device: Device::Tap,
            interface: "tap0".to_owned(),
            mac: None,
            vlan: None,
            addresses: vec![Addressing::Dhcp, Addressing::Slaac],
            wait: Duration::from_secs(30),
            duplicate_detection: DuplicateDetection::Standard,
            accept_redirects: true,
            gateways: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            offload: true,
            ring_frames: 512,
            hop_limit: 64,
            ephemeral_ports: (32_768, 60_999),
        }
    }
}

/// What carries the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// An interface that the stack makes, and the kernel is at the other end of.
    Tap,
    /// An interface that there is, through a packet socket.
    Packet,
    /// A port of DPDK, as `[dpdk]` says.
    Dpdk,
    /// Queues of an interface that there is, past the kernel's stack, as `[xdp]` says.
    Xdp,
}

named!(Device, "\"tap\", \"packet\", \"dpdk\" or \"xdp\"", {
    Tap => "tap",
    Packet => "packet",
    Dpdk => "dpdk",
    Xdp => "xdp",
});

named!(DuplicateDetection, "\"off\", \"optimistic\", \"standard\" or \"strict\"", {
    Off => "off",
    Optimistic => "optimistic",
    Standard => "standard",
    Strict => "strict",
});

/// An address, or a way to get some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// This address.
    Static(Cidr),
    /// What a DHCP server gives, for IPv4.
    Dhcp,
    /// What routers advertise, for IPv6.
    Slaac,
}

impl Text for Addressing {
    const EXPECTED: &'static str =
        "an address with the length of its prefix, such as \"10.0.0.2/24\", or \"dhcp\" or \"slaac\"";

    fn parse(text: &str) -> Option<Addressing> {
        match text {
            "dhcp" => Some(Addressing::Dhcp),
            "slaac" => Some(Addressing::Slaac),
            _ => text.parse().ok().map(Addressing::Static),
        }
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addressing::Static(cidr) => cidr.fmt(f),
            Addressing::Dhcp => f.write_str("dhcp"),
            Addressing::Slaac => f.write_str("slaac"),
        }
    }
}

/// Where packets to a network go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Destinations.
    #[serde(deserialize_with = "values::text")]
    pub to: Cidr,
    /// The router; none if destinations are on the link.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub via: Option<IpAddr>,
    /// Of routes to the same destinations, that with the least counts.
    #[serde(default)]
    pub metric: u32,
}

/// An address, and how many of its first bits all hosts on its network have.
///
/// ```
/// use demikernel_net::config::Cidr;
///
/// let cidr: Cidr = "10.0.0.2/24".parse().unwrap();
/// assert_eq!(cidr.network().to_string(), "10.0.0.0/24");
/// assert!(cidr.contains("10.0.0.77".parse().unwrap()) && !cidr.contains("10.0.1.2".parse().unwrap()));
/// assert!("10.0.0.2/33".parse::<Cidr>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// None if the address has not so many bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Cidr> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then_some(Cidr { address, length })
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits the prefix has.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The prefix, with all further bits 0.
    pub fn network(self) -> Cidr {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(address) => {
                let host_bits = u32::MAX.checked_shr(length).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & !host_bits).into()
            }
            IpAddr::V6(address) => {
                let host_bits = u128::MAX.checked_shr(length).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & !host_bits).into()
            }
        };
        Cidr { address, ..self }
    }

    /// Whether an address is on this network.
    pub fn contains(self, address: IpAddr) -> bool {
        let same = self.address.is_ipv4() == address.is_ipv4();
        same && Cidr { address, ..self }.network() == self.network()
    }
}

/// This is not an address with the length of a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not {}", Cidr::EXPECTED)]
pub struct NotCidr;

impl FromStr for Cidr {
    type Err = NotCidr;

    fn from_str(text: &str) -> Result<Cidr, NotCidr> {
        let (address, length) = text.split_once('/').ok_or(NotCidr)?;
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotCidr);
        }
        let (address, length) = (address.parse().map_err(|_| NotCidr)?, length.parse().map_err(|_| NotCidr)?);
        Cidr::new(address, length).ok_or(NotCidr)
    }
}

impl Text for Cidr {
    const EXPECTED: &'static str =
        "a network with the length of its prefix, such as \"10.1.0.0/16\" or \"fd00::/64\"";

    fn parse(text: &str) -> Option<Cidr> {
        text.parse().ok()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
