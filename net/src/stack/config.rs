//! What a stack is told at its beginning.

use super::automatic::DuplicateDetection;
use super::options::{Options, SocketOption};
use crate::cores::Place;
use crate::device::Capabilities;
use crate::ip::addresses::Address;
use crate::ip::routes::Route;
use crate::ip::{neighbours, reassembly};
use crate::tcp;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// What is limited, so that nothing that comes from outside grows without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Sockets and connections, those in TIME-WAIT included.
    pub sockets: u32,
    /// Connections in TIME-WAIT: further ones end at once.
    pub time_wait: u32,
    /// Half-open connections of one listener, before SYN cookies take their place.
    pub half_open: u32,
    /// The largest backlog of a listener.
    pub backlog: u32,
    /// Resets in a second, for segments of no connection.
    pub resets: u32,
    /// ICMP errors in a second. [rfc1812 4.3.2.8] [rfc4443 2.4-f]
    pub icmp: u32,
    /// Packets from here to here that wait.
    pub loopback: usize,
    /// Packets of UDP, ICMP and ARP that wait to be transmitted.
    pub outbound: usize,
    /// Octets that wait to be received from one UDP socket, with what keeping a datagram costs beside them.
    pub datagrams: usize,
    /// Neighbours, and packets that wait for their addresses.
    pub neighbours: neighbours::Limits,
    /// Packets that come in fragments.
    pub fragments: reassembly::Limits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sockets: 1 << 20,
            time_wait: 1 << 17,
            half_open: 1024,
            backlog: 4096,
            resets: 10_000,
            icmp: 1000,
            loopback: 4096,
            outbound: 1024,
            datagrams: crate::udp::LIMIT,
            neighbours: neighbours::Limits::default(),
            fragments: reassembly::Limits::default(),
        }
    }
}

/// How a stack is made.
///
/// ```
/// use demikernel_net::device::{Capabilities, MacAddress, Medium};
/// use demikernel_net::stack::StackConfig;
///
/// let medium = Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1]));
/// let config = StackConfig::new(Capabilities::new(medium, 1500), [7; 32])
///     .address("192.0.2.1".parse().unwrap(), 24)
///     .gateway("192.0.2.254".parse().unwrap());
/// assert_eq!(config.addresses.len(), 1);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StackConfig {
    /// What the device does.
    pub capabilities: Capabilities,
    /// Our addresses.
    pub addresses: Vec<Address>,
    /// Whether a DHCP server is asked for an address of IPv4. Only on an Ethernet.
    pub dhcp: bool,
    /// Whether addresses of IPv6 are made of the prefixes that routers advertise, and these routers are used. Only on
    /// an Ethernet.
    pub slaac: bool,
    /// Of what these addresses, and the link-local one, are made beside the prefix and the Ethernet address: with the
    /// same they stay the same (RFC 7217). Without, it is made of the key.
    pub stable_secret: Option<[u8; 16]>,
    /// Whether nobody else has our addresses. Only on an Ethernet.
    pub duplicate_detection: DuplicateDetection,
    /// Whether routers may say of a destination that another way is shorter.
    pub accept_redirects: bool,
    /// Where packets go, beside those to our own networks.
    pub routes: Vec<Route>,
    /// Of TCP.
    pub tcp: tcp::Config,
    /// Whether a flooded listener answers with SYN cookies. [rfc4987 3.6]
    pub syn_cookies: bool,
    /// Local ports of connections that are not bound.
    pub ports: RangeInclusive<u16>,
    /// Limits.
    pub limits: Limits,
    /// Random octets that nobody else knows: all that is to be unpredictable comes from them.
    pub key: [u8; 32],
    /// Of a stack that shares its device with those of other cores.
    pub(crate) place: Option<Rc<Place>>,
    pub(super) stream_options: Options,
    pub(super) datagram_options: Options,
}

impl StackConfig {
    /// Without addresses.
    pub fn new(capabilities: Capabilities, key: [u8; 32]) -> StackConfig {
        StackConfig {
            capabilities,
            addresses: Vec::new(),
            dhcp: false,
            slaac: false,
            stable_secret: None,
            duplicate_detection: DuplicateDetection::default(),
            accept_redirects: true,
            routes: Vec::new(),
            tcp: tcp::Config::default(),
            syn_cookies: true,
            ports: tcp::EphemeralPorts::DEFAULT,
            limits: Limits::default(),
            key,
            place: None,
            stream_options: Options::default(),
            datagram_options: Options::default(),
        }
    }

    /// With this address, of which so many bits are those of all hosts on the link.
    #[must_use]
    pub fn address(mut self, address: std::net::IpAddr, prefix_length: u8) -> StackConfig {
        self.addresses.push(Address::fixed(address, prefix_length));
        self
    }

    /// With the address that a DHCP server gives.
    #[must_use]
    pub fn dhcp(self) -> StackConfig {
        StackConfig { dhcp: true, ..self }
    }

    /// With the addresses that follow from what routers advertise.
    #[must_use]
    pub fn slaac(self) -> StackConfig {
        StackConfig { slaac: true, ..self }
    }

    /// With this way to see to it that nobody else has our addresses.
    #[must_use]
    pub fn duplicate_detection(self, mode: DuplicateDetection) -> StackConfig {
        StackConfig { duplicate_detection: mode, ..self }
    }

    /// What TCP sockets have this option set to at first.
    ///
    /// # Errors
    /// As [`Stack::set_option`](super::Stack::set_option).
    pub fn set_stream_option(&mut self, option: &SocketOption) -> io::Result<()> {
        self.stream_options.set(option)
    }

    /// What UDP sockets have this option set to at first.
    ///
    /// # Errors
    /// As [`Stack::set_option`](super::Stack::set_option).
    pub fn set_datagram_option(&mut self, option: &SocketOption) -> io::Result<()> {
        self.datagram_options.set(option)
    }

    /// With this router for all other destinations of its version.
    #[must_use]
    pub fn gateway(mut self, router: std::net::IpAddr) -> StackConfig {
        let any: std::net::IpAddr = match router {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        if let Some(prefix) = crate::ip::addresses::Prefix::new(any, 0) {
            self.routes.push(Route::fixed(prefix, Some(router)));
        }
        self
    }
}
