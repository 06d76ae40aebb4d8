//! The program's end of the control socket.

use crate::protocol::{Answer, Greeting, LONGEST};
use crate::{InspectConfig, requests, socket};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients at once; others are told so.
const CLIENTS: usize = 8;

/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

/// How long a client may take nothing of an answer.
const STALL: Duration = Duration::from_secs(5);

/// Serves a control socket while it lives.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: Arc<UnixListener>,
    thread: Option<JoinHandle<()>>,
}

/// Those of this process, since all its cores share one.
static SERVERS: Mutex<Vec<Weak<Server>>> = Mutex::new(Vec::new());

impl Server {
    /// Begins to serve a socket in this place.
    ///
    /// # Errors
    /// `AddrInUse` if another process listens there, `AlreadyExists` if there is something else; those of making a
    /// socket and a thread.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Server> {
        let path = path.as_ref().to_path_buf();
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("control socket {}: {error}", path.display()))
        };
        let listener = Arc::new(socket::listen(&path).map_err(explain)?);
        let accepts = listener.clone();
        let thread = thread::Builder::new().name("inspect".to_owned()).spawn(move || serve(&accepts))?;
        tracing::info!(socket = %path.display(), "control socket");
        Ok(Server { path, listener, thread: Some(thread) })
    }

    /// The server that the configuration asks for, which all runtimes of the process share; none if it asks for none.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub fn shared(config: &InspectConfig) -> io::Result<Option<Arc<Server>>> {
        let Some(path) = config.path() else { return Ok(None) };
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| server.strong_count() > 0);
        let present = servers.iter().filter_map(Weak::upgrade).find(|server| server.path == path);
        if let Some(server) = present {
            return Ok(Some(server));
        }
        let server = Arc::new(Server::bind(path)?);
        servers.push(Arc::downgrade(&server));
        Ok(Some(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: no memory is passed; `self.listener` keeps the descriptor open during the call. The listener accepts nothing more, which ends the thread.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "the control socket is left behind");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the control socket panicked");
        }
    }
}

/// Accepts until the socket is shut down. Clients have threads of their own, which end when they do.
fn serve(listener: &UnixListener) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS {
            clients.fetch_sub(1, Ordering::AcqRel);
            refuse(client);
            continue;
        }
        let place = Place(clients.clone());
        let talk = move || {
            let _place = place;
            if let Err(error) = talk(client) {
                tracing::debug!(%error, "a client of the control socket is gone");
            }
        };
        if let Err(error) = thread::Builder::new().name("inspect-client".to_owned()).spawn(talk) {
            tracing::warn!(%error, "no thread for a client of the control socket");
        }
    }
}

/// One of the clients at once.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn refuse(mut client: UnixStream) {
    let text = format!("there are {CLIENTS} clients already");
    // It may be gone before it hears it. A new socket has room for a line, so this does not wait.
    let _ = client.set_nonblocking(true).and_then(|()| send(&mut client, &Answer::Error(text)));
}

fn talk(mut client: UnixStream) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    client.set_write_timeout(Some(STALL))?;
    send(&mut client, &Greeting::new())?;
    let mut input = BufReader::new(client.try_clone()?);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut input).take(LONGEST as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        match str::from_utf8(&line) {
            Ok(text) if whole => send(&mut client, &requests::answer(text))?,
            Ok(_) => return send(&mut client, &Answer::Error("a line without an end".to_owned())),
            Err(_) => return send(&mut client, &Answer::Error("a line that is no UTF-8".to_owned())),
        }
    }
}

fn send(client: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    client.write_all(&line)
}
