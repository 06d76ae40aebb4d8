//! A transport for each core of a program, on one device.

use super::NetTransport;
use super::open::{explain, name_of, packet_config, stack_on, tap_config, wrapped};
use crate::config::{Device, NetConfig};
use crate::cores::hash::Table;
use crate::cores::{Cores, Place, Shared};
use crate::device::{FrameDevice, PacketSocket, Tap, Vlan};
use crate::stack::Stack;
use demikernel_runtime::time::Instant;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long cores wait for what the first does at the beginning, beyond what that is given.
const PATIENCE: Duration = Duration::from_secs(15);

/// A core's queue, and which core has which hash, if the device says so.
type Opened = (Option<Box<dyn FrameDevice>>, Option<Table>);

/// As [`open`](super::open()) for one of several cores, each of which calls it on its own thread, with its number from 0.
/// It returns when all have opened the device and the first has its addresses. See [`cores`](crate::cores).
///
/// A transport that is shut down serves the others until all are, so each needs a thread of its own.
///
/// # Errors
/// Those of [`open`](super::open()), of this core or another; `TimedOut` if some core does not come.
pub fn open_on(config: &NetConfig, cores: &Arc<Cores>, core: usize) -> io::Result<Rc<NetTransport>> {
    if cores.count() == 1 {
        return super::open(config);
    }
    open_share(config, cores, core).inspect_err(|error| cores.fail(core, error))
}

fn open_share(config: &NetConfig, cores: &Arc<Cores>, core: usize) -> io::Result<Rc<NetTransport>> {
    let network = &config.network;
    let (queue, table) = match network.device {
        Device::Tap => (cores.in_turn(core, |shared| open_tap(config, cores.count(), core, shared))?, None),
        Device::Packet => {
            (cores.in_turn(core, |shared| open_packet(config, cores.count(), core, shared))?, None)
        }
        Device::Xdp => (cores.in_turn(core, |shared| open_xdp(config, cores.count(), core, shared))?, None),
        Device::Dpdk => open_dpdk(config, cores, core)?,
    };
    let (port, place) = cores.join(core, queue, table)?;
    let capabilities = port.capabilities();
    let device = wrapped(port, &of_core(config, core))?;
    let mut stack = stack_on(config, capabilities)?;
    if core != 0 {
        // The first finds out, and answers for it.
        (stack.dhcp, stack.slaac) = (false, false);
        stack.duplicate_detection = Default::default();
        stack.addresses.clear();
        stack.routes.clear();
    }
    stack.place = Some(place.clone());
    let transport =
        NetTransport::with_device(network.device.name(), Stack::new(Instant::now(), stack), device);
    wait(config, &transport, &place)?;
    Ok(transport)
}

