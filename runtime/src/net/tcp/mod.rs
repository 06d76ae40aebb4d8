//! TCP, or whatever else of streams with IP addresses a transport has.

mod builder;
mod listener;
mod stream;

pub use builder::TcpSocket;
pub use listener::{Accept, Incoming, TcpListener};
pub use stream::TcpStream;

/// Connections that wait to be accepted, unless the program says otherwise; the system has a limit of its
/// own (net.core.somaxconn).
const BACKLOG: u32 = 1024;
