//! Signals of the process: Ctrl-C, the supervisor's request to end, and others.
//!
//! A signal goes to every listener for it, on whatever core. One thread takes them from the crate
//! `signal-hook`, which owns the handler, and wakes the listeners.
//!
//! The first listener for a signal replaces what the process would do by default, for good: after a
//! [`ctrl_c`], even one that was dropped, Ctrl-C alone does not end the program any more.
//!
//! ```no_run
//! use demikernel_runtime::signal;
//!
//! # async fn serve() {}
//! # demikernel_runtime::Runtime::new()?.block_on(async {
//! let server = demikernel_runtime::spawn(serve());
//! signal::ctrl_c().await?;
//! server.abort();
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

use crate::executor::unpin;
use futures_core::{FusedFuture, FusedStream, Stream};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::{Handle, Signals};
use slab::Slab;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

/// Which signal.
///
/// ```
/// use demikernel_runtime::signal::SignalKind;
/// assert_eq!(SignalKind::from_raw(15), SignalKind::TERMINATE);
/// assert_eq!(SignalKind::INTERRUPT.as_raw(), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SignalKind(libc::c_int);

impl SignalKind {
    /// SIGINT: Ctrl-C.
    pub const INTERRUPT: SignalKind = SignalKind(libc::SIGINT);
    /// SIGTERM: a polite request to end.
    pub const TERMINATE: SignalKind = SignalKind(libc::SIGTERM);
    /// SIGHUP: the terminal is gone; for servers usually a request to read their configuration again.
    pub const HANGUP: SignalKind = SignalKind(libc::SIGHUP);
    /// SIGQUIT: Ctrl-\.
    pub const QUIT: SignalKind = SignalKind(libc::SIGQUIT);
    /// SIGUSR1.
    pub const USER_1: SignalKind = SignalKind(libc::SIGUSR1);
    /// SIGUSR2.
    pub const USER_2: SignalKind = SignalKind(libc::SIGUSR2);
    /// SIGCHLD: a child process has ended or stopped.
    pub const CHILD: SignalKind = SignalKind(libc::SIGCHLD);
    /// SIGPIPE: writing to a pipe without a reader. Rust programs ignore it by default.
    pub const PIPE: SignalKind = SignalKind(libc::SIGPIPE);
    /// SIGALRM: a timer of alarm(2) has run out.
    pub const ALARM: SignalKind = SignalKind(libc::SIGALRM);
    /// SIGWINCH: the terminal has another size.
    pub const WINDOW_CHANGE: SignalKind = SignalKind(libc::SIGWINCH);

    /// A signal by its number.
    pub const fn from_raw(number: libc::c_int) -> SignalKind {
        SignalKind(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> libc::c_int {
        self.0
    }
}

/// Listens for a signal from now on.
///
/// # Errors
/// `InvalidInput` for a number that is no signal, or one that cannot be listened for (SIGKILL, SIGSTOP,
/// SIGSEGV, SIGILL, SIGFPE); those of the system if it gives no thread or descriptors.
///
/// ```no_run
/// use demikernel_runtime::signal::{SignalKind, signal};
///
/// # async fn reload() {}
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let mut hangups = signal(SignalKind::HANGUP)?;
/// loop {
///     hangups.recv().await;
///     reload().await;
/// }
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    if FORBIDDEN.contains(&kind.0) || !(1..=libc::SIGRTMAX()).contains(&kind.0) {
        let message = format!("signal {} cannot be listened for", kind.0);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut listeners = listeners();
    let key = listeners.all.insert(Listener { kind, arrived: false, waker: None });
    // The listener comes first, so that nothing is missed from the moment at which the default goes.
    let signal = Signal { kind, key };
    let added = listeners.add_signal(kind);
    drop(listeners);
    added.map(|()| signal)
}

/// Waits for the next Ctrl-C (SIGINT), from this call on.
///
/// # Errors
/// The future gives those of [`signal`].
#[must_use = "futures do nothing unless awaited, but Ctrl-C does not end the program any more"]
pub fn ctrl_c() -> CtrlC {
    CtrlC(Some(signal(SignalKind::INTERRUPT)))
}

/// Waits for the request to end, from this call on: Ctrl-C (SIGINT), or SIGTERM, with which supervisors ask.
///
/// # Errors
/// Those of [`signal`].
///
/// ```no_run
/// use futures::future::select;
///
/// # async fn serve() {}
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let end = demikernel_runtime::signal::shutdown()?;
/// select(Box::pin(serve()), end).await;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub fn shutdown() -> io::Result<Shutdown> {
    Ok(Shutdown([signal(SignalKind::INTERRUPT)?, signal(SignalKind::TERMINATE)?]))
}

/// Everybody who listens, and what wakes them.
struct Listeners {
    all: Slab<Listener>,
    /// To have the thread take more signals; `None` before there is a thread.
    thread: Option<Handle>,
}

struct Listener {
    kind: SignalKind,
    /// There was a signal that the listener has not heard of.
    arrived: bool,
    waker: Option<Waker>,
}

static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners { all: Slab::new(), thread: None });

