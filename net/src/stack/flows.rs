//! Whose packet it is: the tables know slots, and the sockets there know their flows.

use super::Stack;
use super::socket::Socket;
use crate::table::Flow;
use crate::tcp::{InitialNumbers, Tuple};
use demikernel_runtime::time::Instant;

impl Stack {
    /// The numbers with which a connection begins. Those between the same hosts share one, so it is hashed once for many.
    pub(super) fn initial_numbers(&mut self, now: Instant, tuple: &Tuple) -> InitialNumbers {
        let flow = Flow::of(tuple.local, 0, tuple.remote, 0);
        let hosts = self.interface.recent.of(&flow);
        let timestamp_offset = *hosts.offset.get_or_insert_with(|| self.key.timestamp_offset(tuple));
        InitialNumbers { sequence: self.key.initial_sequence(now, tuple), timestamp_offset }
    }

    /// The slot of a connection, one in TIME-WAIT included.
    #[inline(never)]
    pub(super) fn connection_of(&self, flow: &Flow) -> Option<u32> {
        self.look_up(flow)
    }

    /// The same where it is worth the code.
    #[inline(always)]
    pub(super) fn look_up(&self, flow: &Flow) -> Option<u32> {
        self.flows.find(flow, |slot| match self.sockets.get(slot) {
            Some(Socket::Tcp(tcp)) => tcp.flow.are(flow),
            Some(Socket::TimeWait(place)) => {
                self.waiting.get(*place).is_some_and(|waiting| waiting.flow == *flow)
            }
            _ => false,
        })
    }

    /// The slot of a connection, first of all the one that the last segment was for: peers send several, or wait for answers.
    #[inline(always)]
    pub(super) fn look_up_last(&mut self, flow: &Flow) -> Option<u32> {
        if let Some(Socket::Tcp(tcp)) = self.sockets.get(self.last_connection)
            && tcp.flow.are(flow)
            && tcp.flags.listed
        {
            return Some(self.last_connection);
        }
        self.last_connection = self.look_up(flow)?;
        Some(self.last_connection)
    }

    /// The slot of a UDP socket that is connected.
    #[inline(never)]
    pub(super) fn datagrams_of(&self, flow: &Flow) -> Option<u32> {
        self.peers.find(flow, |slot| match self.sockets.get(slot) {
            Some(Socket::Udp(udp)) => udp.flow.as_ref() == Some(flow),
            _ => false,
        })
    }
}
