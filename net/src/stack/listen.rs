//! Connections that begin with a peer's SYN.

use super::Stack;
use super::counters::Counter;
use super::interface::Path;
use super::receive::Packet;
use super::segments::note;
use super::socket::{Flags as SocketFlags, Holder, Listening, Socket, TcpSocket};
use crate::cores::Protocol;
use crate::pooled::Pooled;
use crate::table::{Ends, Flow};
use crate::tcp::{self, Connection, Ecn, Events, InitialNumbers, OnSyn, Start, Tuple};
use crate::wire::tcp::{Flags, Segment, SequenceNumber};
use demikernel_runtime::time::{Duration, Instant};
use std::rc::Rc;

/// How long after the last cookie one may come back.
const FLOOD: Duration = Duration::from_secs(120);

impl Stack {
    /// A segment for a listener, which disturbs no other connection. [rfc9293 3.10.7.2] [rfc9293 MUST-41]
    pub(super) fn take_for_listener(
        &mut self,
        now: Instant,
        listener: u32,
        segment: &Segment,
        header: usize,
        packet: Packet,
        after: Option<SequenceNumber>,
    ) {
        if segment.flags.contains(Flags::RST) {
            return;
        }
        if segment.flags.contains(Flags::ACK) {
            return self.take_cookie(now, listener, segment, header, packet);
        }
        // A SYN with a FIN asks for nothing sensible; Linux drops it as well.
        if !segment.flags.contains(Flags::SYN) || segment.flags.contains(Flags::FIN) {
            return;
        }
        let Some(Socket::Listener(listening)) = self.sockets.get_mut(listener) else { return };
        match listening.listener.on_syn(now) {
            OnSyn::Accept => self.begin(now, listener, segment, &packet, after),
            OnSyn::Replace(old) => {
                self.remove_connection(old);
                self.begin(now, listener, segment, &packet, after);
            }
            OnSyn::Cookie => {
                listening.flooded_until = now.saturating_add(FLOOD);
                self.send_cookie(now, segment, &packet);
            }
            OnSyn::Drop => self.shared.count(tcp::Counter::ListenOverflow),
        }
    }

    pub(super) fn tuple(packet: &Packet, segment: &Segment) -> Tuple {
        Tuple {
            local: packet.destination,
            local_port: segment.destination,
            remote: packet.source,
            remote_port: segment.source,
        }
    }

    fn start(&self, packet: &Packet, segment: &Segment, initial: InitialNumbers) -> Start {
        Start {
            local: segment.destination,
            remote: segment.source,
            initial,
            mtu: self.interface.mtu(packet.source),
            ip_header: if packet.source.is_ipv4() { 20 } else { 40 },
        }
    }

    /// A half-open connection.
    fn begin(
        &mut self,
        now: Instant,
        listener: u32,
        syn: &Segment,
        packet: &Packet,
        after: Option<SequenceNumber>,
    ) {
        let mut initial = self.initial_numbers(now, &Self::tuple(packet, syn));
        if let Some(after) = after.filter(|after| initial.sequence.is_before(*after)) {
            // The old connection's numbers are not to be taken for the new one's. [rfc6191 2]
            initial.sequence = after;
        }
        let start = self.start(packet, syn, initial);
        let connection = Connection::accept(self.shared.clone(), now, start, syn);
        let flow = Flow::of(packet.destination, syn.destination, packet.source, syn.source);
        let Some(slot) = self.add_accepted(now, listener, flow, connection) else { return };
        let Some(Socket::Listener(listening)) = self.sockets.get_mut(listener) else { return };
        let ticket = listening.listener.begin(now, slot);
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        tcp.holder = Holder::HalfOpen { listener, ticket };
        note(tcp, slot, &mut self.ready, &mut self.events);
    }

    /// A socket for a connection of a listener, with the listener's options.
    fn add_accepted(
        &mut self,
        now: Instant,
        listener: u32,
        flow: Flow,
        mut connection: Connection,
    ) -> Option<u32> {
        let Some(Socket::Listener(listening)) = self.sockets.get(listener) else { return None };
        let Listening { options, domain, .. } = &**listening;
        connection.handle_mtu(now, self.interface.path_mtu(now, flow.remote()));
        options.apply(now, &mut connection);
        let tcp = TcpSocket {
            connection,
            flow: Ends::new(flow),
            options: options.clone(),
            deadline: Instant::MAX,
            holder: Holder::Accepting { listener },
            path: Path::UNKNOWN,
            domain: *domain,
            hops: self.interface.hops(options.hops, flow.remote()),
            class: options.class,
            events: Events::NONE,
            flags: SocketFlags::default(),
            bound: false,
        };
        self.add_connection(Pooled::new(tcp))
    }

