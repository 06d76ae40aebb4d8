//! How the device is opened: sizes, the program, sockets in the best mode that there is, and errors that say what to do.

use super::kernel::{self, HEADROOM};
use super::patience::Patience;
use super::program::{MOST_QUEUES, Program};
use super::queue::{Counters, Queue, Setup};
use super::umem::Umem;
use super::watch::Watch;
use super::{Xdp, XdpConfig, XdpMode, XdpProgram};
use crate::device::{Capabilities, Medium, interface};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Bytes of an Ethernet header and of a VLAN tag, beyond the MTU.
const LINK_HEADER: usize = 14 + 4;

/// Sizes of chunks: the kernel takes a page at most.
const CHUNKS: [usize; 2] = [2048, 4096];

/// See [`Xdp::open`].
pub(super) fn open(config: &XdpConfig, program: Option<XdpProgram>) -> io::Result<Xdp> {
    check(config)?;
    let name = &config.interface;
    let any = interface::any_socket()?;
    let index = interface::index(&any, name).map_err(|error| {
        let text = format!("no interface {name:?}: {error}; `ip link` shows those that there are");
        io::Error::new(error.kind(), text)
    })?;
    let (mtu, own) = (interface::mtu(&any, name)?, interface::hardware_address(&any, name)?);
    let address = config.address.unwrap_or(own);
    let umem = memory(config, chunk_of(name, mtu)?)?;
    let patience = Patience::new();
    let program = match program {
        Some(XdpProgram(program)) => program,
        None => Arc::new(Program::attach(index as u32, patience)?),
    };
    let (queues, flags) = sockets(config, index as u32, &program, &umem, patience)?;
    let (watch, alarm) = (Watch::new(index as u32)?, kernel::alarm()?);
    let others = [watch.descriptor(), alarm.as_raw_fd()];
    let descriptors = queues.iter().map(|queue| queue.socket().as_raw_fd()).chain(others);
    let scatter = flags & libc::XDP_USE_SG != 0;
    let mut device = Xdp {
        readable: interface::any_of(descriptors)?,
        alarm,
        is_alarm_set: false,
        _promiscuous: if address == own { None } else { Some(receive_everything(index)?) },
        zero_copy: queues.iter().all(|queue| kernel::is_zero_copy(queue.socket()).unwrap_or(false)),
        program: Some(program),
        queues,
        umem,
        watch,
        interface: name.clone(),
        index: index as u32,
        numbers: config.queues.clone(),
        capabilities: Capabilities { scatter, ..Capabilities::new(Medium::Ethernet(address), mtu) },
        longest: mtu + LINK_HEADER,
        turn: 0,
        idle: 0,
        is_down: false,
        counters: Counters::default(),
    };
    // From here on the kernel has memory, which it gives back to a device that is dropped.
    start(&mut device, config)?;
    let (zero_copy, driver) = (device.zero_copy, device.is_in_driver());
    tracing::debug!(name, mtu, %address, zero_copy, scatter, driver, "AF_XDP sockets opened");
    Ok(device)
}

/// Lends the kernel memory to receive into, and has it lead frames here.
fn start(device: &mut Xdp, config: &XdpConfig) -> io::Result<()> {
    for (queue, &number) in device.queues.iter_mut().zip(&config.queues) {
        if !queue.fill(config.receive_ring, &mut device.umem) {
            return Err(invalid(format!("{} bytes of memory do not suffice", config.memory)));
        }
        device.program.iter().try_for_each(|program| program.redirect(number, queue.socket()))?;
    }
    Ok(())
}

/// Whether the numbers can be.
fn check(config: &XdpConfig) -> io::Result<()> {
    let queues = &config.queues;
    if queues.is_empty() {
        return Err(invalid("no queue of the interface is named".to_owned()));
    }
    for (place, &queue) in queues.iter().enumerate() {
        if queue >= MOST_QUEUES || queues[..place].contains(&queue) {
            return Err(invalid(format!("queue {queue}: expected each once, below {MOST_QUEUES}")));
        }
    }
    for entries in [config.receive_ring, config.transmit_ring] {
        if !entries.is_power_of_two() || !(64..=1 << 16).contains(&entries) {
            return Err(invalid(format!(
                "a ring of {entries} entries: expected a power of two from 64 to 65536"
            )));
        }
    }
    Ok(())
}

/// The chunk that a frame of this MTU fits, with what the kernel keeps free in front of it.
fn chunk_of(name: &str, mtu: usize) -> io::Result<usize> {
    let around = LINK_HEADER + HEADROOM;
    CHUNKS.into_iter().find(|chunk| mtu + around <= *chunk).ok_or_else(|| {
        let most = CHUNKS[CHUNKS.len() - 1] - around;
        invalid(format!(
            "the MTU of {name:?} is {mtu}, and AF_XDP takes {most} at most: `ip link set {name} mtu {most}`"
        ))
    })
}

