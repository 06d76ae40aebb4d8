//! A transport as a configuration says.

use super::NetTransport;
use crate::config::{Addressing, Device, Ecn, NetConfig, NetworkConfig, TcpConfig};
use crate::device::pcapng::Writer;
use crate::device::wall_clock;
use crate::device::{
    Capabilities, FaultInjector, FrameDevice, MacAddress, Medium, PacketConfig, PacketSocket, Tap, TapConfig,
    Tracer, Vlan,
};
use crate::ip::addresses::Prefix;
use crate::ip::routes::Route;
use crate::stack::{SocketOption, Stack, StackConfig};
use crate::tcp;
use demikernel_runtime::time::Instant;
use std::fs::File;
use std::io::{self, BufWriter};
use std::rc::Rc;
use std::time::Duration;

/// Opens the device and makes a stack as the configuration says, and [waits](NetTransport::wait_for_addresses) for its
/// addresses. The transport has the name of the device.
///
/// # Errors
/// What the system says of the device, with what to do; `Unsupported` for what the configuration asks for and the device
/// cannot do; those of the wait.
pub fn open(config: &NetConfig) -> io::Result<Rc<NetTransport>> {
    let network = &config.network;
    let device: Box<dyn FrameDevice> = match network.device {
        Device::Tap => wrapped(Tap::open(&tap_config(config)?)?, config)?,
        Device::Packet => wrapped(PacketSocket::open(&packet_config(config))?, config)?,
        Device::Dpdk => open_dpdk(config)?,
        Device::Xdp => open_xdp(config)?,
    };
    let stack = Stack::new(Instant::now(), stack_on(config, device.capabilities())?);
    let transport = NetTransport::with_device(network.device.name(), stack, device);
    transport.wait_for_addresses(network.wait).map_err(|error| explain(name_of(config), &error))?;
    Ok(transport)
}

/// A pair of queues of a port; from here on buffers of this thread are in memory that ports reach.
#[cfg(feature = "dpdk")]
pub(super) fn open_dpdk(config: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    use crate::device::Dpdk;
    use demikernel_dpdk::Port;
    let (eal, port) = dpdk_port(config)?;
    wrapped(Dpdk::new(Port::open(eal, &port)?, config.network.mac), config)
}

/// The port as the configuration says, in an environment that has started; from here on buffers of this thread are in
/// memory that ports reach.
#[cfg(feature = "dpdk")]
pub(super) fn dpdk_port(
    config: &NetConfig,
) -> io::Result<(&'static demikernel_dpdk::Eal, demikernel_dpdk::PortConfig)> {
    use demikernel_dpdk::{Eal, EalConfig, PortConfig};
    use demikernel_runtime::buffer::pool;
    let (network, dpdk) = (&config.network, &config.dpdk);
    let mut port = PortConfig::new(&dpdk.port);
    port.receive_descriptors = dpdk.receive_descriptors;
    port.transmit_descriptors = dpdk.transmit_descriptors;
    (port.mtu, port.promiscuous, port.offload) = (network.mtu, dpdk.promiscuous, network.offload);
    let mut eal = EalConfig::default();
    eal.arguments.clone_from(&dpdk.eal);
    (eal.huge_pages, eal.memory) = (dpdk.huge_pages, dpdk.memory as usize);
    eal.allow.extend(port.pci_address().map(str::to_owned));
    let eal = Eal::start(&eal)?;
    pool::trim();
    pool::set_source(eal.memory());
    Ok((eal, port))
}

