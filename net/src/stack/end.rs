//! The end of the whole stack.

use super::Stack;
use super::socket::{Holder, Socket};
use crate::tcp::State;
use demikernel_runtime::time::Instant;

impl Stack {
    /// Whether a connection that its user has closed still has something to send, or that its peer has not
    /// acknowledged.
    pub fn has_unfinished(&self) -> bool {
        self.sockets.iter().any(|(_, socket)| match socket {
            Socket::Tcp(tcp) if tcp.holder == Holder::Nobody => {
                let waits =
                    matches!(tcp.connection.state(), State::FinWait1 | State::Closing | State::LastAck);
                waits || tcp.connection.unacknowledged() > 0
            }
            _ => false,
        })
    }

    /// Resets every connection: what is to be sent then are the resets.
    pub fn abort_all(&mut self, now: Instant) {
        let connections = self.sockets.iter().filter(|(_, socket)| matches!(socket, Socket::Tcp(_)));
        let connections: Vec<u32> = connections.map(|(slot, _)| slot).collect();
        for slot in connections {
            self.give_up(now, slot, true);
        }
    }
}
