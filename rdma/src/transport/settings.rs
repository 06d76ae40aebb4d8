//! What programs have set of single sockets: few do, so it is kept beside them.

use super::socket::{Role, Socket};
use super::{RdmaTransport, errors, options};
use crate::link::{Id, Keepalive};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{OptionName, SocketKind, SocketOption};
use std::io;
use std::time::Duration;

/// What is set of a socket. A listener's is that of the connections that it accepts, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    keepalive: bool,
    idle: Duration,
    /// The device tries in its own time; these count where it cannot be asked.
    interval: Duration,
    count: u32,
    /// How many routers a packet may pass, if not as many as the route says.
    hops: Option<u8>,
    /// Other cores may listen at its port.
    shares_port: bool,
}

/// As Linux has it.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keepalive: false,
            idle: Duration::from_secs(7200),
            interval: Duration::from_secs(75),
            count: 9,
            hops: None,
            shares_port: false,
        }
    }
}

/// The hops of a packet on a route of which nothing is said.
const HOPS: u8 = 64;

impl RdmaTransport {
    pub(super) fn set(&self, socket: &Socket, option: SocketOption) -> io::Result<()> {
        match option {
            SocketOption::KeepAlive { enabled, idle, interval, count }
                if socket.kind == SocketKind::Stream =>
            {
                self.change(socket, |settings| {
                    settings.keepalive = enabled;
                    settings.idle = idle.unwrap_or(settings.idle);
                    settings.interval = interval.unwrap_or(settings.interval);
                    settings.count = count.unwrap_or(settings.count);
                });
                self.apply(socket);
                Ok(())
            }
            SocketOption::TimeToLive(hops) if socket.kind == SocketKind::Stream => {
                if matches!(*socket.role.borrow(), Role::Stream(_)) {
                    let text = "on rdma the time to live is settled when a connection is set up: set it of the socket that \
                                connects, or listens";
                    return Err(errors::unsupported(text));
                }
                let hops = u8::try_from(hops).ok().filter(|hops| *hops > 0);
                let hops = hops.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                self.change(socket, |settings| settings.hops = Some(hops));
                if let Role::Listening(id) = *socket.role.borrow() {
                    self.call(|engine| {
                        engine.set_hops(id, hops);
                        Ok(())
                    })?;
                }
                Ok(())
            }
            SocketOption::ReusePort(shares) if socket.kind == SocketKind::Stream => {
                self.change(socket, |settings| settings.shares_port = shares);
                Ok(())
            }
            other => options::set(socket, other),
        }
    }

    pub(super) fn get(&self, socket: &Socket, name: OptionName) -> io::Result<SocketOption> {
        let settings = self.settings_of(socket.id.get());
        match name {
            OptionName::KeepAlive if socket.kind == SocketKind::Stream => Ok(SocketOption::KeepAlive {
                enabled: settings.keepalive,
                idle: Some(settings.idle),
                interval: Some(settings.interval),
                count: Some(settings.count),
            }),
            OptionName::TimeToLive if socket.kind == SocketKind::Stream => {
                Ok(SocketOption::TimeToLive(settings.hops.unwrap_or(HOPS).into()))
            }
            OptionName::ReusePort => Ok(SocketOption::ReusePort(settings.shares_port)),
            other => options::get(socket, other),
        }
    }

    fn settings_of(&self, id: Id) -> Settings {
        self.settings.borrow().get(&id).copied().unwrap_or_default()
    }

    pub(super) fn hops_of(&self, socket: &Socket) -> Option<u8> {
        self.settings_of(socket.id.get()).hops
    }

    pub(super) fn shares_port(&self, socket: &Socket) -> bool {
        self.settings_of(socket.id.get()).shares_port
    }

    fn change(&self, socket: &Socket, change: impl FnOnce(&mut Settings)) {
        let id = socket.id.get();
        let mut settings = self.settings_of(id);
        change(&mut settings);
        match settings == Settings::default() {
            true => self.settings.borrow_mut().remove(&id),
            false => self.settings.borrow_mut().insert(id, settings),
        };
    }

    /// A connection is there that a listener has accepted.
    pub(super) fn inherit(&self, socket: &Socket, listener: &Socket) {
        let settings = self.settings.borrow().get(&listener.id.get()).copied();
        if let Some(settings) = settings {
            self.settings.borrow_mut().insert(socket.id.get(), settings);
            self.apply(socket);
        }
    }

    /// Has a connection, if it is one, be as it is set to be.
    pub(super) fn apply(&self, socket: &Socket) {
        let settings = self.settings_of(socket.id.get());
        let Settings { idle, interval, count, .. } = settings;
        let patience = interval.saturating_mul(count).max(idle);
        let keepalive = settings.keepalive.then_some(Keepalive { idle, patience });
        // Before it is there, and after it has ended, there is nothing to be done.
        let _ = self.call(|engine| engine.link.set_keepalive(Instant::now(), socket.stream()?, keepalive));
    }
}
