//! A transport as a configuration says.

use super::NetTransport;
use crate::config::{Addressing, Device, Ecn, NetConfig, TcpConfig};
use crate::device::pcapng::Writer;
use crate::device::{
    Capabilities, FrameDevice, MacAddress, PacketConfig, PacketSocket, Tap, TapConfig, Tracer,
};
use crate::ip::addresses::Prefix;
use crate::ip::routes::Route;
use crate::stack::{SocketOption, Stack, StackConfig};
use crate::tcp;
use demikernel_runtime::time::Instant;
use std::fs::File;
use std::io::{self, BufWriter};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Opens the device and makes a stack as the configuration says. The transport has the name of the device.
///
/// # Errors
/// What the system says of the device, with what to do; `Unsupported` for what the configuration asks for and this stack
/// does not do.
pub fn open(config: &NetConfig) -> io::Result<Rc<NetTransport>> {
    let network = &config.network;
    for addressing in &network.addresses {
        if !matches!(addressing, Addressing::Static(_)) {
            let text = format!(
                "network.addresses: found \"{addressing}\", expected addresses such as \"10.0.0.2/24\": the transport \
                 takes no others, and the defaults have none (DEMIKERNEL_CONFIG names the file that says them)"
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    }
    let device: Box<dyn FrameDevice> = match network.device {
        Device::Tap => {
            let mut tap = TapConfig::new(&network.interface, network.mac.map_or_else(local_address, Ok)?);
            tap.offload = network.offload;
            traced(Tap::open(&tap)?, config)?
        }
        Device::Packet => {
            let mut packet = PacketConfig::new(&network.interface);
            (packet.address, packet.frames) = (network.mac, network.ring_frames as usize);
            traced(PacketSocket::open(&packet)?, config)?
        }
    };
    let stack = Stack::new(Instant::now(), stack_config(config, device.capabilities(), random()?)?);
    Ok(NetTransport::with_device(network.device.name(), stack, device))
}

/// With a capture of what goes through it, if one is asked for.
fn traced<D: FrameDevice + 'static>(device: D, config: &NetConfig) -> io::Result<Box<dyn FrameDevice>> {
    let Some(path) = &config.capture.file else { return Ok(Box::new(device)) };
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot write the capture {}: {error}", path.display()))
    };
    let output = BufWriter::new(File::create(path).map_err(explain)?);
    let (medium, limit) = (device.capabilities().medium, config.capture.snap_length as usize);
    let writer = Writer::new(output, &config.network.interface, medium, limit).map_err(explain)?;
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(Box::new(Tracer::new(device, writer, clock)))
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
        if let Addressing::Static(cidr) = addressing {
            stack = stack.address(cidr.address(), cidr.length());
        }
    }
    for gateway in &network.gateways {
        stack = stack.gateway(*gateway);
    }
    for route in &network.routes {
        if let Some(prefix) = Prefix::new(route.to.address(), route.to.length()) {
            stack.routes.push(Route { metric: route.metric, ..Route::fixed(prefix, route.via) });
        }
    }
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
    let hops = SocketOption::TimeToLive(config.network.hop_limit.into());
    let of_streams = [
        hops.clone(),
        SocketOption::NoDelay(tcp.no_delay),
        SocketOption::KeepAlive(tcp.keepalive.enabled),
        SocketOption::KeepIdle(seconds(tcp.keepalive.idle)),
        SocketOption::KeepInterval(seconds(tcp.keepalive.interval)),
        SocketOption::KeepCount(tcp.keepalive.count),
        SocketOption::UserTimeout(tcp.user_timeout.map_or(0, milliseconds)),
    ];
    of_streams.iter().try_for_each(|option| stack.set_stream_option(option))?;
    stack.set_datagram_option(&hops)
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
    use crate::device::Medium;
    use crate::stack::OptionName;
    use demikernel_runtime::transport::{Domain, SocketKind};
    use std::net::IpAddr;

    #[test]
    fn a_stack_is_as_the_file_says() {
        let text = r#"
            [network]
            addresses = ["10.0.0.2/24", "fd00::2/64"]
            gateways = ["10.0.0.1"]
            routes = [{ to = "10.1.0.0/16", via = "10.0.0.9", metric = 3 }]
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
    fn what_this_stack_does_not_do_is_refused() {
        let error = open(&NetConfig::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(
            error.to_string().starts_with("network.addresses: found \"dhcp\", expected addresses"),
            "{error}"
        );
    }

    #[test]
    fn a_random_ethernet_address_is_a_local_one_of_one_host() {
        let (one, other) = (local_address().unwrap(), local_address().unwrap());
        assert_eq!((one.0[0] & 3, other.0[0] & 3), (2, 2));
        assert_ne!(one, other);
    }
}
