//! Operations on sockets.

use super::socket::{Connect, Socket, direction};
use super::{Key, NetTransport, copy, errno, errors, options};
use crate::stack;
use demikernel_runtime::Completion;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::readiness::{Receive, Untaken};
use demikernel_runtime::transport::{
    Accepted, Domain, Endpoint, Network, OptionName, Qd, SocketKind, SocketOption,
};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// How many milliseconds the rest of what was pushed may take to leave a socket that the program has closed: a peer that
/// neither reads nor acknowledges does not keep it for ever.
const BACKGROUND: u32 = 60_000;

impl Network for NetTransport {
    fn has_unix(&self) -> bool {
        false
    }

    fn lookup(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        self.names.borrow().as_ref().map(|names| names(host))
    }

    fn socket(&self, domain: Domain, kind: SocketKind) -> io::Result<Qd> {
        if domain == Domain::Unix {
            return Err(errors::unix(self.name));
        }
        self.check_running()?;
        let id = self.call(|stack, _| stack.socket(domain, kind)).map_err(errors::socket_error)?;
        Ok(self.insert(Socket::new(id, kind)).qd())
    }

    fn bind(&self, qd: Qd, local: &Endpoint) -> io::Result<()> {
        let (socket, local) = (self.socket_of(qd)?, local.inet()?);
        self.call(|stack, _| stack.bind(socket.id, local)).map_err(|error| errors::bind_error(error, local))
    }

    fn listen(&self, qd: Qd, backlog: u32) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        self.call(|stack, _| {
            let local = stack.local(socket.id);
            stack.listen(socket.id, backlog).map_err(|error| match local {
                Ok(local) => errors::bind_error(error, local),
                Err(_) => error,
            })
        })
    }

    fn accept(&self, qd: Qd, done: Completion<io::Result<Accepted>>) {
        self.start_receive(qd, Receive::Accept(done));
    }

    fn connect(&self, qd: Qd, peer: &Endpoint, done: Completion<io::Result<()>>) {
        let socket = match self.socket_of(qd) {
            Ok(socket) => socket,
            Err(error) => return done.complete(Err(error)),
        };
        if socket.connect.borrow().is_some() {
            return done.complete(Err(errno(libc::EALREADY)));
        }
        let peer = match peer.inet() {
            Ok(peer) => peer,
            Err(error) => return done.complete(Err(error)),
        };
        let result = self.call(|stack, now| stack.connect(now, socket.id, peer));
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                if let Some(id) = self.id.get() {
                    done.on_cancel(id, Key::Send(qd, done.number()).into());
                }
                self.waits_more(1);
                socket.connect.replace(Some(Connect { peer, done }));
            }
            result => done.complete(result.map_err(|error| errors::connect_error(error, peer))),
        }
    }

    fn push(&self, qd: Qd, data: Sga, done: Completion<io::Result<()>>) {
        self.start_push(qd, data, None, done);
    }

    fn pop(&self, qd: Qd, limit: usize, done: Completion<io::Result<Buffer>>) {
        self.start_receive(qd, Receive::Pop(limit, done));
    }

    fn push_to(&self, qd: Qd, data: Sga, peer: SocketAddr, done: Completion<io::Result<()>>) {
        self.start_push(qd, data, Some(peer), done);
    }

    fn pop_from(&self, qd: Qd, limit: usize, done: Completion<io::Result<(Buffer, SocketAddr)>>) {
        match self.socket_of(qd) {
            Ok(socket) if socket.kind == SocketKind::Stream => {
                done.complete(Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "pop_from is for datagrams: a stream has one peer, use pop",
                )));
            }
            _ => self.start_receive(qd, Receive::PopFrom(limit, done)),
        }
    }

    fn shutdown_socket(&self, qd: Qd, how: Shutdown) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        if how != Shutdown::Read {
            self.shutdown_sending(&socket)?;
        }
        if how != Shutdown::Write {
            let ended = self.call(|stack, now| stack.shutdown(now, socket.id, direction(Shutdown::Read)));
            match ended {
                // After the sending direction of an ended connection there is no receiving one.
                Err(error) if how == Shutdown::Both && error.kind() == io::ErrorKind::NotConnected => {}
                ended => ended?,
            }
            // Those who wait to receive now get the end of the stream.
            socket.readable.set(true);
            self.progress_receives(&socket);
        }
        Ok(())
    }

    fn close(&self, qd: Qd) {
        let Ok(socket) = self.socket_of(qd) else { return };
        self.close_socket(&socket);
    }

    fn local(&self, qd: Qd) -> io::Result<Endpoint> {
        let socket = self.socket_of(qd)?;
        self.call(|stack, _| stack.local(socket.id)).map(Endpoint::Inet)
    }

    fn peer(&self, qd: Qd) -> io::Result<Endpoint> {
        let socket = self.socket_of(qd)?;
        self.call(|stack, _| stack.peer(socket.id)).map(Endpoint::Inet)
    }

    fn set_option(&self, qd: Qd, option: SocketOption) -> io::Result<()> {
        let socket = self.socket_of(qd)?;
        self.call(|stack, now| options::set(stack, now, socket.id, option))
    }

    fn option(&self, qd: Qd, name: OptionName) -> io::Result<SocketOption> {
        let socket = self.socket_of(qd)?;
        self.call(|stack, _| options::get(stack, socket.id, name))
    }
}