#[cfg(not(feature = "dpdk"))]
pub(super) fn open_dpdk(_: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    let text = "network.device: \"dpdk\" is not compiled in: build with `--features dpdk`";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// Queues of an interface; from here on buffers of this thread are in memory that the kernel reaches, as far as it does.
#[cfg(feature = "xdp")]
pub(super) fn open_xdp(config: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    use crate::device::Xdp;
    wrapped(Xdp::open(&xdp_config(config))?, config)
}

/// What of the configuration is for AF_XDP.
#[cfg(feature = "xdp")]
pub(super) fn xdp_config(config: &NetConfig) -> crate::device::XdpConfig {
    use crate::config;
    use crate::device::{XdpConfig, XdpMode};
    let (network, xdp) = (&config.network, &config.xdp);
    let mut device = XdpConfig::new(&network.interface);
    device.address = network.mac;
    device.queues.clone_from(&xdp.queues);
    device.mode = match xdp.mode {
        config::XdpMode::Auto => XdpMode::Auto,
        config::XdpMode::ZeroCopy => XdpMode::ZeroCopy,
        config::XdpMode::Copy => XdpMode::Copy,
    };
    (device.receive_ring, device.transmit_ring) = (xdp.receive_ring, xdp.transmit_ring);
    (device.memory, device.need_wakeup) = (xdp.memory as usize, xdp.need_wakeup);
    device
}

#[cfg(not(feature = "xdp"))]
pub(super) fn open_xdp(_: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    let text = "network.device: \"xdp\" is not compiled in: build with `--features xdp`";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// What of the configuration is for a TAP interface.
pub(super) fn tap_config(config: &NetConfig) -> io::Result<TapConfig> {
    let network = &config.network;
    let mut tap = TapConfig::new(&network.interface, network.mac.map_or_else(local_address, Ok)?);
    tap.offload = network.offload;
    Ok(tap)
}

/// What of the configuration is for a packet socket.
pub(super) fn packet_config(config: &NetConfig) -> PacketConfig {
    let network = &config.network;
    let mut packet = PacketConfig::new(&network.interface);
    (packet.address, packet.frames) = (network.mac, network.ring_frames as usize);
    packet
}

/// What a stack on this device is told.
pub(super) fn stack_on(config: &NetConfig, capabilities: Capabilities) -> io::Result<StackConfig> {
    check_medium(config, capabilities.medium)?;
    let mut stack = stack_config(config, capabilities, random()?)?;
    stack.stable_secret = machine_secret();
    Ok(stack)
}

/// What people call the device.
pub(super) fn name_of(config: &NetConfig) -> &str {
    match config.network.device {
        Device::Dpdk => &config.dpdk.port,
        Device::Tap | Device::Packet | Device::Xdp => &config.network.interface,
    }
}

/// Nobody gives addresses where there are no stations.
fn check_medium(config: &NetConfig, medium: Medium) -> io::Result<()> {
    let dynamic =
        config.network.addresses.iter().find(|addressing| !matches!(addressing, Addressing::Static(_)));
    match (dynamic, medium) {
        (Some(addressing), Medium::Ip) => {
            let text = format!(
                "network.addresses: found \"{addressing}\", expected addresses such as \"10.0.0.2/24\", as \"{}\" is no \
                 Ethernet",
                name_of(config)
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        _ => Ok(()),
    }
}

/// Why there are no addresses, and what to do.
pub(super) fn explain(name: &str, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::TimedOut => {
            "say addresses under [network], such as addresses = [\"10.0.0.2/24\"], in the file that DEMIKERNEL_CONFIG \
             names, or wait longer (network.wait)"
        }
        io::ErrorKind::AddrInUse => "choose another one (network.addresses)",
        _ => return io::Error::new(error.kind(), format!("\"{name}\": {error}")),
    };
    io::Error::new(error.kind(), format!("\"{name}\": {error}; {hint}"))
}

/// What this machine's addresses are made of, if it has something that is the same at every start.
fn machine_secret() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    u128::from_str_radix(text.trim(), 16).ok().map(u128::to_be_bytes)
}

/// On the VLAN that is asked for, with faults, if some are asked for: what is captured is what the stack saw.
pub(super) fn wrapped<D: FrameDevice + 'static>(
    device: D,
    config: &NetConfig,
) -> io::Result<Box<dyn FrameDevice>> {
    match config.network.vlan {
        Some(vlan) => faulty(Vlan::new(device, vlan), config),
        None => faulty(device, config),
    }
}

fn faulty<D: FrameDevice + 'static>(device: D, config: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    let faults = config.faults.faults();
    if faults.is_none() {
        return traced(device, config);
    }
    tracing::warn!(?faults, "frames are lost or altered on purpose, as the configuration says");
    traced(FaultInjector::new(device, faults, faults, config.faults.seed, Instant::now), config)
}

/// With a capture of what goes through it, if one is asked for.
fn traced<D: FrameDevice + 'static>(device: D, config: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    let Some(path) = &config.capture.file else { return Ok(Box::new(device)) };
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot write the capture {}: {error}", path.display()))
    };
    let output = BufWriter::new(File::create(path).map_err(explain)?);
    let (medium, limit) = (device.capabilities().medium, config.capture.snap_length as usize);
    let writer = Writer::new(output, name_of(config), medium, limit).map_err(explain)?;
    Ok(Box::new(Tracer::new(device, writer, wall_clock)))
}

