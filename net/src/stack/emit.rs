//! From segments, datagrams and messages to frames: headers, checksums, pieces.

use super::counters::Counter;
use super::interface::{Interface, LinkHeader, Path, VERIFIED, Way};
use crate::device::{Capabilities, ChecksumOffload, Frame, Received, Segmentation};
use crate::ip::fragmentation;
use crate::table::Flow;
use crate::tcp::Transmit;
use crate::wire::checksum::Sum;
use crate::wire::ethernet;
use crate::wire::ip::{TrafficClass, protocol};
use crate::wire::plain::{Around, DATAGRAM_FRAME, PLAIN_FRAME, Plain, datagram_frame};
use crate::wire::{ipv4, ipv6, tcp, udp};
use demikernel_runtime::buffer::{Buffer, BufferMut, Sga};
use demikernel_runtime::time::Instant;
use std::net::IpAddr;

/// Payload up to this size is copied behind the headers; longer one stays where it is.
pub(super) const COPY: usize = 256;

/// Of Ethernet, IPv6 and TCP.
const LONGEST_HEADERS: usize = 128;

const _: () = assert!(ethernet::MINIMUM_HEADER + ipv6::HEADER + tcp::MAXIMUM_HEADER <= LONGEST_HEADERS);

/// Of Ethernet, IPv6 and UDP.
const LONGEST_DATAGRAM_HEADERS: usize = 64;

const _: () = assert!(ethernet::MINIMUM_HEADER + ipv6::HEADER + udp::HEADER <= LONGEST_DATAGRAM_HEADERS);

/// Addresses and what else an IP header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
    pub(crate) class: TrafficClass,
    /// Routers may cut it.
    pub(crate) may_fragment: bool,
}

impl Envelope {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Envelope {
        Envelope {
            source,
            destination,
            protocol,
            hops: 64,
            class: TrafficClass::default(),
            may_fragment: false,
        }
    }

    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        if self.source.is_ipv4() { ipv4::MINIMUM_HEADER } else { ipv6::HEADER }
    }

    #[inline(always)]
    fn emit(&self, bytes: &mut [u8], payload_len: usize, identification: u16) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
                source,
                destination,
                protocol: self.protocol,
                time_to_live: self.hops,
                traffic_class: self.class,
                identification,
                dont_fragment: !self.may_fragment,
                payload_len: payload_len as u16,
                ..ipv4::Header::default()
            }
            .emit(bytes),
            _ => self.emit_v6(bytes, payload_len),
        }
    }

    #[inline(never)]
    fn emit_v6(&self, bytes: &mut [u8], payload_len: usize) {
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination) else {
            return debug_assert!(false, "a packet has addresses of one version");
        };
        ipv6::Header {
            source,
            destination,
            next_header: self.protocol,
            hop_limit: self.hops,
            traffic_class: self.class,
            payload_len: payload_len as u16,
            ..ipv6::Header::default()
        }
        .emit(bytes);
    }

    /// The headers of a piece of a packet.
    fn emit_fragment(&self, bytes: &mut [u8], piece: &fragmentation::Piece, identification: u32) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
                source,
                destination,
                protocol: self.protocol,
                time_to_live: self.hops,
                traffic_class: self.class,
                identification: identification as u16,
                more_fragments: piece.more,
                fragment_offset: piece.offset,
                payload_len: piece.payload.len() as u16,
                ..ipv4::Header::default()
            }
            .emit(bytes),
            _ => {
                let length = ipv6::Fragment::HEADER + piece.payload.len();
                let whole = Envelope { protocol: ipv6::next_header::FRAGMENT, ..*self };
                whole.emit(bytes, length, 0);
                let (offset, more) = (piece.offset, piece.more);
                ipv6::Fragment { next_header: self.protocol, offset, more, identification }
                    .emit(&mut bytes[ipv6::HEADER..]);
            }
        }
    }

    #[inline]
    fn pseudo_header(&self, length: usize) -> Sum {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Sum::pseudo_header_v4(source, destination, self.protocol, length as u16)
            }
            _ => Sum::pseudo_header(self.source, self.destination, self.protocol, length as u32),
        }
    }
}