/// The range of the heap: twice what waits for frames at least, so that as much can be in use.
fn memory(config: &XdpConfig, chunk: usize) -> io::Result<Umem> {
    let waiting = config.queues.len() * config.receive_ring as usize * chunk;
    if config.memory < 2 * waiting {
        let text = format!(
            "{} bytes of memory: expected {} at least, twice the chunks that wait in receive rings",
            config.memory,
            2 * waiting
        );
        return Err(invalid(text));
    }
    Umem::new(config.memory, chunk).map_err(|error| {
        let text = format!("no memory to share with the kernel: {error}");
        io::Error::new(io::ErrorKind::OutOfMemory, text)
    })
}

/// Sockets on all queues, in the best mode that the driver has for the first; and the flags of that.
fn sockets(
    config: &XdpConfig,
    index: u32,
    program: &Program,
    umem: &Umem,
    patience: Patience,
) -> io::Result<(Vec<Queue>, u16)> {
    let (receive, transmit) = (config.receive_ring, config.transmit_ring);
    let modes = modes(config, program)?;
    let first = config.queues[0];
    let (queue, setup) = patience
        .try_for(|| {
            let mut result = Err(io::ErrorKind::Unsupported.into());
            for &flags in &modes {
                let setup = Setup { index, receive, transmit, flags };
                result = Queue::open(&setup, first, umem, None).map(|queue| (queue, setup));
                if result.is_ok() {
                    break;
                }
            }
            result
        })
        .map_err(|error| explain(config, first, &error))?;
    let mut queues = vec![queue];
    for &number in &config.queues[1..] {
        // It shares the memory of the first.
        let shared = Some(queues[0].socket().as_raw_fd());
        let queue = patience.try_for(|| Queue::open(&setup, number, umem, shared));
        queues.push(queue.map_err(|error| explain(config, number, &error))?);
    }
    Ok((queues, setup.flags))
}

/// The flags to try, the best first.
fn modes(config: &XdpConfig, program: &Program) -> io::Result<Vec<u16>> {
    let zero_copy = [libc::XDP_ZEROCOPY | libc::XDP_USE_SG, libc::XDP_ZEROCOPY];
    let copy = [libc::XDP_COPY];
    let flags = match config.mode {
        XdpMode::ZeroCopy if !program.in_driver => {
            let text = format!(
                "the driver of {:?} runs no XDP program, so nothing goes without a copy: use the mode copy, or auto",
                config.interface
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        XdpMode::ZeroCopy => zero_copy.to_vec(),
        XdpMode::Auto if program.in_driver => [&zero_copy[..], &copy].concat(),
        XdpMode::Auto | XdpMode::Copy => copy.to_vec(),
    };
    let wakeup = if config.need_wakeup { libc::XDP_USE_NEED_WAKEUP } else { 0 };
    Ok(flags.into_iter().map(|flags| flags | wakeup).collect())
}

/// A packet socket that makes the interface receive frames for other addresses too.
fn receive_everything(index: i32) -> io::Result<OwnedFd> {
    let socket = interface::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC)?;
    interface::receive_everything(&socket, index)?;
    Ok(socket)
}

fn explain(config: &XdpConfig, queue: u32, error: &io::Error) -> io::Error {
    let name = &config.interface;
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "it takes root, or CAP_NET_RAW".to_owned(),
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned(),
        Some(libc::EBUSY) => {
            "another socket has it, such as of another process: `ss --xdp` shows it".to_owned()
        }
        Some(libc::EINVAL) => format!("`ethtool -l {name}` shows how many there are"),
        Some(libc::EOPNOTSUPP) => "the driver copies: use the mode copy, or auto".to_owned(),
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            format!("{} bytes stay in memory: raise `ulimit -l`, or run with CAP_IPC_LOCK", config.memory)
        }
        _ => "`dmesg` may say more".to_owned(),
    };
    io::Error::new(error.kind(), format!("cannot open queue {queue} of {name:?}: {error}; {remedy}"))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_fits_the_longest_frame_and_no_more_is_promised() {
        for (mtu, chunk) in [(68, 2048), (1500, 2048), (1774, 2048), (1775, 4096), (3822, 4096)] {
            assert_eq!(chunk_of("eth0", mtu).unwrap(), chunk, "{mtu}");
        }
        let error = chunk_of("eth0", 3823).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the MTU of \"eth0\" is 3823, and AF_XDP takes 3822 at most: `ip link set eth0 mtu 3822`"
        );
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let config = XdpConfig::new("eth0");
        assert!(check(&config).is_ok());
        for (config, expected) in [
            (XdpConfig { queues: vec![], ..config.clone() }, "no queue"),
            (XdpConfig { queues: vec![1, 1], ..config.clone() }, "queue 1: expected each once"),
            (XdpConfig { queues: vec![1024], ..config.clone() }, "queue 1024"),
            (XdpConfig { receive_ring: 100, ..config.clone() }, "a ring of 100 entries"),
            (XdpConfig { transmit_ring: 32, ..config.clone() }, "a ring of 32 entries"),
        ] {
            let error = check(&config).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        let small = XdpConfig { memory: 1 << 20, ..config };
        assert!(memory(&small, 2048).unwrap_err().to_string().contains("expected 8388608 at least"));
    }
}
