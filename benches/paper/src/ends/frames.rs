//! UDP packets sent back as frames, by the device alone: what its way through the kernel takes without a stack.

use crate::place::{INTERFACE, STACK_MAC};
use demikernel::buffer::BufferMut;
use demikernel_net::device::{
    Frame, FrameDevice, MacAddress, PacketConfig, PacketSocket, Tap, TapConfig, Xdp, XdpConfig,
};
use std::io;

/// Bytes of headers: Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// Serves until it is killed.
pub(super) fn reflect(transport: &str) -> io::Result<()> {
    let address = MacAddress(STACK_MAC);
    match transport {
        "tap" => {
            let mut config = TapConfig::new(INTERFACE, address);
            // So that packets come with checksums in them, which stay right when addresses change places.
            config.offload = false;
            serve(Tap::open(&config)?)
        }
        "packet" => {
            let mut config = PacketConfig::new(INTERFACE);
            config.address = Some(address);
            serve(PacketSocket::open(&config)?)
        }
        _ => {
            let mut config = XdpConfig::new(INTERFACE);
            config.address = Some(address);
            serve(Xdp::open(&config)?)
        }
    }
}

fn serve(mut device: impl FrameDevice) -> io::Result<()> {
    println!("ready 10.9.0.2:7000");
    let (mut inbox, mut outbox) = (Vec::new(), Vec::new());
    loop {
        device.receive(&mut inbox)?;
        for frame in inbox.drain(..) {
            outbox.extend(answer(&frame)?);
        }
        if !outbox.is_empty() {
            device.transmit(&mut outbox)?;
        }
    }
}

/// The same packet on its way back, if it is one of UDP.
fn answer(frame: &Frame) -> io::Result<Option<Frame>> {
    let head = &frame.head;
    let is_udp = head.len() >= HEADERS && head[12..15] == [8, 0, 0x45] && head[23] == 17;
    if !is_udp || !frame.rest.is_empty() {
        return Ok(None);
    }
    let mut back = BufferMut::with_capacity(head.len()).map_err(io::Error::other)?;
    back.extend_from_slice(head);
    let bytes = back.as_mut_slice();
    swap(&mut bytes[..12]);
    swap(&mut bytes[26..34]);
    swap(&mut bytes[34..38]);
    Ok(Some(Frame::new(back.freeze())))
}

/// The two halves change places.
fn swap(pair: &mut [u8]) {
    let (one, other) = pair.split_at_mut(pair.len() / 2);
    one.swap_with_slice(other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use demikernel::Buffer;

    #[test]
    fn what_comes_goes_back_to_whom_it_came_from() {
        let mut packet = vec![0; HEADERS + 2];
        packet[..14].copy_from_slice(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]);
        packet[14] = 0x45;
        packet[23] = 17;
        packet[26..38].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2, 0, 5, 0, 7]);
        packet[42..].copy_from_slice(b"hi");
        let back = answer(&Frame::new(Buffer::from(packet.clone()))).unwrap().expect("it is UDP");
        assert_eq!(back.head[..12], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
        assert_eq!(back.head[26..38], [10, 9, 0, 2, 10, 9, 0, 1, 0, 7, 0, 5]);
        assert_eq!(&back.head[42..], b"hi");
        packet[23] = 6;
        assert!(answer(&Frame::new(Buffer::from(packet))).unwrap().is_none(), "TCP has no answer");
        assert!(answer(&Frame::new(Buffer::from(vec![8; 20]))).unwrap().is_none(), "nor has half a header");
    }
}