    /// A connection in the table; `None` if there are as many sockets as there may be, or the flow is taken.
    pub(super) fn add_connection(&mut self, tcp: Pooled<TcpSocket>) -> Option<u32> {
        let (flow, reuse) = (tcp.flow.get(), tcp.options.reuse_address);
        let Ok(id) = self.sockets.insert(Socket::Tcp(tcp)) else {
            self.interface.counters.count(Counter::NoSocket);
            return None;
        };
        self.list(id.index, flow, reuse);
        Some(id.index)
    }

    /// Puts a connection in the table, and holds its port.
    pub(super) fn list(&mut self, slot: u32, flow: Flow, reuse: bool) {
        debug_assert_eq!(self.connection_of(&flow), None, "a flow has one connection");
        self.flows.insert(&flow, slot);
        if let Some(place) = &self.place {
            place.list(Protocol::Tcp, &flow);
        }
        if !reuse {
            self.tcp_ports.hold(flow.local_port(), flow.local());
        }
        if let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) {
            tcp.flags.listed = true;
            tcp.flags.held = !reuse;
        }
    }

    /// [rfc4987 3.6]
    fn send_cookie(&mut self, now: Instant, syn: &Segment, packet: &Packet) {
        let Some(cookies) = self.cookies else { return };
        let tuple = Self::tuple(packet, syn);
        let initial = self.initial_numbers(now, &tuple);
        let headers = if packet.source.is_ipv4() { 40 } else { 60 };
        let announced = self.interface.mtu(packet.source) - headers;
        let answer = cookies.answer(&self.shared, now, &tuple, syn, announced, &initial);
        self.shared.count(tcp::Counter::CookieSent);
        self.send_segment(now, packet.destination, packet.source, 64, &answer);
    }

    /// An acknowledgment to a listener: of a cookie, or of nothing.
    fn take_cookie(&mut self, now: Instant, listener: u32, segment: &Segment, header: usize, packet: Packet) {
        let Some(Socket::Listener(listening)) = self.sockets.get(listener) else { return };
        let tuple = Self::tuple(&packet, segment);
        let bare = !segment.flags.contains(Flags::SYN);
        let flooded = bare && now < listening.flooded_until;
        let agreed = self.cookies.filter(|_| flooded).and_then(|cookies| cookies.check(now, &tuple, segment));
        let Some(agreed) = agreed else {
            if flooded {
                self.shared.count(tcp::Counter::CookieFailed);
            }
            self.interface.counters.count(Counter::NoConnection);
            return self.refuse(now, segment, (packet.len() - header) as u32, &packet);
        };
        if !listening.listener.has_room() {
            return self.shared.count(tcp::Counter::ListenOverflow);
        }
        self.shared.count(tcp::Counter::CookieReceived);
        let initial = self.initial_numbers(now, &tuple);
        let start = self.start(&packet, segment, initial);
        let mut connection = Connection::from_cookie(self.shared.clone(), now, start, segment, &agreed);
        let flow = Flow::of(packet.destination, segment.destination, packet.source, segment.source);
        let ecn = Ecn::from_bits(packet.class.ecn as u8);
        let Some(payload) = packet.into_payload(header) else { return };
        connection.handle_segment(now, segment, payload, ecn);
        let Some(slot) = self.add_accepted(now, listener, flow, connection) else { return };
        if let Some(Socket::Listener(listening)) = self.sockets.get_mut(listener) {
            listening.listener.complete_cookie(slot);
            if !std::mem::replace(&mut listening.told, true) {
                self.events.push(listener);
            }
        }
        if let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) {
            (tcp.flags.established, tcp.flags.said) = (true, true);
            note(tcp, slot, &mut self.ready, &mut self.events);
        }
    }

    /// The options of a listener, for those who change them.
    pub(super) fn listening_options(listening: &mut Listening) -> &mut super::options::Options {
        Rc::make_mut(&mut listening.options)
    }
}