/// What the stack is told of all that.
fn stack_config(
    config: &NetConfig,
    mut capabilities: Capabilities,
    key: [u8; 32],
) -> io::Result<StackConfig> {
    let network = &config.network;
    if let Some(mtu) = network.mtu {
        capabilities.mtu = capabilities.mtu.min(mtu.into());
    }
    let mut stack = StackConfig::new(capabilities, key);
    for addressing in &network.addresses {
        stack = match addressing {
            Addressing::Static(cidr) => stack.address(cidr.address(), cidr.length()),
            Addressing::Dhcp => stack.dhcp(),
            Addressing::Slaac => stack.slaac(),
        };
    }
    for gateway in &network.gateways {
        stack = stack.gateway(*gateway);
    }
    for route in &network.routes {
        if let Some(prefix) = Prefix::new(route.to.address(), route.to.length()) {
            stack.routes.push(Route { metric: route.metric, ..Route::fixed(prefix, route.via) });
        }
    }
    stack.duplicate_detection = network.duplicate_detection;
    stack.accept_redirects = network.accept_redirects;
    let (first, last) = network.ephemeral_ports;
    stack.ports = first..=last;
    stack.tcp = tcp_config(&config.tcp);
    stack.syn_cookies = config.tcp.syn_cookies;
    let limits = &config.limits;
    stack.limits.sockets = limits.sockets;
    stack.limits.time_wait = limits.time_wait;
    stack.limits.half_open = limits.half_open;
    stack.limits.backlog = limits.backlog;
    stack.limits.resets = limits.resets;
    stack.limits.icmp = limits.icmp_errors;
    stack.limits.datagrams = config.udp.receive_buffer as usize;
    stack.limits.neighbours.entries = limits.neighbours as usize;
    stack.limits.neighbours.total_packets = limits.neighbour_packets as usize;
    stack.limits.fragments.packets = limits.fragmented_packets as usize;
    stack.limits.fragments.fragments = limits.fragments as usize;
    stack.limits.fragments.memory = limits.fragment_memory as usize;
    set_options(config, &mut stack)?;
    Ok(stack)
}

/// How sockets begin.
fn set_options(config: &NetConfig, stack: &mut StackConfig) -> io::Result<()> {
    let tcp = &config.tcp;
    // The options count in whole seconds; what is configured is not cut short.
    let seconds = |time: Duration| u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let hops = config.network.hop_limit;
    if hops != NetworkConfig::default().hop_limit {
        let hops = SocketOption::TimeToLive(hops.into());
        stack.set_stream_option(&hops)?;
        stack.set_datagram_option(&hops)?;
    }
    let of_streams = [
        SocketOption::NoDelay(tcp.no_delay),
        SocketOption::KeepAlive(tcp.keepalive.enabled),
        SocketOption::KeepIdle(seconds(tcp.keepalive.idle)),
        SocketOption::KeepInterval(seconds(tcp.keepalive.interval)),
        SocketOption::KeepCount(tcp.keepalive.count),
        SocketOption::UserTimeout(tcp.user_timeout.map_or(0, milliseconds)),
    ];
    of_streams.iter().try_for_each(|option| stack.set_stream_option(option))
}

fn tcp_config(config: &TcpConfig) -> tcp::Config {
    let congestion = config.congestion_control.name().parse();
    tcp::Config {
        receive_buffer: config.receive_buffer.initial,
        receive_buffer_most: config.receive_buffer.maximum,
        send_buffer: config.send_buffer.initial,
        send_buffer_most: config.send_buffer.maximum,
        timestamps: config.timestamps,
        window_scaling: config.window_scaling,
        sack: config.sack,
        ecn: match config.ecn {
            Ecn::Off => tcp::EcnMode::Off,
            Ecn::Accept => tcp::EcnMode::Accept,
            Ecn::Request => tcp::EcnMode::Request,
            Ecn::Exact => tcp::EcnMode::Exact,
        },
        mtu_probing: config.mtu_probing,
        syn_retries: config.syn_retries,
        syn_ack_retries: config.syn_ack_retries,
        retries: config.retries,
        orphan_retries: config.orphan_retries,
        acknowledgment_delay: config.acknowledgment_delay,
        user_timeout_option: config.user_timeout_option,
        user_timeout_least: config.user_timeout_least,
        user_timeout_most: config.user_timeout_most,
        fin_wait: config.fin_wait,
        time_wait: config.time_wait,
        challenge_acks: config.challenge_acks,
        congestion: congestion.unwrap_or_default(),
        initial_window: config.initial_window,
        min_rto: config.min_rto,
        max_rto: config.max_rto,
        pacing: config.pacing,
    }
}

/// An Ethernet address that is nobody's: of the locally administered ones, for one host.
fn local_address() -> io::Result<MacAddress> {
    let mut address: [u8; 6] = random()?;
    address[0] = address[0] & 0xfc | 2;
    Ok(MacAddress(address))
}

