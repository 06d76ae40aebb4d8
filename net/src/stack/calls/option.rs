//! Options of sockets.

use super::super::interface::HOP_LIMIT;
use super::super::options::{OptionName, Options, SocketOption};
use super::super::socket::{Socket, SocketId};
use super::super::{Stack, errno};
use crate::tcp::CongestionControl;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::Domain;
use std::io;
use std::rc::Rc;

impl Stack {
    /// Whether what is sent on a socket leaves as it is, without waiting for what has left to be acknowledged: datagrams,
    /// and streams that do without Nagle's algorithm.
    #[inline]
    pub fn sends_at_once(&mut self, id: SocketId) -> bool {
        match self.sockets.named(id.0) {
            Some(Socket::Tcp(tcp)) => tcp.connection.is_no_delay(),
            Some(Socket::Udp(_)) => true,
            _ => false,
        }
    }

    /// Sets an option.
    ///
    /// # Errors
    /// `EINVAL` for a value that it cannot have, `ENOPROTOOPT` if the socket has no such option, `ENOENT` for an algorithm that
    /// there is not, `EBADF`.
    pub fn set_option(&mut self, now: Instant, id: SocketId, option: &SocketOption) -> io::Result<()> {
        let slot = self.slot(id)?;
        self.check_option(slot, option.name())?;
        match self.sockets.get_mut(slot) {
            Some(Socket::Tcp(tcp)) => {
                let tcp = &mut **tcp;
                let options = Rc::make_mut(&mut tcp.options);
                options.set(option)?;
                options.apply_one(now, option, &mut tcp.connection);
                tcp.hops = self.interface.hops(tcp.options.hops, tcp.flow.get().remote());
                tcp.class = tcp.options.class;
                super::super::segments::note(tcp, slot, &mut self.ready, &mut self.events);
            }
            Some(Socket::Fresh(fresh)) => {
                if fresh.bound.is_some() && option.name() == OptionName::V6Only {
                    return Err(errno(libc::EINVAL));
                }
                Rc::make_mut(&mut fresh.options).set(option)?;
                let (bound, options) = (fresh.bound, fresh.options.clone());
                if let Some(bound) = bound {
                    self.tcp_ports.change(bound.port, slot, |binding| {
                        (binding.reuse_address, binding.reuse_port) =
                            (options.reuse_address, options.reuse_port);
                    });
                }
            }
            Some(Socket::Listener(listening)) => Stack::listening_options(listening).set(option)?,
            Some(Socket::Udp(udp)) => {
                if udp.bound.is_some() && option.name() == OptionName::V6Only {
                    return Err(errno(libc::EINVAL));
                }
                udp.options.set(option)?;
                udp.target = None;
                if let Some(octets) = udp.options.receive_buffer {
                    udp.socket.set_limit(octets as usize * 2);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What an option is set to.
    ///
    /// # Errors
    /// `ENOPROTOOPT` if the socket has no such option, `EBADF`.
    pub fn option(&mut self, id: SocketId, name: OptionName) -> io::Result<SocketOption> {
        let slot = self.slot(id)?;
        self.check_option(slot, name)?;
        let datagrams = matches!(self.sockets.get(slot), Some(Socket::Udp(_)));
        let config = self.shared.config();
        let buffers =
            if datagrams { (DATAGRAMS, DATAGRAMS) } else { (config.send_buffer, config.receive_buffer) };
        let congestion = config.congestion;
        match self.of_user(id)? {
            Socket::Tcp(tcp) => Ok(tcp.options.get(name, buffers, congestion)),
            Socket::Fresh(fresh) => Ok(fresh.options.get(name, buffers, congestion)),
            Socket::Listener(listening) => Ok(listening.options.get(name, buffers, congestion)),
            Socket::Udp(udp) => Ok(udp.options.get(name, buffers, congestion)),
            Socket::TimeWait(_) => Err(errno(libc::EBADF)),
        }
    }

    fn check_option(&self, slot: u32, name: OptionName) -> io::Result<()> {
        let (domain, datagrams) = match self.sockets.get(slot) {
            Some(Socket::Tcp(tcp)) => (tcp.domain, false),
            Some(Socket::Fresh(fresh)) => (fresh.domain, false),
            Some(Socket::Listener(listening)) => (listening.domain, false),
            Some(Socket::Udp(udp)) => (udp.domain, true),
            _ => return Err(errno(libc::EBADF)),
        };
        let of_v6 = name == OptionName::V6Only && domain != Domain::V6;
        if of_v6 || datagrams && SocketOption::is_of_tcp(name) {
            Err(errno(libc::ENOPROTOOPT))
        } else {
            Ok(())
        }
    }
}

/// What Linux gives a UDP socket.
const DATAGRAMS: u32 = 212_992;

impl Options {
    /// What one is set to; `buffers` are those of sockets that did not ask for others.
    fn get(&self, name: OptionName, buffers: (u32, u32), congestion: CongestionControl) -> SocketOption {
        match name {
            OptionName::NoDelay => SocketOption::NoDelay(self.no_delay),
            OptionName::Cork => SocketOption::Cork(self.cork),
            OptionName::QuickAck => SocketOption::QuickAck(self.quick_ack),
            OptionName::KeepAlive => SocketOption::KeepAlive(self.keepalive),
            OptionName::KeepIdle => SocketOption::KeepIdle(self.keep_idle),
            OptionName::KeepInterval => SocketOption::KeepInterval(self.keep_interval),
            OptionName::KeepCount => SocketOption::KeepCount(self.keep_count),
            OptionName::UserTimeout => SocketOption::UserTimeout(self.user_timeout),
            OptionName::Linger => SocketOption::Linger(self.linger),
            OptionName::SendBuffer => SocketOption::SendBuffer(self.send_buffer.unwrap_or(buffers.0)),
            OptionName::ReceiveBuffer => {
                SocketOption::ReceiveBuffer(self.receive_buffer.unwrap_or(buffers.1))
            }
            OptionName::MaximumSegment => SocketOption::MaximumSegment(self.maximum_segment),
            OptionName::Congestion => {
                SocketOption::Congestion(self.congestion.unwrap_or(congestion).name().to_owned())
            }
            OptionName::ReuseAddress => SocketOption::ReuseAddress(self.reuse_address),
            OptionName::ReusePort => SocketOption::ReusePort(self.reuse_port),
            OptionName::V6Only => SocketOption::V6Only(self.v6_only),
            OptionName::TimeToLive => {
                let hops = if self.hops == 0 { HOP_LIMIT } else { self.hops };
                SocketOption::TimeToLive(hops.into())
            }
            OptionName::TypeOfService => SocketOption::TypeOfService(self.class),
            OptionName::Broadcast => SocketOption::Broadcast(self.broadcast),
        }
    }
}