impl Interface {
    /// A frame with this segment. `None` if there is no memory: it is as if it were lost.
    #[inline]
    pub(crate) fn tcp_frame(
        &self,
        flow: &Flow,
        hops: u8,
        class: TrafficClass,
        way: &Way,
        transmit: Transmit,
    ) -> Option<Frame> {
        let Transmit { segment, payload, cut, .. } = transmit;
        let local = matches!(way, Way::Back);
        let link = self.link_header();
        let ends = flow.v4();
        let at = link + if ends.is_some() { ipv4::MINIMUM_HEADER } else { ipv6::HEADER };
        let headers = at + segment.header_len();
        let length = payload.len();
        let inline = length <= COPY || !self.capabilities.scatter && !local;
        // Beside the stack's own memory, only what is written of a buffer is touched.
        let mut bytes = [0; LONGEST_HEADERS];
        if let Way::Out(header) = way {
            bytes[..ethernet::MINIMUM_HEADER].copy_from_slice(header);
        }
        let l4 = headers - at + length;
        let pseudo_header = match ends {
            Some((source, destination)) => {
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol: protocol::TCP,
                    time_to_live: hops,
                    traffic_class: class,
                    dont_fragment: true,
                    payload_len: l4 as u16,
                    ..ipv4::Header::default()
                };
                header.emit(&mut bytes[link..]);
                Sum::pseudo_header_v4(source, destination, protocol::TCP, l4 as u16)
            }
            None => emit_v6(flow, hops, class, l4, &mut bytes[link..]),
        };
        let sum = segment.emit(&mut bytes[at..]);
        let mut frame = Frame::default();
        if local {
            frame.received = VERIFIED;
        } else if self.capabilities.transmit_l4_checksum {
            tcp::set_checksum(&mut bytes[at..], pseudo_header.fold());
            frame.checksum.l4 = Some((at as u16, 16));
        } else {
            let sum = sum_of(pseudo_header.then(sum), &payload);
            tcp::set_checksum(&mut bytes[at..], sum.checksum());
        }
        if self.capabilities.transmit_ip_checksum && ends.is_some() && !local {
            frame.checksum.ip = Some(link as u16);
        }
        frame.segmentation = cut.map(|segment| Segmentation { segment, headers: headers as u16 });
        let mut head = self.head_of(&bytes, headers, if inline { length } else { 0 })?;
        if inline {
            copy(&payload, &mut head);
        } else {
            frame.rest = payload;
        }
        frame.head = head.freeze();
        Some(frame)
    }

    /// Adds a frame with a [plain](Plain) segment, whose payload is copied. If there is no memory it is as if it were lost.
    #[inline(never)]
    pub(crate) fn add_plain(
        &self,
        burst: &mut Vec<Frame>,
        link: &LinkHeader,
        around: &Around,
        ports: u32,
        plain: &Plain,
        payload: &[u8],
    ) {
        let sum = self.sum_of_payload(payload);
        let Some(mut head) = self.room(PLAIN_FRAME + payload.len()) else { return };
        head.extend_from_slice(&plain.frame(link, around, ports, payload.len(), sum));
        head.truncate(plain.frame_headers());
        head.extend_from_slice(payload);
        burst.push(self.complete_plain(head, 16));
    }

    /// Adds a frame with a [plain](Plain) segment, whose payload stays where it is if the device can have it so. If there is
    /// no memory it is as if it were lost.
    #[inline]
    pub(crate) fn add_full(
        &self,
        burst: &mut Vec<Frame>,
        link: &LinkHeader,
        around: &Around,
        ports: u32,
        plain: &Plain,
        payload: Buffer,
    ) {
        let sum = self.sum_of_payload(&payload);
        let inline = if self.capabilities.scatter { 0 } else { payload.len() };
        let Some(mut head) = self.room(PLAIN_FRAME + inline) else { return };
        head.extend_from_slice(&plain.frame(link, around, ports, payload.len(), sum));
        head.truncate(plain.frame_headers());
        head.extend_from_slice(&payload[..inline]);
        let mut frame = self.complete_plain(head, 16);
        if inline == 0 {
            frame.rest = payload.into();
        }
        burst.push(frame);
    }

    /// Sends a datagram, whose payload is copied, to a link on which there is room. Whether there was memory.
    #[inline(never)]
    pub(crate) fn send_plain(
        &mut self,
        link: &LinkHeader,
        around: &Around,
        ports: u32,
        payload: &[u8],
    ) -> bool {
        let sum = self.sum_of_payload(payload);
        let identification = self.next_identification();
        let Some(mut head) = self.room(DATAGRAM_FRAME + payload.len()) else { return false };
        head.extend_from_slice(&datagram_frame(link, around, ports, identification, payload.len(), sum));
        head.extend_from_slice(payload);
        let frame = self.complete_plain(head, 6);
        self.outbound.push(frame);
        true
    }

    /// Unless the device makes it.
    #[inline(always)]
    fn sum_of_payload(&self, payload: &[u8]) -> Option<Sum> {
        (!self.capabilities.transmit_l4_checksum).then(|| Sum::of(payload))
    }

    #[inline(always)]
    fn room(&self, length: usize) -> Option<BufferMut> {
        let room = BufferMut::with_capacity(length);
        if room.is_err() {
            self.counters.count(Counter::NoMemory);
        }
        room.ok()
    }

    /// A frame of a whole packet of IPv4, whose link header is left out if there is none, and what the device is to fill
    /// in: a checksum that is at `checksum` behind the IP header.
    #[inline(always)]
    fn complete_plain(&self, mut head: BufferMut, checksum: u16) -> Frame {
        let Capabilities { transmit_l4_checksum, transmit_ip_checksum, .. } = self.capabilities;
        let at = self.link_header();
        head.advance(ethernet::MINIMUM_HEADER - at);
        let checksum = ChecksumOffload {
            ip: transmit_ip_checksum.then_some(at as u16),
            l4: transmit_l4_checksum.then_some(((at + ipv4::MINIMUM_HEADER) as u16, checksum)),
        };
        let (rest, received) = (Sga::new(), Received::default());
        Frame { head: head.freeze(), rest, checksum, segmentation: None, received }
    }

    /// The first `headers` bytes, and room for payload behind them.
    #[inline]
    fn head_of<const N: usize>(&self, bytes: &[u8; N], headers: usize, payload: usize) -> Option<BufferMut> {
        let Ok(mut head) = BufferMut::with_capacity(N.max(headers + payload)) else {
            self.counters.count(Counter::NoMemory);
            return None;
        };
        // So many as the compiler knows are copied without a call.
        head.extend_from_slice(bytes);
        head.truncate(headers);
        Some(head)
    }

    /// Room for headers, zeroed, and for payload behind them.
    #[inline]
    fn head(&self, headers: usize, payload: usize) -> Option<BufferMut> {
        let Ok(mut head) = BufferMut::with_capacity(headers + payload) else {
            self.counters.count(Counter::NoMemory);
            return None;
        };
        head.resize(headers, 0);
        Some(head)
    }

    /// Sends a datagram that fits; whether it was taken.
    #[inline]
    pub(crate) fn send_udp(
        &mut self,
        now: Instant,
        path: &mut Path,
        envelope: &Envelope,
        ports: (u16, u16),
        payload: &Sga,
        length: usize,
    ) -> bool {
        let way = self.way(path);
        let link = self.link_header();
        let at = link + envelope.header_len();
        let headers = at + udp::HEADER;
        let local = matches!(way, Way::Back);
        let inline = length <= COPY || !self.capabilities.scatter && !local;
        let mut bytes = [0; LONGEST_DATAGRAM_HEADERS];
        if let Way::Out(header) = &way {
            bytes[..ethernet::MINIMUM_HEADER].copy_from_slice(header);
        }
        let identification = self.next_identification();
        envelope.emit(&mut bytes[link..], udp::HEADER + length, identification);
        let header = udp::Header { source: ports.0, destination: ports.1, payload_len: length as u16 };
        let sum = header.emit(&mut bytes[at..]);
        let pseudo_header = envelope.pseudo_header(udp::HEADER + length);
        let mut frame = Frame::default();
        if local {
            udp::set_checksum(&mut bytes[at..], 0xffff);
            frame.received = VERIFIED;
        } else if self.capabilities.transmit_l4_checksum {
            udp::set_checksum(&mut bytes[at..], pseudo_header.fold());
            frame.checksum.l4 = Some((at as u16, 6));
        } else {
            let sum = sum_of(pseudo_header.then(sum), payload);
            udp::set_checksum(&mut bytes[at..], sum.checksum());
        }
        let Some(mut head) = self.head_of(&bytes, headers, if inline { length } else { 0 }) else {
            return false;
        };
        if inline {
            copy(payload, &mut head);
        } else {
            frame.rest = payload.clone();
        }
        frame.head = head.freeze();
        match way {
            Way::Out(_) => self.queue(frame),
            Way::Back => self.loop_back(frame),
            Way::Ask => self.dispatch(now, envelope.destination, frame, path),
        }
    }

    /// Sends a datagram that is too long for one packet, as fragments. [rfc1122 3.3.3]
    #[cold]
    pub(crate) fn send_in_pieces(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        ports: (u16, u16),
        payload: &Sga,
        mtu: u16,
    ) -> bool {
        let length = udp::HEADER + payload.len();
        let mut header = [0; udp::HEADER];
        let emitted =
            udp::Header { source: ports.0, destination: ports.1, payload_len: payload.len() as u16 }
                .emit(&mut header);
        let sum = sum_of(envelope.pseudo_header(length).then(emitted), payload);
        udp::set_checksum(&mut header, sum.checksum());
        let Ok(first) = Buffer::copy_from_slice(&header) else { return false };
        let whole: Sga = std::iter::once(first).chain(payload.iter().cloned()).collect();
        self.send_pieces(now, envelope, whole, mtu)
    }

    /// Sends what is too long for one packet, in pieces.
    pub(super) fn send_pieces(&mut self, now: Instant, envelope: &Envelope, whole: Sga, mtu: u16) -> bool {
        let v4 = envelope.source.is_ipv4();
        let extension = if v4 { 0 } else { ipv6::Fragment::HEADER };
        let headers = envelope.header_len() + extension;
        let Ok(pieces) = fragmentation::cut(whole, headers, mtu.into()) else { return false };
        let identification =
            self.identifications.next(envelope.source, envelope.destination, envelope.protocol);
        let mut path = Path::UNKNOWN;
        pieces.fold(true, |sent, piece| {
            let link = self.link_header();
            let mut frame = Frame::default();
            let Some(mut head) = self.head(link + headers, piece.payload.len()) else { return false };
            envelope.emit_fragment(&mut head[link..], &piece, identification);
            // Pieces are rare: they are copied, so that each is a frame that any device takes.
            copy(&piece.payload, &mut head);
            frame.head = head.freeze();
            self.dispatch(now, envelope.destination, frame, &mut path) && sent
        })
    }

    /// A number for a packet that may be cut.
    #[inline]
    pub(crate) fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }

    /// Sends a packet whose payload `write` writes, `length` octets of it, into zeros.
    #[cold]
    pub(crate) fn send_packet(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        length: usize,
        write: impl FnOnce(&mut [u8], Sum),
    ) -> bool {
        let link = self.link_header();
        let at = link + envelope.header_len();
        let Some(mut head) = self.head(at + length, 0) else { return false };
        let identification = self.next_identification();
        envelope.emit(&mut head[link..], length, identification);
        write(&mut head[at..], envelope.pseudo_header(length));
        self.dispatch(now, envelope.destination, Frame::new(head.freeze()), &mut { Path::UNKNOWN })
    }
}

/// The header of a segment over IPv6, and the sum of its pseudo-header.
#[inline(never)]
fn emit_v6(flow: &Flow, hops: u8, class: TrafficClass, length: usize, bytes: &mut [u8]) -> Sum {
    let envelope = Envelope { hops, class, ..Envelope::new(flow.local(), flow.remote(), protocol::TCP) };
    envelope.emit(bytes, length, 0);
    envelope.pseudo_header(length)
}

/// The sum with that of the payload behind it, which is one buffer nearly always.
#[inline]
fn sum_of(sum: Sum, payload: &Sga) -> Sum {
    let Some(first) = payload.first() else { return sum };
    let sum = sum.then(Sum::of(first));
    if payload.segments() == 1 {
        return sum;
    }
    payload.iter().skip(1).fold(sum, |sum, part| sum.then(Sum::of(part)))
}

/// Copies the payload behind the headers.
#[inline]
fn copy(payload: &Sga, head: &mut BufferMut) {
    let Some(first) = payload.first() else { return };
    head.extend_from_slice(first);
    if payload.segments() > 1 {
        payload.iter().skip(1).for_each(|part| head.extend_from_slice(part));
    }
}
