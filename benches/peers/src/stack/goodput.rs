//! Goodput in virtual time: one connection over a link that loses packets, the same link for both stacks.

use super::OURS;
use super::smoltcp::{Cable, Frames};
use demikernel_net::sim::{HostConfig, Link, LinkConfig, Network};
use demikernel_net::stack::SocketOption;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Domain, SocketKind};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::tcp::{self, CongestionControl};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address};
use std::time::Duration;

const LOSSES: [f64; 4] = [0.0, 0.01, 0.02, 0.05];
const ROUND_TRIPS: [u64; 5] = [100, 1_000, 10_000, 20_000, 100_000];
const SEED: u64 = 11;

/// How long data flows, of virtual time.
const TIME: Duration = Duration::from_secs(20);

/// Either way: 100 Mb/s and a queue of 20 ms.
fn link(loss: f64, round_trip: Duration) -> LinkConfig {
    LinkConfig { loss, ..LinkConfig::new(round_trip / 2, 100_000_000, 250_000) }
}

/// In Mb/s at 2 % loss and 20 ms, of everybody who has this control of congestion.
pub(super) fn of(item: &str) -> Vec<(&'static str, f64)> {
    let control = item.trim_start_matches("goodput_");
    let link = link(0.02, Duration::from_millis(20));
    let mut found = vec![(OURS, ours(control, link.clone()))];
    found.extend(of_smoltcp(control).map(|control| ("smoltcp", theirs(control, link))));
    found
}

fn of_smoltcp(name: &str) -> Option<CongestionControl> {
    match name {
        "reno" => Some(CongestionControl::Reno),
        "cubic" => Some(CongestionControl::Cubic),
        _ => None,
    }
}

/// Prints goodput over losses and round-trip times.
pub fn print_grid() {
    println!("Goodput in Mb/s over a link of 100 Mb/s, {} s of virtual time", TIME.as_secs());
    for (stack, controls) in [(OURS, ["reno", "cubic", "bbr"].as_slice()), ("smoltcp", &["reno", "cubic"])] {
        for control in controls {
            println!("\n| {stack}, {control}: loss | 0.1 ms | 1 ms | 10 ms | 20 ms | 100 ms |");
            println!("|---|---|---|---|---|---|");
            for loss in LOSSES {
                print!("| {:.0} % |", loss * 100.0);
                for micros in ROUND_TRIPS {
                    let link = link(loss, Duration::from_micros(micros));
                    let goodput = match of_smoltcp(control).filter(|_| stack != OURS) {
                        Some(control) => theirs(control, link),
                        None => ours(control, link),
                    };
                    print!(" {goodput:.2} |");
                }
                println!();
            }
        }
    }
}

fn rate(bytes: usize) -> f64 {
    bytes as f64 * 8.0 / TIME.as_secs_f64() / 1e6
}

fn ours(control: &str, link: LinkConfig) -> f64 {
    let mut network = Network::new(SEED, link);
    let one = network.add(HostConfig::new([[10, 0, 0, 1].into()]));
    let two = network.add(HostConfig::new([[10, 0, 0, 2].into()]));
    let to = "10.0.0.2:7".parse().expect("an address");
    let stream = |network: &mut Network, host| {
        network.host(host).socket(Domain::V4, SocketKind::Stream).expect("there is room for a socket")
    };
    let listener = stream(&mut network, two);
    network.host(two).bind(listener, to).expect("the port is free");
    network.host(two).listen(listener, 1).expect("the socket is bound");
    let client = stream(&mut network, one);
    let option = SocketOption::Congestion(control.to_owned());
    network.host(one).set_option(client, &option).expect("there is such a control");
    let _ = network.host(one).connect(client, to);
    let (mut server, mut received) = (None, 0);
    let data = [7; 65_536];
    network.run_while(TIME, |network| {
        server = server.or_else(|| network.host(two).accept(listener).ok().map(|(socket, _)| socket));
        while network.host(one).send(client, &data).is_ok() {}
        network.flush();
        while let Some(data) = server.and_then(|server| network.host(two).recv(server, 1 << 20).ok()) {
            received += data.len();
        }
        false
    });
    rate(received)
}

struct End {
    interface: Interface,
    port: Cable,
    sockets: SocketSet<'static>,
    socket: smoltcp::iface::SocketHandle,
}

impl End {
    fn new(control: CongestionControl, number: u8) -> End {
        let (inbound, outbound, spare) = (Frames::default(), Frames::default(), Frames::default());
        let mut port = Cable { medium: Medium::Ip, inbound, outbound, spare };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = number.into();
        let mut interface = Interface::new(config, &mut port, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddress::v4(10, 0, 0, number), 24);
            addresses.push(own).expect("there is room for one");
        });
        // As much as ours grows to.
        let memory = || tcp::SocketBuffer::new(vec![0; 4 << 20]);
        let mut socket = tcp::Socket::new(memory(), memory());
        socket.set_congestion_control(control);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        End { interface, port, sockets, socket }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Takes what has arrived, answers, and sends; when it wants to be polled again.
    fn poll(&mut self, now: Instant, inbound: &mut Link, outbound: &mut Link) -> Option<Instant> {
        while let Some(packet) = inbound.receive(now) {
            self.port.inbound.borrow_mut().push_back(packet);
        }
        let time = smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64);
        self.interface.poll(time, &mut self.port, &mut self.sockets);
        self.port.outbound.borrow_mut().drain(..).for_each(|packet| outbound.send(now, packet));
        let at = self.interface.poll_at(time, &self.sockets)?;
        Some(Instant::from_nanos(at.total_micros().max(0) as u64 * 1000))
    }
}

fn theirs(control: CongestionControl, link: LinkConfig) -> f64 {
    let (mut there, mut back) = (Link::new(link.clone(), SEED), Link::new(link, SEED + 1));
    let (mut client, mut server) = (End::new(control, 1), End::new(control, 2));
    server.tcp().listen(7).expect("the socket is closed");
    let context = client.interface.context();
    let socket = client.sockets.get_mut::<tcp::Socket<'_>>(client.socket);
    socket.connect(context, (Ipv4Address::new(10, 0, 0, 2), 7), 1024).expect("the socket is closed");
    let (mut now, mut received) = (Instant::from_nanos(1_000_000), 0);
    let end = now.saturating_add(TIME);
    let data = [7; 65_536];
    while now < end {
        while client.tcp().can_send() && client.tcp().send_slice(&data).is_ok_and(|count| count > 0) {}
        let mut next = client.poll(now, &mut back, &mut there);
        next = next.into_iter().chain(server.poll(now, &mut there, &mut back)).min();
        while server.tcp().can_recv() {
            received += server.tcp().recv(|data| (data.len(), data.len())).unwrap_or(0);
        }
        // The window has opened.
        server.poll(now, &mut there, &mut back);
        let arrivals = [there.next_deadline(), back.next_deadline()];
        let least = now.saturating_add(Duration::from_micros(1));
        let next = next.into_iter().chain(arrivals.into_iter().flatten()).min().unwrap_or(end);
        now = next.max(least);
    }
    rate(received)
}
