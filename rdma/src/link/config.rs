//! What all connections of a device and core have in common.

use std::time::Duration;

/// Limits and sizes of a [`Link`](super::Link).
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Receive buffers that the device is to have, for all connections together.
    pub buffers: u32,
    /// Bytes of each, header included.
    pub buffer_size: u32,
    /// Data frames that a peer may always send: what it gets at first, and what an idle connection falls back to.
    pub floor: u16,
    /// Data frames that one peer may send at most before it hears from this side.
    pub window: u16,
    /// Sends of one connection that the device may have at once.
    pub send_depth: u16,
    /// Pieces of payload in one send.
    pub pieces: u16,
    /// Bytes of payload up to which the driver copies it behind the header, however many pieces it has.
    pub small: u32,
    /// Bytes, header included, up to which the device copies what it sends: nothing waits for its completion then.
    pub inline: u32,
    /// Bytes of pushed data that a connection takes beyond what is sent before it makes the program wait.
    pub queue: usize,
    /// Connections, those that are being set up included.
    pub connections: u32,
    /// Connections that others are setting up, at once.
    pub half_open: u32,
    /// Connections that others may set up in a second, and at once after a pause.
    pub rate: u32,
    /// How long setting up may take.
    pub set_up: Duration,
    /// How long what was pushed before a close may take to get out.
    pub linger: Duration,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            buffers: 1024,
            buffer_size: 4096,
            floor: 2,
            window: 64,
            send_depth: 64,
            pieces: 3,
            small: 0,
            inline: 0,
            queue: 64 << 10,
            connections: 65_536,
            half_open: 128,
            rate: 10_000,
            set_up: Duration::from_secs(5),
            linger: Duration::from_secs(60),
        }
    }
}

impl LinkConfig {
    /// Sends of a connection that are left to what are no frames, where there is any of that.
    pub(super) fn reserve(&self) -> u16 {
        (self.send_depth / 4).max(1)
    }
}