/// Waits for the addresses, of which the first core knows.
fn wait(config: &NetConfig, transport: &NetTransport, place: &Place) -> io::Result<()> {
    let (cores, limit) = (place.cores(), config.network.wait);
    if place.is_first() {
        transport.wait_for_addresses(limit).map_err(|error| explain(name_of(config), &error))?;
        cores.set_configured();
        return Ok(());
    }
    let end = std::time::Instant::now() + limit + PATIENCE;
    // The turn before may have been too early to see what the first has found out.
    transport.turn_until(end, || cores.is_configured().unwrap_or(true) && !place.has_news());
    if cores.is_configured()? {
        return transport.check_running();
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the first core has not come to have addresses"))
}

/// The configuration with files of this core's own, for what is around its share of the port.
fn of_core(config: &NetConfig, core: usize) -> NetConfig {
    let mut config = config.clone();
    config.network.vlan = None;
    if let Some(file) = config.capture.file.as_mut().filter(|_| core > 0) {
        file.as_mut_os_string().push(format!(".{core}"));
    }
    config
}

/// A queue, on the VLAN that is asked for.
fn boxed(device: impl FrameDevice + 'static, config: &NetConfig) -> Option<Box<dyn FrameDevice>> {
    match config.network.vlan {
        Some(vlan) => Some(Box::new(Vlan::new(device, vlan))),
        None => Some(Box::new(device)),
    }
}

/// A queue for each core, unless somebody has made the interface with one queue.
fn open_tap(
    config: &NetConfig,
    count: usize,
    core: usize,
    shared: &mut Shared,
) -> io::Result<Option<Box<dyn FrameDevice>>> {
    let mut tap = tap_config(config)?;
    if core == 0 {
        tap.multiple_queues = true;
        shared.queues = count;
        let opened = Tap::open(&tap).or_else(|error| {
            if error.kind() != io::ErrorKind::InvalidInput {
                return Err(error);
            }
            (tap.multiple_queues, shared.queues) = (false, 1);
            Tap::open(&tap)
        })?;
        (shared.address, shared.name) = (Some(tap.address), Some(opened.name().to_owned()));
        return Ok(boxed(opened, config));
    }
    if core >= shared.queues {
        return Ok(None);
    }
    tap.multiple_queues = true;
    tap.address = shared.address.unwrap_or(tap.address);
    tap.name = shared.name.clone().unwrap_or(tap.name);
    Ok(boxed(Tap::open(&tap)?, config))
}

/// A socket for each core, between which the kernel spreads flows, unless it cannot.
fn open_packet(
    config: &NetConfig,
    count: usize,
    core: usize,
    shared: &mut Shared,
) -> io::Result<Option<Box<dyn FrameDevice>>> {
    let packet = packet_config(config);
    if core == 0 {
        let socket = PacketSocket::open(&packet)?;
        shared.fanout = socket.found_group();
        shared.queues = if shared.fanout.is_some() { count } else { 1 };
        return Ok(boxed(socket, config));
    }
    let Some(group) = shared.fanout else { return Ok(None) };
    let socket = PacketSocket::open(&packet)?;
    socket.join_group(group)?;
    Ok(boxed(socket, config))
}

/// The queues that the configuration names, in turn.
#[cfg(feature = "xdp")]
fn open_xdp(
    config: &NetConfig,
    count: usize,
    core: usize,
    shared: &mut Shared,
) -> io::Result<Option<Box<dyn FrameDevice>>> {
    let mut xdp = super::open::xdp_config(config);
    shared.queues = count.min(xdp.queues.len());
    if core >= shared.queues {
        return Ok(None);
    }
    xdp.queues = xdp.queues.iter().copied().skip(core).step_by(shared.queues).collect();
    let opened = crate::device::Xdp::open_with(&xdp, shared.program.take())?;
    shared.program = opened.program();
    Ok(boxed(opened, config))
}

#[cfg(not(feature = "xdp"))]
fn open_xdp(
    config: &NetConfig,
    _: usize,
    _: usize,
    _: &mut Shared,
) -> io::Result<Option<Box<dyn FrameDevice>>> {
    super::open::open_xdp(config).map(Some)
}

/// As many queues as the port has and the configuration says.
#[cfg(feature = "dpdk")]
fn open_dpdk(config: &NetConfig, cores: &Cores, core: usize) -> io::Result<Opened> {
    use crate::device::Dpdk;
    use demikernel_dpdk::Port;
    let (queues, eal, mut port) = cores.in_turn(core, |shared| {
        let (eal, port) = super::open::dpdk_port(config)?;
        if core == 0 {
            shared.queues = dpdk_queues(config, cores.count(), Port::most_queues(eal, &port)?)?;
        }
        Ok((shared.queues, eal, port))
    })?;
    if core >= queues {
        return Ok((None, None));
    }
    port.queues = queues as u16;
    port.hash_key = (queues > 1).then(|| crate::cores::hash::key(64));
    let queue = Port::open_queue(eal, &port, core as u16)?;
    let table =
        if queues == cores.count() { Table::of_device(&queue.port().redirection(), queues) } else { None };
    Ok((boxed(Dpdk::new(queue, config.network.mac), config), table))
}

/// How many queues are used of a port that has `most`.
#[cfg(feature = "dpdk")]
fn dpdk_queues(config: &NetConfig, cores: usize, most: u16) -> io::Result<usize> {
    let most = usize::from(most).max(1);
    let Some(asked) = config.dpdk.queues.map(usize::from) else {
        // The other end of a memif device has to have as many, which nobody but the user knows.
        let is_alone = config.dpdk.port.starts_with("net_memif");
        return Ok(if is_alone { 1 } else { cores.min(most) });
    };
    let refuse = |expected: String| {
        let text = format!("dpdk.queues: found {asked}, expected {expected}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    if asked > most {
        return refuse(format!("{most} at most, as many as the port has"));
    }
    if asked > cores {
        return refuse(format!("{cores} at most, as many as there are cores"));
    }
    Ok(asked)
}

#[cfg(not(feature = "dpdk"))]
fn open_dpdk(config: &NetConfig, _: &Cores, _: usize) -> io::Result<Opened> {
    super::open::open_dpdk(config).map(|device| (Some(device), None))
}