fn listeners() -> MutexGuard<'static, Listeners> {
    // Nothing that can panic leaves the list half changed.
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether anybody in the process listens for a signal.
pub(crate) fn is_awaited() -> bool {
    !listeners().all.is_empty()
}

impl Listeners {
    fn add_signal(&mut self, kind: SignalKind) -> io::Result<()> {
        if let Some(thread) = &self.thread {
            return thread.add_signal(kind.0);
        }
        let mut signals = Signals::new([kind.0])?;
        let handle = signals.handle();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            unpin();
            for number in signals.forever() {
                deliver(SignalKind(number));
            }
        })?;
        self.thread = Some(handle);
        Ok(())
    }
}

/// Tells the listeners.
fn deliver(kind: SignalKind) {
    let mut wakers = Vec::new();
    for (_, listener) in &mut listeners().all {
        if listener.kind == kind {
            listener.arrived = true;
            wakers.extend(listener.waker.take());
        }
    }
    tracing::debug!(signal = kind.0, waiting = wakers.len(), "signal");
    wakers.into_iter().for_each(Waker::wake);
}

/// Listens for a signal: see [`signal`]. Also a `Stream`, which never ends.
///
/// Several signals that arrive before the listener looks may be heard of as one, as is the way of signals.
/// Dropping it ends listening.
///
/// ```
/// use demikernel_runtime::signal::{SignalKind, signal};
/// # demikernel_runtime::Runtime::new()?.block_on(async {
/// let mut listener = signal(SignalKind::USER_1)?;
/// let me = std::process::id().to_string();
/// std::process::Command::new("sh").args(["-c", "kill -USR1 $0", &me]).status()?;
/// listener.recv().await;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Signal {
    kind: SignalKind,
    key: usize,
}

impl Signal {
    /// Waits until the signal has arrived since the last time. Dropping the future loses nothing.
    pub async fn recv(&mut self) {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the signal.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Copied before the lock is taken, and dropped after, since foreign wakers may run anything.
        let mut waker = Some(cx.waker().clone());
        let mut listeners = listeners();
        let listener = &mut listeners.all[self.key];
        if std::mem::take(&mut listener.arrived) {
            return Poll::Ready(());
        }
        std::mem::swap(&mut listener.waker, &mut waker);
        drop(listeners);
        Poll::Pending
    }

    /// Which signal it listens for.
    pub fn kind(&self) -> SignalKind {
        self.kind
    }
}

impl Stream for Signal {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.poll_recv(cx).map(Some)
    }
}

impl FusedStream for Signal {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        let listener = listeners().all.remove(self.key);
        drop(listener);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.kind).finish()
    }
}

/// The future of [`ctrl_c`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct CtrlC(Option<io::Result<Signal>>);

impl Future for CtrlC {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = match self.0.as_mut().expect("ctrl_c was polled after it had given its result") {
            Ok(signal) => {
                ready!(signal.poll_recv(cx));
                Ok(())
            }
            Err(_) => Err(self.0.take().and_then(Result::err).expect("just seen")),
        };
        self.0 = None;
        Poll::Ready(result)
    }
}

impl FusedFuture for CtrlC {
    fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}

/// The future of [`shutdown`]. Polled again after it was ready, it waits for another request.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited, but neither signal ends the program any more"]
pub struct Shutdown([Signal; 2]);

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Both, whether or not the first has arrived: each must have the waker.
        let arrived = self.0.each_mut().map(|signal| signal.poll_recv(cx).is_ready());
        if arrived.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl FusedFuture for Shutdown {
    fn is_terminated(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_removed() {
        let kind = SignalKind::ALARM;
        let count = || listeners().all.iter().filter(|(_, listener)| listener.kind == kind).count();
        let (first, second) = (signal(kind).unwrap(), signal(kind).unwrap());
        assert_eq!((count(), first.kind()), (2, kind));
        drop(first);
        assert_eq!(count(), 1);
        drop(second);
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for number in [-1, 0, 32, 10_000, libc::SIGKILL, libc::SIGSEGV] {
            let error = signal(SignalKind::from_raw(number)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{number}");
        }
        assert!(listeners().all.iter().all(|(_, listener)| listener.kind.0 != 32));
    }
}