/// What nobody else knows, from getrandom(2).
fn random<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "what is asked for comes whole up to there") };
    let mut bytes = [0; N];
    // SAFETY: the array has room for so many bytes.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if filled == N as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{DuplicateDetection, OptionName};
    use demikernel_runtime::transport::{Domain, SocketKind};
    use std::net::IpAddr;

    #[test]
    fn a_stack_is_as_the_file_says() {
        let text = r#"
            [network]
            addresses = ["10.0.0.2/24", "fd00::2/64"]
            gateways = ["10.0.0.1"]
            routes = [{ to = "10.1.0.0/16", via = "10.0.0.9", metric = 3 }]
            duplicate-detection = "optimistic"
            accept-redirects = false
            mtu = 1300
            hop-limit = 9
            ephemeral-ports = [40000, 40009]
            [tcp]
            congestion-control = "reno"
            send-buffer = { initial = "8KiB", maximum = "1MiB" }
            syn-cookies = false
            no-delay = true
            user-timeout = "1500ms"
            keepalive = { enabled = true, idle = "90s", count = 4 }
            [udp]
            receive-buffer = "64KiB"
            [limits]
            sockets = 77
            neighbours = 44
            fragments = 99
        "#;
        let config: NetConfig = text.parse().unwrap();
        let device = Capabilities::new(Medium::Ip, 1500);
        let stack = stack_config(&config, device, [1; 32]).unwrap();
        let addresses: Vec<_> = stack.addresses.iter().map(|address| address.address).collect();
        assert_eq!(addresses, ["10.0.0.2", "fd00::2"].map(|address| address.parse::<IpAddr>().unwrap()));
        let routes: Vec<_> = stack.routes.iter().map(|route| (route.metric, route.gateway)).collect();
        let router = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(routes, [(0, router("10.0.0.1")), (3, router("10.0.0.9"))]);
        assert_eq!((stack.capabilities.mtu, stack.ports.clone()), (1300, 40_000..=40_009));
        assert_eq!((stack.dhcp, stack.slaac, stack.accept_redirects), (false, false, false));
        assert_eq!(stack.duplicate_detection, DuplicateDetection::Optimistic);
        let defaults = stack_config(&NetConfig::default(), device, [1; 32]).unwrap();
        assert_eq!((defaults.dhcp, defaults.slaac, defaults.accept_redirects), (true, true, true));
        assert_eq!(defaults.duplicate_detection, DuplicateDetection::Standard);
        assert_eq!((stack.tcp.send_buffer, stack.tcp.send_buffer_most), (8 << 10, 1 << 20));
        assert_eq!(stack.tcp.congestion.name(), "reno");
        assert_eq!((stack.syn_cookies, stack.limits.sockets), (false, 77));
        assert_eq!((stack.limits.datagrams, stack.limits.fragments.fragments), (64 << 10, 99));
        assert_eq!(stack.limits.neighbours.entries, 44);
        let mut stack = Stack::new(Instant::from_nanos(0), stack);
        let stream = stack.socket(Domain::V4, SocketKind::Stream).unwrap();
        let datagram = stack.socket(Domain::V4, SocketKind::Datagram).unwrap();
        for (socket, name, expected) in [
            (stream, OptionName::TimeToLive, SocketOption::TimeToLive(9)),
            (stream, OptionName::NoDelay, SocketOption::NoDelay(true)),
            (stream, OptionName::UserTimeout, SocketOption::UserTimeout(1500)),
            (stream, OptionName::KeepAlive, SocketOption::KeepAlive(true)),
            (stream, OptionName::KeepIdle, SocketOption::KeepIdle(90)),
            (stream, OptionName::KeepCount, SocketOption::KeepCount(4)),
            (datagram, OptionName::TimeToLive, SocketOption::TimeToLive(9)),
        ] {
            assert_eq!(stack.option(socket, name).unwrap(), expected);
        }
        // The device's own is the most that there can be.
        let stack = stack_config(&config, Capabilities::new(Medium::Ip, 1000), [1; 32]).unwrap();
        assert_eq!(stack.capabilities.mtu, 1000);
    }

    #[test]
    fn addresses_of_others_need_an_ethernet_and_errors_say_what_to_do() {
        let config = NetConfig::default();
        let error = check_medium(&config, Medium::Ip).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(
            error.to_string().starts_with("network.addresses: found \"dhcp\", expected addresses"),
            "{error}"
        );
        assert!(check_medium(&config, Medium::Ethernet(MacAddress::default())).is_ok());
        let error = explain("tap0", &io::Error::new(io::ErrorKind::TimedOut, "nobody"));
        assert!(error.to_string().starts_with("\"tap0\": nobody; say addresses under [network]"), "{error}");
    }

    #[test]
    fn a_random_ethernet_address_is_a_local_one_of_one_host() {
        let (one, other) = (local_address().unwrap(), local_address().unwrap());
        assert_eq!((one.0[0] & 3, other.0[0] & 3), (2, 2));
        assert_ne!(one, other);
    }
}
