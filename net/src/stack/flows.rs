//! Whose packet it is: the tables know slots, and the sockets there know their flows.

use super::Stack;
use super::socket::Socket;
use crate::table::Flow;

impl Stack {
    /// The slot of a connection, one in TIME-WAIT included.
    #[inline]
    pub(super) fn connection_of(&self, flow: &Flow) -> Option<u32> {
        self.flows.find(flow, |slot| match self.sockets.get(slot) {
            Some(Socket::Tcp(tcp)) => tcp.flow == *flow,
            Some(Socket::TimeWait(place)) => self.waiting.get(*place).is_some_and(|waiting| waiting.flow == *flow),
            _ => false,
        })
    }

    /// The slot of a UDP socket that is connected.
    #[inline]
    pub(super) fn datagrams_of(&self, flow: &Flow) -> Option<u32> {
        self.peers.find(flow, |slot| match self.sockets.get(slot) {
            Some(Socket::Udp(udp)) => udp.flow.as_ref() == Some(flow),
            _ => false,
        })
    }
}