impl NetTransport {
    fn close_socket(&self, socket: &Rc<Socket>) {
        socket.closing.set(true);
        for (_, untaken) in socket.untaken.take() {
            if let Untaken::Connection(accepted) = untaken {
                self.close(accepted.qd);
            }
        }
        if !socket.sends.borrow().is_empty() && !self.resets_on_close(socket) {
            // What the program set itself stays.
            let _ =
                self.call(|stack, now| match stack.option(socket.id, stack::OptionName::UserTimeout)? {
                    stack::SocketOption::UserTimeout(0) => {
                        stack.set_option(now, socket.id, &stack::SocketOption::UserTimeout(BACKGROUND))
                    }
                    _ => Ok(()),
                });
            self.fail_connect(socket, &errors::closed());
            self.fail_receives(socket, &errors::closed());
        } else {
            self.abandon(socket, &errors::closed());
            self.remove(socket);
        }
    }

    fn resets_on_close(&self, socket: &Socket) -> bool {
        let linger = self.call(|stack, _| stack.option(socket.id, stack::OptionName::Linger));
        matches!(linger, Ok(stack::SocketOption::Linger(Some(Duration::ZERO))))
    }

    pub(super) fn progress_connect(&self, socket: &Socket) {
        let Some(connect) = socket.connect.take() else { return };
        let Connect { peer, .. } = connect;
        // Once more says what has become of it.
        let result = self.attempt(socket, |stack, id| stack.connect(Instant::now(), id, peer));
        match result {
            None => *socket.connect.borrow_mut() = Some(connect),
            Some(Err(error)) if error.raw_os_error() == Some(libc::EALREADY) => {
                *socket.connect.borrow_mut() = Some(connect);
            }
            Some(result) => {
                self.waits_less(1);
                connect.done.complete(result.map_err(|error| errors::connect_error(error, peer)));
            }
        }
    }

    pub(super) fn fail_connect(&self, socket: &Socket, error: &io::Error) {
        if let Some(connect) = socket.connect.take() {
            self.waits_less(1);
            connect.done.complete(Err(copy(error)));
        }
    }

    /// Ends everything that waits for a socket.
    pub(super) fn abandon(&self, socket: &Socket, error: &io::Error) {
        self.fail_connect(socket, error);
        self.fail_receives(socket, error);
        self.fail_sends(socket, error);
    }

    /// The token of an operation was dropped: what can be given up is.
    pub(super) fn cancel_operation(&self, key: Key) {
        match key {
            Key::Receive(id) => {
                if let Some(socket) = self.socket_by_id(id) {
                    self.cancel_receives(&socket);
                }
            }
            Key::Send(qd, number) => {
                let socket = self.sockets.borrow().get(qd.0 as usize).cloned().flatten();
                let Some(socket) = socket else { return };
                let connect = socket.connect.borrow_mut().take_if(|connect| connect.done.number() == number);
                self.waits_less(usize::from(connect.is_some()));
                drop(connect);
                self.cancel_send(&socket, number);
            }
        }
    }
}
