//! How connections end: TIME-WAIT, and slots that are free again.

use super::counters::Counter;
use super::segments::note;
use super::socket::{Holder, Socket, Waiting};
use super::{RESERVED, Stack};
use crate::cores::Protocol;
use crate::tcp::State;
use demikernel_runtime::time::Instant;

impl Stack {
    /// A connection is over, or both sides have closed; and all it had to say is said.
    #[cold]
    pub(super) fn settle(&mut self, now: Instant, slot: u32) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        if tcp.connection.state() == State::TimeWait {
            let time_wait = tcp.connection.take_time_wait();
            let (flow, hops, held) = (tcp.flow.get(), tcp.hops, tcp.flags.held);
            let waiting = time_wait.map(|time_wait| Waiting { time_wait, flow, held, hops });
            return self.wait(now, slot, waiting);
        }
        match tcp.holder {
            Holder::User | Holder::Accepting { .. } => self.unlist(slot),
            Holder::HalfOpen { .. } | Holder::Nobody => self.remove_connection(slot),
        }
    }

    /// A small value takes the connection's place in the table: in its slot, if nobody has that.
    fn wait(&mut self, now: Instant, slot: u32, waiting: Option<Waiting>) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        note(tcp, slot, &mut self.ready, &mut self.events);
        let nobodys = tcp.holder == Holder::Nobody;
        let times = waiting.as_ref().map(|waiting| (waiting.time_wait.until(), waiting.flow));
        let place = waiting.and_then(|waiting| self.waiting.insert(waiting).ok());
        let (Some((until, flow)), Some(place)) = (times, place) else {
            self.interface.counters.count(Counter::TimeWaitOverflow);
            return if nobodys { self.remove_connection(slot) } else { self.unlist(slot) };
        };
        let waiting = Socket::TimeWait(place.index);
        let place = if nobodys {
            self.release_bound(slot);
            match self.sockets.get_mut(slot) {
                Some(place) => *place = waiting,
                None => return,
            }
            slot
        } else {
            let Ok(id) = self.sockets.insert(waiting) else {
                self.waiting.remove(place.index);
                return self.unlist(slot);
            };
            if let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) {
                (tcp.flags.listed, tcp.flags.held) = (false, false);
                tcp.deadline = Instant::MAX;
            }
            self.deadlines.clear(slot + RESERVED);
            self.flows.replace(&flow, slot, id.index);
            id.index
        };
        self.deadlines.set(place + RESERVED, until.max(now));
    }

    /// Takes a connection out of the table and the wheel; its slot stays.
    pub(super) fn unlist(&mut self, slot: u32) {
        let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot) else { return };
        tcp.deadline = Instant::MAX;
        let listed = std::mem::take(&mut tcp.flags.listed);
        let held = std::mem::take(&mut tcp.flags.held);
        let flow = tcp.flow.get();
        self.deadlines.clear(slot + RESERVED);
        if listed {
            self.flows.remove(&flow, slot);
            if let Some(place) = &self.place {
                place.unlist(Protocol::Tcp, &flow);
            }
            if held {
                self.tcp_ports.let_go(flow.local_port(), flow.local());
            }
        }
    }

    /// A connection that was bound to a port before it was made is no longer.
    fn release_bound(&mut self, slot: u32) {
        if let Some(Socket::Tcp(tcp)) = self.sockets.get_mut(slot)
            && std::mem::take(&mut tcp.bound)
        {
            self.tcp_ports.release(tcp.flow.get().local_port(), slot);
        }
    }

    /// Forgets a connection at once.
    pub(super) fn remove_connection(&mut self, slot: u32) {
        self.unlist(slot);
        self.release_bound(slot);
        let Some(Socket::Tcp(tcp)) = self.sockets.remove(slot) else { return };
        if let Holder::HalfOpen { listener, ticket } = tcp.holder
            && let Some(Socket::Listener(listening)) = self.sockets.get_mut(listener)
        {
            listening.listener.abandon(ticket);
        }
    }

    /// TIME-WAIT is over.
    pub(super) fn remove_time_wait(&mut self, slot: u32) {
        let Some(Socket::TimeWait(place)) = self.sockets.get(slot) else { return };
        let waiting = self.waiting.remove(*place);
        self.sockets.remove(slot);
        self.deadlines.clear(slot + RESERVED);
        let Some(waiting) = waiting else { return };
        self.flows.remove(&waiting.flow, slot);
        if let Some(place) = &self.place {
            place.unlist(Protocol::Tcp, &waiting.flow);
        }
        if waiting.held {
            self.tcp_ports.let_go(waiting.flow.local_port(), waiting.flow.local());
        }
    }
}
