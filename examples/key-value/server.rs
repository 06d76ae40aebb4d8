//! Connections: accepting them, and conversing with a client until its end.

use super::Args;
use super::commands::Server;
use super::connection::{Connection, Next};
use super::journal::Journal;
use super::store::Store;
use super::tls;
use super::wire::Wire;
use demikernel::net::{TcpListener, TcpStream};
use demikernel::signal::shutdown;
use demikernel::time::{Duration, Instant, interval, sleep, timeout};
use demikernel::{Buffer, default_network, spawn, yield_now};
use futures::future::{Either, select};
use futures_rustls::TlsAcceptor;
use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

/// What all connections share. It is never borrowed across an await.
pub(crate) struct State {
    pub(crate) store: Store,
    server: Server,
    journal: Option<Rc<Journal>>,
}

pub(crate) type Shared = Rc<RefCell<State>>;

/// Serves until Ctrl-C or SIGTERM. Requests that were carried out are answered, as their replies have been pushed.
///
/// Also ends when the log fails: what is in memory then is more than what would be back.
pub(crate) async fn serve(args: &Args) -> io::Result<()> {
    let tls = args.tls.acceptor(&[])?;
    let mut store = Store::default();
    let journal = match &args.log {
        Some(path) => Some(Journal::open(path, u64::from(args.log_size) << 20, &mut store).await?),
        None => None,
    };
    let listener = TcpListener::bind(args.listen).await?;
    // Before the address is printed: whoever reads it may ask for the end.
    let end = shutdown()?;
    println!("key-value: listening on {}", listener.local_addr()?);
    let server = Server::new(default_network()?.name(), Instant::now(), args.max_clients);
    let failed = {
        let journal = journal.clone();
        async move {
            match journal {
                Some(journal) => journal.failed().await,
                None => pending().await,
            }
        }
    };
    let shared = Rc::new(RefCell::new(State { store, server, journal: journal.clone() }));
    let limit = args.max_request as usize * 1024 * 1024;
    spawn(expire(shared.clone())).detach();
    match select(pin!(accept(listener, tls, shared, limit)), select(end, pin!(failed))).await {
        Either::Right((Either::Right((error, _)), _)) => Err(error),
        _ => match journal {
            Some(journal) => journal.close().await,
            None => Ok(()),
        },
    }
}

/// Accepts connections, for ever.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Shared, limit: usize) {
    loop {
        match listener.accept().await {
            // Who is still to agree on keys has a place, too, as it costs memory.
            Ok((stream, peer)) => {
                let place = Place::take(shared.clone());
                spawn(attend(stream, peer, tls.clone(), place, limit)).detach();
            }
            Err(error) => {
                // Such as too many open files: clients may go meanwhile.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Gives the memory of expired keys back, some at a time so that clients do not wait.
async fn expire(shared: Shared) {
    const SOME: usize = 100;
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        while expire_some(&mut shared.borrow_mut(), SOME) == SOME {
            yield_now().await;
        }
    }
}

fn expire_some(state: &mut State, some: usize) -> usize {
    let removed = state.store.expire(Instant::now(), some);
    state.server.expired += removed as u64;
    removed
}

/// A place among the connected clients.
struct Place {
    shared: Shared,
    id: i64,
    /// It is one more than there may be.
    full: bool,
}

impl Place {
    fn take(shared: Shared) -> Place {
        let server = &mut shared.borrow_mut().server;
        server.clients += 1;
        server.accepted += 1;
        let (id, full) = (server.accepted as i64, server.clients > server.max_clients);
        Place { shared: shared.clone(), id, full }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.borrow_mut().server.clients -= 1;
    }
}

/// Serves one client from its arrival to its end.
async fn attend(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, place: Place, limit: usize) {
    let result = async {
        stream.set_nodelay(true)?;
        match tls {
            None => welcome(stream, &place, limit).await,
            Some(tls) => welcome(Box::new(tls::accept(&tls, stream).await?), &place, limit).await,
        }
    };
    if let Err(error) = result.await {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}

/// Converses with a client for whom there is room, and tells others that there is none.
async fn welcome(mut wire: impl Wire, place: &Place, limit: usize) -> io::Result<()> {
    match place.full {
        true => wire.push(Buffer::from_static(b"-ERR max number of clients reached\r\n").into()).await,
        false => converse(wire, &place.shared, Connection::new(place.id, limit)).await,
    }
}

/// Answers requests until the client or the protocol ends the connection.
async fn converse(mut wire: impl Wire, shared: &Shared, mut connection: Connection) -> io::Result<()> {
    loop {
        let received = wire.pop().await?;
        if received.is_empty() {
            return Ok(());
        }
        connection.receive(received);
        let mut next = Next::More;
        while next == Next::More {
            let (journal, changes);
            (next, journal, changes) = {
                let State { store, server, journal } = &mut *shared.borrow_mut();
                let next = connection.run(store, server, Instant::now());
                (next, journal.clone(), store.take_changes())
            };
            let replies = connection.replies.take();
            if let Some(journal) = journal {
                // Also what was only read: somebody else's write of it may not be durable yet.
                journal.commit(changes, shared).await?;
            }
            if !replies.is_empty() {
                wire.push(replies).await?;
            }
        }
        if next == Next::Close {
            return close(wire).await;
        }
    }
}

/// Ends a connection after its last reply. What the client has sent meanwhile is read and forgotten, for a moment:
/// to close with bytes unread would be a reset, which can overtake the reply.
async fn close(mut wire: impl Wire) -> io::Result<()> {
    wire.end().await?;
    let drain = async { while wire.pop().await.is_ok_and(|received| !received.is_empty()) {} };
    _ = timeout(Duration::from_secs(1), drain).await;
    Ok(())
}
